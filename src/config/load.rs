//! Reading a configuration: bounded, with every complaint at once, remembering where each key stands.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::Config;
use super::check;
use super::complaint::{Complaint, Complaints, Severity};
use super::peel::peel;
use super::source::{Source, Spans};

/// A configuration that can be used, and its text, so that what is found later can point into it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is doubtful in it.
    pub warnings: Complaints,
    /// The file it was read from.
    pub path: PathBuf,
    source: Source,
    spans: Spans,
}

/// Largest configuration file read, in bytes; the largest sensible one is a hundred times smaller.
pub const MAX_FILE: u64 = 1 << 20;

// === impl Config ===

impl Config {
    /// Reads and checks a file, and that the files it names can be read.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(path: impl AsRef<Path>) -> Result<Loaded, Complaints> {
        let path = path.as_ref();
        let text = read(path)?;
        Self::examine(&text, path, check::Files::MustExist)
    }

    /// Checks a text as if it stood in `path`, without looking at any file it names.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Loaded, Complaints> {
        Self::examine(text, path.as_ref(), check::Files::Ignored)
    }

    fn examine(text: &str, path: &Path, files: check::Files) -> Result<Loaded, Complaints> {
        let source = Source::new(&path.display().to_string(), text);
        let peeled = peel(&source);
        let mut all = peeled.complaints;
        if let Some(config) = &peeled.config {
            all.extend(check::check(config, &source, &peeled.spans, &peeled.removed, files));
        }
        let all = Complaints::new(all);
        match peeled.config {
            Some(config) if !all.any_error() => {
                Ok(Loaded { config, warnings: all, path: path.to_owned(), source, spans: peeled.spans })
            }
            _ => Err(all),
        }
    }
}

/// The file's text.
fn read(path: &Path) -> Result<String, Complaints> {
    let name = path.display().to_string();
    let about = |message: String| Complaints::new(vec![Complaint::about(&name, Severity::Error, &message)]);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|e| about(format!("can't be read: {e}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(about(format!("is larger than {} bytes, which no configuration is", MAX_FILE)));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(e.as_bytes());
        let source = Source::new(&name, &text);
        let message = "this byte is not UTF-8, which all TOML is; save the file as UTF-8";
        // A byte order mark is no part of the source, so offsets behind it are three bytes less.
        let at = at.saturating_sub(text.len() - source.text().len());
        Complaints::new(vec![Complaint::at(&source, &(at..at + 1), Severity::Error, message)])
    })
}

// === impl Loaded ===

impl Loaded {
    /// A complaint about a key that was found wrong later, when a room took its settings.
    ///
    /// `path` is written like `listener.panel.tls.cert` or `rule[2].match.path`; where the file has no
    /// such key, the complaint points at its closest parent. `message` is "what is wrong; what to write
    /// instead".
    pub fn complain(&self, path: &str, message: &str) -> Complaint {
        at(&self.source, &self.spans, path, Severity::Error, message)
    }

    /// The same for many, in the order of the file.
    pub fn complaints<P: AsRef<str>, M: AsRef<str>>(&self, all: impl IntoIterator<Item = (P, M)>) -> Complaints {
        Complaints::new(all.into_iter().map(|(path, message)| self.complain(path.as_ref(), message.as_ref())).collect())
    }
}

/// A complaint about a key's value, or about its closest parent that the file has.
pub(super) fn at(source: &Source, spans: &Spans, path: &str, severity: Severity, message: &str) -> Complaint {
    match spans.value(path) {
        Some(span) => Complaint::at(source, &span, severity, message),
        None => Complaint::about(source.name(), severity, message),
    }
}
