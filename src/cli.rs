//! The command line: what was asked for, and the exit code that says how it went.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod check;
mod demo;
#[cfg(feature = "lake")]
mod query;
mod run;
mod tail;

/// What the shell is told (sysexits.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// The answer is no.
    No = 1,
    /// The command line makes no sense.
    Usage = 64,
    /// Something that is needed is not there now: an address in use, a folder that can't be opened.
    Unavailable = 69,
    /// A bug.
    Software = 70,
    /// The configuration is wrong.
    Config = 78,
}

#[derive(Debug, Parser)]
#[command(
    name = "daybook",
    version,
    about = "One durable audit record for every HTTP exchange of an app you don't change.",
    after_help = "Start with `daybook demo`, then put it in front of your own app:\n\n  \
                  daybook run --listen 127.0.0.1:8080 --upstream http://127.0.0.1:3000\n\n\
                  Exit codes: 0 fine, 1 the answer is no, 64 usage, 69 something needed is not there, 70 a bug, 78 configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a sample panel and API, Daybook in front, traffic, records as they happen.
    Demo(demo::DemoArgs),
    /// Stand in front of an app and record every exchange.
    Run(RunArgs),
    /// Say everything that is wrong with a configuration, and what to write instead.
    Check(check::CheckArgs),
    /// Print the journal as NDJSON.
    Tail(tail::TailArgs),
    /// Find records in the lake.
    #[cfg(feature = "lake")]
    Query(query::QueryArgs),
}

/// Either a file, or the two addresses.
#[derive(Args, Debug)]
#[command(after_help = "With --config, SIGHUP or a changed file reloads rules, redaction, GeoIP and certificates; \
                        SIGTERM drains: accepting stops, what is in flight ends, the journal is flushed. \
                        A second signal aborts.\nLogs go to stderr; DAYBOOK_LOG=debug says more.")]
pub(crate) struct RunArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["listen", "upstream", "data"], required_unless_present = "listen")]
    config: Option<PathBuf>,
    /// Where clients connect, without a file: `127.0.0.1:8080` or `unix:/run/daybook.sock`.
    #[arg(long, value_name = "ADDR", requires = "upstream")]
    listen: Option<String>,
    /// The app behind: `http://127.0.0.1:3000`, `https://app.internal`, `unix:/run/app.sock`.
    #[arg(long, value_name = "URL", requires = "listen")]
    upstream: Option<String>,
    /// Folder of the journal.
    #[arg(long, value_name = "DIR", requires = "listen")]
    data: Option<PathBuf>,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, on stdout; everything else is a usage error.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = error.print();
            return exit.into();
        }
    };
    let exit = match cli.command {
        Command::Demo(args) => demo::demo(&args),
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Tail(args) => tail::tail(&args),
        #[cfg(feature = "lake")]
        Command::Query(args) => query::query(&args),
    };
    exit.into()
}

/// The log of a command that runs for a while. One that can't be set up is no reason not to run.
fn init_logs() {
    if let Err(error) = crate::telemetry::init_logs("info", crate::telemetry::LogFormat::Text) {
        complain(&error);
    }
}

/// Tells a person what went wrong, with every cause, each on its line.
fn complain(error: &dyn std::error::Error) {
    let mut text = format!("daybook: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  because: {error}"));
        cause = error.source();
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How a command ends that could not go on.
fn failed(error: &(dyn std::error::Error + 'static)) -> Exit {
    match error.downcast_ref::<std::io::Error>() {
        // Whoever reads us has seen enough, as `head` does.
        Some(broken) if broken.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        _ => {
            complain(error);
            Exit::Unavailable
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
