//! The process's own log.

use std::io::IsTerminal;

use tracing_subscriber::filter::{EnvFilter, ParseError};

/// What is logged: a level like `debug`, or a list like `daybook::forward=debug,info`.
const FILTER: &str = "DAYBOOK_LOG";
/// How: `text`, or `json` for one object a line.
const FORMAT: &str = "DAYBOOK_LOG_FORMAT";
/// What is logged when nothing else is asked for.
const DEFAULT: &str = "info";

/// Begins to log to stderr, as `DAYBOOK_LOG` (a filter; `info` by default) and `DAYBOOK_LOG_FORMAT`
/// (`text` or `json`) ask for.
///
/// A filter that can't be understood is the log's first line, not an error: no audit is worth missing
/// for a misspelt level. A second call does nothing.
pub fn init_logs() {
    let asked = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
    let (filter, wrong) = match filter(&asked(FILTER).unwrap_or_else(|| DEFAULT.to_owned())) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT), Some(error)),
    };
    let format = asked(FORMAT);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let begun = match format.as_deref() {
        Some("json") => log.json().flatten_event(true).with_current_span(false).try_init(),
        _ => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    if begun.is_err() {
        return;
    }
    if let Some(error) = wrong {
        tracing::warn!(
            "{FILTER} is no log filter ({error}), so `{DEFAULT}` is used; write a level, or `daybook::forward=debug,info`"
        );
    }
    if let Some(other) = format.filter(|format| !matches!(format.as_str(), "text" | "json")) {
        tracing::warn!("{FORMAT} can't be `{other}`; write `text` or `json`");
    }
}

fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_or_lists_of_them() {
        for good in [DEFAULT, "debug", "daybook::forward=trace,info", "off"] {
            assert!(filter(good).is_ok(), "{good} was refused");
        }
        assert!(filter("daybook=loud").is_err(), "there is no such level");
    }
}
