//! Patterns in rules: paths with `*`, `**` and `{name}`, and values with `*` and a leading `!`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A path: exact, with `*` within a segment, `{name}` for one whole segment, and `**` last for any rest.
///
/// `/a/**` fits `/a`, `/a/` and everything below. A trailing slash counts otherwise. Percent-encoded
/// letters are decoded before they are compared, as applications do (an encoded slash stays inside
/// its segment), so that `/%6Cogin` can't slip past a rule for `/login`.
#[derive(Debug)]
pub(super) struct PathPattern {
    text: Box<str>,
    segments: Vec<Segment>,
    /// Ends in `**`.
    open: bool,
}

#[derive(Debug)]
enum Segment {
    Literal(Box<str>),
    Glob(Box<str>),
    Name(Box<str>),
}

/// A value: `*` stands for any run of characters; `!` in front turns it round.
#[derive(Debug)]
pub(super) struct ValuePattern {
    glob: Box<str>,
    not: bool,
}

/// A host name, compared without case; the port counts only where the pattern has one.
#[derive(Debug)]
pub(super) struct HostPattern {
    glob: Box<str>,
    port: bool,
}

/// The path as it is compared: percent-decoded where that changes anything, save for `%2F`.
pub(super) fn comparable(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let kept = path.replace("%2F", "%252F").replace("%2f", "%252F");
    match percent_decode_str(&kept).decode_utf8() {
        Ok(text) => Cow::Owned(text.into_owned()),
        Err(_) => Cow::Borrowed(path),
    }
}

// === impl PathPattern ===

impl PathPattern {
    /// Compiles one, or says what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(match text {
                "*" | "**" => format!(
                    "a path begins with `/`: write `/**` for every path, or leave `path` out, instead of `{text}`"
                ),
                _ => format!("a path begins with `/`: write `/{text}` instead of `{text}`"),
            });
        };
        if rest.contains('?') {
            return Err(format!(
                "`{text}`: the query is not part of the path; write `query = {{ name = \"value\" }}` beside it"
            ));
        }
        let mut segments = Vec::new();
        let mut open = false;
        for segment in rest.split('/') {
            if open {
                return Err(format!("`{text}`: `**` stands for any rest and must be the last segment"));
            }
            match segment {
                "**" => open = true,
                s if s.contains("**") => {
                    return Err(format!("`{text}`: `**` is a segment of its own; within a segment write `*`"));
                }
                s if s.starts_with('{') && s.ends_with('}') => {
                    let name = &s[1..s.len() - 1];
                    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                        return Err(format!(
                            "`{text}`: `{s}` needs a name of letters, digits, `_` or `-`, like `{{id}}`"
                        ));
                    }
                    segments.push(Segment::Name(name.into()));
                }
                s if s.contains(['{', '}']) => {
                    return Err(format!(
                        "`{text}`: `{{name}}` stands for a whole segment; write `*` for a part of `{s}`"
                    ));
                }
                s if s.contains('*') => segments.push(Segment::Glob(comparable(s).into())),
                s => segments.push(Segment::Literal(comparable(s).into())),
            }
        }
        Ok(Self { text: text.into(), segments, open })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The exact path, where the pattern is one.
    pub(super) fn exact(&self) -> Option<Cow<'_, str>> {
        let literal = !self.open && self.segments.iter().all(|s| matches!(s, Segment::Literal(_)));
        literal.then(|| comparable(&self.text))
    }

    /// The names in braces.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// A path that fits, with `mask` in place of the segments whose names are secret; `None` when none is.
    pub(super) fn mask(&self, path: &str, mask: &str, is_secret: impl Fn(&str) -> bool) -> Option<String> {
        if !self.names().any(&is_secret) {
            return None;
        }
        // Decoding for comparison makes no new slashes, so segments stand at the same places.
        let given = path.strip_prefix('/')?.split('/').enumerate();
        let masked = given.map(|(at, text)| match self.segments.get(at).and_then(Segment::name) {
            Some(name) if is_secret(name) => mask,
            _ => text,
        });
        Some(format!("/{}", masked.collect::<Vec<_>>().join("/")))
    }

    /// Whether `path` (already [`comparable`]) fits.
    pub(super) fn fits(&self, path: &str) -> bool {
        self.walk(path, |_, _| ())
    }

    /// The segment called `name` in a path that fits.
    pub(super) fn value<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        let mut found = None;
        self.walk(path, |n, value| {
            if n == name {
                found = Some(value);
            }
        })
        .then_some(found)?
    }

    fn walk<'p>(&self, path: &'p str, mut named: impl FnMut(&str, &'p str)) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let mut given = rest.split('/');
        for segment in &self.segments {
            let Some(value) = given.next() else { return false };
            let fits = match segment {
                Segment::Literal(text) => **text == *value,
                Segment::Glob(glob) => glob_fits(glob.as_bytes(), value.as_bytes()),
                Segment::Name(name) => {
                    named(name, value);
                    !value.is_empty()
                }
            };
            if !fits {
                return false;
            }
        }
        self.open || given.next().is_none()
    }
}

impl Segment {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

// === impl ValuePattern ===

impl ValuePattern {
    /// Every text is a pattern.
    pub(super) fn parse(text: &str) -> Self {
        match text.strip_prefix('!') {
            Some(rest) => Self { glob: rest.into(), not: true },
            None => Self { glob: text.into(), not: false },
        }
    }

    /// Whether the values of one name fit: one of them, or with `!` none of them (so that an absent one fits `!`).
    pub(super) fn fits<T: AsRef<[u8]>>(&self, mut values: impl Iterator<Item = T>) -> bool {
        values.any(|value| glob_fits(self.glob.as_bytes(), value.as_ref())) != self.not
    }
}

// === impl HostPattern ===

impl HostPattern {
    /// Compiles one, or says what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains("://") || text.contains('/') {
            return Err(format!(
                "`{text}` is not a host; write its name alone, like `panel.example.com` or `*.example.com`"
            ));
        }
        let port =
            text.rsplit_once(':').is_some_and(|(_, port)| port == "*" || port.bytes().all(|b| b.is_ascii_digit()));
        Ok(Self { glob: text.to_ascii_lowercase().into(), port })
    }

    /// Whether `host`, with or without a port, fits.
    pub(super) fn fits(&self, host: &str) -> bool {
        let host = match host.rsplit_once(':') {
            Some((name, port)) if !self.port && port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        if host.bytes().any(|b| b.is_ascii_uppercase()) {
            return glob_fits(self.glob.as_bytes(), host.to_ascii_lowercase().as_bytes());
        }
        glob_fits(self.glob.as_bytes(), host.as_bytes())
    }
}

/// `*` stands for any run of bytes, also none. Time is at most the product of the lengths.
fn glob_fits(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        if g < glob.len() && glob[g] == b'*' {
            back = Some((g, t));
            g += 1;
        } else if g < glob.len() && glob[g] == text[t] {
            g += 1;
            t += 1;
        } else if let Some((star, at)) = back {
            g = star + 1;
            t = at + 1;
            back = Some((star, t));
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).expect(pattern).fits(&comparable(path))
    }

    #[test]
    fn paths_fit_as_documented() {
        for (pattern, path, expected) in [
            ("/login", "/login", true),
            ("/login", "/login/", false),
            ("/login", "/%6Cogin", true),
            ("/", "/", true),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/**", "/", true),
            ("/orders/{id}", "/orders/17", true),
            ("/orders/{id}", "/orders/", false),
            ("/orders/{id}", "/orders/a%2Fb", true),
            ("/*.json", "/x.json", true),
            ("/*.json", "/x.xml", false),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} on {path}");
        }
        let orders = PathPattern::parse("/orders/{id}/items/{item}").expect("a pattern");
        assert_eq!(orders.value("/orders/17/items/3", "item"), Some("3"));
        assert_eq!(orders.value("/orders/17/items", "id"), None);
    }

    #[test]
    fn wrong_paths_are_answered_with_what_to_write() {
        for (wrong, teaches) in [
            ("login", "`/login`"),
            ("*", "`/**`"),
            ("/a/**/b", "last segment"),
            ("/a?b=1", "query = "),
            ("/{}", "like `{id}`"),
            ("/x{id}", "whole segment"),
        ] {
            let said = PathPattern::parse(wrong).expect_err(wrong);
            assert!(said.contains(teaches), "{wrong}: {said}");
        }
    }

    #[test]
    fn values_and_hosts_fit_as_documented() {
        let value = |pattern: &str, values: &[&str]| ValuePattern::parse(pattern).fits(values.iter());
        assert!(value("/login*", &["/login?next=/"]));
        assert!(!value("!/login*", &["/login?next=/"]));
        assert!(value("!/login*", &[]), "an absent value fits a `!`");
        assert!(!value("*", &[]), "a value must be there");
        let host = |pattern: &str, host: &str| HostPattern::parse(pattern).expect(pattern).fits(host);
        assert!(host("*.example.com", "Panel.Example.com:8443"));
        assert!(!host("*.example.com", "example.com"));
        assert!(host("example.com:8443", "example.com:8443"));
        assert!(!host("example.com:8443", "example.com"));
        assert!(host("[::1]", "[::1]:80"));
    }

    proptest! {
        #[test]
        fn globs_agree_with_a_regular_expression(glob in "[ab*]{0,8}", text in "[ab]{0,12}") {
            let expression = format!("^{}$", glob.replace('*', ".*"));
            let expected = regex::Regex::new(&expression).expect("a regex").is_match(&text);
            prop_assert_eq!(glob_fits(glob.as_bytes(), text.as_bytes()), expected);
        }
    }
}
