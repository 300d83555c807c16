//! What delivery needs to know of a record, read from its bytes without parsing what it doesn't need.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use crate::record::{Text, User};

/// Where the head of a record ends at the latest: `seq` to `kind` are short and come first.
const HEAD: usize = 1024;

/// Built once: that costs more than finding.
static INSTANCE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"instance\":\""));
static KIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"kind\":\""));

/// The values a template may ask for. Absent ones are `None`.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    /// The record's instance.
    pub(super) instance: Option<Cow<'a, str>>,
    /// The record's kind.
    pub(super) kind: Option<Cow<'a, str>>,
    /// Those that need the record to be parsed.
    pub(super) rare: Rare<'a>,
}

/// Members that stand behind values of any size.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Rare<'a> {
    #[serde(borrow, default)]
    pub(super) listener: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) tenant: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) session: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) user: Option<User<'a>>,
}

// === impl Members ===

impl<'a> Members<'a> {
    /// Reads the head, and the rest only `with_rare`.
    pub(super) fn read(payload: &'a [u8], with_rare: bool) -> Self {
        let head = &payload[..payload.len().min(HEAD)];
        Self {
            instance: text(head, &INSTANCE),
            kind: text(head, &KIND),
            rare: if with_rare { serde_json::from_slice(payload).unwrap_or_default() } else { Rare::default() },
        }
    }

    /// The user's id, e-mail address or name, the first that is known.
    pub(super) fn user(&self) -> Option<&str> {
        let user = self.rare.user.as_ref()?;
        [&user.id, &user.email, &user.name].into_iter().flatten().next().map(Text::as_str)
    }
}

/// The first string behind `label` (`"name":"`). A quote inside a JSON string is escaped, so a label is never
/// found inside a value.
fn text<'a>(head: &'a [u8], label: &Finder<'_>) -> Option<Cow<'a, str>> {
    let value = &head[label.find(head)? + label.needle().len()..];
    let end = memchr::memchr2(b'"', b'\\', value)?;
    if value[end] == b'"' {
        return std::str::from_utf8(&value[..end]).ok().map(Cow::Borrowed);
    }
    let quoted = &head[head.len() - value.len() - 1..];
    let mut texts = serde_json::Deserializer::from_slice(quoted).into_iter::<String>();
    texts.next()?.ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attributes, Record, Value};

    fn encode(mut record: Record<'_>, kind: &str) -> Vec<u8> {
        record.seq = Some(7);
        record.epoch = Some(2);
        record.instance = Some("panel-1".into());
        record.kind = kind.to_owned().into();
        let mut out = Vec::new();
        record.encode(&mut out);
        out
    }

    #[test]
    fn the_head_is_read_without_parsing_and_with_escapes() {
        for kind in ["login", "zażółć", "a \"quoted\" \\ kind", ""] {
            let payload = encode(Record::own("x", Attributes::default()), kind);
            let members = Members::read(&payload, false);
            assert_eq!(members.instance.as_deref(), Some("panel-1"));
            assert_eq!(members.kind.as_deref(), Some(kind));
        }
    }

    #[test]
    fn a_label_inside_a_value_or_in_attributes_is_not_mistaken_for_the_member() {
        let mut record = Record::own("panel", Attributes::default());
        record.rule = Some("\"kind\":\"forged\",\"tenant\":\"forged\"".into());
        record.attributes.push("tenant", Value::Text("forged".into()));
        record.user = Some(User { email: Some("a@b.pl".into()), ..User::default() });
        let payload = encode(record, "panel");
        let members = Members::read(&payload, true);
        assert_eq!(members.kind.as_deref(), Some("panel"));
        assert_eq!(members.rare.tenant, None, "attributes are not the tenant");
        assert_eq!(members.user(), Some("a@b.pl"));
    }

    #[test]
    fn garbage_has_no_members() {
        for garbage in [&b""[..], b"{", b"\"kind\":\"", b"\"kind\":\"\\", b"\xff\xfe"] {
            let members = Members::read(garbage, true);
            assert!(members.kind.is_none() && members.instance.is_none() && members.user().is_none());
        }
    }
}
