//! Records that the broker refuses for good don't block those behind them.

use daybook::config::{Bytes, KafkaSettings};
use daybook::record::Record;

use super::{Setup, assert_complete, await_status, consume, kafka, settings, topic};
use crate::support::kafka::{create_topic, shared};

/// A topic that takes less than we send, uncompressed so that sizes are what they seem.
fn small(topic: &str) -> KafkaSettings {
    create_topic(shared(), topic, 1, &[("max.message.bytes", "20000")]);
    KafkaSettings { compression: "none".to_owned(), ..settings(shared(), topic) }
}

#[test]
fn a_record_larger_than_the_topic_takes_becomes_a_stub_in_its_place_and_a_dead_letter() {
    for (limit, [first, second], name) in [
        (1_000_000, [60_000, 30_000], "by the broker"),
        (15_000, [60_000, 30_000], "by the client"),
        (50_000, [30_000, 60_000], "first by the broker, then by the client, which is quicker"),
    ] {
        let (dir, topic) = (tempfile::tempdir().expect("a folder"), topic("oversized"));
        let settings = KafkaSettings { max_message: Bytes(limit), ..small(&topic) };
        let mut setup = Setup::start(dir.path(), &kafka(settings));
        setup.append("panel", 0..100, 50);
        setup.append("large", 100..101, first);
        setup.append("panel", 101..200, 50);
        setup.append("large", 200..201, second);
        let mut journaled = setup.journaled().to_vec();
        let received = consume(shared(), &topic, journaled.len());
        let status = await_status(&setup, "all is acknowledged", |s| s.in_flight == 0 && s.lag.is_none());
        assert_eq!(status.rejected, 2, "{name}");
        assert!(setup.finish());

        let large: Vec<_> = journaled.iter().filter(|(_, payload)| payload.len() > 20_000).cloned().collect();
        let dead = std::fs::read(dir.path().join("dead-letter.ndjson")).expect("a dead-letter file");
        let mut dead: Vec<_> = dead.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        dead.sort_by_key(|line| std::cmp::Reverse(line.len()));
        let mut expected: Vec<_> = large.iter().map(|(_, payload)| payload.as_slice()).collect();
        expected.sort_by_key(|line| std::cmp::Reverse(line.len()));
        assert!(dead == expected, "refused {name}: whole in the dead-letter file, once each");
        for (place, payload) in &mut journaled {
            if payload.len() > 20_000 {
                let stub =
                    received.iter().find(|r| r.place() == (place.epoch, place.seq)).expect("a stub").payload.clone();
                let (short, whole): (Record<'_>, Record<'_>) = (
                    serde_json::from_slice(&stub).expect("a record"),
                    serde_json::from_slice(payload).expect("a record"),
                );
                assert_eq!(
                    (short.id, short.time, short.kind, short.seq),
                    (whole.id, whole.time, whole.kind, whole.seq)
                );
                assert!(short.reason.is_some_and(|reason| reason.contains("dead-letter")), "it says where the rest is");
                *payload = stub;
            }
        }
        assert_complete(&received, &journaled);
    }
}

#[test]
fn a_batch_larger_than_the_topic_takes_is_sent_in_smaller_ones() {
    let (dir, topic) = (tempfile::tempdir().expect("a folder"), topic("batches"));
    let mut setup = Setup::start(dir.path(), &kafka(small(&topic)));
    setup.append("panel", 0..400, 1_000);
    let journaled = setup.journaled().to_vec();
    assert_complete(&consume(shared(), &topic, journaled.len()), &journaled);
    let status = await_status(&setup, "all is acknowledged", |s| s.in_flight == 0 && s.lag.is_none());
    assert_eq!(status.rejected, 0, "no record is to blame for its batch");
    assert!(!dir.path().join("dead-letter.ndjson").exists());
    assert!(setup.finish());
}
