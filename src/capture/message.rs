//! The request and the response in detail: headers and bodies, masked.

use std::borrow::Cow;

use super::ascii;
use super::body::{Decoded, Tap};
use super::facts::Facts;
use super::redact::{MASK, Place, Report, Side};
use crate::message::{Field, Fields, Known};
use crate::record::{Message, Text, lossless};

/// Secrets shorter than this are not searched for in bodies: they would be found everywhere.
const SEARCHABLE: usize = 8;

/// A cookie this long is a secret whatever its name.
const LONG: usize = 16;

/// The request.
pub(super) fn of_request<'f>(facts: &'f Facts<'_>, report: &mut Report, escaped: &mut Vec<Text<'f>>) -> Message<'f> {
    let body = (facts.progress.request_body.as_ref(), facts.request_body());
    message(facts, Side::Request, Some(&facts.state.head.fields), body, report, escaped)
}

/// The response.
pub(super) fn of_response<'f>(facts: &'f Facts<'_>, report: &mut Report, escaped: &mut Vec<Text<'f>>) -> Message<'f> {
    let body = (facts.progress.response_body.as_ref(), facts.response_body());
    message(facts, Side::Response, facts.progress.fields(), body, report, escaped)
}

type Body<'f, 's> = (Option<&'f Tap>, Option<&'f Result<Decoded<'s>, &'static str>>);

fn message<'f>(
    facts: &'f Facts<'_>,
    side: Side,
    fields: Option<&'f Fields>,
    (tap, decoded): Body<'f, '_>,
    report: &mut Report,
    escaped: &mut Vec<Text<'f>>,
) -> Message<'f> {
    let known = known_secrets(facts);
    let headers = fields.map(|fields| masked_headers(facts, side, fields, &known, report, escaped));
    let mut message = Message { headers: headers.unwrap_or_default(), ..Message::default() };
    let Some(tap) = tap.filter(|tap| !tap.is_empty()) else { return message };
    message.sha256 = tap.sha256().map(Text::from);
    match decoded {
        Some(Ok(decoded)) => {
            let kind = fields.and_then(|f| f.known(Known::ContentType)).and_then(ascii).unwrap_or_default();
            let masked = facts.state.policy.redactor.body(kind, &decoded.bytes, decoded.cut, side, report);
            message.truncated = masked.text.is_some().then_some(decoded.cut);
            message.body = masked.text.map(|text| without(&text, &known).unwrap_or(text).into());
            message.encoding = masked.base64.then(|| "base64".into());
            message.omitted = masked.omitted.map(Text::from);
        }
        Some(Err(why)) => message.omitted = Some((*why).into()),
        None => {}
    }
    if message.omitted.is_some() {
        report.add_path(side.prefix(), "body");
    }
    message
}

/// Headers by name, in the order in which the names came; values of one name joined as RFC 9110
/// section 5.3 allows.
fn masked_headers<'f>(
    facts: &'f Facts<'_>,
    side: Side,
    fields: &'f Fields,
    known: &[Cow<'_, str>],
    report: &mut Report,
    escaped: &mut Vec<Text<'f>>,
) -> Vec<(Text<'f>, Text<'f>)> {
    let redactor = &facts.state.policy.redactor;
    let mut all: Vec<(Text<'f>, Text<'f>)> = Vec::with_capacity(fields.len());
    for field in fields.iter() {
        let name = lower(&field);
        // Joined already, where the name came first.
        if all.iter().any(|(told, _)| told.as_str() == &*name) {
            continue;
        }
        if redactor.is_secret_header(&name) {
            report.add_path(side.header(), &name);
            all.push((name.into(), MASK.into()));
            continue;
        }
        let (mut joined, mut changed) = (None::<Text<'f>>, false);
        for value in fields.iter().filter(|f| f.name.eq_ignore_ascii_case(field.name)).map(|f| f.value) {
            let (text, was_escaped) = lossless(value);
            if was_escaped {
                escaped.push(format!("{}headers.{name}", side.prefix()).into());
            }
            let masked = redactor.text(&text).or_else(|| without(&text, known));
            changed |= masked.is_some();
            let text = masked.map_or(text, Text::from);
            joined = Some(match joined {
                None => text,
                Some(all) => format!("{all}, {text}").into(),
            });
        }
        if changed {
            report.add_path(side.header(), &name);
        }
        all.push((name.into(), joined.unwrap_or_default()));
    }
    all
}

/// A header's name as records write it and the redaction knows it: in lower case.
fn lower<'f>(field: &Field<'f>) -> Cow<'f, str> {
    match field.known {
        Known::Other => {
            // Names are tokens, and those are ASCII.
            let name = std::str::from_utf8(field.name).unwrap_or_default();
            let has_capitals = name.bytes().any(|b| b.is_ascii_uppercase());
            if has_capitals { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) }
        }
        known => Cow::Borrowed(known.name()),
    }
}

/// The secrets of this exchange that are known as such: wherever else they turn up, they are masked too.
fn known_secrets<'f>(facts: &'f Facts<'_>) -> Vec<Cow<'f, str>> {
    let (redactor, plan) = (&facts.state.policy.redactor, facts.state.plan());
    let named = plan.api_key.iter().chain(&plan.session);
    let mut all: Vec<Cow<'f, str>> = named.filter_map(|selector| facts.secret(selector)).collect();
    all.extend(facts.basic().map(|(_, password)| Cow::Borrowed(password.as_str())));
    for field in facts.state.head.fields.iter().chain(facts.progress.fields().into_iter().flat_map(Fields::iter)) {
        let Some(value) = ascii(field.value) else { continue };
        if matches!(field.known, Known::Cookie | Known::SetCookie) {
            // Behind the first pair of a Set-Cookie stand its attributes.
            let count = if field.known == Known::Cookie { usize::MAX } else { 1 };
            let pairs = value.split(';').take(count).filter_map(|pair| pair.trim().split_once('='));
            // Other cookies hold words like `accepted`, which bodies hold as well.
            let secret = pairs.filter(|(name, value)| redactor.is_secret(name, Place::Field) || value.len() >= LONG);
            all.extend(secret.map(|(_, value)| value.trim_matches('"').into()));
        } else if redactor.is_secret_header(&lower(&field)) {
            all.push(value.split_once(' ').map_or(value, |(_, rest)| rest.trim()).into());
        }
    }
    all.retain(|secret| secret.len() >= SEARCHABLE);
    all.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    all.dedup();
    all
}

/// The text with the secrets in it masked; `None` when there are none.
fn without(text: &str, secrets: &[Cow<'_, str>]) -> Option<String> {
    let mut masked: Option<String> = None;
    for secret in secrets {
        let current = masked.as_deref().unwrap_or(text);
        if current.contains(&**secret) {
            masked = Some(current.replace(&**secret, MASK));
        }
    }
    masked
}
