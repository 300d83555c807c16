//! From text to [`Config`], with all that is wrong at once.
//!
//! serde stops at its first error. So the document is read with spans, and each error is noted and
//! peeled off: the key or element it points at is taken out (a missing key gets a stand-in) and the
//! rest is read again, until the rest is right.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};

use super::Config;
use super::complaint::{Complaint, Severity};
use super::phrase;
use super::source::{Source, Spans, join};

/// What could be read of a document.
pub(super) struct Peeled {
    /// What is right in it; none when its syntax is not.
    pub(super) config: Option<Config>,
    /// Where each of its keys stands.
    pub(super) spans: Spans,
    /// What is wrong with it.
    pub(super) complaints: Vec<Complaint>,
    /// Paths that were complained about, and so are not in `config` as they were meant.
    pub(super) removed: Vec<String>,
}

/// Complaints after which nobody reads on. It bounds the work too: each costs one reading.
const MOST_COMPLAINTS: usize = 100;

/// Stand-ins for missing keys, tried in turn until one fits, so that the next missing key can show.
const STAND_INS: [&str; 4] = ["127.0.0.1:1", "http://a", "PLAIN", "1s"];

/// The keys that are lists of tables.
const LISTS_OF_TABLES: [&str; 2] = ["rule", "more"];

struct Peeler<'s> {
    source: &'s Source,
    tree: DeValue<'s>,
    complaints: Vec<Complaint>,
    removed: Vec<String>,
    /// Stand-ins by their mark, and the next to try.
    stand_ins: BTreeMap<usize, (Vec<Step>, usize)>,
    /// The syntax is wrong: whole keys may not have been understood, so none is called missing.
    broken: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Reads a document.
pub(super) fn peel(source: &Source) -> Peeled {
    let (root, errors) = DeTable::parse_recoverable(source.text());
    let mut peeler = Peeler {
        source,
        tree: DeValue::Table(root.into_inner()),
        complaints: Vec::new(),
        removed: Vec::new(),
        stand_ins: BTreeMap::new(),
        broken: !errors.is_empty(),
    };
    peeler.syntax(&errors);
    peeler.lists_of_tables();
    let config = peeler.read().filter(|_| !peeler.broken);
    let spans = peeler.tree.as_table().map(Spans::of).unwrap_or_default();
    Peeled { config, spans, complaints: peeler.complaints, removed: peeler.removed }
}

/// The keys that stand above all tables. serde tells them when it meets another.
fn top_keys() -> Vec<String> {
    let error = toml::from_str::<Config>("no-such-key = true").err();
    let message = error.as_ref().map_or("", toml::de::Error::message);
    phrase::expected(message).into_iter().map(str::to_owned).collect()
}

/// One reading of the tree.
fn attempt(tree: &DeValue<'_>, end: usize) -> Result<Config, toml::de::Error> {
    Config::deserialize(ValueDeserializer::from(Spanned::new(0..end, tree.clone())))
}

// === impl Peeler ===

impl Peeler<'_> {
    /// What the parser says, once for each line: what follows on the same line is mostly an echo.
    fn syntax(&mut self, errors: &[toml::de::Error]) {
        let mut last = None;
        for error in errors.iter().take(10 * MOST_COMPLAINTS) {
            let span = error.span().unwrap_or(0..0);
            let line = Some(self.source.place(span.start).line);
            if line != last && self.complaints.len() < MOST_COMPLAINTS {
                self.complain(&span, &phrase::syntax(error.message()));
                last = line;
            }
        }
    }

    /// serde reads a list as a struct too, its elements as the fields in their order: `[[sink]]` would
    /// be Kafka. So lists of tables are only let through where there are some.
    fn lists_of_tables(&mut self) {
        let text = self.source.text();
        let wrong = |key: Option<&Range<usize>>, value: &Spanned<DeValue<'_>>| {
            let name = key.and_then(|key| text.get(key.clone()));
            let tables =
                value.get_ref().as_array().is_some_and(|array| array.iter().any(|one| one.get_ref().is_table()));
            tables && name.is_some_and(|name| !LISTS_OF_TABLES.contains(&name))
        };
        let mut path = Vec::new();
        while self.complaints.len() < MOST_COMPLAINTS && walk(&self.tree, &mut path, &wrong) {
            let span = get(&self.tree, &path).map_or(0..0, Spanned::span);
            let (table, key) = split(&path);
            self.complain(&span, &phrase::no_list(&table, &key));
            self.removed.push(show(&path));
            if take(&mut self.tree, &path).is_none() {
                return;
            }
            path.clear();
        }
    }

    fn read(&mut self) -> Option<Config> {
        let end = self.source.text().len();
        // A missing key may take as many readings as there are stand-ins, everything else takes one.
        for _ in 0..MOST_COMPLAINTS * (1 + STAND_INS.len()) {
            match attempt(&self.tree, end) {
                Ok(config) => return Some(config),
                Err(_) if self.complaints.len() >= MOST_COMPLAINTS => break,
                Err(error) => self.peel_off(&error)?,
            }
        }
        let message = format!("these {MOST_COMPLAINTS} complaints are not all; correct them and check again");
        self.complaints.push(Complaint::about(self.source.name(), Severity::Error, &message));
        None
    }

    /// Notes an error and takes its cause out of the tree; none when the cause can't be found.
    fn peel_off(&mut self, error: &toml::de::Error) -> Option<()> {
        let span = error.span().unwrap_or(0..0);
        if let Some((path, next)) = self.stand_ins.get(&span.start).cloned() {
            return self.stand_in(path, next, span.start);
        }
        let message = error.message();
        if let Some(field) = phrase::missing(message) {
            return self.missing(field, &span);
        }
        let unknown = phrase::is_unknown_key(message);
        let Some(path) = find(&self.tree, &span, unknown) else {
            self.complain(&span, message);
            return None;
        };
        let text = show(&path);
        let found = get(&self.tree, &path).map(|value| value.get_ref().type_str());
        let (table, key) = split(&path);
        let meant = phrase::meant(message, &key);
        // Where the syntax is wrong, a key may only seem to stand in a table that does not know it.
        if !(self.broken && unknown && meant.is_none()) {
            let wrong = if unknown && meant.is_none() && top_keys().contains(&key) {
                phrase::misplaced(&table, &key, found)
            } else {
                phrase::wrong(message, &table, &key, found)
            };
            self.complain(&span, &wrong);
        }
        if let Some(meant) = meant {
            self.removed.push(join(&table, meant));
        }
        self.removed.push(text);
        take(&mut self.tree, &path)
    }

    fn missing(&mut self, field: &str, table: &Range<usize>) -> Option<()> {
        let Some(mut path) = find_table(&self.tree, table) else {
            self.complain(table, &phrase::lacks(field, ""));
            return None;
        };
        let name = show(&path);
        path.push(Step::Key(field.to_owned()));
        let text = show(&path);
        // A key that was taken out because its value is wrong is not missing.
        if !self.broken && !self.removed.contains(&text) {
            self.complain(table, &phrase::lacks(field, &name));
            self.removed.push(text);
        }
        // Marks stand far behind any text, and no two are the same.
        let mark = usize::MAX - 1 - self.stand_ins.len();
        self.stand_in(path, 0, mark)
    }

    fn stand_in(&mut self, path: Vec<Step>, number: usize, mark: usize) -> Option<()> {
        let (Step::Key(key), table) = path.split_last()? else { return None };
        let Some(text) = STAND_INS.get(number) else {
            self.stand_ins.remove(&mark);
            self.removed.push(show(table));
            return take(&mut self.tree, table);
        };
        let value = Spanned::new(mark..mark + 1, DeValue::String((*text).into()));
        get_table(&mut self.tree, table)?.insert(Spanned::new(mark..mark + 1, key.clone().into()), value);
        self.stand_ins.insert(mark, (path, number + 1));
        Some(())
    }

    fn complain(&mut self, span: &Range<usize>, message: &str) {
        self.complaints.push(Complaint::at(self.source, span, Severity::Error, message));
    }
}

// === the tree ===

/// The path of the value at exactly `span`, or of the key at `span`; with `keys`, keys come first
/// (a table that its children's header implies has the span of its name).
fn find(tree: &DeValue<'_>, span: &Range<usize>, keys: bool) -> Option<Vec<Step>> {
    let by_key = |key: Option<&Range<usize>>, _: &Spanned<DeValue<'_>>| key == Some(span);
    let by_value = |_: Option<&Range<usize>>, value: &Spanned<DeValue<'_>>| value.span() == *span;
    let mut path = Vec::new();
    let order: [Test<'_>; 2] = if keys { [&by_key, &by_value] } else { [&by_value, &by_key] };
    order.iter().any(|test| walk(tree, &mut path, test)).then_some(path)
}

/// The path of the table at exactly `span`.
fn find_table(tree: &DeValue<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    let mut path = Vec::new();
    walk(tree, &mut path, &|_, value| value.get_ref().is_table() && value.span() == *span).then_some(path)
}

type Test<'t> = &'t dyn Fn(Option<&Range<usize>>, &Spanned<DeValue<'_>>) -> bool;

/// Goes through the tree, children before their parents (an array of tables has the span of its first
/// table), until a node passes `test`; `path` is then its path.
fn walk(tree: &DeValue<'_>, path: &mut Vec<Step>, test: Test<'_>) -> bool {
    let mut visit = |step: Step, key: Option<Range<usize>>, value: &Spanned<DeValue<'_>>| {
        path.push(step);
        let found = walk(value.get_ref(), path, test) || test(key.as_ref(), value);
        if !found {
            path.pop();
        }
        found
    };
    match tree {
        DeValue::Table(table) => {
            table.iter().any(|(key, value)| visit(Step::Key(key.get_ref().to_string()), Some(key.span()), value))
        }
        DeValue::Array(array) => array.iter().enumerate().any(|(index, value)| visit(Step::Index(index), None, value)),
        _ => false,
    }
}

fn get<'t, 'i>(tree: &'t DeValue<'i>, path: &[Step]) -> Option<&'t Spanned<DeValue<'i>>> {
    let (first, rest) = path.split_first()?;
    let next = match first {
        Step::Key(key) => tree.get(key.as_str())?,
        Step::Index(index) => tree.get(*index)?,
    };
    if rest.is_empty() { Some(next) } else { get(next.get_ref(), rest) }
}

fn get_mut<'t, 'i>(tree: &'t mut DeValue<'i>, path: &[Step]) -> Option<&'t mut DeValue<'i>> {
    let Some((first, rest)) = path.split_first() else { return Some(tree) };
    let next = match (first, tree) {
        (Step::Key(key), DeValue::Table(table)) => table.get_mut(key.as_str())?,
        (Step::Index(index), DeValue::Array(array)) => array.get_mut(*index)?,
        _ => return None,
    };
    get_mut(next.get_mut(), rest)
}

fn get_table<'t, 'i>(tree: &'t mut DeValue<'i>, path: &[Step]) -> Option<&'t mut DeTable<'i>> {
    match get_mut(tree, path)? {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// Takes a node out; none when there is none.
fn take(tree: &mut DeValue<'_>, path: &[Step]) -> Option<()> {
    let (last, parent) = path.split_last()?;
    match (last, get_mut(tree, parent)?) {
        (Step::Key(key), DeValue::Table(table)) => table.remove(key.as_str()).map(drop),
        (Step::Index(index), DeValue::Array(array)) if *index < array.len() => {
            let left = std::mem::replace(array, DeArray::new()).into_iter().enumerate();
            *array = left.filter(|(at, _)| at != index).map(|(_, value)| value).collect();
            Some(())
        }
        _ => None,
    }
}

/// The path of the table that a node stands in, and its key there; elements of lists have their list's.
fn split(path: &[Step]) -> (String, String) {
    let at = path.iter().rposition(|step| matches!(step, Step::Key(_))).unwrap_or(0);
    let key = path.get(at).map_or_else(String::new, |step| show(std::slice::from_ref(step)));
    (show(&path[..at]), key)
}

fn show(path: &[Step]) -> String {
    path.iter().fold(String::new(), |text, step| match step {
        Step::Key(key) => join(&text, key),
        Step::Index(index) => format!("{text}[{index}]"),
    })
}
