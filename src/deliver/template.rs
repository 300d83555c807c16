//! Topic and key templates: `daybook.{kind}`.

use super::members::Members;

/// A template, parsed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Fixed(String),
    Member(Member),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Kind,
    Listener,
    Tenant,
    Instance,
    User,
    Session,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{` without `}`, or a `}` alone.
    #[error("`{0}` has a brace without its partner")]
    Unbalanced(String),
    /// A placeholder that does not exist, or not here.
    #[error("`{{{name}}}` can't stand in `{template}`; write one of {allowed}")]
    Unknown {
        /// What was written.
        name: String,
        /// Where.
        template: String,
        /// What could be.
        allowed: &'static str,
    },
    /// Kafka takes letters, digits, `.`, `_` and `-`, up to 249 of them.
    #[error("`{0}` is not a topic name: letters, digits, `.`, `_` and `-` only, at most 249 of them")]
    NotATopic(String),
    /// Nothing confines the topics.
    #[error("`{0}` lets a record choose any topic; begin it with fixed text, or list the allowed ones in `topics`")]
    Unconfined(String),
}

/// Longest topic name, from Kafka's `org.apache.kafka.common.internals.Topic`.
const LONGEST_TOPIC: usize = 249;
const IN_TOPICS: &str = "`{kind}`, `{listener}`, `{tenant}`, `{instance}`";
const IN_KEYS: &str = "`{kind}`, `{listener}`, `{tenant}`, `{instance}`, `{user}`, `{session}`";

// === impl Template ===

impl Template {
    /// A message key.
    pub(super) fn key(text: &str) -> Result<Self, TemplateError> {
        Self::parse(text, IN_KEYS)
    }

    /// A topic; `confined` when a list of topics stands behind it.
    pub(super) fn topic(text: &str, confined: bool) -> Result<Self, TemplateError> {
        let template = Self::parse(text, IN_TOPICS)?;
        let legal = |part: &Part| !matches!(part, Part::Fixed(text) if !text.chars().all(in_topic));
        if !template.parts.iter().all(legal) || (template.is_fixed() && !is_topic(text)) {
            return Err(TemplateError::NotATopic(text.to_owned()));
        }
        if !confined && !matches!(template.parts.first(), Some(Part::Fixed(_))) {
            return Err(TemplateError::Unconfined(text.to_owned()));
        }
        Ok(template)
    }

    /// Every record gets the same text.
    pub(super) fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Fixed(_)))
    }

    /// Needs members that stand behind values of any size.
    pub(super) fn needs_rare(&self) -> bool {
        let rare = |part: &Part| matches!(part, Part::Member(m) if !matches!(m, Member::Kind | Member::Instance));
        self.parts.iter().any(rare)
    }

    /// The key of a record with these members; absent ones are empty.
    pub(super) fn render_key(&self, members: &Members<'_>, out: &mut String) {
        out.clear();
        for part in &self.parts {
            match part {
                Part::Fixed(text) => out.push_str(text),
                Part::Member(member) => out.push_str(member.of(members).unwrap_or_default()),
            }
        }
    }

    /// The topic of a record with these members: what Kafka does not allow in a name becomes `_`, absent ones
    /// become `none`. Whether the whole is a legal name is for [`is_topic`] to say.
    pub(super) fn render_topic(&self, members: &Members<'_>, out: &mut String) {
        out.clear();
        for part in &self.parts {
            match part {
                Part::Fixed(text) => out.push_str(text),
                Part::Member(member) => match member.of(members) {
                    None | Some("") => out.push_str("none"),
                    Some(value) => out.extend(value.chars().map(|c| if in_topic(c) { c } else { '_' })),
                },
            }
        }
    }

    fn parse(text: &str, allowed: &'static str) -> Result<Self, TemplateError> {
        let unbalanced = || TemplateError::Unbalanced(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            if open > 0 {
                parts.push(Part::Fixed(rest[..open].to_owned()));
            }
            let inside = rest[open..].strip_prefix('{').ok_or_else(unbalanced)?;
            let (name, behind) = inside.split_once('}').ok_or_else(unbalanced)?;
            let known = Member::named(name).filter(|_| allowed.contains(&format!("`{{{name}}}`")));
            let unknown = || TemplateError::Unknown { name: name.to_owned(), template: text.to_owned(), allowed };
            parts.push(Part::Member(known.ok_or_else(unknown)?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Fixed(rest.to_owned()));
        }
        Ok(Self { parts })
    }
}

// === impl Member ===

impl Member {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "kind" => Self::Kind,
            "listener" => Self::Listener,
            "tenant" => Self::Tenant,
            "instance" => Self::Instance,
            "user" => Self::User,
            "session" => Self::Session,
            _ => return None,
        })
    }

    fn of<'m>(self, members: &'m Members<'_>) -> Option<&'m str> {
        match self {
            Self::Kind => members.kind.as_deref(),
            Self::Instance => members.instance.as_deref(),
            Self::Listener => members.rare.listener.as_deref(),
            Self::Tenant => members.rare.tenant.as_deref(),
            Self::Session => members.rare.session.as_deref(),
            Self::User => members.user(),
        }
    }
}

/// A legal Kafka topic name.
pub(super) fn is_topic(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= LONGEST_TOPIC && name.chars().all(in_topic)
}

fn in_topic(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(text: &str, payload: &str) -> String {
        let mut out = String::new();
        Template::topic(text, true).expect(text).render_topic(&Members::read(payload.as_bytes(), true), &mut out);
        out
    }

    #[test]
    fn placeholders_are_replaced_and_illegal_characters_masked() {
        let payload = r#"{"instance":"p-1","kind":"log in/ż","tenant":"a.b","user":{"id":"17"}}"#;
        assert_eq!(topic("daybook.{kind}", payload), "daybook.log_in__");
        assert_eq!(topic("x.{tenant}.{listener}", payload), "x.a.b.none");
        let mut key = String::from("left over");
        Template::key("{instance}/{user}")
            .expect("a key")
            .render_key(&Members::read(payload.as_bytes(), true), &mut key);
        assert_eq!(key, "p-1/17");
    }

    #[test]
    fn wrong_templates_are_answered_with_what_to_write() {
        let error = |text| Template::topic(text, false).expect_err(text).to_string();
        assert!(error("daybook.{kind").contains("brace"), "{}", error("daybook.{kind"));
        assert!(error("daybook.}").contains("brace"));
        assert!(error("d.{user}").contains("write one of `{kind}`"), "{}", error("d.{user}"));
        assert!(error("day book").contains("not a topic name"));
        assert!(error("").contains("not a topic name"));
        assert!(error("{tenant}").contains("any topic"));
        assert!(Template::topic("{tenant}", true).is_ok(), "a list of topics confines it");
    }

    proptest! {
        #[test]
        fn whatever_the_values_are_the_topic_has_legal_characters_only(kind in ".*", tenant in ".*") {
            let payload = serde_json::json!({"kind": kind, "tenant": tenant}).to_string();
            let topic = topic("d.{kind}.{tenant}", &payload);
            prop_assert!(topic.chars().all(in_topic), "{}", topic);
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".*") {
            let _ = Template::key(&text);
            let _ = Template::topic(&text, true);
        }
    }
}
