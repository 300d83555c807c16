//! The settings of `[sink.kafka]` as librdkafka's configuration.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::config::{KafkaSasl, KafkaSettings, KafkaTls, SaslMechanism};
use crate::deliver::StartError;

/// Options that can't be given by their librdkafka names, with the key of `[sink.kafka]` that is the way instead.
/// Aliases included: librdkafka's CONFIGURATION.md.
const RESERVED: &[(&str, Option<&str>)] = &[
    ("bootstrap.servers", Some("brokers")),
    ("metadata.broker.list", Some("brokers")),
    ("linger.ms", Some("linger")),
    ("queue.buffering.max.ms", Some("linger")),
    ("compression.codec", Some("compression")),
    ("compression.type", Some("compression")),
    ("message.max.bytes", Some("max_message")),
    ("queue.buffering.max.kbytes", Some("buffer")),
    ("queue.buffering.max.messages", Some("buffer")),
    ("security.protocol", Some("tls` and `sasl")),
    ("sasl.mechanism", Some("sasl")),
    ("sasl.mechanisms", Some("sasl")),
    ("sasl.username", Some("sasl")),
    ("sasl.password", Some("sasl")),
    ("ssl.ca.location", Some("tls")),
    ("ssl.certificate.location", Some("tls")),
    ("ssl.key.location", Some("tls")),
    ("ssl.key.password", Some("tls")),
    ("acks", None),
    ("request.required.acks", None),
    ("enable.idempotence", None),
    ("enable.gapless.guarantee", None),
    ("max.in.flight", None),
    ("max.in.flight.requests.per.connection", None),
    ("message.timeout.ms", None),
    ("delivery.timeout.ms", None),
    ("message.send.max.retries", None),
    ("retries", None),
    ("queuing.strategy", None),
    ("delivery.report.only.error", None),
    ("batch.size", None),
    ("batch.num.messages", None),
    ("transactional.id", None),
    ("plugin.library.paths", None),
];

/// What a librdkafka message is counted with beside its payload: headers, bookkeeping (measured: about 0.5 KiB).
const MESSAGE_OVERHEAD: u64 = 1024;

/// Batches that fill the buffer. A full batch goes out at once: were one as large as the buffer, each would wait for
/// `linger` with nothing on its way meanwhile.
const BATCHES: u64 = 4;

/// How the producer is to be built this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// Largest batch, bytes before compression.
    pub(super) batch_size: u64,
    /// One record a batch, sent at once: to find out which record of a refused batch is meant.
    pub(super) single: bool,
}

/// The producer's configuration. `settings.options` come first: what delivery depends on stands above them.
pub(super) fn client(settings: &KafkaSettings, instance: &str, mode: Mode) -> Result<ClientConfig, StartError> {
    let mut config = ClientConfig::new();
    config
        .set("client.id", format!("daybook-{instance}"))
        // As Java's producers: records of one key stand in one partition whoever wrote them.
        .set("partitioner", "murmur2_random")
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", "10000")
        // A missing topic is told of after this time instead of 30 s.
        .set("topic.metadata.propagation.max.ms", "10000");
    for (key, value) in &settings.options {
        if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| reserved == key) {
            return Err(StartError::Option(key.clone(), *instead));
        }
        config.set(key, value);
    }
    let linger = if mode.single { 0 } else { settings.linger.0.as_millis() };
    let buffer = settings.buffer.0.max(1 << 16);
    let messages = (buffer / MESSAGE_OVERHEAD).max(64);
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("enable.idempotence", "true")
        // A refused record ends the producer instead of letting later ones overtake it; we go back to the cursor.
        .set("enable.gapless.guarantee", "true")
        .set("acks", "all")
        // Never: the journal decides how long a record is kept, not the client.
        .set("message.timeout.ms", "0")
        .set("linger.ms", linger.to_string())
        .set("compression.codec", &settings.compression)
        .set("message.max.bytes", settings.max_message.0.to_string())
        .set("queue.buffering.max.kbytes", (buffer >> 10).to_string())
        .set("queue.buffering.max.messages", messages.to_string())
        .set("batch.size", mode.batch_size.min(settings.max_message.0).to_string())
        .set("batch.num.messages", if mode.single { 1 } else { (messages / BATCHES).min(10_000) }.to_string())
        .set_log_level(RDKafkaLogLevel::Info);
    security(&mut config, settings.tls.as_ref(), settings.sasl.as_ref());
    Ok(config)
}

/// What must not appear in any log.
pub(super) fn secrets(settings: &KafkaSettings) -> Vec<String> {
    let key = settings.tls.iter().filter_map(|tls| tls.key_password.as_ref());
    let password = settings.sasl.iter().map(|sasl| &sasl.password);
    let options = settings.options.iter().filter(|(key, _)| is_secret(key)).map(|(_, value)| value.clone());
    let ours = key.chain(password).map(|secret| secret.expose().to_owned());
    ours.chain(options).filter(|secret| !secret.is_empty()).collect()
}

/// What the client does not take, without the value: it may be a secret.
pub(super) fn refused(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, key, _) if is_secret(key) => {
            format!("`{key}` is refused ({} bytes)", why.len())
        }
        KafkaError::ClientConfig(_, why, key, _) => format!("`{key}` is refused: {why}"),
        KafkaError::ClientCreation(why) => format!("the client refuses its settings: {why}"),
        other => other.to_string(),
    }
}

fn is_secret(key: &str) -> bool {
    ["password", "secret", "pem", "oauthbearer.config"].iter().any(|word| key.contains(word))
}

fn security(config: &mut ClientConfig, tls: Option<&KafkaTls>, sasl: Option<&KafkaSasl>) {
    let protocol = match (tls, sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = tls {
        // `probe` finds the machine's authorities also where OpenSSL is linked in statically.
        let ca = tls.ca.as_ref().map_or("probe".into(), |path| path.to_string_lossy());
        config.set("ssl.ca.location", ca);
        if let Some(cert) = &tls.cert {
            config.set("ssl.certificate.location", cert.to_string_lossy());
        }
        if let Some(key) = &tls.key {
            config.set("ssl.key.location", key.to_string_lossy());
        }
        if let Some(password) = &tls.key_password {
            config.set("ssl.key.password", password.expose());
        }
    }
    if let Some(sasl) = sasl {
        let mechanism = match sasl.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        config.set("sasl.mechanism", mechanism);
        config.set("sasl.username", &sasl.username);
        config.set("sasl.password", sasl.password.expose());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bytes, Secret};

    const MODE: Mode = Mode { batch_size: 1_000_000, single: false };

    #[test]
    fn what_delivery_depends_on_cannot_be_overridden() {
        for (key, instead) in RESERVED {
            let mut settings = KafkaSettings::default();
            settings.options.insert((*key).to_owned(), "1".to_owned());
            let error = client(&settings, "i", MODE).expect_err(key).to_string();
            assert!(error.contains(key), "{error}");
            assert!(instead.is_none_or(|instead| error.contains(instead)), "{error}");
        }
    }

    #[test]
    fn librdkafka_takes_every_setting_and_says_which_option_it_does_not_know() {
        let mut settings = KafkaSettings { max_message: Bytes(2_000), ..KafkaSettings::default() };
        client(&settings, "i", MODE).expect("ours").create_native_config().map(drop).expect("known to librdkafka");
        settings.options.insert("no.such.option".to_owned(), "1".to_owned());
        let error = client(&settings, "i", MODE).expect("ours").create_native_config().err().expect("unknown");
        assert!(refused(&error).contains("no.such.option"), "{}", refused(&error));
    }

    #[test]
    fn a_secret_is_in_no_message() {
        let password = serde_json::from_value::<Secret>("hunter2-hunter2".into()).expect("a secret");
        let sasl = KafkaSasl { mechanism: SaslMechanism::Plain, username: "u".to_owned(), password };
        let settings = KafkaSettings { sasl: Some(sasl), ..KafkaSettings::default() };
        let config = client(&settings, "i", MODE).expect("ours");
        assert!(!format!("{config:?}").contains("hunter2"), "rdkafka's own Debug hides it");
        let error = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "bad value \"hunter2\"".to_owned(),
            "ssl.key.password".to_owned(),
            "hunter2".to_owned(),
        );
        assert!(!refused(&error).contains("hunter2"), "{}", refused(&error));
        assert_eq!(secrets(&settings), ["hunter2-hunter2"]);
    }
}
