//! The configuration: TOML as written, checked as a whole, used as it is.
//!
//! Each room has its own settings here (`ListenerSettings`, `JournalSettings`, …) and sees nothing
//! else; only `app` sees [`Config`] whole. Every default stands beside its field's meaning, and
//! `config/full.toml` is held equal to them by a test.
//!
//! Shapes are chosen so that a complaint points at the right line: named tables and plain enums,
//! never `flatten`, `untagged` or internally tagged enums (serde loses the span in all three).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod capture;
mod check;
mod complaint;
mod journal;
mod listener;
mod load;
mod peel;
mod phrase;
mod rule;
mod sink;
mod source;
mod suggest;
mod units;

pub use capture::{GeoipSettings, IdentitySettings, JwtSettings, RedactionSettings};
pub use complaint::{Complaint, Complaints, Severity};
pub use journal::{JournalSettings, Sync, WhenFull};
pub use listener::{
    Address, Certificate, ClientAuth, ClientTls, ForwardSettings, ForwardingHeaders, HostHeader, Limits,
    ListenerSettings, ProxyProtocol, ServerTls, Upstream, UpstreamProtocol,
};
pub use load::{Loaded, MAX_FILE};
pub use rule::{Defaults, Level, Match, Mode, RuleSettings, Success};
pub use sink::{FileSettings, KafkaSasl, KafkaSettings, KafkaTls, LakeSettings, SaslMechanism, Sinks};
pub use source::Place;
pub use units::{Bytes, Secret, Span, Strings};

/// The whole configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the journal, cursors and keys.
    pub data: PathBuf,
    /// Name of this instance in every record; the host's name by default. Letters, digits, `.`, `_`, `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Threads that serve traffic; 0 takes one for each processor this process may use.
    pub workers: usize,
    /// Longest time SIGTERM waits for exchanges in flight.
    pub drain_timeout: Span,
    /// What stands in front of which application.
    pub listener: BTreeMap<String, ListenerSettings>,
    /// What is recorded as what; first match wins.
    pub rule: Vec<RuleSettings>,
    /// What unmatched exchanges get.
    pub defaults: Defaults,
    /// How users are found.
    pub identity: IdentitySettings,
    /// What is never written.
    pub redaction: RedactionSettings,
    /// Where clients are.
    pub geoip: GeoipSettings,
    /// The log on local disk.
    pub journal: JournalSettings,
    /// Where records are delivered.
    pub sink: Sinks,
    /// `/live`, `/ready`, `/metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminSettings>,
}

/// `/live`, `/ready` and `/metrics`, for probes and Prometheus.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Where to listen; keep it on localhost or inside the pod.
    pub bind: std::net::SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("daybook-data"),
            instance: None,
            workers: 0,
            drain_timeout: Span::secs(30),
            listener: BTreeMap::new(),
            rule: Vec::new(),
            defaults: Defaults::default(),
            identity: IdentitySettings::default(),
            redaction: RedactionSettings::default(),
            geoip: GeoipSettings::default(),
            journal: JournalSettings::default(),
            sink: Sinks::default(),
            admin: None,
        }
    }
}

/// (De)serialize a type by its `FromStr` and `Display`.
macro_rules! serde_by_text {
    ($($t:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $t {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl serde::Serialize for $t {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
    )*};
}
use serde_by_text;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
