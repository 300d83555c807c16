//! What is wrong with a configuration, in a form that people can act on and editors can jump to.
//!
//! ```text
//! daybook.toml:3:1: unknown key `upstrem` in [listener.panel]
//!   |
//! 3 | upstrem = "http://127.0.0.1:3000"
//!   | ^^^^^^^ did you mean `upstream`?
//! ```

use std::fmt;
use std::ops::Range;

use super::source::{Excerpt, Place, Source};

/// One thing that is wrong, or at least doubtful.
#[derive(Clone, Debug)]
pub struct Complaint {
    severity: Severity,
    file: String,
    at: Option<(Place, Excerpt)>,
    message: String,
    help: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration can't be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

/// All complaints about a configuration, in the order of the file. Its `Display` is the full
/// text, which ends its last line where there is one.
#[derive(Clone, Debug, Default, thiserror::Error)]
pub struct Complaints(Vec<Complaint>);

/// Characters of a message or a help that are shown: both may quote the file.
const LONGEST_TEXT: usize = 600;

// === impl Complaint ===

impl Complaint {
    /// About a file as a whole.
    pub(super) fn about(file: &str, severity: Severity, message: &str) -> Self {
        let (message, help) = split(message);
        Self { severity, file: file.to_owned(), at: None, message, help }
    }

    /// About a part of its text.
    pub(super) fn at(source: &Source, span: &Range<usize>, severity: Severity, message: &str) -> Self {
        let at = Some((source.place(span.start), source.excerpt(span)));
        Self { at, ..Self::about(source.name(), severity, message) }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Where it is; none when it is about the file as a whole.
    pub fn place(&self) -> Option<Place> {
        self.at.as_ref().map(|(place, _)| *place)
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

/// Messages are written as "what is wrong; what to write instead".
fn split(message: &str) -> (String, Option<String>) {
    let bound = |text: &str| match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    let message = message.replace(|c: char| c.is_control(), "\u{fffd}");
    match message.rsplit_once("; ") {
        Some((wrong, instead)) => (bound(wrong), Some(bound(instead))),
        None => (bound(&message), None),
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.severity == Severity::Warning { "warning: " } else { "" };
        let Some((place, excerpt)) = &self.at else {
            write!(f, "{}: {warning}{}", self.file, self.message)?;
            return self.help.iter().try_for_each(|help| write!(f, "\n  = {help}"));
        };
        writeln!(f, "{}:{place}: {warning}{}", self.file, self.message)?;
        let gutter = place.line.to_string().len();
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{} | {}", place.line, excerpt.line)?;
        write!(f, "{:gutter$} | {}{}", "", excerpt.indent, "^".repeat(excerpt.width))?;
        self.help.iter().try_for_each(|help| write!(f, " {help}"))
    }
}

// === impl Complaints ===

impl Complaints {
    /// In the order of the file; what is about the file as a whole comes first.
    pub(super) fn new(mut all: Vec<Complaint>) -> Self {
        all.sort_by_key(Complaint::place);
        Self(all)
    }

    /// Each of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Complaint> {
        self.0.iter()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the configuration can't be used.
    pub fn any_error(&self) -> bool {
        self.0.iter().any(|one| one.severity == Severity::Error)
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, one) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            writeln!(f, "{one}")?;
        }
        Ok(())
    }
}
