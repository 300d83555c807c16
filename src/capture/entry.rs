//! From an exchange to its record.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Version};

use super::exchange::{Outlet, State, Worker};
use super::policy::Policy;
use super::{Connection, RefusedHead};
use crate::config::{Level, Mode};
use crate::journal::Committed;
use crate::record::{self, Client, End, Outcome, Record, SCHEMA, Stage, Text, Timing};

/// Writes the record of a stage on the way.
pub(super) fn stage(state: &State, stage: Stage) -> Option<Committed> {
    let mut record = begin(state);
    record.stage = stage;
    if stage == Stage::ResponseStarted {
        let progress = state.progress.borrow();
        record.status = progress.status;
        record.timing = timing(progress.connect, progress.first_byte);
    }
    let durable = stage == Stage::RequestReceived;
    write(&state.worker, &record, if durable { Mode::BlockingStrict } else { Mode::Batch })
}

/// Writes the record of the outcome.
pub(super) fn outcome(state: &State, end: End, reason: Option<&str>) -> Option<Committed> {
    let duration = state.began.elapsed();
    let progress = state.progress.borrow();
    let mut record = begin(state);
    record.status = progress.status;
    record.grpc_status = progress.grpc_status;
    record.end = Some(end);
    record.reason = reason.map(Text::from);
    record.result = Some(result(end, progress.status, progress.grpc_status));
    record.attempts = Some(progress.attempts).filter(|n| *n > 1);
    record.duration_us = Some(micros(duration));
    record.timing = timing(progress.connect, progress.first_byte);
    record.request_bytes = Some(progress.request_bytes);
    record.response_bytes = Some(progress.response_bytes);
    write(&state.worker, &record, state.plan().mode)
}

/// Writes the record of a request that was refused before it could be read as a whole.
pub(super) fn refused(
    worker: &Worker,
    policy: &Arc<Policy>,
    connection: &Connection,
    seen: &RefusedHead,
    status: u16,
    reason: &'static str,
) {
    let plan = policy.plan(None);
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
        let path = target.split(|b| *b == b'?').next().unwrap_or_default();
        let (path, escaped) = record::lossless(path);
        if escaped {
            record.escaped.push("path".into());
        }
        record.path = Some(path);
    }
    record.client = connection.peer.map(|ip| Client { ip: Some(ip), ..Client::default() });
    drop(write(worker, &record, Mode::Batch));
}

/// What every stage of an exchange says.
fn begin(state: &State) -> Record<'_> {
    let plan = state.plan();
    let host = state.uri.authority().map(|a| a.as_str().into());
    let peer = state.connection.peer.filter(|peer| Some(*peer) != state.client);
    Record {
        schema: SCHEMA.into(),
        id: std::str::from_utf8(&state.id).unwrap_or_default().into(),
        time: record::timestamp(state.time).into(),
        kind: (*plan.kind).into(),
        rule: plan.name.as_deref().map(Text::from),
        listener: Some((*state.connection.listener).into()),
        method: Some(state.method.as_str().into()),
        scheme: Some(if state.https { "https" } else { "http" }.into()),
        host: host.or_else(|| text(state.host.as_ref())),
        path: Some(state.uri.path().into()),
        route: route(state),
        http_version: version(state.version),
        client: Some(Client { ip: state.client, peer, user_agent: text(state.user_agent.as_ref()), geo: None }),
        request_id: Some(state.request_id().into()),
        trace_id: trace_id(state.trace_parent.as_ref()),
        ..Record::default()
    }
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

fn result(end: End, status: Option<u16>, grpc: Option<u32>) -> Outcome {
    let fine = end == End::Complete && status.is_some_and(|s| s < 400) && grpc.unwrap_or(0) == 0;
    if fine { Outcome::Success } else { Outcome::Failure }
}

fn timing(connect: Option<Duration>, first_byte: Option<Duration>) -> Option<Timing> {
    (connect.is_some() || first_byte.is_some()).then(|| Timing {
        connect_us: connect.map(micros),
        first_byte_us: first_byte.map(micros),
        journal_us: None,
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn text(value: Option<&HeaderValue>) -> Option<Text<'_>> {
    value.map(|v| record::lossless(v.as_bytes()).0).filter(|t| !t.is_empty())
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
fn trace_id(parent: Option<&HeaderValue>) -> Option<Text<'_>> {
    let id = parent?.to_str().ok()?.split('-').nth(1)?;
    let hex = id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex && id.bytes().any(|b| b != b'0')).then(|| id.into())
}
