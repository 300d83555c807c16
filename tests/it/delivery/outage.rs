//! Brokers that go away under load, and processes that are replaced meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daybook::config::{Bytes, KafkaSettings};
use daybook::deliver::SinkState;

use super::{Setup, assert_complete, await_status, consume, kafka, settings};
use crate::support::kafka::{Broker, create_topic};

/// Appends 2 000 records a second until told to stop; returns how many.
fn load(setup: &Setup, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        setup.append("panel", number..number + 20, 400);
        number += 20;
        std::thread::sleep(Duration::from_millis(10));
    }
    number
}

#[test]
fn a_broker_stopped_for_twenty_seconds_under_load_loses_nothing_and_keeps_the_order() {
    let mut broker = Broker::start();
    create_topic(&broker.address, "outage", 2, &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let buffer = Bytes::mib(1);
    let settings = KafkaSettings { buffer, ..settings(&broker.address, "outage") };
    let mut setup = Setup::start(dir.path(), &kafka(settings));
    let stop = AtomicBool::new(false);
    let (sent, most) = std::thread::scope(|scope| {
        let loader = scope.spawn(|| load(&setup, &stop));
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(setup.status().in_flight);
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        await_status(&setup, "the load arrives", |s| s.delivered > 1000);
        broker.stop();
        let stopped = Instant::now();
        let status = await_status(&setup, "the outage is told of", |s| s.state == SinkState::Retrying);
        assert!(status.last_error.is_some(), "it says why");
        std::thread::sleep(Duration::from_secs(20).saturating_sub(stopped.elapsed()));
        let lag = setup.status().lag.expect("records are late");
        assert!(lag > Duration::from_secs(15), "the lag is the age of the oldest: {lag:?}");
        broker.run();
        await_status(&setup, "delivery goes on", |s| s.state == SinkState::Running);
        // And once without a goodbye.
        broker.kill();
        std::thread::sleep(Duration::from_secs(2));
        broker.run();
        stop.store(true, Ordering::Relaxed);
        (loader.join().expect("the load ran"), watcher.join().expect("watched"))
    });
    let journaled = setup.journaled().to_vec();
    assert!(journaled.len() as u64 >= sent, "the journal took all of the load");
    await_status(&setup, "it catches up", |s| s.state == SinkState::Running && s.lag.is_none());
    let received = consume(&broker.address, "outage", journaled.len());
    assert_complete(&received, &journaled);
    assert!(most as u64 <= buffer.0 / 1024, "{most} records were in memory, more than the buffer allows");
    assert!(setup.finish());
}

#[test]
fn a_process_replaced_while_the_broker_is_away_delivers_what_the_one_before_it_could_not() {
    let mut broker = Broker::start();
    create_topic(&broker.address, "replaced", 1, &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let sinks = kafka(settings(&broker.address, "replaced"));
    let setup = Setup::start(dir.path(), &sinks);
    setup.append("panel", 0..500, 200);
    await_status(&setup, "the first records arrive", |s| s.delivered >= 500);
    broker.stop();
    setup.append("panel", 500..1000, 200);
    setup.abandon();

    let setup = Setup::start(dir.path(), &sinks);
    setup.append("panel", 1000..1500, 200);
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    setup.journal.flush().expect("flushed");
    assert!(!setup.delivery.stop(begun + Duration::from_secs(2)), "nothing can be delivered now");
    assert!(begun.elapsed() < Duration::from_secs(6), "a stop does not wait for a broker that is away");
    setup.abandon();

    broker.run();
    let mut setup = Setup::start(dir.path(), &sinks);
    let journaled = setup.journaled().to_vec();
    let received = consume(&broker.address, "replaced", journaled.len());
    assert_complete(&received, &journaled);
    assert!(setup.finish());
}
