//! Records as people and programs want them.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, Write};

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;

use super::Format;
use crate::lake::schema::{self, COLUMNS, Kind};
use crate::lake::{Cell, LakeError, Records, time};

/// What a table shows when nobody says otherwise.
const TABLE: [&str; 9] =
    ["time", "kind", "method", "path", "status", "result", "user.email", "client.ip", "duration_us"];
/// Widest cell of a table.
const WIDEST: usize = 60;

/// Writes records in one format.
pub(super) enum Output<W: Write + Send> {
    Table { out: W, columns: Vec<usize>, widths: Vec<usize> },
    Ndjson { out: W, line: Vec<u8> },
    Csv { out: W, columns: Vec<usize> },
    Parquet(Box<ArrowWriter<W>>),
}

impl<W: Write + Send> Output<W> {
    pub(super) fn new(format: Format, columns: &[String], mut out: W) -> Result<Self, Box<dyn Error>> {
        let chosen = columns_of(format, columns)?;
        Ok(match format {
            Format::Table => Self::Table { out, columns: chosen, widths: Vec::new() },
            Format::Ndjson => Self::Ndjson { out, line: Vec::new() },
            Format::Csv => {
                let header: Vec<&str> = chosen.iter().map(|column| COLUMNS[*column].path).collect();
                writeln!(out, "{}\r", header.join(","))?;
                Self::Csv { out, columns: chosen }
            }
            Format::Parquet => Self::Parquet(Box::new(ArrowWriter::try_new(out, schema::arrow(), None)?)),
        })
    }

    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<(), Box<dyn Error>> {
        let records = Records::new(rows);
        match self {
            Self::Parquet(writer) => writer.write(rows)?,
            Self::Ndjson { out, line } => {
                for row in 0..rows.num_rows() {
                    line.clear();
                    records.write(row, line);
                    line.push(b'\n');
                    out.write_all(line)?;
                }
            }
            Self::Csv { out, columns } => {
                for row in 0..rows.num_rows() {
                    let cells: Vec<String> = columns.iter().map(|c| csv(&cell(&records, row, *c))).collect();
                    write!(out, "{}\r\n", cells.join(","))?;
                }
            }
            Self::Table { out, columns, widths } => table(out, columns, widths, &records, rows.num_rows())?,
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Parquet(writer) => _ = writer.into_inner()?.flush(),
            Self::Table { mut out, .. } | Self::Ndjson { mut out, .. } | Self::Csv { mut out, .. } => out.flush()?,
        }
        Ok(())
    }
}

fn columns_of(format: Format, columns: &[String]) -> Result<Vec<usize>, Box<dyn Error>> {
    let find = |path: &str| {
        schema::find(path).ok_or_else(|| {
            let paths: Vec<&str> = COLUMNS.iter().map(|column| column.path).collect();
            LakeError::Query(format!("there is no field `{path}`; fields are {}", paths.join(", ")))
        })
    };
    match (columns, format) {
        ([], Format::Table) => Ok(TABLE.iter().map(|path| find(path)).collect::<Result<_, _>>()?),
        ([], _) => Ok((0..COLUMNS.len()).collect()),
        (columns, _) => Ok(columns.iter().map(|path| find(path.trim())).collect::<Result<_, _>>()?),
    }
}

/// A value as text; empty where there is none.
fn cell<'b>(records: &Records<'b>, row: usize, column: usize) -> Cow<'b, str> {
    match (records.cell(row, column), COLUMNS[column].kind) {
        (None, _) => Cow::Borrowed(""),
        (Some(Cell::Text(text)), _) => Cow::Borrowed(text),
        (Some(Cell::Number(micros)), Kind::Time) => Cow::Owned(time(micros)),
        (Some(Cell::Number(number)), _) => Cow::Owned(number.to_string()),
    }
}

/// A field by RFC 4180. What a spreadsheet would take for a formula gets an apostrophe (OWASP, "CSV Injection").
pub(super) fn csv(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) };
    if text.contains([',', '"', '\r', '\n']) || formula {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into_owned()
    }
}

/// Columns as wide as the first page wants them.
fn table(
    out: &mut impl Write,
    columns: &[usize],
    widths: &mut Vec<usize>,
    records: &Records<'_>,
    rows: usize,
) -> io::Result<()> {
    let lines: Vec<Vec<String>> =
        (0..rows).map(|row| columns.iter().map(|c| printable(&cell(records, row, *c))).collect()).collect();
    if widths.is_empty() {
        let widest = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
        *widths = columns.iter().enumerate().map(|(at, c)| widest(at).max(COLUMNS[*c].path.len())).collect();
        let header: Vec<String> = columns.iter().map(|c| COLUMNS[*c].path.to_owned()).collect();
        print(out, &header, widths)?;
    }
    lines.iter().try_for_each(|line| print(out, line, widths))
}

pub(super) fn print(out: &mut impl Write, cells: &[String], widths: &[usize]) -> io::Result<()> {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
}

/// One short line, without what would move a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(WIDEST).map(clean).collect();
    if text.chars().count() > WIDEST {
        short.pop();
        short.push('…');
    }
    short
}

/// Marks that turn the direction of what follows (Unicode Bidirectional Algorithm), or show nothing.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_is_no_formula_in_csv() {
        assert_eq!(csv("plain"), "plain");
        assert_eq!(csv("=cmd()"), "\"'=cmd()\"");
        assert_eq!(csv("-1,\"x\""), "\"'-1,\"\"x\"\"\"");
        assert_eq!(csv("a,b"), "\"a,b\"");
    }

    #[test]
    fn a_terminal_is_not_steered_by_a_record() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}c"), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(printable(&"x".repeat(100)).chars().count(), WIDEST);
    }
}
