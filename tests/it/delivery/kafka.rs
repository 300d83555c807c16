//! Normal flow, templates, a missing topic, credentials.

use std::time::Duration;

use daybook::config::{KafkaSasl, KafkaSettings, KafkaTls, SaslMechanism, Secret};
use daybook::deliver::SinkState;

use super::{INSTANCE, Setup, assert_complete, await_status, consume, kafka, settings, topic};
use crate::support::daybook::Setup as Binary;
use crate::support::eventually;
use crate::support::kafka::{Broker, PASSWORD, USER, create_topic, read, shared};
use crate::support::origin::Origin;

#[test]
fn records_arrive_once_in_order_with_their_identity_in_key_and_headers() {
    let (dir, topic) = (tempfile::tempdir().expect("a folder"), topic("normal"));
    create_topic(shared(), &topic, 3, &[]);
    let sinks = kafka(settings(shared(), &topic));

    let mut setup = Setup::start(dir.path(), &sinks);
    setup.append("panel", 0..1500, 300);
    let journaled = setup.journaled().to_vec();
    let received = consume(shared(), &topic, journaled.len());
    assert_eq!(received.len(), journaled.len(), "without trouble nothing is sent twice");
    assert_complete(&received, &journaled);
    for one in &received {
        assert_eq!(one.key.as_deref(), Some(INSTANCE), "the default key keeps an instance in one partition");
        assert_eq!(one.partition, received[0].partition);
        assert_eq!(one.header("daybook-instance"), Some(INSTANCE));
        assert_eq!(one.header("daybook-schema"), Some("daybook/1"));
    }
    assert_eq!(received.last().expect("some").header("daybook-kind"), Some("panel"));
    let status = await_status(&setup, "all is acknowledged", |s| s.delivered == journaled.len() as u64);
    assert_eq!((status.state, status.lag, status.retries), (SinkState::Running, None, 0));
    assert!(setup.finish(), "everything was delivered");

    // A new process goes on behind its cursor.
    let mut setup = Setup::start(dir.path(), &sinks);
    setup.append("panel", 1500..1600, 300);
    let all = setup.journaled().len();
    let received = consume(shared(), &topic, all);
    assert_eq!(received.len(), all, "what was acknowledged before is not sent again");
    assert!(setup.finish());
}

#[test]
fn topics_and_keys_follow_their_templates_and_the_list_of_topics_confines_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let base = topic("routed");
    let topics = [format!("{base}.login"), format!("{base}.panel")];
    topics.iter().for_each(|topic| create_topic(shared(), topic, 1, &[]));
    let settings = KafkaSettings {
        topics: topics.to_vec(),
        key: "{listener}/{kind}".to_owned(),
        ..settings(shared(), &format!("{base}.{{kind}}"))
    };
    let mut setup = Setup::start(dir.path(), &kafka(settings));
    setup.append("login", 0..10, 10);
    setup.append("forbidden", 10..12, 10);
    setup.append("panel", 12..20, 10);
    let journaled = setup.journaled().to_vec();
    for (topic, kind, count) in [(&topics[0], "login", 10), (&topics[1], "panel", 8)] {
        let received = consume(shared(), topic, count);
        assert_eq!(received.len(), count, "{topic}");
        for one in received {
            assert_eq!(one.header("daybook-kind"), Some(kind));
            assert_eq!(one.key, Some(format!("panel/{kind}")));
        }
    }
    await_status(&setup, "all others are acknowledged", |s| s.in_flight == 0 && s.delivered > 0);
    // Whatever else the journal itself wrote has no topic here either.
    let others = |payload: &[u8]| {
        let text = String::from_utf8_lossy(payload);
        !text.contains("\"kind\":\"login\"") && !text.contains("\"kind\":\"panel\"")
    };
    let refused: Vec<_> = journaled.iter().filter(|(_, payload)| others(payload)).map(|(_, p)| p.clone()).collect();
    assert!(setup.finish());
    let dead = std::fs::read(dir.path().join("dead-letter.ndjson")).expect("a dead-letter file");
    let dead: Vec<_> = dead.split_inclusive(|b| *b == b'\n').map(|line| line[..line.len() - 1].to_vec()).collect();
    assert_eq!(dead, refused, "what no topic may take is kept whole");
}

#[test]
fn a_missing_topic_holds_records_until_it_is_created() {
    let (dir, topic) = (tempfile::tempdir().expect("a folder"), topic("missing"));
    let mut setup = Setup::start(dir.path(), &kafka(settings(shared(), &topic)));
    setup.append("panel", 0..50, 100);
    let status = await_status(&setup, "the missing topic is told of", |s| s.state == SinkState::Retrying);
    let error = status.last_error.expect("a reason");
    assert!(error.contains(&topic) && error.contains("does not exist"), "{error}");
    assert!(status.lag.is_some(), "the records are late");
    create_topic(shared(), &topic, 1, &[]);
    let journaled = setup.journaled().to_vec();
    assert_complete(&consume(shared(), &topic, journaled.len()), &journaled);
    await_status(&setup, "it recovers", |s| s.state == SinkState::Running && s.lag.is_none());
    assert!(setup.finish());
}

#[test]
fn wrong_credentials_are_told_of_without_secrets_and_nothing_is_lost() {
    let broker = Broker::start();
    create_topic(&broker.address, "secured", 1, &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let with = |mechanism: SaslMechanism, password: &str| {
        let password: Secret = serde_json::from_value(password.into()).expect("a secret");
        let tls = KafkaTls { ca: Some(broker.authority()), ..KafkaTls::default() };
        kafka(KafkaSettings {
            tls: Some(tls),
            sasl: Some(KafkaSasl { mechanism, username: USER.to_owned(), password }),
            ..settings(&broker.sasl, "secured")
        })
    };
    let wrong = "planted-wrong-password-77aa";
    let setup = Setup::start(dir.path(), &with(SaslMechanism::ScramSha512, wrong));
    setup.append("panel", 0..20, 100);
    let status = await_status(&setup, "the failure is told of", |s| s.state == SinkState::Retrying);
    let error = status.last_error.expect("a reason");
    assert!(error.to_lowercase().contains("authentication"), "{error}");
    assert!(!error.contains(wrong), "{error}");
    assert_eq!(status.delivered, 0);
    setup.abandon();
    assert_binary_keeps_secret(&broker, wrong);

    let mut expected = 20;
    for mechanism in [SaslMechanism::ScramSha512, SaslMechanism::ScramSha256, SaslMechanism::Plain] {
        let mut setup = Setup::start(dir.path(), &with(mechanism, PASSWORD));
        setup.append("panel", expected..expected + 20, 100);
        expected += 20;
        let journaled = setup.journaled().to_vec();
        assert_complete(&consume(&broker.address, "secured", journaled.len()), &journaled);
        assert!(setup.finish(), "{mechanism:?} over TLS delivers, the records of before included");
    }
}

/// Runs the binary with this password and the most talkative log, and looks for it there.
fn assert_binary_keeps_secret(broker: &Broker, wrong: &str) {
    let origin = Origin::answering("ok");
    let rest = format!(
        "[sink.kafka]\nbrokers = \"{}\"\ntopic = \"secured\"\noptions = {{ debug = \"all\" }}\n\
         tls = {{ ca = \"{}\" }}\n\
         sasl = {{ mechanism = \"PLAIN\", username = \"{USER}\", password = \"{wrong}\" }}\n",
        broker.sasl,
        broker.authority().display()
    );
    let daybook = Binary::new(&origin.url).log("debug").rest(&rest).start();
    assert_eq!(daybook.connect().get("/", "").status(), 200, "traffic does not depend on Kafka");
    eventually("the failure is logged", super::PATIENCE, || {
        let log = daybook.log();
        (log.contains("delivery is held up") && log.to_lowercase().contains("authentication")).then_some(())
    });
    let log = daybook.log();
    assert!(log.contains("librdkafka"), "the client's own log is there");
    assert!(!log.contains(wrong), "and the password is not");
}

#[test]
fn an_unknown_authority_is_not_trusted() {
    let broker = Broker::start();
    create_topic(&broker.address, "secured", 1, &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let settings = KafkaSettings { tls: Some(KafkaTls::default()), ..settings(&broker.sasl, "secured") };
    let setup = Setup::start(dir.path(), &kafka(settings));
    setup.append("panel", 0..5, 10);
    let status = await_status(&setup, "the certificate is refused", |s| s.state == SinkState::Retrying);
    assert!(status.last_error.is_some_and(|e| e.to_lowercase().contains("certificate")), "it says why");
    setup.abandon();
    assert!(read(&broker.address, "secured", Duration::from_secs(2), |r| !r.is_empty()).is_empty());
}
