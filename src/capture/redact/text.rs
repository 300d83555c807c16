//! Secrets inside of texts: parameters of URLs and forms, user names and passwords in URLs, bearer
//! tokens, JSON within strings.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{MASK, Place, Redactor, Report, json};

/// How deep texts may be wrapped in texts (a URL in a parameter of a URL, JSON in a JSON string).
/// What is wrapped deeper is masked as a whole.
const WRAPPINGS: usize = 3;

/// RFC 3986 section 2.3.
const RESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'*');

impl Redactor {
    /// `a=b&c=d` with the values of secret names masked, and secrets inside of the other values.
    pub(super) fn parameters<'t>(
        &self,
        text: &'t str,
        place: Place,
        depth: usize,
        report: &mut Report,
    ) -> Cow<'t, str> {
        let mut out: Option<String> = None;
        let mut from = 0;
        let begins = |at: usize| at == 0 || b"?&#;".contains(&text.as_bytes()[at - 1]);
        let oauth = place == Place::Query && text.match_indices("state=").any(|(at, _)| begins(at));
        for piece in text.split('&') {
            if let Some(masked) = self.parameter(piece, place, oauth, depth, report) {
                let out = out.get_or_insert_with(|| text[..from].to_owned());
                out.push_str(&masked);
            } else if let Some(out) = &mut out {
                out.push_str(piece);
            }
            from += piece.len() + 1;
            if let Some(out) = out.as_mut().filter(|_| from <= text.len()) {
                out.push('&');
            }
        }
        out.map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// One `name=value`; `None` when nothing in it is secret.
    fn parameter(&self, piece: &str, place: Place, oauth: bool, depth: usize, report: &mut Report) -> Option<String> {
        // Any of these may begin another name; nothing but the piece's end ends a secret value.
        let mut start = 0;
        for (at, delimiter) in piece.char_indices().filter(|(_, c)| matches!(c, '=' | ';' | '?' | '#')) {
            if delimiter == '=' {
                let name = decoded(&piece[start..at]);
                // An authorization code (RFC 6749 section 4.1.2) always comes with a state.
                if self.is_secret(&name, place) || oauth && name == "code" {
                    let (named, value) = piece.split_at(at + 1);
                    if value.is_empty() {
                        return None;
                    }
                    report.add(place, &name);
                    return (value != MASK).then(|| format!("{named}{MASK}"));
                }
            }
            start = at + 1;
        }
        let (raw, value) = piece.split_once('=')?;
        let masked = match decoded(value) {
            Cow::Borrowed(value) => self.plain(value, depth)?,
            Cow::Owned(value) => utf8_percent_encode(&self.scrub(&value, depth + 1)?, RESERVED).to_string(),
        };
        report.add(place, &decoded(raw));
        Some(format!("{raw}={masked}"))
    }

    /// A value with the secrets in it masked; `None` when there are none. `depth` counts the wrappings
    /// that were taken off; each call of this for something inside of the text must raise it.
    pub(super) fn scrub(&self, text: &str, depth: usize) -> Option<String> {
        self.plain(text, depth).or_else(|| self.links(text, depth)).or_else(|| self.encoded(text, depth))
    }

    /// A value that is a credential, JSON, or a URL with a password.
    fn plain(&self, text: &str, depth: usize) -> Option<String> {
        if text == MASK {
            return None;
        }
        if is_credential(text) {
            return Some(MASK.to_owned());
        }
        if json::looks_like(text) {
            if depth > WRAPPINGS {
                return Some(MASK.to_owned());
            }
            return match json::mask(self, text, false, depth, "", &mut Report::nobody()) {
                Ok(masked) => (masked != text).then_some(masked),
                Err(_) => Some(MASK.to_owned()),
            };
        }
        match without_userinfo(text) {
            Cow::Owned(masked) if masked != text && !text.contains(char::is_whitespace) => Some(masked),
            _ => None,
        }
    }

    /// A text that holds secrets only when it is percent-decoded once more.
    fn encoded(&self, text: &str, depth: usize) -> Option<String> {
        if !text.contains('%') {
            return None;
        }
        let decoded = percent_decode_str(text).decode_utf8_lossy();
        if decoded == text {
            return None;
        }
        if depth > WRAPPINGS {
            return Some(MASK.to_owned());
        }
        self.scrub(&decoded, depth + 1).map(|masked| utf8_percent_encode(&masked, RESERVED).to_string())
    }

    /// A text with the secrets in its URLs masked; `None` when there are none.
    fn links(&self, text: &str, depth: usize) -> Option<String> {
        if !text.contains('=') && !text.contains("://") && !text.contains("eyJ") {
            return None;
        }
        if depth > WRAPPINGS {
            return Some(MASK.to_owned());
        }
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>');
        let mut out = String::with_capacity(text.len());
        for word in text.split_inclusive(ends) {
            let word = without_userinfo(word);
            let (inside, end) = word.split_at(word.trim_end_matches(ends).len());
            if is_jwt(inside) {
                out.push_str(MASK);
                out.push_str(end);
                continue;
            }
            out.push_str(&self.parameters(inside, Place::Query, depth, &mut Report::nobody()));
            out.push_str(end);
        }
        (out != text).then_some(out)
    }
}

/// `Basic …`, `Bearer …`, or a JWT on its own: what a credential looks like whatever its name.
fn is_credential(text: &str) -> bool {
    let scheme = text.split_once(' ').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest.trim()));
    if let Some((scheme, rest)) = scheme
        && matches!(scheme.as_str(), "basic" | "bearer" | "digest" | "token" | "apikey")
        && rest.len() >= 8
        && !rest.contains(' ')
    {
        return true;
    }
    is_jwt(text)
}

/// A JWT's header is a JSON object, and `{"` in base64 is `eyJ`.
fn is_jwt(text: &str) -> bool {
    text.len() > 20 && text.starts_with("eyJ") && text.matches('.').count() >= 2 && !text.contains(' ')
}

/// `https://user:password@host` without what stands before the `@`.
fn without_userinfo(word: &str) -> Cow<'_, str> {
    let Some(authority) = word.find("://").map(|at| at + 3) else { return Cow::Borrowed(word) };
    let length = word[authority..].find(['/', '?', '#']).unwrap_or(word.len() - authority);
    match word[authority..authority + length].rfind('@') {
        Some(at) => Cow::Owned(format!("{}{MASK}{}", &word[..authority], &word[authority + at..])),
        None => Cow::Borrowed(word),
    }
}

/// Percent-decoded, with `+` as a space.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}
