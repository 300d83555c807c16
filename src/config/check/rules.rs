//! `[[rule]]` and `[defaults]`: names, kinds, methods and status codes; rules that never get a turn.

use std::collections::BTreeMap;

use super::Checker;
use crate::config::source::join;
use crate::config::suggest;
use crate::config::{Match, RuleSettings, Strings};

/// Kinds of the records that Daybook writes about itself; a rule that made them could forge them.
const OWN_KINDS: [&str; 4] = ["start", "reload", "loss", "checkpoint"];
/// What is known of a user.
const USER_KEYS: [&str; 3] = ["id", "email", "name"];
/// Longest kind: it may become part of a topic's name.
const LONGEST_KIND: usize = 64;

pub(super) fn check(checker: &mut Checker<'_>) {
    let config = checker.config;
    kind(checker, "defaults.kind", &config.defaults.kind);
    user_keys(checker, "defaults.user", &config.defaults.user);
    for (index, rule) in config.rule.iter().enumerate() {
        let path = format!("rule[{index}]");
        one(checker, &path, rule);
        let before = &config.rule[..index];
        if let Some(first) = before.iter().position(|other| !rule.name.is_empty() && other.name == rule.name) {
            let message = format!("rule {} is called `{}` too; write another name", first + 1, rule.name);
            checker.error(&format!("{path}.name"), &message);
        }
        if let Some(first) = before.iter().position(|other| covers(&other.matches, &rule.matches)) {
            let message = format!(
                "this rule never gets a turn: rule {} (`{}`) comes first and matches all that this one does; put this one above it",
                first + 1,
                before[first].name
            );
            checker.warn(&path, &message);
        }
    }
}

fn one(checker: &mut Checker<'_>, path: &str, rule: &RuleSettings) {
    if rule.name.is_empty() {
        let message = "every record names its rule, and this one has no name; add `name = \"…\"`";
        checker.error(&format!("{path}.name"), message);
    }
    if let Some(name) = &rule.kind {
        kind(checker, &format!("{path}.kind"), name);
    }
    let listeners: Vec<&str> = checker.config.listener.keys().map(String::as_str).collect();
    each(&format!("{path}.match.listener"), checker, &rule.matches.listener, |checker, path, name| {
        if !listeners.contains(&name) && !checker.settled(&join("listener", name)) {
            checker.error(path, &format!("there is no [listener.{name}]; {}", suggest::sentence(name, &listeners)));
        }
    });
    each(&format!("{path}.match.method"), checker, &rule.matches.method, method);
    if let Some(success) = &rule.success {
        for (index, status) in success.status.iter().enumerate() {
            if !(100..=599).contains(status) {
                let message = format!("`{status}` is no HTTP status; write 100 to 599");
                checker.error(&format!("{path}.success.status[{index}]"), &message);
            }
        }
    }
    user_keys(checker, &format!("{path}.user"), &rule.user);
    user_keys(checker, &format!("{path}.target"), &rule.target);
}

/// Calls `test` with the path of each string: the key's own where it is a single string, not a list.
fn each(path: &str, checker: &mut Checker<'_>, strings: &Strings, test: impl Fn(&mut Checker<'_>, &str, &str)) {
    for (index, text) in strings.iter().enumerate() {
        let element = format!("{path}[{index}]");
        let path = if checker.has(&element) { element.as_str() } else { path };
        test(checker, path, text);
    }
}

fn kind(checker: &mut Checker<'_>, path: &str, kind: &str) {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if OWN_KINDS.contains(&kind) {
        let message =
            format!("Daybook writes `{kind}` records about itself; write another kind, like `panel`, `api` or `login`");
        checker.error(path, &message);
    } else if !kind.starts_with(|c: char| c.is_ascii_lowercase())
        || !kind.bytes().all(legal)
        || kind.len() > LONGEST_KIND
    {
        let message = format!(
            "`{kind}` is no kind: those begin with a letter and have lower-case letters, digits and `-`; write one like `password-reset`"
        );
        checker.error(path, &message);
    }
}

/// Methods are tokens (RFC 9110, 5.6.2) and case-sensitive; all registered ones are upper case.
fn method(checker: &mut Checker<'_>, path: &str, method: &str) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let upper = method.to_ascii_uppercase();
    if method.is_empty() || !method.bytes().all(token) {
        checker.error(path, &format!("`{method}` is no request method; write one like `POST`"));
    } else if upper != method {
        checker.error(path, &format!("methods are upper case, so `{method}` would never match; write `{upper}`"));
    }
}

fn user_keys(checker: &mut Checker<'_>, path: &str, user: &BTreeMap<String, String>) {
    for key in user.keys().filter(|key| !USER_KEYS.contains(&key.as_str())) {
        checker
            .error_at_key(&join(path, key), &format!("a user has no `{key}`; {}", suggest::sentence(key, &USER_KEYS)));
    }
}

/// Whether all that `b` matches is matched by `a` too, as far as that shows without looking into patterns.
fn covers(a: &Match, b: &Match) -> bool {
    let within =
        |a: &Strings, b: &Strings| a.is_empty() || (!b.is_empty() && b.iter().all(|one| a.iter().any(|x| x == one)));
    let all_of = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
        a.iter().all(|(name, pattern)| b.get(name) == Some(pattern))
    };
    let any_path = a.path.iter().any(|path| matches!(path, "**" | "/**"));
    within(&a.listener, &b.listener)
        && within(&a.method, &b.method)
        && (any_path || within(&a.path, &b.path))
        && within(&a.host, &b.host)
        && all_of(&a.query, &b.query)
        && all_of(&a.header, &b.header)
}
