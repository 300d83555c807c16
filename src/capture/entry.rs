//! From an exchange to its record.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::Version;

use super::exchange::{Outlet, Progress, State, Worker};
use super::facts::Facts;
use super::identity::{self, Who};
use super::policy::Policy;
use super::redact::{MASK, Report};
use super::token::hex;
use super::{Connection, RefusedHead, ascii, message, path_of};
use crate::config::{Level, Mode};
use crate::journal::Committed;
use crate::message::{Known, RequestHead};
use crate::record::{self, Client, End, Outcome, Record, SCHEMA, Stage, Text, Timing};

/// Writes the record of a stage on the way.
pub(super) fn stage(state: &State, stage: Stage) -> Option<Committed> {
    let progress = state.progress.borrow();
    let facts = Facts::new(state, &progress);
    let mut record = begin(state);
    let mut report = Report::default();
    record.stage = stage;
    if stage == Stage::ResponseStarted {
        record.status = progress.status;
        record.timing = timing(progress.connect, progress.first_byte);
    }
    tell(&facts, &mut record, identity::who(&facts, false), &mut report);
    record.redacted = report.into_entries();
    write(&state.worker, &record, if stage == Stage::RequestReceived { Mode::BlockingStrict } else { Mode::Batch })
}

/// Writes the record of the outcome.
pub(super) fn outcome(
    state: &State,
    progress: &Progress,
    end: End,
    reason: Option<&str>,
    duration: Duration,
) -> Option<Committed> {
    let facts = Facts::new(state, progress);
    let success = is_success(&facts, end);
    let mut who = identity::who(&facts, success);
    identity::learn(&facts, &mut who, success);
    let mut record = begin(state);
    let mut report = Report::default();
    record.status = progress.status;
    record.grpc_status = progress.grpc_status;
    record.end = Some(end);
    record.reason = reason.map(Text::from);
    record.result = Some(if success { Outcome::Success } else { Outcome::Failure });
    record.duration_us = Some(micros(duration));
    record.timing = timing(progress.connect, progress.first_byte);
    record.request_bytes = Some(progress.request_bytes);
    record.response_bytes = Some(progress.response_bytes);
    tell(&facts, &mut record, who, &mut report);
    let level = state.plan().level;
    if level >= Level::Request {
        record.request = Some(message::of_request(&facts, &mut report, &mut record.escaped));
    }
    if level >= Level::RequestResponse && progress.status.is_some() {
        record.response = Some(message::of_response(&facts, &mut report, &mut record.escaped));
    }
    record.redacted = report.into_entries();
    write(&state.worker, &record, state.plan().mode)
}

/// Writes the record of a request that was refused before it could be read as a whole.
pub(super) fn refused(
    worker: &Worker,
    policy: &Policy,
    connection: &Connection,
    seen: &RefusedHead,
    status: u16,
    reason: &'static str,
) {
    let plan = policy.plan(None);
    worker.counters.refused(connection.listener_index, seen.method.as_ref(), status);
    if plan.level == Level::None {
        return;
    }
    let mut record = Record {
        schema: SCHEMA.into(),
        id: uuid::Uuid::now_v7().to_string().into(),
        time: record::timestamp(SystemTime::now()).into(),
        kind: (*plan.kind).into(),
        listener: Some((*connection.listener).into()),
        method: seen.method.as_ref().map(|m| m.as_str().into()),
        http_version: seen.version.and_then(version),
        status: Some(status),
        result: Some(Outcome::Failure),
        end: Some(End::Refused),
        reason: Some(reason.into()),
        ..Record::default()
    };
    if let Some(target) = seen.target.as_deref().filter(|t| !t.is_empty()) {
        // Not an orderly target: only what can't hold a parameter is told.
        let path = target.split(|b| b"?#;@ ".contains(b)).next().unwrap_or_default();
        let (path, escaped) = record::lossless(path);
        if escaped {
            record.escaped.push("path".into());
        }
        record.path = Some(path).filter(|p| !p.is_empty());
    }
    let host = seen.host.as_deref().map(record::lossless).filter(|(host, _)| !host.is_empty() && !host.contains('@'));
    if let Some((host, escaped)) = host {
        if escaped {
            record.escaped.push("host".into());
        }
        record.host = Some(host);
    }
    record.client = connection.peer.map(|ip| Client { ip: Some(ip), peer: Some(ip), ..Client::default() });
    drop(write(worker, &record, Mode::Batch));
}

/// What every stage of an exchange says, save what selectors find and redaction changes.
fn begin(state: &State) -> Record<'_> {
    let (plan, fields) = (state.plan(), &state.head.fields);
    let places = state.policy.places.as_ref().filter(|_| plan.geoip);
    let mut escaped = Vec::new();
    let client = Client {
        ip: state.client,
        peer: state.connection.peer,
        user_agent: text(fields.known(Known::UserAgent), "client.user_agent", &mut escaped),
        geo: places.and_then(|places| places.find(state.client?)),
    };
    Record {
        schema: SCHEMA.into(),
        id: std::str::from_utf8(&state.id).unwrap_or_default().into(),
        time: record::timestamp(state.time).into(),
        kind: (*plan.kind).into(),
        rule: plan.name.as_deref().map(Text::from),
        listener: Some((*state.connection.listener).into()),
        method: Some(state.head.method.as_str().into()),
        scheme: Some(if state.https { "https" } else { "http" }.into()),
        host: state.host().map(Text::from),
        route: route(state),
        http_version: version(state.head.version),
        client: Some(client).filter(|client| *client != Client::default()),
        request_id: Some(state.request_id().into()),
        trace_id: trace_id(fields.known(Known::TraceParent)),
        escaped,
        ..Record::default()
    }
}

/// What redaction lets through of the target, and what selectors find.
fn tell<'f>(facts: &'f Facts<'_>, record: &mut Record<'f>, who: Who<'f>, report: &mut Report) {
    let (state, plan) = (facts.state, facts.state.plan());
    record.path = Some(path(state, report).into());
    let query = state.head.query().filter(|q| !q.is_empty());
    record.query = query.map(|query| state.policy.redactor.query(query, report).into());
    if state.head.is_escaped() {
        tell_escaped(&state.head, record);
    }
    record.tenant = plan.tenant.as_ref().and_then(|s| facts.text(s)).map(Text::from);
    record.origin = plan.origin.as_ref().and_then(|s| facts.text(s)).map(Text::from);
    let attributes = plan.attributes.iter();
    record.attributes = attributes.filter_map(|(name, s)| Some((Text::from(&**name), facts.fact(s)?))).collect();
    record.user = who.user;
    record.impersonator = who.impersonator;
    record.api_key = who.api_key;
    record.session = who.session.map(|token| hex(&token).into());
}

/// Which of path and query is escaped: not necessarily both.
fn tell_escaped(head: &RequestHead, record: &mut Record<'_>) {
    let mut sent = head.origin_form().splitn(2, |b| *b == b'?');
    for field in ["path", "query"] {
        if sent.next().is_some_and(|bytes| std::str::from_utf8(bytes).is_err()) {
            record.escaped.push(field.into());
        }
    }
}

/// The path, without its secret segments and parameters.
fn path<'s>(state: &'s State, report: &mut Report) -> Cow<'s, str> {
    let (path, redactor) = (path_of(&state.head), &state.policy.redactor);
    let segments =
        state.policy.path(state.decision).and_then(|p| p.mask(path, MASK, |name| redactor.is_secret_segment(name)));
    let masked = segments.or_else(|| path.contains(['=', ';']).then(|| redactor.text(path)).flatten());
    match masked {
        Some(masked) => {
            report.add_path("request.", "path");
            Cow::Owned(masked)
        }
        None => Cow::Borrowed(path),
    }
}

/// Whether it worked, by the rule's measure; by default with a status below 400 and a gRPC status of 0.
fn is_success(facts: &Facts<'_>, end: End) -> bool {
    let progress = facts.progress;
    let Some(status) = progress.status.filter(|_| end == End::Complete && progress.grpc_status.unwrap_or(0) == 0)
    else {
        return false;
    };
    let Some(measure) = &facts.state.plan().success else { return status < 400 };
    let by_status = if measure.status.is_empty() { status < 400 } else { measure.status.contains(&status) };
    by_status
        && measure
            .headers
            .iter()
            .all(|(name, pattern)| pattern.fits(progress.fields().into_iter().flat_map(|f| f.all(name))))
        && measure
            .json
            .iter()
            .all(|(pointer, pattern)| pattern.fits(facts.response_json(pointer).iter().map(|v| v.as_bytes())))
}

fn route(state: &State) -> Option<Text<'_>> {
    let named = state.plan().route.as_deref();
    named.or_else(|| state.policy.path(state.decision).map(|p| p.text())).map(Text::from)
}

/// Hands the record's bytes to the journal, as safely as `mode` asks.
fn write(worker: &Worker, record: &Record<'_>, mode: Mode) -> Option<Committed> {
    let mut buffer = worker.buffer.borrow_mut();
    buffer.clear();
    record.encode(&mut buffer);
    worker.counters.record(&record.kind);
    match &worker.outlet {
        Outlet::Journal(lane) => match mode {
            Mode::Batch => {
                // Counted by the journal as lost where it was not taken.
                let _ = lane.append(&buffer);
                None
            }
            Mode::Blocking => Some(lane.append_committed(&buffer)),
            Mode::BlockingStrict => Some(lane.append_durable(&buffer)),
        },
        #[cfg(test)]
        Outlet::Memory(records) => {
            records.borrow_mut().push(String::from_utf8(buffer.clone()).expect("JSON is UTF-8"));
            None
        }
    }
}

fn timing(connect: Option<Duration>, first_byte: Option<Duration>) -> Option<Timing> {
    (connect.is_some() || first_byte.is_some())
        .then(|| Timing { connect_us: connect.map(micros), first_byte_us: first_byte.map(micros) })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A header as text; `field` joins `escaped` where its bytes are not UTF-8.
fn text<'v>(value: Option<&'v [u8]>, field: &'static str, escaped: &mut Vec<Text<'_>>) -> Option<Text<'v>> {
    let (text, was_escaped) = record::lossless(value?);
    if was_escaped {
        escaped.push(field.into());
    }
    (!text.is_empty()).then_some(text)
}

fn version(version: Version) -> Option<Text<'static>> {
    Some(match version {
        Version::HTTP_09 => "0.9".into(),
        Version::HTTP_10 => "1.0".into(),
        Version::HTTP_11 => "1.1".into(),
        Version::HTTP_2 => "2".into(),
        Version::HTTP_3 => "3".into(),
        _ => return None,
    })
}

/// The trace id of `traceparent` (W3C Trace Context section 3.2.2): 32 hex digits, not all zero.
fn trace_id(parent: Option<&[u8]>) -> Option<Text<'_>> {
    let id = ascii(parent?)?.split('-').nth(1)?;
    let hex = id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex && id.bytes().any(|b| b != b'0')).then(|| id.into())
}
