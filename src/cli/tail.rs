//! `daybook tail`: the journal as NDJSON on stdout.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::journal::{Item, Reader};
use crate::record::Text;

use super::{Exit, complain, failed};

/// How often a followed journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
#[command(after_help = "Reads beside a running Daybook; nothing is locked or changed.\n\
                        Example: daybook tail --follow --kind login | jq -r '.time + \" \" + .user.email'")]
pub(super) struct TailArgs {
    /// The data folder of a running or stopped Daybook.
    #[arg(long, value_name = "DIR", default_value = "daybook-data")]
    data: PathBuf,
    /// Goes on with what is written from now on.
    #[arg(long, short)]
    follow: bool,
    /// Only records of this kind.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

/// The one member a filter looks at.
#[derive(serde::Deserialize)]
struct KindOnly<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
}

pub(super) fn tail(args: &TailArgs) -> Exit {
    let mut reader = match Reader::open(&args.data.join("journal")) {
        Ok(reader) => reader,
        Err(error) => {
            complain(&error);
            eprintln!("  hint: name the folder that `data = …` names in the configuration: --data DIR");
            return Exit::Unavailable;
        }
    };
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    match copy(&mut reader, args, &mut out).and_then(|damaged| out.flush().map(|()| damaged).map_err(Box::from)) {
        Ok(false) => Exit::Ok,
        Ok(true) => Exit::No,
        Err(error) => failed(&*error),
    }
}

/// Prints what there is (and what comes). True when something was missing or damaged.
fn copy(reader: &mut Reader, args: &TailArgs, out: &mut impl Write) -> Result<bool, Box<dyn std::error::Error>> {
    let mut damaged = false;
    loop {
        match reader.next()? {
            Some(Item::Record(entry)) => {
                if wanted(entry.payload, args.kind.as_deref()) {
                    out.write_all(entry.payload)?;
                    out.write_all(b"\n")?;
                }
            }
            Some(Item::Hole(hole)) => {
                damaged = true;
                eprintln!(
                    "daybook: {}: {} bytes at {} can't be read; {} records from {} are missing",
                    hole.segment, hole.bytes, hole.offset, hole.records, hole.first
                );
            }
            None if args.follow => {
                out.flush()?;
                std::thread::sleep(LOOK_EVERY);
            }
            None => return Ok(damaged),
        }
    }
}

fn wanted(payload: &[u8], kind: Option<&str>) -> bool {
    let Some(kind) = kind else { return true };
    serde_json::from_slice::<KindOnly<'_>>(payload).is_ok_and(|record| record.kind == kind)
}
