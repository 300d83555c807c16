//! What must be true of a record.

use std::fmt;
use std::str::FromStr;

use super::super::schema::{self, COLUMNS, Kind};
use crate::lake::LakeError;

/// Conditions, all or any of which must hold. None: every record fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// One of them is enough.
    pub any: bool,
}

/// One condition. As text: `status>=500`, `user.email=a@b.pl`, `path~orders`, `path^=/api`, `kind=(login,api)`,
/// `session?`, and with `!` before the operator the contrary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Of what.
    pub field: Field,
    /// What it must be.
    pub test: Test,
    /// Or must not.
    pub negated: bool,
}

/// A part of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A column, by its place in [`COLUMNS`].
    Column(usize),
    /// `attributes.NAME`.
    Attribute(String),
}

/// What a field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// One of these texts. Numbers as they are written, times as records write them.
    In(Vec<String>),
    /// A text with this in it, upper and lower case alike (ASCII).
    Contains(String),
    /// A text that begins so.
    Prefix(String),
    /// A number from here to there, both included.
    Range {
        /// Not below.
        from: Option<i64>,
        /// Not above.
        to: Option<i64>,
    },
    /// There at all.
    Present,
}

impl FromStr for Condition {
    type Err = LakeError;

    fn from_str(text: &str) -> Result<Self, LakeError> {
        let wrong = |why: String| LakeError::Query(format!("`{text}`: {why}"));
        let end = text.find(|c: char| !(c.is_alphanumeric() || "._-".contains(c))).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let field =
            Field::named(name).ok_or_else(|| wrong(format!("there is no field `{name}`; fields are {FIELDS}")))?;
        let (negated, rest) = match rest.trim().strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, rest.trim()),
        };
        let operators = ["^=", ">=", "<=", "=", "~", ">", "<", "?"];
        let Some(operator) = operators.into_iter().find(|operator| rest.starts_with(operator)) else {
            return Err(wrong(
                "write an operator after the field: = ~ ^= >= <= > < ?, with ! before it the contrary".into(),
            ));
        };
        let value = rest[operator.len()..].trim();
        let number = || value.parse::<i64>().map_err(|_| wrong(format!("`{value}` is no whole number")));
        let test = match operator {
            "?" if value.is_empty() => Test::Present,
            "?" => return Err(wrong("nothing follows `?`".into())),
            "=" => Test::In(match value.strip_prefix('(').and_then(|list| list.strip_suffix(')')) {
                Some(list) => list.split(',').map(|value| value.trim().to_owned()).collect(),
                None => vec![value.to_owned()],
            }),
            "~" => Test::Contains(value.to_owned()),
            "^=" => Test::Prefix(value.to_owned()),
            _ if !field.is_number() => {
                return Err(wrong(format!("`{operator}` is for numbers; `{name}` is text")));
            }
            ">=" => Test::Range { from: Some(number()?), to: None },
            ">" => Test::Range { from: Some(number()?.saturating_add(1)), to: None },
            "<=" => Test::Range { from: None, to: Some(number()?) },
            _ => Test::Range { from: None, to: Some(number()?.saturating_sub(1)) },
        };
        Ok(Self { field, test, negated })
    }
}

const FIELDS: &str = "a record's members (`status`, `user.email`, `client.geo.city`, …) and `attributes.NAME`";

impl Field {
    /// The field of a record at this path.
    pub fn named(path: &str) -> Option<Self> {
        match path.strip_prefix("attributes.") {
            Some(name) if !name.is_empty() => Some(Self::Attribute(name.to_owned())),
            _ => schema::find(path).map(Self::Column),
        }
    }

    /// The column that holds it.
    pub(super) fn column(&self) -> usize {
        match self {
            Self::Column(column) => *column,
            Self::Attribute(_) => ATTRIBUTES,
        }
    }

    fn is_number(&self) -> bool {
        match self {
            Self::Column(column) => matches!(COLUMNS[*column].kind, Kind::Number | Kind::Time),
            Self::Attribute(_) => true,
        }
    }
}

const ATTRIBUTES: usize = schema::index("attributes");

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => f.write_str(COLUMNS[*column].path),
            Self::Attribute(name) => write!(f, "attributes.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_written_as_people_would() {
        let parse = |text: &str| text.parse::<Condition>().expect(text);
        let status = Field::named("status").expect("a column");
        assert_eq!(parse("status>=500").test, Test::Range { from: Some(500), to: None });
        assert_eq!(parse("status < 400").test, Test::Range { from: None, to: Some(399) });
        assert_eq!(parse("status=404").field, status);
        assert_eq!(parse("kind=(login, api)").test, Test::In(vec!["login".into(), "api".into()]));
        assert_eq!(parse("path^=/a=b").test, Test::Prefix("/a=b".into()));
        assert!(parse("user.email!~@example.com").negated);
        assert_eq!(parse("session?").test, Test::Present);
        assert_eq!(parse("attributes.source=form").field, Field::Attribute("source".into()));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (text, says) in [
            ("colour=red", "there is no field `colour`"),
            ("status", "write an operator"),
            ("status>=many", "`many` is no whole number"),
            ("path>5", "`path` is text"),
            ("session?x", "nothing follows"),
        ] {
            let error = text.parse::<Condition>().expect_err(text).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
