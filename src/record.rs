//! The record: what Daybook says about one exchange, as JSON under schema `daybook/1`.
//!
//! Field names follow OpenTelemetry and ECS where they have one; `docs/record.schema.json` is the
//! published JSON Schema. Absent means unknown: no empty strings, no nulls.
//!
//! A worker encodes a record without its place in the journal; the journal's writer prepends `seq`,
//! `epoch` and `instance`, and the bytes are never encoded again: what is on disk is what is
//! delivered. `chain` has its place after `instance`.
//!
//! Bytes that are not UTF-8 are kept: in a field named in `escaped` each such byte is written `\xNN`
//! and each backslash is doubled; a body that is not UTF-8 is base64 and says so in `encoding`.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

mod attributes;
mod encode;
mod text;
mod time;

pub use attributes::{Attributes, Value};
pub use text::{Text, lossless};
pub use time::timestamp;

/// The schema every record names.
pub const SCHEMA: &str = "daybook/1";

/// One record. Reading borrows from the JSON where it can.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// Place in the sequence of (`instance`, `epoch`), from 1, without gaps. Set by the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Raised when a restart can't prove that it continues the sequence. Set by the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Which process wrote it. Set by the journal.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Text<'a>>,
    /// SHA-256 chain, 64 hex digits. Set by the journal.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Text<'a>>,

    /// Always [`SCHEMA`].
    #[serde(borrow)]
    pub schema: Text<'a>,
    /// UUIDv7, the same for all stages of an exchange.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// When the exchange began, RFC 3339 in UTC with microseconds.
    #[serde(borrow)]
    pub time: Text<'a>,
    /// Which moment of the exchange this record tells of.
    pub stage: Stage,
    /// `panel`, `api`, `login`, … or one of our own: `loss`, `reload`, `start`.
    #[serde(borrow)]
    pub kind: Text<'a>,
    /// The rule that decided.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Text<'a>>,
    /// The listener it came through.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Text<'a>>,
    /// Tenant, by rule.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Text<'a>>,
    /// Which door the call came through, by rule.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Text<'a>>,

    /// Request method.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Text<'a>>,
    /// `http` or `https`, as the client used it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Text<'a>>,
    /// Host (and port) the client asked for.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Text<'a>>,
    /// Path as sent, percent-encoding kept.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Text<'a>>,
    /// Query as sent, sensitive values masked.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Text<'a>>,
    /// The path's pattern: low cardinality.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Text<'a>>,
    /// `1.0`, `1.1`, `2`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub http_version: Option<Text<'a>>,
    /// Status the client was sent; absent when it was sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `grpc-status`, from trailers or headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// Whether it worked, by the rule's measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Outcome>,
    /// How the exchange ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Why, in a few words, where `end` is not `complete`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text<'a>>,
    /// From the head's last byte read to the response's last byte handed to the kernel, µs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    /// Where that time went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// Bytes of the request body as received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
    /// Bytes of the response body as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,

    /// Who connected, from where.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Client<'a>>,
    /// Who did it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User<'a>>,
    /// Who really did it, while impersonating `user`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub impersonator: Option<User<'a>>,
    /// The API key used, never whole.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKey<'a>>,
    /// HMAC of the session's secret.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Text<'a>>,
    /// Request id, the client's or ours.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text<'a>>,
    /// W3C trace id.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Text<'a>>,
    /// Facts chosen by the rule.
    #[serde(borrow, default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes<'a>,

    /// The request in detail, where the level asks.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Message<'a>>,
    /// The response in detail, where the level asks.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Message<'a>>,
    /// What was masked or dropped before this was written.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<Text<'a>>,
    /// Fields that held bytes that are not UTF-8 (see the module's doc).
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub escaped: Vec<Text<'a>>,
}

/// Which moment of an exchange a record tells of (the words are the Kubernetes audit stages').
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The intent, before the application saw the request (`blocking-strict` only).
    RequestReceived,
    /// The response began: upgrades and long streams.
    ResponseStarted,
    /// The outcome.
    #[default]
    ResponseComplete,
}

/// Whether it worked, by the rule's measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did.
    Success,
    /// It did not.
    Failure,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The client was sent the whole response.
    Complete,
    /// The client went away first.
    ClientClosed,
    /// The application could not be reached.
    UpstreamUnreachable,
    /// The application broke off, or answered garbage.
    UpstreamReset,
    /// Somebody was too slow; `reason` says who.
    Timeout,
    /// Daybook refused the request; the application did not see it.
    Refused,
    /// Daybook itself stopped in between.
    Interrupted,
}

/// Where the time went, µs since the exchange began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Time spent to get a connection to the application (0: a kept one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    /// Until the response's head had been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
}

/// Who connected, from where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Client<'a> {
    /// The client's address: the first one, from the right, that is not a trusted proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The address that connected to us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// `User-Agent`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text<'a>>,
    /// Where the address is.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub geo: Option<Geo<'a>>,
}

/// Where an address is, by the GeoIP database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geo<'a> {
    /// ISO 3166-1 code.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Text<'a>>,
    /// First subdivision, in English.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Text<'a>>,
    /// City, in English.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub city: Option<Text<'a>>,
    /// Day the database was built: `2026-11-01`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Text<'a>>,
}

/// Who did it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User<'a> {
    /// The application's id of the user.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Text<'a>>,
    /// E-mail address.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Text<'a>>,
    /// Name.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
    /// How we know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<UserSource>,
}

/// How a user is known, most trustworthy first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserSource {
    /// The subject of a verified client certificate.
    Tls,
    /// The application said so, in a response header or body.
    Response,
    /// A JWT whose signature was verified.
    JwtVerified,
    /// The session learnt from a login.
    Session,
    /// Basic authentication.
    Basic,
    /// A JWT that nobody verified here.
    JwtUnverified,
    /// What the request itself claims, for instance the name typed into a login form.
    Request,
}

/// An API key, never whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey<'a> {
    /// `…` and the last four characters of a long key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Text<'a>>,
    /// HMAC-SHA256 under this installation's key: equal keys have equal tokens.
    #[serde(borrow)]
    pub token: Text<'a>,
}

/// A request or response in detail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<'a> {
    /// Headers by lower-case name; repeated ones joined by `, `.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty", with = "attributes::pairs")]
    pub headers: Vec<(Text<'a>, Text<'a>)>,
    /// The body, decoded and masked.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Text<'a>>,
    /// `base64` where the body is not text.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Text<'a>>,
    /// Whether the body above is only its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    /// Why there is no body although the level asks for one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Text<'a>>,
    /// SHA-256 of the whole body as it went over the wire, hex.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Text<'a>>,
}

impl End {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Complete,
        Self::ClientClosed,
        Self::UpstreamUnreachable,
        Self::UpstreamReset,
        Self::Timeout,
        Self::Refused,
        Self::Interrupted,
    ];

    /// The word for it in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientClosed => "client_closed",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamReset => "upstream_reset",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }
}

impl<'a> Record<'a> {
    /// A record of ours that is not about an exchange: `loss`, `reload`, `start`.
    pub fn own(kind: &'a str, attributes: Attributes<'a>) -> Self {
        Self {
            schema: SCHEMA.into(),
            id: uuid::Uuid::now_v7().to_string().into(),
            time: Cow::<str>::Owned(timestamp(std::time::SystemTime::now())).into(),
            kind: kind.into(),
            attributes,
            ..Self::default()
        }
    }

    /// Appends the record's JSON to `out`, without a line feed.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode::record(self, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_what_it_wrote() {
        let mut record = Record::own("panel", Attributes::default());
        record.method = Some("POST".into());
        record.status = Some(302);
        record.end = Some(End::ClientClosed);
        record.attributes.push("source", Value::Text("form".into()));
        record.attributes.push("count", Value::Number(3.into()));
        record.request = Some(Message {
            headers: vec![("accept".into(), "text/\"html\"\n".into())],
            truncated: Some(false),
            ..Message::default()
        });
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let text = String::from_utf8(bytes).expect("JSON is UTF-8");
        assert!(text.starts_with(r#"{"schema":"daybook/1","id":""#), "{text}");
        assert!(!text.contains("null"), "absent means unknown: {text}");
        assert_eq!(serde_json::from_str::<Record<'_>>(&text).expect("reads back"), record);
    }

    #[test]
    fn times_have_microseconds_even_when_they_are_zero() {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_385_401);
        assert!(timestamp(at).ends_with(".000000Z"), "{}", timestamp(at));
    }
}
