//! `daybook tail`: the journal as NDJSON on stdout.

use std::path::PathBuf;

use clap::Args;

use super::Exit;

#[derive(Args, Debug)]
pub(super) struct TailArgs {
    /// The data folder of a running or stopped Daybook.
    #[arg(long, value_name = "DIR", default_value = "daybook-data")]
    data: PathBuf,
}

pub(super) fn tail(args: &TailArgs) -> Exit {
    let _ = &args.data;
    Exit::Software
}
