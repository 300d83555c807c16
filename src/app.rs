//! The only wiring: a configuration becomes rooms that run, and stops again without losing anything.
//!
//! Start, in this order: policy, journal, sockets, workers, delivery. Stop, in reverse: workers drain,
//! the journal is flushed, sinks deliver what they can, the journal is closed cleanly.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::capture::{CaptureSettings, Policy, PolicyError, Sessions};
use crate::config::Config;
use crate::deliver::{self, Delivery};
use crate::forward::{TlsError, client_config};
use crate::journal::{self, Journal, Lane, Recovery};
use crate::listen::{self, BindError, Bound};
use crate::record::{Attributes, Record, Value};
use crate::telemetry::Metrics;
use crate::telemetry::admin::Probe;

mod probe;
mod reload;
mod worker;

pub use reload::{Reloaded, Watched};

use worker::{ListenerParts, WorkerSetup};

/// A running Daybook.
pub struct App {
    config: Config,
    journal: Arc<Journal>,
    delivery: Arc<Delivery>,
    metrics: Arc<Metrics>,
    /// Bound at the start, so that an address in use is found then.
    admin: Option<std::net::TcpListener>,
    policy: Arc<ArcSwap<Policy>>,
    sessions: Arc<Sessions>,
    certificates: BTreeMap<String, Arc<ArcSwap<ServerConfig>>>,
    addresses: BTreeMap<String, SocketAddr>,
    recovery: Recovery,
    workers: Vec<std::thread::JoinHandle<()>>,
    drain: watch::Sender<bool>,
    /// For records of our own: start, reload, stop.
    lane: Mutex<Lane>,
    /// Looks after the lake's files, where there is a lake.
    _keeper: Option<Keeper>,
}

#[cfg(feature = "lake")]
type Keeper = crate::lake::Keeper;
#[cfg(not(feature = "lake"))]
type Keeper = std::convert::Infallible;

/// Why Daybook can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Rules, identity, redaction or GeoIP.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Policy(Vec<PolicyError>),
    /// Certificates or keys.
    #[error("listener `{0}`: TLS can't be set up")]
    Tls(String, #[source] TlsError),
    /// A listener's settings.
    #[error("listener `{0}`: {1}")]
    Listener(String, String),
    /// A sink's settings.
    #[error(transparent)]
    Delivery(#[from] deliver::StartError),
    /// The data folder.
    #[error("the data folder {} can't be made", .0.display())]
    Data(PathBuf, #[source] std::io::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    /// The table of records.
    #[cfg(feature = "lake")]
    #[error(transparent)]
    Lake(#[from] crate::lake::LakeError),
    /// An address.
    #[error("listener `{0}`")]
    Bind(String, #[source] BindError),
    /// A thread or its runtime.
    #[error("a worker can't be started")]
    Worker(#[source] std::io::Error),
}

impl StartError {
    /// Whether the configuration is to blame, rather than the machine's present state.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Policy(_) | Self::Tls(..) | Self::Listener(..) | Self::Delivery(_))
    }
}

/// What a stop left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Every sink has every record.
    pub delivered: bool,
    /// The journal was closed cleanly.
    pub clean: bool,
}

impl App {
    /// Starts everything. When it returns, the addresses are listened on.
    ///
    /// # Errors
    /// The first thing that can't be started; what was started before it is stopped again.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let data = &config.data;
        make_data_folder(data).map_err(|e| StartError::Data(data.clone(), e))?;
        let policy = Policy::compile(&capture_settings(&config)).map_err(StartError::Policy)?;
        let certificates = server_certificates(&config)?;
        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let bound = bind_all(&config, workers)?;
        let admin = config.admin.as_ref().map(|admin| bind_admin(admin.bind)).transpose()?;
        let instance = instance_name(&config);
        let sinks = deliver::sink_names(&config.sink);
        let (journal, recovery) = Journal::open(&data.join("journal"), &config.journal, &instance, &sinks)?;
        let journal = Arc::new(journal);
        let (drain, draining) = watch::channel(false);
        let table = open_table(&config)?;
        let keeper = keep(&config, table.as_ref())?;
        let mut app = Self {
            _keeper: keeper,
            addresses: addresses(&bound),
            delivery: Arc::new(Delivery::start(&journal, &config.sink, &instance, data, table)?),
            metrics: Arc::new(Metrics::new(config.listener.keys().cloned())),
            admin,
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            sessions: Arc::new(Sessions::open(data, &config.identity)),
            certificates,
            recovery,
            workers: Vec::with_capacity(workers),
            drain,
            lane: Mutex::new(journal.lane()),
            journal,
            config,
        };
        app.own_record("start", &[("version", env!("CARGO_PKG_VERSION"))]);
        match app.start_workers(bound, &draining) {
            Ok(()) => Ok(app),
            Err(error) => {
                app.stop();
                Err(error)
            }
        }
    }

    /// Where each TCP listener really listens.
    pub fn addresses(&self) -> &BTreeMap<String, SocketAddr> {
        &self.addresses
    }

    /// What the journal found when it was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The journal, for whoever wants to follow it or asks for its condition.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The admin address, where one is configured and nobody has taken it yet.
    pub fn take_admin(&mut self) -> Option<std::net::TcpListener> {
        self.admin.take()
    }

    /// What the admin address serves.
    pub fn probe(&self) -> Arc<dyn Probe> {
        Arc::new(probe::Rooms {
            journal: Arc::clone(&self.journal),
            delivery: Arc::clone(&self.delivery),
            metrics: Arc::clone(&self.metrics),
        })
    }

    /// Stops accepting, lets exchanges finish within `drain_timeout`, delivers what can be delivered
    /// in what is left of it, and closes the journal.
    pub fn stop(self) -> Stopped {
        let deadline = Instant::now() + self.config.drain_timeout.0;
        // Workers that are gone already have nothing to drain.
        let _ = self.drain.send(true);
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
        save(&self.sessions);
        // Lanes have no order among each other: what the workers wrote comes before the last word.
        let flushed = self.journal.flush();
        append_own(&self.lane, "stop", &[]);
        let flushed = flushed.and_then(|()| self.journal.flush());
        // Whatever the workers needed, the sinks get a moment: the journal keeps what they can't take.
        let delivered = self.delivery.stop(deadline.max(Instant::now() + Duration::from_secs(1)));
        let closed = flushed.and_then(|()| self.journal.close());
        if let Err(error) = &closed {
            tracing::error!(%error, "the journal could not be closed cleanly");
        }
        Stopped { delivered, clean: closed.is_ok() }
    }

    fn start_workers(
        &mut self,
        bound: Vec<(String, Vec<Bound>)>,
        draining: &watch::Receiver<bool>,
    ) -> Result<(), StartError> {
        let workers = self.workers.capacity();
        let mut shares: Vec<Vec<ListenerParts>> = (0..workers).map(|_| Vec::new()).collect();
        for (index, (name, sockets)) in bound.into_iter().enumerate() {
            let settings = &self.config.listener[&name];
            let encrypted = matches!(settings.upstream, crate::config::Upstream::Tcp { tls: true, .. });
            let client_tls = match encrypted {
                true => Some(
                    client_config(&settings.forward.tls, settings.forward.protocol)
                        .map_err(|e| StartError::Tls(name.clone(), e))?,
                ),
                false => None,
            };
            for (share, bound) in shares.iter_mut().zip(sockets) {
                share.push(ListenerParts {
                    index,
                    name: name.clone(),
                    settings: settings.clone(),
                    bound,
                    server_tls: self.certificates.get(&name).cloned(),
                    client_tls: client_tls.clone(),
                });
            }
        }
        for (index, listeners) in shares.into_iter().enumerate() {
            let setup = WorkerSetup {
                workers,
                listeners,
                policy: Arc::clone(&self.policy),
                sessions: Arc::clone(&self.sessions),
                lane: self.journal.lane(),
                metrics: Arc::clone(&self.metrics),
                draining: draining.clone(),
                drain_timeout: self.config.drain_timeout.0,
            };
            self.workers.push(worker::spawn(index, setup).map_err(|failed| match failed {
                worker::Failed::Runtime(error) => StartError::Worker(error),
                worker::Failed::Listener(name, wrong) => StartError::Listener(name, wrong),
            })?);
        }
        Ok(())
    }

    /// Saves the sessions learnt from logins, so that a crash forgets only the newest.
    pub fn save_sessions(&self) {
        save(&self.sessions);
    }

    /// Writes a record about Daybook itself.
    fn own_record(&self, kind: &str, attributes: &[(&str, &str)]) {
        append_own(&self.lane, kind, attributes);
    }
}

fn save(sessions: &Sessions) {
    if let Err(error) = sessions.save() {
        tracing::warn!(%error, "the sessions learnt from logins can't be saved");
    }
}

fn append_own(lane: &Mutex<Lane>, kind: &str, attributes: &[(&str, &str)]) {
    let attributes: Attributes<'_> =
        attributes.iter().map(|(name, value)| ((*name).into(), Value::Text((*value).into()))).collect();
    let mut bytes = Vec::with_capacity(256);
    Record::own(kind, attributes).encode(&mut bytes);
    let lane = lane.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Err(error) = lane.append(&bytes) {
        tracing::warn!(kind, %error, "a record of our own was not taken");
    }
}

/// What capture needs of the configuration.
pub fn capture_settings(config: &Config) -> CaptureSettings<'_> {
    CaptureSettings {
        data: &config.data,
        rules: &config.rule,
        defaults: &config.defaults,
        identity: &config.identity,
        redaction: &config.redaction,
        geoip: &config.geoip,
    }
}

/// The folder holds secrets' tokens and people's records: for its owner only.
fn make_data_folder(data: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data)
}

#[cfg(feature = "lake")]
fn open_table(config: &Config) -> Result<Option<deliver::Table>, StartError> {
    let open = |lake: &crate::config::LakeSettings| crate::lake::Lake::open(&lake.folder(&config.data));
    Ok(config.sink.lake.as_ref().map(open).transpose()?)
}

#[cfg(feature = "lake")]
fn keep(config: &Config, table: Option<&deliver::Table>) -> Result<Option<Keeper>, StartError> {
    let start = |(table, settings): (&deliver::Table, _)| Keeper::start(Arc::clone(table), settings);
    table.zip(config.sink.lake.as_ref()).map(start).transpose().map_err(StartError::Worker)
}

#[cfg(not(feature = "lake"))]
fn keep(_: &Config, _: Option<&deliver::Table>) -> Result<Option<Keeper>, StartError> {
    Ok(None)
}

#[cfg(not(feature = "lake"))]
fn open_table(_: &Config) -> Result<Option<deliver::Table>, StartError> {
    Ok(None)
}

fn server_certificates(config: &Config) -> Result<BTreeMap<String, Arc<ArcSwap<ServerConfig>>>, StartError> {
    let with_tls = config.listener.iter().filter_map(|(name, l)| Some((name, l.tls.as_ref()?)));
    with_tls
        .map(|(name, tls)| {
            let config = listen::server_config(tls).map_err(|e| StartError::Tls(name.clone(), e))?;
            Ok((name.clone(), Arc::new(ArcSwap::from(config))))
        })
        .collect()
}

fn bind_all(config: &Config, workers: usize) -> Result<Vec<(String, Vec<Bound>)>, StartError> {
    let bind = |(name, settings): (&String, &crate::config::ListenerSettings)| {
        let bound = Bound::bind(&settings.bind, workers).map_err(|e| StartError::Bind(name.clone(), e))?;
        Ok((name.clone(), bound))
    };
    config.listener.iter().map(bind).collect()
}

fn bind_admin(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|source| StartError::Bind("admin".to_owned(), BindError { address: address.to_string(), source }))
}

fn addresses(bound: &[(String, Vec<Bound>)]) -> BTreeMap<String, SocketAddr> {
    let address = |(name, sockets): &(String, Vec<Bound>)| Some((name.clone(), sockets.first()?.local_addr()?));
    bound.iter().filter_map(address).collect()
}

/// The configured name, or the host's with everything else than `[A-Za-z0-9._-]` made a dash.
fn instance_name(config: &Config) -> String {
    if let Some(name) = &config.instance {
        return name.clone();
    }
    let host = rustix::system::uname();
    let clean = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = host.nodename().to_string_lossy().chars().map(clean).collect();
    if name.is_empty() { "daybook".to_owned() } else { name }
}
