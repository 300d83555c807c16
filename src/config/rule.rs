//! `[[rule]]` and `[defaults]`: which exchanges are recorded as what, how safely, and in how much detail.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::units::Strings;

/// One rule. The first whose `match` fits an exchange decides; unmatched exchanges get `[defaults]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleSettings {
    /// The rule's name, unique, shown in every record it made.
    pub name: String,
    /// What such an exchange is: `panel`, `api`, `login`, `logout`, `impersonation`, `webhook`, … (lower case, `-`).
    pub kind: Option<String>,
    /// Conditions that must all hold. Empty matches everything.
    #[serde(rename = "match")]
    pub matches: Match,
    /// How safe the record must be before the response goes out.
    pub mode: Option<Mode>,
    /// How much is recorded.
    pub level: Option<Level>,
    /// When such an exchange counts as a success; by default a status below 400 (and gRPC status 0).
    pub success: Option<Success>,
    /// Who did it: selectors for `id`, `email` and `name`.
    pub user: BTreeMap<String, String>,
    /// On an `impersonation`: selectors for the user who is acted for from now on.
    pub target: BTreeMap<String, String>,
    /// Where the session's secret stands, like `response.cookie.sid` on a login and `request.cookie.sid` elsewhere.
    pub session: Option<String>,
    /// Where the API key stands, like `request.header.x-api-key`.
    pub api_key: Option<String>,
    /// Which tenant, by selector.
    pub tenant: Option<String>,
    /// Which door the call came through, by selector.
    pub origin: Option<String>,
    /// A low-cardinality name for the path; by default the path pattern that matched.
    pub route: Option<String>,
    /// Look up where the client is; by default only for kind `login`.
    pub geoip: Option<bool>,
    /// More facts, each by selector.
    pub attributes: BTreeMap<String, String>,
}

/// Conditions on a request. Several values in one condition: any of them; several conditions: all of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Names of listeners.
    pub listener: Strings,
    /// Request methods.
    pub method: Strings,
    /// Paths: exact, with `*` (within a segment), `**` (any rest) or `{name}` (a segment that selectors see as `path.name`).
    pub path: Strings,
    /// Host names, `*` allowed.
    pub host: Strings,
    /// Query parameters that must be there: name to pattern (`*`, and `!` before it for "not").
    pub query: BTreeMap<String, String>,
    /// Request headers that must be there: name to pattern.
    pub header: BTreeMap<String, String>,
}

/// How safe a record must be before the response goes out (the words are the Kubernetes audit backends').
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Handed to the journal when the exchange ends; the app is never slowed.
    #[default]
    Batch,
    /// The response's last byte goes out only after the record is in the journal.
    Blocking,
    /// Also, the intent is on disk before the application sees the request.
    BlockingStrict,
}

/// How much of an exchange is recorded (the words are the Kubernetes audit policy's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// No record.
    None,
    /// Who, what, when, with what outcome; no headers, no bodies.
    #[default]
    Metadata,
    /// Also the request's headers and body, redacted.
    Request,
    /// Also the response's headers and body, redacted.
    RequestResponse,
}

/// When an exchange counts as a success. All conditions given must hold.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Success {
    /// One of these status codes.
    pub status: Vec<u16>,
    /// Response headers: name to pattern.
    pub response_header: BTreeMap<String, String>,
    /// Values in a JSON response: pointer (RFC 6901) to pattern.
    pub response_json: BTreeMap<String, String>,
}

/// What unmatched exchanges get, and what a rule gets for the keys it leaves out.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// The kind of an exchange no rule named.
    pub kind: String,
    /// How safe its record must be.
    pub mode: Mode,
    /// How much is recorded.
    pub level: Level,
    /// Where the session's secret stands: selectors, the first that finds something is used.
    pub session: Strings,
    /// Where an API key may stand: selectors, likewise.
    pub api_key: Strings,
    /// Who did it, where the application itself says so: selectors for `id`, `email`, `name`.
    pub user: BTreeMap<String, String>,
    /// Bytes of each body kept where the level asks for bodies.
    pub body_size: super::Bytes,
    /// Bytes a compressed body may grow to while it is decoded for the record.
    pub decoded_size: super::Bytes,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            kind: "panel".to_owned(),
            mode: Mode::Batch,
            level: Level::Metadata,
            session: Strings::default(),
            api_key: Strings(vec!["request.header.x-api-key".to_owned(), "request.query.api_key".to_owned()]),
            user: BTreeMap::new(),
            body_size: super::Bytes::kib(64),
            decoded_size: super::Bytes::kib(256),
        }
    }
}
