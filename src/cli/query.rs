//! `daybook query`: records of the lake, newest first, as a table, NDJSON, CSV or Parquet.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::config::Span;
use crate::journal::{Item, Position, Reader};
use crate::lake::{Cancel, Condition, Filter, Lake, LakeError, Page, Query, Writer};
use crate::record::Text;

use super::{Exit, complain, failed};

mod counts;
mod output;

/// Records read and written at a time.
const PAGE: usize = 4096;

#[derive(Args, Debug)]
#[command(after_help = "Works beside a running Daybook, and sees what that has not committed to the table yet.\n\n\
                        A condition is a field, an operator and a value, in quotes for the shell:\n  \
                          'status>=500'  'user.email=user@example.com'  'kind=(login,api)'  'path~orders'  'path^=/api'\n  \
                          'session?' (it is there)  'status!=200' 'path!~health' (the contrary)\n\
                        Fields are a record's members (client.geo.city, api_key.token) and attributes.NAME.\n\n\
                        Examples:\n  daybook query --last 7d --where 'result=failure' --count --by user.email --every 1d\n  \
                        daybook query --last 24h --where 'result=failure' --where 'kind=login' --format csv")]
pub(super) struct QueryArgs {
    /// The data folder of a running or stopped Daybook.
    #[arg(long, value_name = "DIR", default_value = "daybook-data")]
    data: PathBuf,
    /// The table's folder, where it is not `lake` in the data folder.
    #[arg(long, value_name = "DIR")]
    lake: Option<PathBuf>,
    /// What must be true; several may be given.
    #[arg(long = "where", short = 'w', value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// One of the conditions is enough.
    #[arg(long)]
    any: bool,
    /// Only the last `24h`, `7d`, `30m`.
    #[arg(long, value_name = "SPAN", conflicts_with = "from")]
    last: Option<Span>,
    /// Not before this time: `2026-11-24` or `2026-11-24T10:00:00Z` (UTC).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<i64>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<i64>,
    /// At most so many records; 0 for all.
    #[arg(long, short = 'n', default_value_t = 100)]
    limit: usize,
    /// How they are written.
    #[arg(long, short = 'f', value_enum, default_value_t = Format::Table)]
    format: Format,
    /// How many they are, instead of the records.
    #[arg(long)]
    count: bool,
    /// Counts apart what these fields say, with commas: `kind,status`.
    #[arg(long, value_name = "FIELDS", value_delimiter = ',', requires = "count")]
    by: Vec<String>,
    /// Counts apart spans of time: `1h`, `1d`.
    #[arg(long, value_name = "SPAN", requires = "count")]
    every: Option<Span>,
    /// The fields of table and CSV, with commas.
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    columns: Vec<String>,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// The records as they are, one a line.
    Ndjson,
    /// For spreadsheets: a value that looks like a formula is quoted with an apostrophe.
    Csv,
    /// The table's columns.
    Parquet,
}

pub(super) fn query(args: &QueryArgs) -> Exit {
    let out = BufWriter::with_capacity(64 * 1024, io::stdout());
    match run(args, out) {
        Ok(()) => Exit::Ok,
        Err(error) if matches!(error.downcast_ref(), Some(LakeError::Query(_))) => {
            complain(&*error);
            Exit::Usage
        }
        Err(error) => failed(&*error),
    }
}

fn run(args: &QueryArgs, out: impl Write + Send) -> Result<(), Box<dyn std::error::Error>> {
    let folder = args.lake.clone().unwrap_or_else(|| args.data.join("lake"));
    if !folder.join("_delta_log").is_dir() && !args.data.join("journal").is_dir() {
        let path = folder.display();
        return Err(format!(
            "there is no table in {path}; name the data folder of a Daybook with [sink.lake]: --data DIR"
        )
        .into());
    }
    let lake = open(&folder, &args.data.join("journal"))?;
    let mut left = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut query = Query {
        from: args.from.or(args.last.map(|span| {
            jiff::Timestamp::now().as_microsecond() - i64::try_from(span.0.as_micros()).unwrap_or(i64::MAX)
        })),
        to: args.to,
        filter: Filter { conditions: args.conditions.clone(), any: args.any },
        after: None,
        limit: 0,
    };
    let cancel = Cancel::default();
    if args.count {
        return counts::write(&lake, &query, args, &cancel, out);
    }
    let mut output = output::Output::new(args.format, &args.columns, out)?;
    while left > 0 {
        query.limit = left.min(PAGE);
        let Page { rows, next } = lake.page(&query, &cancel)?;
        output.write(&rows)?;
        left -= rows.num_rows();
        match next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    output.finish()?;
    Ok(())
}

/// The table and what only the journal has, at one moment: a commit in between takes records from the one to the other.
fn open(folder: &Path, journal: &Path) -> Result<Arc<Lake>, Box<dyn std::error::Error>> {
    let mut tries = 0;
    loop {
        let lake = Lake::read(folder)?;
        read_journal(journal, &lake)?;
        tries += 1;
        if tries == TRIES || !lake.refresh()? {
            return Ok(lake);
        }
    }
}

/// Commits in a row that may get in between; they are seconds apart.
const TRIES: u32 = 5;

/// What the table has not: the journal is its write-ahead log.
fn read_journal(folder: &Path, lake: &Arc<Lake>) -> Result<(), Box<dyn std::error::Error>> {
    #[derive(serde::Deserialize)]
    struct InstanceOnly<'a> {
        #[serde(borrow)]
        instance: Text<'a>,
    }
    if !folder.is_dir() {
        return Ok(());
    }
    let mut writer = Writer::new(Arc::clone(lake));
    // All records of a journal are of one instance, unless it was renamed.
    let mut known: Option<(String, Option<(u64, u64)>)> = None;
    let from = lake
        .reached_by_the_only_journal()
        .map_or(Position::default(), |(epoch, seq)| Position { epoch: u32::try_from(epoch).unwrap_or(u32::MAX), seq });
    let mut reader = Reader::open(folder)?.skip_to(from);
    while let Some(item) = reader.next()? {
        let Item::Record(entry) = item else { continue };
        let Ok(InstanceOnly { instance }) = serde_json::from_slice(entry.payload) else { continue };
        if known.as_ref().is_none_or(|(name, _)| instance != name.as_str()) {
            known = Some((instance.as_str().to_owned(), lake.reached(instance.as_str())));
        }
        let reached = known.as_ref().and_then(|(_, reached)| *reached);
        if reached.is_none_or(|reached| (u64::from(entry.position.epoch), entry.position.seq) > reached) {
            // What is no record is not in the table either.
            _ = writer.push(entry.payload);
        }
        if writer.unshown_bytes() >= SHOW {
            writer.show();
        }
    }
    writer.show();
    Ok(())
}

/// Bytes of records that become one batch.
const SHOW: usize = 8 << 20;

/// A day or a moment, in µs since 1970.
fn moment(text: &str) -> Result<i64, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let at = whole.parse::<jiff::Timestamp>();
    at.map(jiff::Timestamp::as_microsecond)
        .map_err(|_| format!("`{text}` is no time; write it like `2026-11-24` or `2026-11-24T10:00:00Z`"))
}
