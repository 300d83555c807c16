//! The real binary while its broker is away: replaced, killed, and under load all the time.

use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daybook::journal::Position;
use rustix::process::Signal;

use crate::support::client::Client;
use crate::support::daybook::{Daybook, Setup};
use crate::support::kafka::{Broker, assert_complete, consume, create_topic};
use crate::support::message::Reader;
use crate::support::origin::{Origin, patient};

/// An unoptimised build, with room for what a busy machine lets pile up.
const MEMORY_KIB: u64 = 96 << 10;

/// Some hundred requests a second, to wherever Daybook listens now; returns how many were answered.
fn load(address: &Mutex<Option<SocketAddr>>, stop: &AtomicBool) -> usize {
    let (mut answered, mut number) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let now = *address.lock().expect("no panic");
        let Some(Ok(stream)) = now.map(TcpStream::connect) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let mut client = Client { reader: Reader::new(patient(stream)) };
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: app\r\n\r\n"));
            if !client.maybe().is_some_and(|response| response.whole) {
                break;
            }
            answered += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    answered
}

#[test]
fn replaced_and_killed_while_the_broker_is_away_for_twenty_seconds_everything_arrives_in_order() {
    let mut broker = Broker::start();
    create_topic(&broker.address, "outage", 1, &[]);
    let origin = Origin::answering("ok");
    let mut daybook = Setup::new(&origin.url)
        .top("instance = \"panel-1\"\ndrain_timeout = \"2s\"")
        .rest(&format!("[sink.kafka]\nbrokers = \"{}\"\ntopic = \"outage\"", broker.address))
        .start();
    let (address, stop) = (Mutex::new(Some(daybook.address())), AtomicBool::new(false));
    let answered = std::thread::scope(|scope| {
        let loaders: Vec<_> = (0..2).map(|_| scope.spawn(|| load(&address, &stop))).collect();
        std::thread::sleep(Duration::from_secs(2));
        broker.stop();
        let stopped = Instant::now();
        std::thread::sleep(Duration::from_secs(6));
        assert_modest(&daybook);
        daybook.signal(Signal::TERM);
        let ended = daybook.ended();
        assert_eq!(ended.code(), Some(0), "records that wait for a broker are no reason to fail:\n{}", daybook.log());
        daybook.restart();
        *address.lock().expect("no panic") = Some(daybook.address());
        std::thread::sleep(Duration::from_secs(6));
        assert_modest(&daybook);
        daybook.kill();
        daybook.restart();
        *address.lock().expect("no panic") = Some(daybook.address());
        std::thread::sleep(Duration::from_secs(20).saturating_sub(stopped.elapsed()));
        assert_modest(&daybook);
        broker.run();
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        loaders.into_iter().map(|loader| loader.join().expect("the load ran")).sum::<usize>()
    });
    let journaled = daybook.journal_by_place();
    assert!(answered > 1000 && journaled.len() >= answered / 2, "there was a load: {answered}, {}", journaled.len());
    for (expected, (place, _)) in (1..).zip(&journaled) {
        assert_eq!(*place, Position { epoch: 1, seq: expected }, "gap-free over all three lives");
    }
    let received = consume(&broker.address, "outage", journaled.len());
    assert_complete(&received, &journaled);
    eprintln!("{answered} answers, {} records, {} messages", journaled.len(), received.len());
    assert_modest(&daybook);
}

fn assert_modest(daybook: &Daybook) {
    let peak = daybook.memory_kib("VmHWM");
    assert!(peak < MEMORY_KIB, "the most memory it had was {} MiB", peak >> 10);
}
