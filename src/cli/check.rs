//! `daybook check`: everything that is wrong with a configuration, at once.

use std::path::PathBuf;

use clap::Args;

use crate::app::capture_settings;
use crate::capture::{Policy, PolicyError};
use crate::config::{Complaints, Config, Loaded};

use super::Exit;

#[derive(Args, Debug)]
#[command(
    after_help = "Exit code 0: it can be used (warnings may stand on stderr). 78: it can't; every complaint says file:line:col."
)]
pub(super) struct CheckArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn check(args: &CheckArgs) -> Exit {
    let loaded = match Config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(complaints) => {
            eprint!("{complaints}");
            return Exit::Config;
        }
    };
    eprint!("{}", loaded.warnings);
    let wrong = Policy::check(&capture_settings(&loaded.config));
    if !wrong.is_empty() {
        eprint!("{}", policy_complaints(&loaded, &wrong));
        return Exit::Config;
    }
    let (listeners, rules) = (loaded.config.listener.len(), loaded.config.rule.len());
    eprintln!("{}: fine: {}, {}", args.config.display(), counted(listeners, "listener"), counted(rules, "rule"));
    Exit::Ok
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Complaints about rules, each at its line.
pub(super) fn policy_complaints(loaded: &Loaded, wrong: &[PolicyError]) -> Complaints {
    loaded.complaints(wrong.iter().map(|error| (error.path(), error.message.as_str())))
}
