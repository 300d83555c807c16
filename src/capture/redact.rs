//! What is never written: secrets are masked here before anything reaches the journal.
//!
//! Deny by default: headers, query parameters, form fields and JSON members whose names stand for
//! secrets (`names.rs`) are masked always, and configuration only adds to them. Values under other
//! names are searched for URLs, credentials and JSON with secrets in them. A body whose secrets can't
//! be found, because it is of another type or is not what its type says, is not written at all: a
//! mask that fails drops the body, never the mask.

use std::collections::HashSet;

use http::HeaderName;

use super::plan::Complaint;
use super::selector::Selector;
use crate::config::RedactionSettings;
use crate::record::Text;

mod json;
pub(super) mod multipart;
mod names;
#[cfg(test)]
mod tests;
mod text;

/// What stands in place of a secret.
pub(super) const MASK: &str = "***";

/// Entries of a record's `redacted` at most: names come from clients.
const REPORTED: usize = 64;

/// What is masked beyond the built-in names.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    /// In lower case.
    headers: HashSet<Box<str>>,
    query: HashSet<Box<[u8]>>,
    fields: HashSet<Box<[u8]>>,
    pointers: Vec<Vec<Box<str>>>,
    /// Cookies and path segments that the configuration says are secrets.
    learnt: Vec<Selector>,
    /// Media types whose bodies are kept although nothing in them can be masked by name.
    kept_types: Vec<Box<str>>,
}

/// Where a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A query parameter.
    Query,
    /// A form field or JSON member.
    Field,
}

/// Which side of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// Collects what was masked, as selectors.
#[derive(Debug, Default)]
pub(super) struct Report {
    entries: Vec<Text<'static>>,
    nobody: bool,
}

/// A body as it may be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Masked {
    pub(super) text: Option<String>,
    pub(super) base64: bool,
    pub(super) omitted: Option<String>,
}

// === impl Redactor ===

impl Redactor {
    pub(super) fn compile(settings: &RedactionSettings, wrong: &mut Vec<Complaint>) -> Self {
        let mut headers = HashSet::new();
        for name in &settings.headers {
            match name.parse::<HeaderName>() {
                Ok(name) => drop(headers.insert(name.as_str().into())),
                Err(_) => wrong.push((vec!["headers".to_owned()], format!("`{name}` can't be a header's name"))),
            }
        }
        let mut pointers = Vec::new();
        for pointer in &settings.json {
            match pointer.strip_prefix('/') {
                Some(rest) => pointers.push(rest.split('/').map(unescape).collect()),
                None => {
                    let message = format!("a JSON pointer begins with `/`: write `/{}`", pointer.replace('.', "/"));
                    wrong.push((vec!["json".to_owned()], message));
                }
            }
        }
        let plain = |list: &[String]| list.iter().map(|name| names::plain(name)).collect();
        let kept_types = settings.unmasked_types.iter().map(|t| t.to_ascii_lowercase().into()).collect();
        Self {
            headers,
            query: plain(&settings.query),
            fields: plain(&settings.fields),
            pointers,
            learnt: Vec::new(),
            kept_types,
        }
    }

    /// A selector of an API key, a session or a JWT says where a secret stands.
    pub(super) fn learn(&mut self, selector: &Selector) {
        match selector {
            Selector::RequestHeader(name) | Selector::ResponseHeader(name) => {
                self.headers.insert(name.as_str().into());
            }
            Selector::RequestQuery(name) => drop(self.query.insert(names::plain(name))),
            Selector::RequestForm(name) => drop(self.fields.insert(names::plain(name))),
            Selector::RequestJson(pointer) | Selector::ResponseJson(pointer) => {
                self.pointers.push(pointer.split('/').skip(1).map(unescape).collect());
            }
            Selector::RequestCookie(_) | Selector::ResponseCookie(_) | Selector::Path(_) => {
                self.learnt.push(selector.clone());
            }
            _ => {}
        }
    }

    /// Whether the path segment of this name is a secret.
    pub(super) fn is_secret_segment(&self, name: &str) -> bool {
        self.is_secret(name, Place::Field) || self.learnt.iter().any(|s| matches!(s, Selector::Path(n) if **n == *name))
    }

    /// Whether what `selector` finds is itself a secret, so that no fact may be made of it.
    pub(super) fn is_secret_selector(&self, selector: &Selector) -> bool {
        match selector {
            Selector::RequestHeader(name) | Selector::ResponseHeader(name) => self.is_secret_header(name.as_str()),
            Selector::RequestCookie(name) | Selector::ResponseCookie(name) => {
                self.is_secret(name, Place::Field) || self.learnt.contains(selector)
            }
            Selector::Path(name) => self.is_secret_segment(name),
            Selector::RequestQuery(name) => self.is_secret(name, Place::Query),
            Selector::RequestForm(name) => self.is_secret(name, Place::Field),
            Selector::RequestJson(pointer) | Selector::ResponseJson(pointer) => {
                let keys: Vec<Box<str>> = pointer.split('/').skip(1).map(unescape).collect();
                let named = keys.iter().any(|key| self.is_secret(key, Place::Field));
                named || (1..=keys.len()).any(|n| self.is_secret_pointer(keys[..n].iter().map(|k| &**k)))
            }
            _ => false,
        }
    }

    /// Whether the value of the header of this name, in lower case, is a secret.
    pub(super) fn is_secret_header(&self, name: &str) -> bool {
        names::is_secret_header(name) || self.headers.contains(name)
    }

    /// Whether what stands under this name is a secret.
    pub(super) fn is_secret(&self, name: &str, place: Place) -> bool {
        let (known, more) = match place {
            Place::Query => (names::is_secret_parameter(name), &self.query),
            Place::Field => (names::is_secret(name), &self.fields),
        };
        // What is secret in a form is secret in a query as well.
        known
            || (!more.is_empty() || !self.fields.is_empty()) && {
                let plain = names::plain(name);
                more.contains(&plain) || self.fields.contains(&plain)
            }
    }

    fn is_secret_pointer<'k>(&self, path: impl Iterator<Item = &'k str> + Clone) -> bool {
        self.pointers.iter().any(|pointer| {
            let mut keys = path.clone();
            pointer.iter().all(|p| keys.next().is_some_and(|key| **p == *"*" || **p == *key)) && keys.next().is_none()
        })
    }

    /// A query as it may be written.
    pub(super) fn query<'q>(&self, query: &'q str, report: &mut Report) -> std::borrow::Cow<'q, str> {
        self.parameters(query, Place::Query, 0, report)
    }

    /// Any text as it may be written; `None` when it holds no secret.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        self.scrub(text, 0)
    }

    /// A body as it may be written. `cut` says that `body` is only its beginning.
    pub(super) fn body(&self, content_type: &str, body: &[u8], cut: bool, side: Side, report: &mut Report) -> Masked {
        if body.is_empty() {
            return Masked::default();
        }
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let masked = match essence.as_str() {
            "application/x-www-form-urlencoded" => self.form(body, cut, report),
            "multipart/form-data" => multipart::parts(content_type, body, cut)
                .map(|parts| multipart::mask(self, &parts, cut, report))
                .ok_or("it is not a form"),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => self.lines(body, cut, side, report),
            json if json == "application/json" || json == "text/json" || json.ends_with("+json") => {
                self.json(body, cut, side, report)
            }
            "" => Err("it has no content-type"),
            kept if self.kept_types.iter().any(|t| **t == *kept) => return self.kept(body, cut),
            _ => {
                let shown: String = essence.chars().take(80).collect();
                return Masked::omitted(format!("nothing can be masked in {shown}"));
            }
        };
        match masked {
            Ok(text) => Masked { text: Some(text), ..Masked::default() },
            Err(why) => Masked::omitted(why.to_owned()),
        }
    }

    fn form(&self, body: &[u8], cut: bool, report: &mut Report) -> Result<String, &'static str> {
        // What the URL standard's serializer writes, and what careless clients leave unescaped. Anything
        // else is no form, and would hide its secrets in what looks like a name.
        let fine = |b: &u8| b.is_ascii_alphanumeric() || b"%+&=*-._~!$'(),;:@/?[]".contains(b);
        if !body.iter().all(fine) {
            return Err("it is not a form");
        }
        let mut text = std::str::from_utf8(body).map_err(|_| "it is not a form")?;
        if cut {
            // The last field may be any part of a name or value.
            text = text.rsplit_once('&').map_or("", |(whole, _)| whole);
        }
        Ok(self.parameters(text, Place::Field, 0, report).into_owned())
    }

    fn json(&self, body: &[u8], cut: bool, side: Side, report: &mut Report) -> Result<String, &'static str> {
        let text = utf8(body, cut).ok_or("it is not UTF-8")?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        json::mask(self, text, cut, 0, side.json(), report).map_err(|e| match e {
            json::Unreadable::TooDeep => "its JSON is nested too deeply",
            json::Unreadable::Malformed | json::Unreadable::Cut => "it is not JSON",
        })
    }

    fn lines(&self, body: &[u8], cut: bool, side: Side, report: &mut Report) -> Result<String, &'static str> {
        let text = utf8(body, cut).ok_or("it is not UTF-8")?;
        let mut out = String::with_capacity(text.len());
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            let cut = cut && lines.peek().is_none();
            if line.trim().is_empty() {
                out.push_str(line);
                continue;
            }
            out.push_str(&json::mask(self, line, cut, 0, side.json(), report).map_err(|_| "it is not JSON")?);
        }
        Ok(out)
    }

    /// Of a type that the configuration vouches for.
    fn kept(&self, body: &[u8], cut: bool) -> Masked {
        match utf8(body, cut) {
            Some(text) => {
                Masked { text: Some(self.text(text).unwrap_or_else(|| text.to_owned())), ..Masked::default() }
            }
            None => {
                use base64::Engine as _;
                let text = base64::engine::general_purpose::STANDARD.encode(body);
                Masked { text: Some(text), base64: true, omitted: None }
            }
        }
    }
}

impl Masked {
    fn omitted(why: String) -> Self {
        Self { omitted: Some(why), ..Self::default() }
    }
}

impl Side {
    /// How its fields begin in a record.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Request => "request.",
            Self::Response => "response.",
        }
    }

    /// How the selectors of its headers begin.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Request => "request.header.",
            Self::Response => "response.header.",
        }
    }

    fn json(self) -> &'static str {
        match self {
            Self::Request => "request.json.",
            Self::Response => "response.json.",
        }
    }
}

// === impl Report ===

impl Report {
    /// For what is found inside of other values, which are reported as a whole.
    fn nobody() -> Self {
        Self { entries: Vec::new(), nobody: true }
    }

    fn add(&mut self, place: Place, name: &str) {
        let base = match place {
            Place::Query => "request.query.",
            Place::Field => "request.form.",
        };
        self.add_path(base, name);
    }

    /// One more, once.
    pub(super) fn add_path(&mut self, base: &'static str, name: &str) {
        if self.nobody || self.entries.len() >= REPORTED {
            return;
        }
        let name: String = name.chars().take(100).collect();
        let entry = Text::from(format!("{base}{name}"));
        if !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    /// What was masked.
    pub(super) fn into_entries(self) -> Vec<Text<'static>> {
        self.entries
    }
}

/// As text; of a body that was cut, without the character it was cut in.
fn utf8(body: &[u8], cut: bool) -> Option<&str> {
    match std::str::from_utf8(body) {
        Ok(text) => Some(text),
        Err(e) if cut && e.error_len().is_none() => std::str::from_utf8(&body[..e.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

/// One token of a JSON pointer (RFC 6901 section 4).
fn unescape(token: &str) -> Box<str> {
    token.replace("~1", "/").replace("~0", "~").into()
}
