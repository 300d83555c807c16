//! Facts: what selectors find in an exchange.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use percent_encoding::percent_decode_str;
use serde_json::Value as Json;

use super::body::{Decoded, Tap};
use super::exchange::{Progress, State};
use super::jwt::Claims;
use super::pattern::comparable;
use super::redact::multipart;
use super::selector::Selector;
use super::{ascii, path_of};
use crate::message::{Fields, Known};
use crate::record::Value;

/// Longest value that becomes a fact; the rest of it is cut off.
const LONGEST: usize = 1024;

/// Form fields that are looked at.
const FIELDS: usize = 1000;

/// One moment of an exchange, with what was taken apart once for all selectors.
pub(super) struct Facts<'s> {
    pub(super) state: &'s State,
    pub(super) progress: &'s Progress,
    request: Content<'s>,
    response: Content<'s>,
    claims: OnceCell<Option<Rc<Claims>>>,
    basic: OnceCell<Option<(String, String)>>,
}

/// A body, taken apart as far as somebody asked.
struct Content<'s> {
    tap: Option<&'s Tap>,
    /// None where no response came.
    fields: Option<&'s Fields>,
    limit: usize,
    decoded: OnceCell<Result<Decoded<'s>, &'static str>>,
    json: OnceCell<Option<Json>>,
    form: OnceCell<Vec<(String, String)>>,
}

impl<'s> Facts<'s> {
    pub(super) fn new(state: &'s State, progress: &'s Progress) -> Self {
        let limit = state.policy.decoded_size;
        let content = |tap: &'s Option<Tap>, fields| Content {
            tap: tap.as_ref(),
            fields,
            limit,
            decoded: OnceCell::new(),
            json: OnceCell::new(),
            form: OnceCell::new(),
        };
        Self {
            state,
            progress,
            request: content(&progress.request_body, Some(&state.head.fields)),
            response: content(&progress.response_body, progress.fields()),
            claims: OnceCell::new(),
            basic: OnceCell::new(),
        }
    }

    /// A value that may be written: its secrets are masked, and it is not too long.
    pub(super) fn fact<'f>(&'f self, selector: &'f Selector) -> Option<Value<'f>> {
        let text = match self.find(selector)? {
            Value::Text(text) => text,
            other => return Some(other),
        };
        let text = match self.state.policy.redactor.text(&text) {
            Some(masked) => Cow::Owned(masked),
            None => text.0,
        };
        Some(Value::Text(shorten(text).into()))
    }

    /// The same as text.
    pub(super) fn text<'f>(&'f self, selector: &'f Selector) -> Option<Cow<'f, str>> {
        Some(as_text(self.fact(selector)?))
    }

    /// A secret. It must become a token, or stay here.
    pub(super) fn secret<'f>(&'f self, selector: &'f Selector) -> Option<Cow<'f, str>> {
        let text = as_text(self.find(selector)?);
        // `Bearer …` and its like in a header; basic authentication is no API key and no session.
        let is_header = matches!(selector, Selector::RequestHeader(_) | Selector::ResponseHeader(_));
        match text.split_once(' ').filter(|_| is_header) {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("basic") => None,
            Some((_, rest)) => Some(rest.trim().to_owned()).filter(|s| !s.is_empty()).map(Cow::Owned),
            None => Some(text),
        }
    }

    /// What the JSON web token says, where there is one that is believed.
    pub(super) fn claims(&self) -> Option<&Claims> {
        let read = || {
            let jwt = self.state.policy.jwt.as_ref()?;
            let now = self.state.time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            self.state.policy.claims(jwt, &self.secret(&jwt.from)?, now)
        };
        self.claims.get_or_init(read).as_deref()
    }

    /// User and password of basic authentication (RFC 7617).
    pub(super) fn basic(&self) -> Option<&(String, String)> {
        let read = || {
            let value = ascii(self.state.head.fields.known(Known::Authorization)?)?;
            let (scheme, rest) = value.split_once(' ')?;
            if !scheme.eq_ignore_ascii_case("basic") {
                return None;
            }
            let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
            let (user, password) =
                String::from_utf8_lossy(&decoded).split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned()))?;
            (!user.is_empty()).then_some((user, password))
        };
        self.basic.get_or_init(read).as_ref()
    }

    /// The value of a cookie in the request.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let lines = self.state.head.fields.all_known(Known::Cookie).filter_map(ascii);
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(n, _)| *n == name).map(|(_, value)| value.trim_matches('"')).filter(|v| !v.is_empty())
    }

    /// What the response does to a cookie: `Some(None)` when it takes it away.
    pub(super) fn set_cookie(&self, name: &str) -> Option<Option<&str>> {
        let lines = self.progress.fields()?.all_known(Known::SetCookie).filter_map(ascii);
        let mut set = lines.filter_map(|line| {
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            let (n, value) = pair.trim().split_once('=')?;
            (n == name).then(|| Some(value.trim_matches('"')).filter(|v| !v.is_empty() && !is_over(attributes)))
        });
        // Where a cookie is set more than once, browsers keep the last.
        set.by_ref().last()
    }

    /// The body of the request, or why it can't be read.
    pub(super) fn request_body(&self) -> Option<&Result<Decoded<'s>, &'static str>> {
        self.request.decoded()
    }

    /// The body of the response, or why it can't be read.
    pub(super) fn response_body(&self) -> Option<&Result<Decoded<'s>, &'static str>> {
        self.response.decoded()
    }

    /// A value of the JSON response, as text.
    pub(super) fn response_json(&self, pointer: &str) -> Option<Cow<'_, str>> {
        json_value(self.response.json()?, pointer).map(as_text)
    }

    fn find<'f>(&'f self, selector: &'f Selector) -> Option<Value<'f>> {
        let (state, head) = (self.state, &*self.state.head);
        let text: Cow<'_, str> = match selector {
            Selector::Literal(text) => (&**text).into(),
            Selector::RequestHeader(name) => String::from_utf8_lossy(head.fields.get(name)?),
            Selector::RequestQuery(name) => {
                let query = head.query()?.as_bytes();
                form_urlencoded::parse(query).find(|(n, _)| **n == **name)?.1
            }
            Selector::RequestForm(name) => self.request.form().iter().find(|(n, _)| **n == **name)?.1.as_str().into(),
            Selector::RequestJson(pointer) => return json_value(self.request.json()?, pointer),
            Selector::RequestCookie(name) => self.cookie(name)?.into(),
            Selector::BasicUser => self.basic()?.0.as_str().into(),
            Selector::Method => head.method.as_str().into(),
            Selector::RequestPath => path_of(head).into(),
            Selector::RequestHost => state.host()?.into(),
            Selector::ResponseHeader(name) => String::from_utf8_lossy(self.progress.fields()?.get(name)?),
            Selector::ResponseJson(pointer) => return json_value(self.response.json()?, pointer),
            Selector::ResponseCookie(name) => self.set_cookie(name)??.into(),
            Selector::Status => return self.progress.status.map(|s| Value::Number(s.into())),
            Selector::Path(name) => {
                let path = comparable(path_of(head));
                let value = state.policy.path(state.decision)?.value(&path, name)?;
                Cow::Owned(percent_decode_str(value).decode_utf8_lossy().into_owned())
            }
            Selector::Jwt(name) => return json_to_value(self.claims()?.get(name)?),
            Selector::TlsSubject => state.connection.tls_subject.as_deref()?.into(),
            Selector::ClientIp => Cow::Owned(state.client?.to_string()),
        };
        (!text.is_empty()).then(|| Value::Text(text.into()))
    }
}

impl<'s> Content<'s> {
    fn known(&self, known: Known) -> Option<&'s [u8]> {
        self.fields?.known(known)
    }

    fn decoded(&self) -> Option<&Result<Decoded<'s>, &'static str>> {
        let tap = self.tap.filter(|tap| !tap.is_empty())?;
        let encoding = self.known(Known::ContentEncoding).map_or("", |value| ascii(value).unwrap_or("?"));
        Some(self.decoded.get_or_init(|| tap.decoded(encoding, self.limit)))
    }

    fn json(&self) -> Option<&Json> {
        let read = || {
            let decoded = self.decoded()?.as_ref().ok()?;
            serde_json::from_slice(&decoded.bytes).ok()
        };
        self.json.get_or_init(read).as_ref()
    }

    fn form(&self) -> &[(String, String)] {
        let read = || {
            let Some(Ok(decoded)) = self.decoded() else { return Vec::new() };
            let kind = self.known(Known::ContentType).and_then(ascii).unwrap_or_default();
            let is_multipart = kind.get(..10).is_some_and(|k| k.eq_ignore_ascii_case("multipart/"));
            if !is_multipart {
                let pairs = form_urlencoded::parse(&decoded.bytes).into_owned();
                return pairs.take(FIELDS).collect();
            }
            let parts = multipart::parts(kind, &decoded.bytes, decoded.cut).unwrap_or_default();
            let fields = parts.into_iter().filter(|p| p.file.is_none());
            fields.take(FIELDS).map(|p| (p.name, String::from_utf8_lossy(p.value).into_owned())).collect()
        };
        self.form.get_or_init(read)
    }
}

/// Whether a cookie's attributes take it away: `Max-Age=0`, or an `Expires` in 1970 (as every framework
/// writes it; other dates in the past don't occur in practice).
fn is_over(attributes: &str) -> bool {
    attributes.split(';').filter_map(|a| a.trim().split_once('=')).any(|(name, value)| {
        name.eq_ignore_ascii_case("max-age") && value.trim().parse::<i64>().is_ok_and(|age| age <= 0)
            || name.eq_ignore_ascii_case("expires") && value.contains("1970")
    })
}

fn json_value<'j>(json: &'j Json, pointer: &str) -> Option<Value<'j>> {
    json_to_value(json.pointer(pointer)?)
}

/// Objects, lists and `null` are no facts.
fn json_to_value(json: &Json) -> Option<Value<'_>> {
    match json {
        Json::String(text) if text.is_empty() => None,
        Json::String(text) => Some(Value::Text(text.as_str().into())),
        Json::Number(number) => Some(Value::Number(number.clone())),
        Json::Bool(bool) => Some(Value::Bool(*bool)),
        _ => None,
    }
}

pub(super) fn as_text(value: Value<'_>) -> Cow<'_, str> {
    match value {
        Value::Text(text) => text.0,
        Value::Number(number) => Cow::Owned(number.to_string()),
        Value::Bool(bool) => Cow::Borrowed(if bool { "true" } else { "false" }),
    }
}

fn shorten(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return text;
    }
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}
