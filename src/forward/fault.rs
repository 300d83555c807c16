//! What went wrong, and what the client is told: the only such table.

use crate::record::End;

/// Why a request could not be answered by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection: refused, no route, no such name, TLS failed.
    Unreachable,
    /// A connection was not open in time.
    ConnectTimeout,
    /// No response head in time.
    ResponseTimeout,
    /// The connection ended or failed before a response head.
    Reset,
    /// The response was not HTTP.
    Garbage,
    /// The client's own body failed: it went away.
    ClientClosed,
    /// The client's own body broke a rule or a limit.
    ClientRefused { status: u16, reason: &'static str },
    /// The journal can't take a record and the policy is to do nothing unrecorded.
    JournalFull,
}

impl Fault {
    /// Status, `end` and `reason`.
    pub(super) fn answer(self) -> (u16, End, &'static str) {
        match self {
            Self::Unreachable => (502, End::UpstreamUnreachable, "the application can't be reached"),
            Self::ConnectTimeout => (504, End::Timeout, "the application did not accept a connection in time"),
            Self::ResponseTimeout => (504, End::Timeout, "the application did not answer in time"),
            Self::Reset => (502, End::UpstreamReset, "the application closed the connection without an answer"),
            Self::Garbage => (502, End::UpstreamReset, "the application's answer was not HTTP"),
            Self::ClientClosed => (499, End::ClientClosed, "the client went away"),
            Self::ClientRefused { status: 408, reason } => (408, End::Timeout, reason),
            Self::ClientRefused { status, reason } => (status, End::Refused, reason),
            Self::JournalFull => (503, End::Refused, "the audit journal can't take a record"),
        }
    }
}

/// The body of a response of our own: short, plain, with the id to ask for.
pub(super) fn body(status: u16, reason: &str, request_id: &str) -> String {
    let title = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Error");
    if request_id.is_empty() {
        format!("{status} {title}: {reason}\n")
    } else {
        format!("{status} {title}: {reason}\nrequest id: {request_id}\n")
    }
}
