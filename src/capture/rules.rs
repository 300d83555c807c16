//! Which rule decides about an exchange: compiled once, decided without allocation in the common case.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;

use super::pattern::{HostPattern, PathPattern, ValuePattern, comparable};
use crate::config::Match;
use crate::message::RequestHead;

/// The conditions of all rules, in order.
#[derive(Debug, Default)]
pub(super) struct Rules {
    conditions: Vec<Conditions>,
    /// By listener's name; the rules that name no listener stand in all of them.
    tables: HashMap<Arc<str>, Table>,
    /// For listeners that no rule names.
    others: Table,
}

/// Which rule decided, and by which of its path patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Index of the rule.
    pub(super) rule: usize,
    /// Index of the pattern in that rule's `path`, where it has any.
    pub(super) path: Option<usize>,
}

/// The compiled `match` of one rule. Empty lists match everything.
#[derive(Debug)]
pub(super) struct Conditions {
    listeners: Vec<Arc<str>>,
    methods: Vec<http::Method>,
    paths: Vec<PathPattern>,
    hosts: Vec<HostPattern>,
    query: Vec<(Box<str>, ValuePattern)>,
    headers: Vec<(HeaderName, ValuePattern)>,
}

/// Rules that may match on one listener: those of exact paths by path, the others in order.
#[derive(Debug, Default)]
struct Table {
    exact: HashMap<Box<str>, Vec<usize>>,
    general: Vec<usize>,
}

// === impl Conditions ===

impl Conditions {
    /// Compiles one rule's conditions. Complaints carry the key below `match`.
    pub(super) fn compile(settings: &Match) -> Result<Self, Vec<(&'static str, String)>> {
        let mut wrong = Vec::new();
        let methods =
            settings.method.iter().filter_map(|m| method(m).map_err(|e| wrong.push(("method", e))).ok()).collect();
        let paths = settings
            .path
            .iter()
            .filter_map(|p| PathPattern::parse(p).map_err(|e| wrong.push(("path", e))).ok())
            .collect();
        let hosts = settings
            .host
            .iter()
            .filter_map(|h| HostPattern::parse(h).map_err(|e| wrong.push(("host", e))).ok())
            .collect();
        let headers = settings.header.iter().filter_map(|(name, pattern)| match name.parse() {
            Ok(name) => Some((name, ValuePattern::parse(pattern))),
            Err(_) => {
                wrong.push(("header", format!("`{name}` can't be a header's name")));
                None
            }
        });
        let headers = headers.collect();
        let query = settings.query.iter().map(|(name, p)| (name.as_str().into(), ValuePattern::parse(p))).collect();
        let listeners = settings.listener.iter().map(Arc::from).collect();
        if wrong.is_empty() { Ok(Self { listeners, methods, paths, hosts, query, headers }) } else { Err(wrong) }
    }

    /// The path pattern of this index.
    pub(super) fn path(&self, index: usize) -> Option<&PathPattern> {
        self.paths.get(index)
    }

    /// All path patterns.
    pub(super) fn paths(&self) -> &[PathPattern] {
        &self.paths
    }

    /// `Some` when everything but the listener fits; within, which path pattern did.
    fn fit(&self, head: &RequestHead, path: &str) -> Option<Option<usize>> {
        if !self.methods.is_empty() && !self.methods.contains(&head.method) {
            return None;
        }
        let by = match self.paths.iter().position(|p| p.fits(path)) {
            None if !self.paths.is_empty() => return None,
            by => by,
        };
        if !self.hosts.is_empty() {
            let host = head.host()?;
            self.hosts.iter().find(|h| h.fits(host))?;
        }
        let header = |(name, pattern): &(HeaderName, ValuePattern)| pattern.fits(head.fields.all(name));
        if !self.headers.iter().all(header) {
            return None;
        }
        let query = head.query().unwrap_or_default();
        let parameter = |(name, pattern): &(Box<str>, ValuePattern)| {
            let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(n, _)| **n == **name);
            pattern.fits(pairs.map(|(_, value)| value.into_owned()))
        };
        self.query.iter().all(parameter).then_some(by)
    }
}

fn method(text: &str) -> Result<http::Method, String> {
    let upper = text.to_ascii_uppercase();
    if upper != text {
        return Err(format!("methods are written in capitals: `{upper}` instead of `{text}`"));
    }
    text.parse().map_err(|_| format!("`{text}` is not a request method; write `GET`, `POST`, …"))
}

// === impl Rules ===

impl Rules {
    /// The rules in the order of the file.
    pub(super) fn new(conditions: Vec<Conditions>) -> Self {
        let named = conditions.iter().flat_map(|c| c.listeners.iter().cloned());
        let names: Vec<Arc<str>> = named.collect();
        let tables = names.into_iter().map(|name| (name.clone(), Table::new(&conditions, Some(&name)))).collect();
        let others = Table::new(&conditions, None);
        Self { conditions, tables, others }
    }

    /// The compiled conditions of a rule.
    pub(super) fn conditions(&self, rule: usize) -> Option<&Conditions> {
        self.conditions.get(rule)
    }

    /// The first rule that matches, if any does.
    pub(super) fn decide(&self, listener: &str, head: &RequestHead) -> Option<Decision> {
        if self.conditions.is_empty() {
            return None;
        }
        let table = self.tables.get(listener).unwrap_or(&self.others);
        let path = comparable(super::path_of(head));
        let mut exact = table.exact.get(&*path).map_or(&[][..], Vec::as_slice);
        let mut general = table.general.as_slice();
        loop {
            let rule = match (exact.first(), general.first()) {
                (Some(e), Some(g)) if e < g => next(&mut exact),
                (_, Some(_)) => next(&mut general),
                (Some(_), None) => next(&mut exact),
                (None, None) => return None,
            }?;
            if let Some(path) = self.conditions[rule].fit(head, &path) {
                return Some(Decision { rule, path });
            }
        }
    }
}

fn next(list: &mut &[usize]) -> Option<usize> {
    let (first, rest) = list.split_first()?;
    *list = rest;
    Some(*first)
}

// === impl Table ===

impl Table {
    fn new(conditions: &[Conditions], listener: Option<&Arc<str>>) -> Self {
        let mut table = Self::default();
        for (index, rule) in conditions.iter().enumerate() {
            let here = rule.listeners.is_empty() || listener.is_some_and(|name| rule.listeners.contains(name));
            if !here {
                continue;
            }
            let exact: Option<Vec<_>> = rule.paths.iter().map(PathPattern::exact).collect();
            match exact {
                Some(paths) if !paths.is_empty() => {
                    for path in paths {
                        let rules = table.exact.entry(path.into()).or_default();
                        if rules.last() != Some(&index) {
                            rules.push(index);
                        }
                    }
                }
                _ => table.general.push(index),
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Strings;
    use proptest::prelude::*;

    fn head(method: &str, uri: &str) -> RequestHead {
        let request = http::Request::builder().method(method).uri(uri).header("host", "panel.example.com");
        let request = request.header("x-kind", "mobile").body(()).expect("a request");
        RequestHead::from_parts(&request.into_parts().0)
    }

    fn conditions(method: &[&str], path: &[&str], listener: &[&str]) -> Match {
        let strings = |list: &[&str]| Strings(list.iter().map(|s| (*s).to_owned()).collect());
        Match { method: strings(method), path: strings(path), listener: strings(listener), ..Match::default() }
    }

    fn rules(all: &[Match]) -> Rules {
        Rules::new(all.iter().map(|m| Conditions::compile(m).expect("compiles")).collect())
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(&[
            conditions(&["POST"], &["/login"], &["panel"]),
            conditions(&[], &["/orders/{id}", "/x"], &[]),
            conditions(&[], &["/orders/17"], &[]),
            conditions(&["GET"], &[], &[]),
        ]);
        for (listener, method, uri, expected) in [
            ("panel", "POST", "/login", Some((0, Some(0)))),
            ("api", "POST", "/login", None),
            ("api", "DELETE", "/orders/17", Some((1, Some(0)))),
            ("api", "DELETE", "/x?a=b", Some((1, Some(1)))),
            ("api", "GET", "/else", Some((3, None))),
            ("api", "PUT", "/else", None),
        ] {
            let decided = rules.decide(listener, &head(method, uri)).map(|d| (d.rule, d.path));
            assert_eq!(decided, expected, "{listener} {method} {uri}");
        }
    }

    #[test]
    fn hosts_queries_and_headers_are_conditions_too() {
        let mut one = Match { host: Strings(vec!["*.example.com".into()]), ..Match::default() };
        one.query.insert("action".into(), "send*".into());
        one.header.insert("X-Kind".into(), "!desktop".into());
        let rules = rules(&[one]);
        assert!(rules.decide("panel", &head("GET", "/?action=send%5Fnow")).is_some());
        assert!(rules.decide("panel", &head("GET", "/?action=read")).is_none());
        assert!(rules.decide("panel", &head("GET", "/")).is_none());
    }

    #[test]
    fn wrong_conditions_are_all_reported() {
        let mut one = conditions(&["post", "GET"], &["login"], &[]);
        one.header.insert("a b".into(), "*".into());
        let wrong = Conditions::compile(&one).expect_err("three mistakes");
        let keys: Vec<_> = wrong.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["method", "path", "header"], "{wrong:?}");
    }

    proptest! {
        /// The index is only a shortcut: trying every rule in order decides the same.
        #[test]
        fn deciding_is_trying_every_rule_in_order(
            all in prop::collection::vec(
                (prop::sample::subsequence(vec!["GET", "POST", "PURGE"], 0..3),
                 prop::sample::subsequence(vec!["/a", "/b", "/a/*", "/{x}", "/a/**", "/**"], 0..3),
                 prop::sample::subsequence(vec!["one", "two"], 0..2)), 0..8),
            method in prop::sample::select(vec!["GET", "POST", "PURGE", "PUT"]),
            path in prop::sample::select(vec!["/", "/a", "/b", "/a/c", "/%61", "/a/c/d"]),
            listener in prop::sample::select(vec!["one", "two", "three"]),
        ) {
            let all: Vec<Match> = all.iter().map(|(m, p, l)| conditions(m, p, l)).collect();
            let head = head(method, path);
            let expected = all.iter().enumerate().find_map(|(rule, m)| {
                let compiled = Conditions::compile(m).expect("compiles");
                let here = m.listener.is_empty() || m.listener.iter().any(|l| l == listener);
                here.then(|| compiled.fit(&head, &comparable(path))).flatten().map(|path| Decision { rule, path })
            });
            prop_assert_eq!(rules(&all).decide(listener, &head), expected);
        }
    }
}
