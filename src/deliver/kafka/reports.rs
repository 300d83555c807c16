//! What librdkafka reports: acknowledgements, failures, complaints, its own log.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::Message as _;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

/// The context of one producer; a new producer gets a new one, so late reports can't be mistaken.
#[derive(Debug)]
pub(super) struct Reports {
    inbox: Mutex<Inbox>,
    secrets: Vec<String>,
}

/// What came since the last look.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Tickets of records that all in-sync replicas have.
    pub(super) arrived: Vec<u64>,
    /// Tickets of records that the client has given up, and why.
    pub(super) failed: Vec<(u64, RDKafkaErrorCode)>,
    /// The last thing it complained of.
    pub(super) complaint: Option<String>,
    /// Something came, be it only a line of the log.
    heard: bool,
}

/// Takes all that was reported so far: a `poll` without a wait takes one event only.
pub(super) fn collect(producer: &BaseProducer<Reports>) -> Inbox {
    let mut inbox = Inbox::default();
    loop {
        producer.poll(Duration::ZERO);
        let more = producer.context().take();
        if !more.heard {
            return inbox;
        }
        inbox.extend(more);
    }
}

// === impl Inbox ===

impl Inbox {
    /// Adds what came later.
    pub(super) fn extend(&mut self, later: Self) {
        self.arrived.extend(later.arrived);
        self.failed.extend(later.failed);
        self.complaint = later.complaint.or(self.complaint.take());
    }
}

// === impl Reports ===

impl Reports {
    pub(super) fn new(secrets: Vec<String>) -> Self {
        Self { inbox: Mutex::default(), secrets }
    }

    /// What came since the last look.
    pub(super) fn take(&self) -> Inbox {
        std::mem::take(&mut *self.inbox())
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clean(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.inbox().heard = true;
        // Connection failures come here and as complaints, once per broker and address; the complaint is enough.
        tracing::debug!(target: "librdkafka", ?level, facility, message = self.clean(message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.inbox().heard = true;
        // Follows a complaint that says why.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            return;
        }
        let code = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        self.inbox().complaint = Some(self.clean(&format!("{code}: {reason}")));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let ticket = ticket as u64;
        let mut inbox = self.inbox();
        inbox.heard = true;
        match result {
            Ok(_) => inbox.arrived.push(ticket),
            Err((error, message)) => {
                tracing::debug!(%error, topic = message.topic(), "a record was not delivered");
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                inbox.failed.push((ticket, code));
            }
        }
    }
}
