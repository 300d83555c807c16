//! The process's own log.

use std::io::IsTerminal;

use tracing_subscriber::filter::{EnvFilter, ParseError};

/// The variable that overrides the log level, like `debug` or `daybook::forward=debug,info`.
const VARIABLE: &str = "DAYBOOK_LOG";

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter can't be understood.
    #[error("`{0}` is no log filter; write a level like `info`, or `daybook::forward=debug,info` (in {VARIABLE})")]
    Filter(String, #[source] ParseError),
    /// A log was set up already.
    #[error("the log is set up already")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Begins to log to stderr: what `DAYBOOK_LOG` asks for, else `level` (`error`, `warn`, `info`, `debug`,
/// `trace`, or a filter).
///
/// # Errors
/// When the filter can't be understood or a log was set up already.
pub fn init_logs(level: &str, format: LogFormat) -> Result<(), LogError> {
    let wanted = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()).unwrap_or_else(|| level.to_owned());
    let filter = filter(&wanted)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
    }
    .map_err(LogError::Twice)
}

fn filter(text: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(text).map_err(|e| LogError::Filter(text.to_owned(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_or_lists_of_them() {
        for good in ["info", "debug", "daybook::forward=trace,info", "off"] {
            assert!(filter(good).is_ok(), "{good} was refused");
        }
        let wrong = filter("daybook=loud").expect_err("no such level").to_string();
        assert!(wrong.contains("DAYBOOK_LOG"), "the message says where to write it: {wrong}");
    }
}
