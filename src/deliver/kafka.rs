//! The Kafka sink: an idempotent producer with `acks=all`, driven by the thread that reads the journal.
//!
//! What can go wrong has three answers (as in Vector's Kafka sink):
//!
//! | | |
//! | --- | --- |
//! | the client's queue is full | take acknowledgements, offer the same record again |
//! | the record is refused for good (too large, invalid) | whole to the dead-letter file, a stub to the topic |
//! | anything else (no broker, no topic, not allowed, a fatal idempotence error) | a new producer from the cursor, later |
//!
//! **Order.** `enable.gapless.guarantee` makes the client stop at a refused batch instead of letting the next one
//! overtake it; the producer is then built anew and goes on from the cursor. A broker refuses whole batches, so
//! when a batch of several records is refused they are sent again one by one until the culprit is found. A broker
//! knows of a gap only when it knows the producer (a partition takes the first batch of a new producer whatever
//! its number), so a new producer's first record travels alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::StartError;
use super::dead_letter::{DeadLetters, stub};
use super::members::Members;
use super::sink::{Sent, Sink, Trouble};
use super::template::{Template, is_topic};
use super::watermark::Watermark;
use crate::config::KafkaSettings;
use crate::journal::{Entry, Position};
use crate::record::SCHEMA;

mod options;
mod reports;

use options::Mode;
use reports::{Reports, collect};

/// Below this a refused batch is not the batch's fault.
const SMALLEST_BATCH: u64 = 16 << 10;
/// How long the acknowledgement of a single record is waited for at a time.
const SINGLE: Duration = Duration::from_millis(1);
/// How long the reason of a fatal error is waited for.
const REASON: Duration = Duration::from_millis(100);

/// Kafka.
pub(super) struct KafkaSink {
    settings: KafkaSettings,
    instance: String,
    topic: Template,
    key: Template,
    producer: Option<BaseProducer<Reports>>,
    /// The brokers know this producer: something it sent has arrived.
    known: bool,
    mode: Mode,
    /// While single: the last record of what was refused.
    single_until: Option<Position>,
    watermark: Watermark,
    verdicts: BTreeMap<Position, Verdict>,
    dead_letters: DeadLetters,
    delivered: u64,
    rejected: u64,
    rendered: Rendered,
}

/// What is known of a record that was refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    why: String,
    /// A stub goes in its place; false when there is no topic for it, or the stub was refused too.
    stub: bool,
    /// It is in the dead-letter file: sent again, it is not written again.
    buried: bool,
}

/// Buffers for topic and key, used again for each record.
#[derive(Default)]
struct Rendered {
    topic: String,
    key: String,
}

/// What a failed delivery means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// This record will never be taken (or its batch won't).
    Refused,
    /// The client stopped for a reason that another report names.
    Stopped,
    /// It may work later.
    Later,
}

// === impl KafkaSink ===

impl KafkaSink {
    /// Checks all settings and builds the first producer; no broker is needed yet.
    pub(super) fn new(settings: &KafkaSettings, instance: &str, data_dir: &Path) -> Result<Self, StartError> {
        let confined = !settings.topics.is_empty();
        let topic = Template::topic(&settings.topic, confined).map_err(|e| StartError::Template("topic", e))?;
        let key = Template::key(&settings.key).map_err(|e| StartError::Template("key", e))?;
        let dead_letters = settings.dead_letter.clone().unwrap_or_else(|| data_dir.join("dead-letter.ndjson"));
        let mode = Mode { batch_size: settings.max_message.0, single: false };
        Ok(Self {
            producer: Some(build(settings, instance, mode)?),
            settings: settings.clone(),
            instance: instance.to_owned(),
            topic,
            key,
            known: false,
            mode,
            single_until: None,
            watermark: Watermark::default(),
            verdicts: BTreeMap::new(),
            dead_letters: DeadLetters::new(dead_letters),
            delivered: 0,
            rejected: 0,
            rendered: Rendered::default(),
        })
    }

    /// Hands a record to the client under the next ticket.
    fn produce(&mut self, entry: &Entry<'_>, payload: &[u8], members: &Members<'_>) -> Result<Sent, Trouble> {
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => none.insert(build(&self.settings, &self.instance, self.mode).map_err(|e| Trouble::retry(&e))?),
        };
        let ticket = usize::try_from(self.watermark.next_ticket()).unwrap_or(usize::MAX);
        let mut record = BaseRecord::<str, [u8], usize>::with_opaque_to(&self.rendered.topic, ticket)
            .payload(payload)
            .headers(headers(entry, members, &self.instance));
        if !self.rendered.key.is_empty() {
            record = record.key(&self.rendered.key);
        }
        let Err((error, _)) = producer.send(record) else {
            self.watermark.sent(entry);
            return Ok(Sent::Taken);
        };
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Ok(Sent::Full),
            Some(code) if classify(code) == Failure::Refused => {
                let why = format!("refused by the client: {code}");
                self.judge(entry.position, why, true);
                self.bury(entry, members)
            }
            Some(RDKafkaErrorCode::Fatal) => {
                self.serve(REASON)?;
                Err(Trouble::Retry(self.fatal()))
            }
            _ => Err(Trouble::Retry(format!("topic {}: {error}", self.rendered.topic))),
        }
    }

    /// Writes the dead letter, then sends the stub, or gives the record up.
    fn bury(&mut self, entry: &Entry<'_>, members: &Members<'_>) -> Result<Sent, Trouble> {
        let Some(verdict) = self.verdicts.get_mut(&entry.position) else { return Ok(Sent::Taken) };
        if !verdict.buried {
            self.dead_letters.write(entry).map_err(|e| Trouble::io("writing the dead-letter file", &e))?;
            verdict.buried = true;
        }
        if verdict.stub {
            let stub = stub(entry.payload, entry.position, &verdict.why);
            return self.produce(entry, &stub, members);
        }
        let ticket = self.watermark.sent(entry);
        self.delivered += self.watermark.arrived(ticket);
        Ok(Sent::Taken)
    }

    /// Notes that a record is refused: the first time for itself, the second time for its stub.
    fn judge(&mut self, position: Position, why: String, stub: bool) {
        let dead_letters = self.dead_letters.path().display();
        if let Some(verdict) = self.verdicts.get_mut(&position) {
            tracing::error!(sink = "kafka", record = %position, %why, %dead_letters, "its stub is refused too");
            verdict.stub = false;
        } else {
            self.rejected += 1;
            tracing::warn!(sink = "kafka", record = %position, %why, %dead_letters, "a record is refused");
            self.verdicts.insert(position, Verdict { why, stub, buried: false });
        }
    }

    /// Decides what to do about failed deliveries.
    fn answer(&mut self, failed: &[(u64, RDKafkaErrorCode)]) -> Trouble {
        let refused = |(_, code): &&(u64, RDKafkaErrorCode)| classify(*code) == Failure::Refused;
        let refused: Vec<_> = failed.iter().filter(refused).collect();
        let last = refused.last().and_then(|(ticket, code)| Some((self.watermark.position(*ticket)?, *code)));
        match (refused.len(), last) {
            (1, Some((culprit, code))) => {
                // Refused alone: it is the culprit.
                self.judge(culprit, format!("refused by the broker: {code}"), true);
                self.leave_single();
                Trouble::Again
            }
            (records, Some((last, _))) => {
                tracing::warn!(sink = "kafka", records, "a batch is refused: its records are sent one by one");
                self.single_until = Some(last);
                self.mode.single = true;
                Trouble::Again
            }
            (_, None) => {
                let first = failed.iter().find(|(_, code)| classify(*code) == Failure::Later);
                Trouble::Retry(first.map_or_else(|| self.fatal(), |(_, code)| explain(*code, &self.settings)))
            }
        }
    }

    fn leave_single(&mut self) {
        self.mode.single = false;
        self.single_until = None;
    }

    /// All records of a refused batch went through alone: the batch itself was too large.
    fn end_single(&mut self) -> bool {
        let over = self.single_until.is_some_and(|until| self.watermark.reached() > Some(until));
        if over {
            self.leave_single();
            self.mode.batch_size = (self.mode.batch_size / 4).max(SMALLEST_BATCH);
            tracing::warn!(
                sink = "kafka",
                batch_size = self.mode.batch_size,
                "the broker takes smaller batches only (its `max.message.bytes`)"
            );
        }
        over
    }

    fn fatal(&self) -> String {
        let fatal = self.producer.as_ref().and_then(|producer| producer.client().fatal_error());
        fatal.map_or_else(|| "the client stopped".to_owned(), |(code, why)| format!("{code}: {why}"))
    }
}

impl Sink for KafkaSink {
    fn send(&mut self, entry: &Entry<'_>) -> Result<Sent, Trouble> {
        if (self.mode.single || !self.known) && self.watermark.in_flight() > 0 {
            return Ok(Sent::Full);
        }
        let members = Members::read(entry.payload, self.topic.needs_rare() || self.key.needs_rare());
        self.topic.render_topic(&members, &mut self.rendered.topic);
        self.key.render_key(&members, &mut self.rendered.key);
        let topic = &self.rendered.topic;
        let allowed = self.settings.topics.is_empty() || self.settings.topics.contains(topic);
        if !allowed || !(self.topic.is_fixed() || is_topic(topic)) {
            let why = format!("its topic `{topic}` is not one of those allowed");
            if !self.verdicts.contains_key(&entry.position) {
                // Without a topic there is nowhere to send a stub to.
                self.judge(entry.position, why, false);
            }
        }
        if self.verdicts.contains_key(&entry.position) {
            return self.bury(entry, &members);
        }
        self.produce(entry, entry.payload, &members)
    }

    fn serve(&mut self, wait: Duration) -> Result<Option<String>, Trouble> {
        let Some(producer) = &self.producer else { return Ok(None) };
        // `poll` would wait as well, but spins through the last millisecond of it: most of this thread's time at
        // 2 000 records a second. One record at a time is slow enough without all of the wait.
        std::thread::sleep(if self.mode.single { wait.min(SINGLE) } else { wait });
        let mut inbox = collect(producer);
        let unexplained = |failed: &[(u64, RDKafkaErrorCode)]| {
            !failed.is_empty() && failed.iter().all(|(_, code)| classify(*code) == Failure::Stopped)
        };
        if unexplained(&inbox.failed) {
            producer.poll(REASON);
            inbox.extend(producer.context().take());
        }
        self.known |= !inbox.arrived.is_empty();
        for ticket in &inbox.arrived {
            self.delivered += self.watermark.arrived(*ticket);
        }
        if !self.verdicts.is_empty()
            && let Some(reached) = self.watermark.reached()
        {
            self.verdicts = self.verdicts.split_off(&reached);
        }
        if !inbox.failed.is_empty() {
            return Err(self.answer(&inbox.failed));
        }
        if self.end_single() {
            return Err(Trouble::Again);
        }
        // What it complains of while nothing is waiting (a broker that restarts) holds nothing up.
        Ok(inbox.complaint.filter(|_| self.watermark.in_flight() > 0))
    }

    fn reached(&self) -> Option<Position> {
        self.watermark.reached()
    }

    fn in_flight(&self) -> usize {
        self.watermark.in_flight()
    }

    fn delivered(&self) -> u64 {
        self.delivered
    }

    fn rejected(&self) -> u64 {
        self.rejected
    }

    fn rewind(&mut self) {
        self.watermark.rewind();
        self.known = false;
        // Purges what is queued; the next record builds a new one.
        self.producer = None;
    }
}

fn build(settings: &KafkaSettings, instance: &str, mode: Mode) -> Result<BaseProducer<Reports>, StartError> {
    let reports = Reports::new(options::secrets(settings));
    let refused = |e: KafkaError| StartError::Kafka(options::refused(&e));
    options::client(settings, instance, mode)?.create_with_context(reports).map_err(refused)
}

/// The record's identity and what a consumer routes by, readable without parsing the record.
fn headers(entry: &Entry<'_>, members: &Members<'_>, instance: &str) -> OwnedHeaders {
    let Position { epoch, seq } = entry.position;
    let instance = members.instance.as_deref().unwrap_or(instance);
    OwnedHeaders::new_with_capacity(5)
        .insert(Header { key: "daybook-instance", value: Some(instance) })
        .insert(Header { key: "daybook-epoch", value: Some(epoch.to_string().as_str()) })
        .insert(Header { key: "daybook-seq", value: Some(seq.to_string().as_str()) })
        .insert(Header { key: "daybook-kind", value: members.kind.as_deref() })
        .insert(Header { key: "daybook-schema", value: Some(SCHEMA) })
}

fn classify(code: RDKafkaErrorCode) -> Failure {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp => {
            Failure::Refused
        }
        Code::Fatal | Code::GaplessGuarantee | Code::PurgeQueue | Code::PurgeInflight => Failure::Stopped,
        _ => Failure::Later,
    }
}

/// The error in the operator's words, with what to look at.
fn explain(code: RDKafkaErrorCode, settings: &KafkaSettings) -> String {
    use RDKafkaErrorCode as Code;
    let topic = &settings.topic;
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            format!("the topic `{topic}` does not exist ({code}); delivery begins when it is created")
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            format!("not allowed to write to the topic `{topic}` ({code}); check the brokers' ACLs")
        }
        code => format!("topic `{topic}`: {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_be_taken_is_refused() {
        use RDKafkaErrorCode as Code;
        assert_eq!(classify(Code::MessageSizeTooLarge), Failure::Refused);
        for later in [
            Code::UnknownTopic,
            Code::UnknownTopicOrPartition,
            Code::TopicAuthorizationFailed,
            Code::Authentication,
            Code::AllBrokersDown,
            Code::MessageTimedOut,
            Code::OutOfOrderSequenceNumber,
            Code::NotEnoughReplicas,
        ] {
            assert_eq!(classify(later), Failure::Later, "{later} may work later: nothing is given up");
        }
    }

    #[test]
    fn settings_are_checked_before_anything_starts() {
        let dir = tempfile::tempdir().expect("a folder");
        let error =
            |settings: KafkaSettings| KafkaSink::new(&settings, "i", dir.path()).err().expect("refused").to_string();
        assert!(error(KafkaSettings { topic: "{x".to_owned(), ..Default::default() }).contains("topic"));
        assert!(error(KafkaSettings { key: "{nobody}".to_owned(), ..Default::default() }).contains("key"));
        assert!(error(KafkaSettings { compression: "rar".to_owned(), ..Default::default() }).contains("compression"));
    }
}
