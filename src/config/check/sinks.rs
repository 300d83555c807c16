//! `[sink.…]`: Kafka's names and templates, and files that must not be the same.

use std::path::PathBuf;

use super::Checker;
use crate::config::suggest;
use crate::config::{KafkaSettings, LakeSettings, SaslMechanism, Span};

/// What a topic's template may name.
const TOPIC_NAMES: [&str; 4] = ["kind", "listener", "tenant", "instance"];
/// What a key's template may name.
const KEY_NAMES: [&str; 6] = ["kind", "listener", "tenant", "instance", "user", "session"];
/// librdkafka's `compression.codec`.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Records between two commits of the lake: they are in memory, at about a kilobyte each.
const MOST_HOT: usize = 1_000_000;
/// Shortest time between a file's leaving the lake and its deletion.
const SHORTEST_GRACE: Span = Span::secs(3600);
/// Kafka's `Topic.MAX_NAME_LENGTH`.
const LONGEST_TOPIC: usize = 249;

pub(super) fn check(checker: &mut Checker<'_>) {
    let config = checker.config;
    if config.sink.kafka.is_none()
        && config.sink.file.is_none()
        && config.sink.lake.is_none()
        && !checker.settled("sink")
        && !gone(checker)
    {
        let message = "there is no sink, so records stay in the journal until they are too old; add `[sink.kafka]`, `[sink.file]` or `[sink.lake]`";
        checker.warn("sink", message);
    }
    if config.sink.file.as_ref().is_some_and(|file| file.path.as_os_str().is_empty()) {
        checker.error("sink.file.path", "`path` is empty; write a file's name, or `-` for stdout");
    }
    if let Some(lake) = &config.sink.lake {
        table(checker, lake);
    }
    let Some(kafka) = &config.sink.kafka else { return };
    brokers(checker, &kafka.brokers);
    if let Some(fixed) = template(checker, "sink.kafka.topic", &kafka.topic, TOPIC_NAMES) {
        topic(checker, "sink.kafka.topic", &fixed, kafka.topic.contains('{'));
    }
    template(checker, "sink.kafka.key", &kafka.key, KEY_NAMES);
    for (index, name) in kafka.topics.iter().enumerate() {
        topic(checker, &format!("sink.kafka.topics[{index}]"), name, false);
    }
    if !CODECS.contains(&kafka.compression.as_str()) {
        let message = format!(
            "there is no compression `{}`; {}",
            kafka.compression,
            suggest::sentence(&kafka.compression, &CODECS)
        );
        checker.error("sink.kafka.compression", &message);
    }
    if kafka.max_message > kafka.buffer {
        let message = format!(
            "a message of {} does not fit into `buffer` ({}); write a larger `buffer`",
            kafka.max_message, kafka.buffer
        );
        checker.error("sink.kafka.max_message", &message);
    }
    security(checker, kafka);
    files(checker, kafka);
}

fn table(checker: &mut Checker<'_>, lake: &LakeSettings) {
    if lake.path.as_ref().is_some_and(|path| path.to_string_lossy().contains("://")) {
        checker.error("sink.lake.path", "object stores are not there yet; write a folder");
    }
    if lake.vacuum_after < SHORTEST_GRACE {
        let message = format!("files that are being written or read need time; write {SHORTEST_GRACE} or more");
        checker.error("sink.lake.vacuum_after", &message);
    }
    if !(1..=MOST_HOT).contains(&lake.commit_records) {
        let message = format!("{} records are kept in memory; write 1 to {MOST_HOT}", lake.commit_records);
        checker.error("sink.lake.commit_records", &message);
    }
}

/// Sinks were taken out because of what was wrong with them.
fn gone(checker: &Checker<'_>) -> bool {
    checker.removed.iter().any(|path| path.starts_with("sink."))
}

fn brokers(checker: &mut Checker<'_>, brokers: &str) {
    for broker in brokers.split(',').map(str::trim) {
        let good = broker.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !good {
            checker.error(
                "sink.kafka.brokers",
                &format!("`{broker}` is no broker; write `host:9092`, several with commas"),
            );
        }
    }
}

/// Checks the `{names}` of a template and returns what stands between them.
fn template<const N: usize>(checker: &mut Checker<'_>, path: &str, template: &str, names: [&str; N]) -> Option<String> {
    let mut fixed = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        fixed.push_str(&rest[..at]);
        let Some((name, after)) = rest[at..].strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            checker.error(path, &format!("`{template}` has a brace without its partner; write `{{{}}}`", names[0]));
            return None;
        };
        if !names.contains(&name) {
            let (written, known) = (format!("{{{name}}}"), names.map(|name| format!("{{{name}}}")));
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            checker
                .error(path, &format!("`{written}` stands for nothing here; {}", suggest::sentence(&written, &known)));
            return None;
        }
        rest = after;
    }
    fixed.push_str(rest);
    Some(fixed)
}

/// Kafka's `Topic.validate`: letters, digits, `.`, `_`, `-`, at most 249 of them, not `.` and not `..`.
fn topic(checker: &mut Checker<'_>, path: &str, name: &str, is_part: bool) {
    let illegal = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'));
    if let Some(c) = illegal {
        let message = format!("a topic's name can't have {c:?} in it; write letters, digits, `.`, `_` and `-`");
        checker.error(path, &message);
    } else if name.len() > LONGEST_TOPIC {
        checker.error(
            path,
            &format!("a topic's name has at most {LONGEST_TOPIC} characters, and this has {}", name.len()),
        );
    } else if !is_part && matches!(name, "" | "." | "..") {
        checker.error(path, &format!("`{name}` is no name of a topic; write one like `daybook.records`"));
    }
}

fn security(checker: &mut Checker<'_>, kafka: &KafkaSettings) {
    if let Some(tls) = &kafka.tls {
        for (name, file) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
            if let Some(file) = file {
                checker.readable(&format!("sink.kafka.tls.{name}"), file);
            }
        }
        checker.both("sink.kafka.tls", ("cert", tls.cert.is_some()), ("key", tls.key.is_some()));
    }
    let plain = kafka.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == SaslMechanism::Plain);
    if plain && kafka.tls.is_none() && !checker.settled("sink.kafka.tls") {
        let message = "PLAIN without TLS sends the password as it is; add `[sink.kafka.tls]` or write `SCRAM-SHA-512`";
        checker.warn("sink.kafka.sasl.mechanism", message);
    }
}

fn files(checker: &mut Checker<'_>, kafka: &KafkaSettings) {
    let config = checker.config;
    let Some(file) = &config.sink.file else { return };
    let dead_letter = kafka.dead_letter.clone().unwrap_or_else(|| config.data.join("dead-letter.ndjson"));
    let plain = |path: &PathBuf| path.components().collect::<PathBuf>();
    if plain(&file.path) == plain(&dead_letter) {
        let message = format!("Kafka's dead letters go to `{}` too; write another file", dead_letter.display());
        checker.error("sink.file.path", &message);
    }
}
