//! A configuration's text: from byte offsets to lines and columns, and from key paths to byte offsets.
//!
//! Lines and columns count from 1, columns count characters, `\r\n` ends a line like `\n` does. A key
//! path is written as in the complaint texts: `listener.panel.tls.cert`, `rule[2].match.path[0]`.
//! Keys are never quoted in it, so that other rooms can make paths without knowing how; where two keys
//! come to the same path (`a.b` and `"a.b"`), one of them is pointed at.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file's name and text.
#[derive(Clone, Debug)]
pub(super) struct Source {
    name: String,
    text: String,
}

/// A place in a text, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Character within the line.
    pub column: usize,
}

/// The line of a [`Place`] as it is shown, with the part that is underlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// The line, or a window of a very long one; control characters other than tabs are replaced.
    pub(super) line: String,
    /// What stands before the underlined part, every character but tabs as a space.
    pub(super) indent: String,
    /// Characters underlined, at least one.
    pub(super) width: usize,
}

/// Where each key of a configuration stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans(HashMap<String, Spots>);

#[derive(Clone, Debug)]
struct Spots {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

/// Characters of a line that are shown; more would push the underlined part off a terminal.
const WINDOW: usize = 160;
/// Characters shown before the underlined part of a line longer than that.
const WINDOW_LEAD: usize = 60;

// === impl Source ===

impl Source {
    /// A byte order mark is no part of the text.
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.strip_prefix('\u{feff}').unwrap_or(text).to_owned() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The place of a byte offset; one past the end (or within a character) is moved back into the text.
    pub(super) fn place(&self, offset: usize) -> Place {
        let offset = self.floor(offset);
        let before = &self.text[..offset];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        Place { line: 1 + before.matches('\n').count(), column: 1 + before[start..].chars().count() }
    }

    /// The line of `span`'s start, `span` underlined as far as that line goes.
    pub(super) fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let at = self.floor(span.start);
        let start = self.text[..at].rfind('\n').map_or(0, |n| n + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |n| at + n);
        let line = self.text[start..end].trim_end_matches('\r');
        let line = hide_secret(line);
        let lead = self.text[start..at].chars().count();
        let marked = self.text[at..self.floor(span.end).clamp(at, end)].trim_end_matches('\r').chars().count();
        let skip = if line.chars().count() > WINDOW { lead.saturating_sub(WINDOW_LEAD) } else { 0 };
        let mut shown: String = line.chars().skip(skip).take(WINDOW).map(printable).collect();
        let mut lead = lead - skip;
        if skip > 0 {
            shown.insert(0, '…');
            lead += 1;
        }
        let rest = shown.chars().count().saturating_sub(lead);
        let mut indent: String = shown.chars().take(lead).map(|c| if c == '\t' { c } else { ' ' }).collect();
        indent.extend(std::iter::repeat_n(' ', lead.saturating_sub(shown.chars().count())));
        Excerpt { line: shown, indent, width: marked.min(rest).max(1) }
    }

    fn floor(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }
}

/// A terminal must not act on what a file contains.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

/// Whether a key's value must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "passwd", "passwrd", "secret", "pwd", "token"].iter().any(|word| key.contains(word))
}

/// Ends a line that names a secret behind the `=`, so that a complaint can be pasted into a ticket.
fn hide_secret(line: &str) -> String {
    let mut from = 0;
    while let Some(at) = line[from..].find('=').map(|n| from + n) {
        let key = line[from..at].trim_end().rsplit([' ', '\t', ',', '{', '.']).next().unwrap_or("");
        let value = line[at + 1..].trim_start().trim_start_matches(['"', '\'']);
        if is_secret(key) && !value.starts_with("env:") && !value.starts_with("file:") {
            return format!("{}= ***", &line[..at]);
        }
        from = at + 1;
    }
    line.to_owned()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

// === impl Spans ===

impl Spans {
    /// Notes every key of a document.
    pub(super) fn of(root: &DeTable<'_>) -> Self {
        let mut spans = Self::default();
        spans.table("", root);
        spans
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            self.node(join(path, key.get_ref()), Some(key.span()), value);
        }
    }

    fn node(&mut self, path: String, key: Option<Range<usize>>, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(&path, table),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    self.node(format!("{path}[{index}]"), None, element);
                }
            }
            _ => {}
        }
        self.0.insert(path, Spots { key, value: value.span() });
    }

    /// Whether the document has this key.
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Where a value stands; for a path that is not in the document, its closest parent's key.
    pub(super) fn value(&self, path: &str) -> Option<Range<usize>> {
        match self.0.get(path) {
            Some(spots) => Some(spots.value.clone()),
            None => self.key(path),
        }
    }

    /// Where a key stands, or its closest parent's.
    pub(super) fn key(&self, path: &str) -> Option<Range<usize>> {
        let mut path = path;
        loop {
            if let Some(spots) = self.0.get(path) {
                return Some(spots.key.clone().unwrap_or_else(|| spots.value.clone()));
            }
            path = &path[..parent_end(path)?];
        }
    }
}

/// `path.key`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Where the path without its last step ends. A key with a dot in it is cut in the middle, which is not
/// in the document, and so leads on to its parent.
fn parent_end(path: &str) -> Option<usize> {
    path.rfind(['.', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let source = Source::new("x", "a = 1\r\nżółw = 2\n");
        assert_eq!(source.place(0), Place { line: 1, column: 1 });
        assert_eq!(source.place(7), Place { line: 2, column: 1 });
        assert_eq!(source.place(source.text().find('2').expect("there")), Place { line: 2, column: 8 });
        assert_eq!(source.place(10_000), Place { line: 3, column: 1 }, "past the end is the end");
    }

    #[test]
    fn an_excerpt_keeps_tabs_and_leaves_out_the_carriage_return() {
        let source = Source::new("x", "\tżó = tru\r\nb = 1");
        let at = source.text().find("tru").expect("there");
        let excerpt = source.excerpt(&(at..at + 9));
        assert_eq!(excerpt.line, "\tżó = tru");
        assert_eq!(excerpt.indent, "\t     ");
        assert_eq!(excerpt.width, 3, "no further than the line");
    }

    #[test]
    fn a_very_long_line_is_shown_around_the_place() {
        let source = Source::new("x", &format!("a = \"{}\" b", "x".repeat(5000)));
        let at = source.text().len() - 1;
        let excerpt = source.excerpt(&(at..at + 1));
        assert!(excerpt.line.chars().count() <= WINDOW + 1, "{}", excerpt.line);
        assert_eq!(excerpt.line.chars().nth(excerpt.indent.chars().count()), Some('b'));
    }

    #[test]
    fn secrets_are_not_shown() {
        let source = Source::new("x", "sasl = { username = \"u\", password = \"hunter2\" }");
        assert_eq!(source.excerpt(&(0..4)).line, "sasl = { username = \"u\", password = ***");
        let source = Source::new("x", "password = \"env:KAFKA_PASSWORD\"");
        assert_eq!(source.excerpt(&(0..4)).line, "password = \"env:KAFKA_PASSWORD\"");
    }

    #[test]
    fn paths_lead_to_their_keys_or_to_the_closest_parent() {
        let text = "[listener.panel]\nbind = \"x\"\n[[rule]]\nname = \"a\"\nmatch = { path = [\"/\", \"/b\"] }\n[rule.attributes]\n\"a b\" = \"=1\"\n";
        let root = DeTable::parse(text).expect("TOML");
        let spans = Spans::of(root.get_ref());
        let show = |span: Option<Range<usize>>| span.map(|s| &text[s]);
        assert_eq!(show(spans.value("listener.panel.bind")), Some("\"x\""));
        assert_eq!(show(spans.key("listener.panel.bind")), Some("bind"));
        assert_eq!(show(spans.value("listener.panel.upstream")), Some("panel"));
        assert_eq!(show(spans.value("rule[0].match.path[1]")), Some("\"/b\""));
        assert_eq!(show(spans.value("rule[0].match.path[7]")), Some("path"));
        assert_eq!(show(spans.value("rule[0].attributes.a b")), Some("\"=1\""));
        assert_eq!(show(spans.value("rule[0].session")), Some("[[rule]]"));
        assert_eq!(show(spans.value("journal.sync")), None);
    }
}
