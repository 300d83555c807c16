//! Records that a destination refuses for good: whole into a file beside, a stub in their place.
//!
//! The file is NDJSON, mode 0600, one refused record a line exactly as it stands in the journal, so that
//! it can be read and delivered by hand. The stub has the same place, identity and outcome under the same
//! schema, and `reason` says where the rest is: no gap appears downstream.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::journal::{Entry, Position};
use crate::record::{Attributes, Client, Record};

/// The dead-letter file, created when first needed.
#[derive(Debug)]
pub(super) struct DeadLetters {
    path: PathBuf,
    file: Option<File>,
}

// === impl DeadLetters ===

impl DeadLetters {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the record and waits until it is on the disk.
    pub(super) fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&self.path)?),
        };
        let before = file.metadata()?.len();
        let mut line = Vec::with_capacity(entry.payload.len() + 1);
        line.extend_from_slice(entry.payload);
        line.push(b'\n');
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_data()) {
            // No torn line stays behind; if even that fails, the reader meets one.
            let _ = file.set_len(before);
            self.file = None;
            return Err(error);
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// What is sent in place of a refused record: who, when, what came of it, and why the rest is elsewhere.
pub(super) fn stub(payload: &[u8], position: Position, why: &str) -> Vec<u8> {
    let whole: Record<'_> =
        serde_json::from_slice(payload).unwrap_or_else(|_| Record::own("rejected", Attributes::default()));
    let short = |text: &crate::record::Text<'_>| text.len() <= 256;
    let client = whole.client.as_ref().map(|client| Client { ip: client.ip, peer: client.peer, ..Client::default() });
    let stub = Record {
        seq: Some(position.seq),
        epoch: Some(position.epoch.into()),
        instance: whole.instance,
        chain: whole.chain,
        schema: whole.schema,
        id: whole.id,
        time: whole.time,
        stage: whole.stage,
        kind: whole.kind,
        rule: whole.rule.filter(short),
        listener: whole.listener.filter(short),
        tenant: whole.tenant.filter(short),
        method: whole.method.filter(short),
        status: whole.status,
        grpc_status: whole.grpc_status,
        result: whole.result,
        end: whole.end,
        reason: Some(format!("{why}; the whole record is in the dead-letter file").into()),
        duration_us: whole.duration_us,
        request_bytes: whole.request_bytes,
        response_bytes: whole.response_bytes,
        client,
        request_id: whole.request_id.filter(short),
        trace_id: whole.trace_id.filter(short),
        ..Record::default()
    };
    let mut out = Vec::with_capacity(1024);
    stub.encode(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::record::Message;

    fn entry(seq: u64, payload: &[u8]) -> Entry<'_> {
        Entry { position: Position { epoch: 1, seq }, written_ms: 0, payload }
    }

    #[test]
    fn records_are_appended_whole_for_the_owner_alone_to_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("new").join("dead.ndjson");
        let mut letters = DeadLetters::new(path.clone());
        letters.write(&entry(1, b"{\"a\":1}")).expect("written");
        letters.write(&entry(5, b"{\"a\":5}")).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "{\"a\":1}\n{\"a\":5}\n");
        assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_stub_keeps_identity_and_outcome_and_drops_what_may_be_large() {
        let mut record = Record::own("login", Attributes::default());
        record.status = Some(302);
        record.path = Some("/".repeat(100_000).into());
        record.request = Some(Message { body: Some("x".repeat(1_000_000).into()), ..Message::default() });
        let mut payload = Vec::new();
        record.encode(&mut payload);
        let stub = stub(&payload, Position { epoch: 2, seq: 9 }, "larger than the topic takes");
        assert!(stub.len() < 1024, "{} bytes", stub.len());
        let stub: Record<'_> = serde_json::from_slice(&stub).expect("a record");
        assert_eq!((stub.id, stub.time, stub.kind), (record.id, record.time, record.kind));
        assert_eq!((stub.seq, stub.epoch, stub.status), (Some(9), Some(2), Some(302)));
        assert!(stub.reason.expect("a reason").contains("larger than the topic takes"));
        assert!(stub.request.is_none() && stub.path.is_none());
    }

    #[test]
    fn even_garbage_gets_a_stub_in_its_place() {
        let stub = stub(b"\xff{", Position { epoch: 1, seq: 3 }, "refused");
        let stub: Record<'_> = serde_json::from_slice(&stub).expect("a record");
        assert_eq!((stub.seq, stub.kind.as_str()), (Some(3), "rejected"));
    }
}
