//! `[sink.kafka]`, `[sink.file]`, `[sink.lake]`: where records are delivered.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Bytes, Secret, Span};

/// All sinks; each has its own cursor over the journal, so none waits for another.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sinks {
    /// Apache Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSettings>,
    /// NDJSON, to a file or to stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSettings>,
    /// The embedded table, for queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lake: Option<LakeSettings>,
}

/// A Delta Lake table of Parquet files.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LakeSettings {
    /// The table's folder; `{data}/lake` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How long records are kept in memory only (and in the journal) before they are committed to the table.
    pub commit_interval: Span,
    /// So many records are committed before that time is over.
    pub commit_records: usize,
    /// Days that ended longer ago are taken out of the table; `"0d"` never.
    pub keep: Span,
    /// Files that left the table (compacted, too old) are deleted so much later; until then others may read them.
    pub vacuum_after: Span,
}

impl LakeSettings {
    /// The table's folder, beside the journal unless it was said otherwise.
    pub fn folder(&self, data: &std::path::Path) -> PathBuf {
        self.path.clone().unwrap_or_else(|| data.join("lake"))
    }
}

impl Default for LakeSettings {
    fn default() -> Self {
        Self {
            path: None,
            commit_interval: Span::secs(30),
            commit_records: 50_000,
            keep: Span::millis(0),
            vacuum_after: Span::secs(24 * 3600),
        }
    }
}

/// Apache Kafka, by an idempotent producer with `acks=all`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSettings {
    /// Bootstrap brokers, `host:port,host:port`.
    pub brokers: String,
    /// Topic; `{kind}`, `{listener}`, `{tenant}` and `{instance}` are replaced.
    pub topic: String,
    /// Message key, same placeholders and `{user}`, `{session}`. The default keeps an instance's records in one
    /// partition, in order and gap-free.
    pub key: String,
    /// Topics the template may produce; empty allows every topic that the template's fixed parts confine.
    pub topics: Vec<String>,
    /// Compression codec: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    pub compression: String,
    /// How long a batch may wait to fill.
    pub linger: Span,
    /// Memory for records on their way to the brokers.
    pub buffer: Bytes,
    /// Largest message; a larger record goes to the dead-letter file and a stub to the topic.
    pub max_message: Bytes,
    /// Where rejected records go; `{data}/dead-letter.ndjson` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<PathBuf>,
    /// TLS to the brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// SASL authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// More librdkafka settings by their own names; those that delivery depends on can't be changed.
    pub options: std::collections::BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            topic: "daybook.records".to_owned(),
            key: "{instance}".to_owned(),
            topics: Vec::new(),
            compression: "lz4".to_owned(),
            linger: Span::millis(50),
            buffer: Bytes::mib(1),
            max_message: Bytes(1_000_000),
            dead_letter: None,
            tls: None,
            sasl: None,
            options: std::collections::BTreeMap::new(),
        }
    }
}

/// TLS to the brokers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaTls {
    /// Authorities (PEM); the machine's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Client certificate (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Client key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Password of the client key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_password: Option<Secret>,
}

/// SASL authentication.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSasl {
    /// Mechanism.
    pub mechanism: SaslMechanism,
    /// User name.
    pub username: String,
    /// Password; `env:NAME` and `file:/path` keep it out of this file.
    pub password: Secret,
}

/// SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum SaslMechanism {
    /// RFC 4616; only over TLS, please.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 5802 with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 5802 with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// NDJSON: one record a line.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileSettings {
    /// A file, or `-` for stdout.
    pub path: PathBuf,
    /// Size at which the file is rotated; `"0B"` never.
    pub rotate_size: Bytes,
    /// Age at which the file is rotated; `"0s"` never.
    pub rotate_age: Span,
    /// Rotated files kept; 0 keeps all.
    pub rotate_keep: usize,
}

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("-"),
            rotate_size: Bytes::mib(256),
            rotate_age: Span::secs(24 * 3600),
            rotate_keep: 0,
        }
    }
}
