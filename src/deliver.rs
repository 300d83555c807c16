//! Delivery: each sink is a thread with a cursor over the journal, so none waits for another.
//!
//! ```text
//! journal ═ tail → batch → send → acknowledgement → contiguous watermark → cursor
//! ```
//!
//! - **At least once, in the journal's order, with stable identity** (`id`, and instance/epoch/seq, in Kafka also as
//!   headers): whatever happens to a destination, the sink goes back to its cursor and sends again.
//! - **Nothing is given up**: a destination that is down, unknown, or refuses our password is tried again with
//!   growing delays while the records wait in the journal. Only a record that the destination refuses for good goes
//!   to the dead-letter file, with a stub in its place, so that it does not block those behind it.
//! - **Bounded memory**: at most one batch of the journal and what the sink's settings allow.
//! - A sink that has ended (stdout was closed) keeps its records in the journal for the next start.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::Sinks;
use crate::journal::{Journal, Position};

mod backoff;
#[cfg(feature = "kafka")]
mod dead_letter;
mod file;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "lake")]
mod lake;
#[cfg(feature = "kafka")]
mod members;
mod sink;
#[cfg(feature = "kafka")]
mod template;
#[cfg(feature = "kafka")]
mod watermark;
mod worker;

#[cfg(feature = "kafka")]
pub use template::TemplateError;

use worker::{Board, Course, Stop, Worker};

/// The open lake.
#[cfg(feature = "lake")]
pub type Table = Arc<crate::lake::Lake>;
/// There is none in this build.
#[cfg(not(feature = "lake"))]
pub type Table = std::convert::Infallible;

/// The running sinks.
pub struct Delivery {
    stop: Arc<Stop>,
    sinks: Vec<(Arc<Board>, JoinHandle<()>)>,
}

/// A sink's condition, for metrics and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// `kafka`, `file` or `lake`: the sink's name in the journal.
    pub name: &'static str,
    /// Whether it gets on.
    pub state: SinkState,
    /// Everything before this place was acknowledged; `None` until something was, since the start.
    pub acked: Option<Position>,
    /// Age of the oldest record that was read but not acknowledged; `None` when there is none.
    pub lag: Option<Duration>,
    /// Records acknowledged since the start.
    pub delivered: u64,
    /// Records on their way.
    pub in_flight: usize,
    /// Times the sink went back to its cursor since the start.
    pub retries: u64,
    /// Records refused for good since the start; they are in the dead-letter file.
    pub rejected: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When that oldest record was written, milliseconds since 1970.
    oldest: Option<u64>,
    /// Stopped with nothing left to deliver.
    drained: bool,
}

/// Whether a sink gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkState {
    /// It delivers, or there is nothing to deliver.
    Running,
    /// Something is wrong with the destination; it is tried again.
    Retrying,
    /// The destination is gone for good; the records stay in the journal.
    Ended,
    /// [`Delivery::stop`] ended it.
    Stopped,
}

/// Why delivery can't start: all of it is configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A topic or key template is wrong.
    #[cfg(feature = "kafka")]
    #[error("the sink kafka: `{0}` is wrong")]
    Template(&'static str, #[source] TemplateError),
    /// An option that delivery depends on.
    #[cfg(feature = "kafka")]
    #[error("the sink kafka: the option `{0}` can't be set: delivery depends on it{hint}", hint = hint(.1))]
    Option(String, Option<&'static str>),
    /// The Kafka client does not take a setting.
    #[cfg(feature = "kafka")]
    #[error("the sink kafka: {0}")]
    Kafka(String),
    /// The output can't be opened.
    #[error("the sink file: {} can't be opened", .0.display())]
    File(std::path::PathBuf, #[source] std::io::Error),
    /// This binary was built without a sink.
    #[error("the sink {0} is configured, but this daybook was built without it")]
    NotBuilt(&'static str),
    /// No thread could be started.
    #[error("no thread for the sink {0}")]
    Thread(&'static str, #[source] std::io::Error),
}

/// The names of the configured sinks: those the journal has to keep records for.
pub fn sink_names(sinks: &Sinks) -> Vec<&'static str> {
    let kafka = sinks.kafka.as_ref().map(|_| KAFKA);
    let file = sinks.file.as_ref().map(|_| FILE);
    let lake = sinks.lake.as_ref().map(|_| LAKE);
    kafka.into_iter().chain(file).chain(lake).collect()
}

const KAFKA: &str = "kafka";
const FILE: &str = "file";
/// The lake's name as a sink.
const LAKE: &str = "lake";

// === impl Delivery ===

impl Delivery {
    /// Starts a thread per configured sink. `instance` is this process's name; the dead-letter file is in
    /// `data_dir` unless the settings say otherwise; `table` is the open lake, where one is configured. Nothing is
    /// started when anything is wrong.
    pub fn start(
        journal: &Arc<Journal>,
        sinks: &Sinks,
        instance: &str,
        data_dir: &Path,
        table: Option<Table>,
    ) -> Result<Self, StartError> {
        let kafka = kafka_sink(sinks, instance, data_dir)?;
        let open = |settings: &crate::config::FileSettings| {
            file::FileSink::open(settings).map_err(|e| StartError::File(settings.path.clone(), e))
        };
        let file = sinks.file.as_ref().map(open).transpose()?;
        let mut delivery = Self { stop: Arc::default(), sinks: Vec::new() };
        if let Some(sink) = kafka {
            delivery.spawn(KAFKA, journal, sink)?;
        }
        if let Some(sink) = file {
            delivery.spawn(FILE, journal, sink)?;
        }
        delivery.spawn_lake(journal, sinks, instance, table)?;
        Ok(delivery)
    }

    /// Delivers what can be delivered until `deadline`, saves the cursors and ends the threads. True when
    /// everything was delivered by every sink. Call [`Journal::flush`] before; a second call does nothing more.
    pub fn stop(&self, deadline: Instant) -> bool {
        self.stop.ask(deadline);
        // A thread blocked in a write to a reader that stopped reading can't be joined; its cursor stands.
        let patience = deadline + Duration::from_secs(1);
        while !self.sinks.iter().all(|(_, thread)| thread.is_finished()) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.status().iter().all(|sink| sink.drained)
    }

    /// Every sink's condition.
    pub fn status(&self) -> Vec<SinkStatus> {
        self.sinks.iter().map(|(board, _)| board.read()).collect()
    }

    #[cfg(feature = "lake")]
    fn spawn_lake(
        &mut self,
        journal: &Arc<Journal>,
        sinks: &Sinks,
        instance: &str,
        table: Option<Table>,
    ) -> Result<(), StartError> {
        match sinks.lake.as_ref().zip(table) {
            Some((settings, table)) => {
                let sink = lake::LakeSink::new(table, settings, instance, journal.status().next);
                self.spawn(LAKE, journal, sink)
            }
            None => Ok(()),
        }
    }

    #[cfg(not(feature = "lake"))]
    fn spawn_lake(&mut self, _: &Arc<Journal>, sinks: &Sinks, _: &str, _: Option<Table>) -> Result<(), StartError> {
        if sinks.lake.is_some() { Err(StartError::NotBuilt(LAKE)) } else { Ok(()) }
    }

    fn spawn(
        &mut self,
        name: &'static str,
        journal: &Arc<Journal>,
        sink: impl sink::Sink + 'static,
    ) -> Result<(), StartError> {
        let board = Arc::new(Board::new(name));
        let worker = Worker {
            name,
            journal: Arc::clone(journal),
            sink,
            board: Arc::clone(&board),
            stop: Arc::clone(&self.stop),
            course: Course::new(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("sink-{name}"))
            .spawn(|| worker.run())
            .map_err(|e| StartError::Thread(name, e))?;
        self.sinks.push((board, thread));
        Ok(())
    }
}

#[cfg(feature = "kafka")]
fn kafka_sink(sinks: &Sinks, instance: &str, data_dir: &Path) -> Result<Option<kafka::KafkaSink>, StartError> {
    sinks.kafka.as_ref().map(|settings| kafka::KafkaSink::new(settings, instance, data_dir)).transpose()
}

#[cfg(not(feature = "kafka"))]
fn kafka_sink(sinks: &Sinks, _: &str, _: &Path) -> Result<Option<file::FileSink>, StartError> {
    if sinks.kafka.is_some() { Err(StartError::NotBuilt(KAFKA)) } else { Ok(None) }
}

#[cfg(feature = "kafka")]
fn hint(hint: &Option<&'static str>) -> String {
    hint.map(|key| format!("; `{key}` of [sink.kafka] is the way")).unwrap_or_default()
}

// === impl SinkStatus ===

impl SinkStatus {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            state: SinkState::Running,
            acked: None,
            lag: None,
            delivered: 0,
            in_flight: 0,
            retries: 0,
            rejected: 0,
            last_error: None,
            oldest: None,
            drained: false,
        }
    }
}
