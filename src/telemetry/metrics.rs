//! Every metric of the program, by room, in the text format of OpenMetrics 1.0 (which Prometheus reads).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::worker::{BOUNDS_US, Block, ENDS, KINDS, Kind, METHODS, STATUSES, Sum, Worker, records, sum};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    traffic: Arc<Traffic>,
    figures: Arc<Mutex<Figures>>,
}

/// What rooms that count for themselves say at a scrape.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The journal.
    pub journal: JournalFigures,
    /// Each sink.
    pub sinks: Vec<SinkFigures>,
}

/// The journal's condition.
#[derive(Clone, Debug, Default)]
pub struct JournalFigures {
    /// Bytes on disk.
    pub bytes: u64,
    /// The limit of it (`journal.max_size`).
    pub max_bytes: u64,
    /// The current epoch.
    pub epoch: u64,
    /// The last record's sequence number.
    pub seq: u64,
    /// Records written since the start.
    pub written: u64,
    /// Age of the oldest record on disk, where it is known.
    pub oldest: Option<Duration>,
    /// Records lost since the start, by reason.
    pub lost: Vec<(&'static str, u64)>,
    /// It takes records.
    pub accepting: bool,
}

/// A sink's condition.
#[derive(Clone, Debug, Default)]
pub struct SinkFigures {
    /// `kafka`, `file`.
    pub name: &'static str,
    /// Age of the oldest record that is not delivered; zero when all are.
    pub lag: Duration,
    /// Records delivered since the start.
    pub delivered: u64,
    /// Times it had to begin again at its cursor.
    pub retries: u64,
    /// Records it refused for good; they are in the dead-letter file.
    pub rejected: u64,
    /// Records on their way.
    pub in_flight: u64,
    /// Its destination answers.
    pub up: bool,
}

/// What the workers count.
#[derive(Debug)]
struct Traffic {
    listeners: Vec<String>,
    workers: Mutex<Vec<Arc<Block>>>,
    kinds: Mutex<Vec<String>>,
}

/// What the rooms said last.
#[derive(Debug)]
struct Rooms(Arc<Mutex<Figures>>);

/// The name under which kinds beyond the [`KINDS`]th are counted together.
const OTHER_KINDS: &str = "other";

// === impl Metrics ===

impl Metrics {
    /// `listeners` are the names that [`Worker`] knows by their place in this list.
    pub fn new(listeners: impl IntoIterator<Item = String>) -> Self {
        let traffic = Arc::new(Traffic {
            listeners: listeners.into_iter().collect(),
            workers: Mutex::default(),
            kinds: Mutex::default(),
        });
        let figures = Arc::new(Mutex::default());
        let mut registry = Registry::with_prefix("daybook");
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(traffic.clone()));
        registry.register_collector(Box::new(Rooms(Arc::clone(&figures))));
        Self { registry, traffic, figures }
    }

    /// Counters for one more thread.
    pub fn worker(&self) -> Worker {
        let block = Arc::new(Block::new(self.traffic.listeners.len()));
        lock(&self.traffic.workers).push(Arc::clone(&block));
        Worker::new(block)
    }

    /// The index of a kind of record. Rules are compiled with it, so that counting needs no name.
    pub fn kind(&self, name: &str) -> Kind {
        let mut kinds = lock(&self.traffic.kinds);
        let known = kinds.iter().position(|kind| kind == name);
        let index = known.unwrap_or_else(|| match kinds.len() {
            free if free < KINDS - 1 => {
                kinds.push(name.to_owned());
                free
            }
            _ => KINDS - 1,
        });
        // KINDS is below 256.
        Kind(index as u8)
    }

    /// All metrics as text, with what the rooms say now.
    pub fn render(&self, figures: Figures) -> String {
        *lock(&self.figures) = figures;
        let mut text = String::new();
        // Writing to a String does not fail, and no collector fails by itself.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// These locks are held for copies only, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Collector ===

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let blocks = lock(&self.workers).clone();
        let sums: Vec<Sum> = (0..self.listeners.len()).map(|listener| sum(&blocks, listener)).collect();
        let each = || self.listeners.iter().zip(&sums);

        let mut requests = encoder.encode_descriptor(
            "http_requests",
            "Exchanges that ended, by listener, method, class of status and way of ending.",
            None,
            MetricType::Counter,
        )?;
        for (listener, sum) in each() {
            requests_of(&mut requests, listener, &sum.requests)?;
        }

        let mut durations = encoder.encode_descriptor(
            "http_request_duration_seconds",
            "From the request's head to the response's last byte.",
            None,
            MetricType::Histogram,
        )?;
        for (listener, sum) in each() {
            let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(sum.buckets.iter().copied()).collect();
            durations.encode_family(&[("listener", listener.as_str())])?.encode_histogram::<NoLabelSet>(
                sum.duration_us as f64 / 1e6,
                sum.buckets.iter().sum(),
                &buckets,
                None,
            )?;
        }

        let mut open =
            encoder.encode_descriptor("connections_open", "Client connections open now.", None, MetricType::Gauge)?;
        for (listener, sum) in each() {
            open.encode_family(&[("listener", listener.as_str())])?.encode_gauge(&sum.open)?;
        }

        let mut made = encoder.encode_descriptor(
            "records",
            "Records handed to the journal, by kind.",
            None,
            MetricType::Counter,
        )?;
        let kinds = lock(&self.kinds).clone();
        for (index, kind) in kinds.iter().enumerate() {
            counter(&mut made, &[("kind", kind.as_str())], records(&blocks, index))?;
        }
        match records(&blocks, KINDS - 1) {
            0 => Ok(()),
            others => counter(&mut made, &[("kind", OTHER_KINDS)], others),
        }
    }
}

/// The counts that are not zero: most of the possible ones never happen.
fn requests_of(encoder: &mut MetricEncoder<'_>, listener: &str, counts: &[u64]) -> fmt::Result {
    let classes = METHODS.iter().flat_map(|method| {
        STATUSES.iter().flat_map(move |status| ENDS.iter().map(move |end| (*method, *status, *end)))
    });
    for ((method, status, end), count) in classes.zip(counts).filter(|(_, count)| **count > 0) {
        counter(encoder, &[("listener", listener), ("method", method), ("status", status), ("end", end)], *count)?;
    }
    Ok(())
}

fn counter(encoder: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, count: u64) -> fmt::Result {
    encoder.encode_family(labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)
}

impl Collector for Rooms {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let figures = lock(&self.0).clone();
        journal(&mut encoder, &figures.journal)?;
        sinks(&mut encoder, &figures.sinks)
    }
}

fn journal(encoder: &mut DescriptorEncoder<'_>, journal: &JournalFigures) -> fmt::Result {
    let gauges = [
        ("journal_bytes", "Bytes of the journal on disk.", journal.bytes),
        ("journal_limit_bytes", "Most bytes it may take (journal.max_size).", journal.max_bytes),
        ("journal_epoch", "Epoch of the sequence; raised when continuity could not be proved.", journal.epoch),
        ("journal_last_sequence", "Sequence number of the last record.", journal.seq),
        ("journal_accepting", "1 while the journal takes records.", u64::from(journal.accepting)),
    ];
    for (name, help, value) in gauges {
        encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
    }
    if let Some(age) = journal.oldest {
        encoder
            .encode_descriptor("journal_oldest_seconds", "Age of the oldest record on disk.", None, MetricType::Gauge)?
            .encode_gauge(&age.as_secs_f64())?;
    }
    encoder
        .encode_descriptor("journal_records", "Records written to the journal.", None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, u64, f64>(&journal.written, None)?;
    let mut lost = encoder.encode_descriptor(
        "journal_lost_records",
        "Records lost, by reason; each loss is told by a record too.",
        None,
        MetricType::Counter,
    )?;
    journal.lost.iter().try_for_each(|(reason, count)| counter(&mut lost, &[("reason", *reason)], *count))
}

fn sinks(encoder: &mut DescriptorEncoder<'_>, sinks: &[SinkFigures]) -> fmt::Result {
    let mut lag = encoder.encode_descriptor(
        "sink_lag_seconds",
        "Age of the oldest record that is not delivered.",
        None,
        MetricType::Gauge,
    )?;
    for sink in sinks {
        lag.encode_family(&[("sink", sink.name)])?.encode_gauge(&sink.lag.as_secs_f64())?;
    }
    type Count = fn(&SinkFigures) -> u64;
    let gauges: [(&str, &str, Count); 2] = [
        ("sink_in_flight_records", "Records sent and not yet acknowledged.", |sink| sink.in_flight),
        ("sink_up", "1 while the destination answers.", |sink| u64::from(sink.up)),
    ];
    for (name, help, of) in gauges {
        let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for sink in sinks {
            encoder.encode_family(&[("sink", sink.name)])?.encode_gauge(&of(sink))?;
        }
    }
    let counters: [(&str, &str, Count); 3] = [
        ("sink_delivered_records", "Records that the destination acknowledged.", |sink| sink.delivered),
        ("sink_retries", "Times delivery began again at the cursor.", |sink| sink.retries),
        ("sink_rejected_records", "Records refused for good, now in the dead-letter file.", |sink| sink.rejected),
    ];
    for (name, help, of) in counters {
        let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for sink in sinks {
            counter(&mut encoder, &[("sink", sink.name)], of(sink))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::record::End;

    #[test]
    fn a_scrape_adds_the_workers_up() {
        let metrics = Metrics::new(["panel".to_owned(), "api".to_owned()]);
        let (one, two) = (metrics.worker(), metrics.worker());
        let (login, api) = (metrics.kind("login"), metrics.kind("api"));
        assert_eq!(metrics.kind("login"), login, "a kind keeps its index");
        for worker in [&one, &two] {
            worker.connected(0);
            worker.exchange(0, &Method::POST, Some(302), End::Complete, Duration::from_micros(300));
            worker.record(login);
        }
        two.exchange(
            1,
            &Method::from_bytes(b"PURGE").expect("a token"),
            None,
            End::ClientClosed,
            Duration::from_secs(60),
        );
        two.record(api);
        two.disconnected(0);
        two.exchange(7, &Method::GET, Some(200), End::Complete, Duration::ZERO); // no such listener
        insta::assert_snapshot!(metrics.render(figures()).replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    }

    fn figures() -> Figures {
        Figures {
            journal: JournalFigures {
                bytes: 4096,
                max_bytes: 1 << 30,
                epoch: 2,
                seq: 41,
                written: 7,
                oldest: Some(Duration::from_millis(1500)),
                lost: vec![("overrun", 3)],
                accepting: true,
            },
            sinks: vec![SinkFigures {
                name: "kafka",
                lag: Duration::from_millis(250),
                delivered: 5,
                retries: 1,
                rejected: 1,
                in_flight: 2,
                up: true,
            }],
        }
    }

    #[test]
    fn kinds_beyond_the_table_are_counted_together() {
        let metrics = Metrics::new([]);
        let worker = metrics.worker();
        for n in 0..KINDS + 10 {
            worker.record(metrics.kind(&format!("kind-{n}")));
        }
        let text = metrics.render(Figures::default());
        assert!(text.contains("daybook_records_total{kind=\"kind-62\"} 1\n"), "{text}");
        assert!(text.contains("daybook_records_total{kind=\"other\"} 11\n"), "{text}");
    }

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let metrics = Metrics::new(["a".to_owned(), "b".to_owned()]);
        let worker = metrics.worker();
        for (listener, times) in [(0, 1), (1, 2)] {
            for _ in 0..times {
                worker.connected(listener);
                for method in METHODS {
                    let method = Method::from_bytes(method.as_bytes()).expect("a token");
                    for status in [None, Some(100), Some(200), Some(300), Some(400), Some(500)] {
                        for end in End::ALL {
                            worker.exchange(listener, &method, status, end, Duration::from_secs(1));
                        }
                    }
                }
            }
        }
        let blocks = lock(&metrics.traffic.workers).clone();
        for (listener, times) in [(0, 1), (1, 2)] {
            let sum = sum(&blocks, listener);
            assert!(sum.requests.iter().all(|count| *count == times), "{:?}", sum.requests);
            assert_eq!(sum.buckets.iter().sum::<u64>(), sum.requests.len() as u64 * times);
            assert_eq!(sum.duration_us, sum.requests.len() as u64 * times * 1_000_000);
            assert_eq!(sum.open, times);
        }
        assert_eq!(records(&blocks, 0), 0, "records have their own numbers");
    }
}
