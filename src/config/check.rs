//! What a type can't say: keys that need each other, names that must be known, places that must differ.
//!
//! Each check is told as (path of the key, "what is wrong; what to write instead"). Nothing here touches
//! the disk but [`Checker::readable`], and that only when the configuration is loaded from a file.

use std::path::Path;

use super::complaint::{Complaint, Severity};
use super::source::{Source, Spans};
use super::{Config, load};

mod listeners;
mod rules;
mod sinks;

/// Whether the files a configuration names are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// They must be there and readable.
    MustExist,
    /// They may be on another machine.
    Ignored,
}

/// Threads that serve traffic, at most: above all machines there are, below what a slip of the finger asks for.
const MOST_WORKERS: usize = 1024;

/// Longest name of an instance: Kubernetes names pods with up to 253 characters, mostly far fewer.
const LONGEST_INSTANCE: usize = 253;

/// Collects what is found.
struct Checker<'a> {
    config: &'a Config,
    source: &'a Source,
    spans: &'a Spans,
    /// Paths that were complained about already: what stands there now is not what was meant.
    removed: &'a [String],
    files: Files,
    found: Vec<Complaint>,
}

/// All checks.
pub(super) fn check(
    config: &Config,
    source: &Source,
    spans: &Spans,
    removed: &[String],
    files: Files,
) -> Vec<Complaint> {
    let mut checker = Checker { config, source, spans, removed, files, found: Vec::new() };
    checker.top();
    checker.identity();
    checker.journal();
    listeners::check(&mut checker);
    rules::check(&mut checker);
    sinks::check(&mut checker);
    checker.found
}

/// What may become a part of a topic's name, a file's name or a metric's label.
fn is_name(text: &str, longest: usize) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= longest && text.bytes().all(legal)
}

impl Checker<'_> {
    fn error(&mut self, path: &str, message: &str) {
        self.add(path, Severity::Error, message);
    }

    /// About a key's name, not its value.
    fn error_at_key(&mut self, path: &str, message: &str) {
        if let Some(span) = self.spans.key(path) {
            self.found.push(Complaint::at(self.source, &span, Severity::Error, message));
        }
    }

    fn warn(&mut self, path: &str, message: &str) {
        self.add(path, Severity::Warning, message);
    }

    fn add(&mut self, path: &str, severity: Severity, message: &str) {
        if !self.settled(path) {
            self.found.push(load::at(self.source, self.spans, path, severity, message));
        }
    }

    /// Whether the file has this key.
    fn has(&self, path: &str) -> bool {
        self.spans.has(path)
    }

    /// Whether there was a complaint about this key, or about a table it stands in.
    fn settled(&self, path: &str) -> bool {
        self.removed.iter().any(|gone| {
            path.strip_prefix(gone.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// A file that is needed.
    fn readable(&mut self, path: &str, file: &Path) {
        if self.files == Files::Ignored {
            return;
        }
        let problem = match std::fs::File::open(file).and_then(|f| f.metadata()) {
            Ok(about) if about.is_dir() => "it is a folder".to_owned(),
            Ok(_) => return,
            Err(e) => e.to_string(),
        };
        self.error(path, &format!("`{}` can't be read: {problem}", file.display()));
    }

    /// Two keys that only make sense together.
    fn both(&mut self, table: &str, (one, has_one): (&str, bool), (other, has_other): (&str, bool)) {
        let (given, lacking) = match (has_one, has_other) {
            (true, false) => (one, other),
            (false, true) => (other, one),
            _ => return,
        };
        if !self.settled(&format!("{table}.{lacking}")) {
            let message = format!("`{given}` is of no use without `{lacking}`; add `{lacking} = \"….pem\"`");
            self.error(&format!("{table}.{given}"), &message);
        }
    }

    /// A number or a size that must not be smaller.
    fn at_least<T: PartialOrd + std::fmt::Display>(&mut self, path: &str, value: T, least: T, why: &str) {
        if value < least {
            let key = path.rsplit('.').next().unwrap_or(path);
            self.error(path, &format!("`{key} = {value}` is too little: {why}; write {least} or more"));
        }
    }

    /// Keys outside of the tables that have a file of their own here.
    fn top(&mut self) {
        let config = self.config;
        if config.workers > MOST_WORKERS {
            let message =
                format!("{} threads are no sensible number; write 0 for one on each processor", config.workers);
            self.error("workers", &message);
        }
        if config.instance.as_ref().is_some_and(|instance| !is_name(instance, LONGEST_INSTANCE)) {
            let message = format!(
                "an instance's name is 1 to {LONGEST_INSTANCE} letters, digits, `.`, `_` and `-`; write one like `panel-1`"
            );
            self.error("instance", &message);
        }
        if config.data.as_os_str().is_empty() {
            self.error("data", "`data` is empty; write a folder like `/var/lib/daybook`");
        }
        if let Some(admin) = &config.admin
            && !admin.bind.ip().is_loopback()
        {
            self.warn(
                "admin.bind",
                "whoever reaches this address can read the metrics; write `127.0.0.1:…` unless probes come from outside",
            );
        }
        if let Some(city) = &config.geoip.city {
            self.readable("geoip.city", city);
        }
    }

    fn identity(&mut self) {
        if let Some(jwt) = &self.config.identity.jwt {
            if let Some(jwks) = &jwt.jwks {
                self.readable("identity.jwt.jwks", jwks);
            }
            if jwt.jwks.is_none() && jwt.secret.is_none() && !self.settled("identity.jwt.secret") {
                let message = "no key verifies these tokens, so their claims prove nothing; add `jwks` or `secret`";
                self.warn("identity.jwt", message);
            }
        }
    }

    fn journal(&mut self) {
        let (max, segment) = (self.config.journal.max_size, self.config.journal.segment_size);
        self.at_least("journal.segment_size", segment, super::Bytes::kib(64), "a segment must hold whole records");
        if max.0 < segment.0.saturating_mul(2) {
            let message = format!(
                "`max_size` ({max}) does not hold two segments of {segment}, so nothing could ever be deleted; write {} or more",
                super::Bytes(segment.0.saturating_mul(2))
            );
            let path = if self.has("journal.max_size") { "journal.max_size" } else { "journal.segment_size" };
            self.error(path, &message);
        }
    }
}
