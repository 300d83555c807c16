//! One worker thread: a runtime of its own, its listeners, its connections.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use crate::capture::{Capture, Policy, Sessions};
use crate::config::ListenerSettings;
use crate::forward::Forwarder;
use crate::journal::Lane;
use crate::listen::{Bound, Watch, Worker};
use crate::telemetry::Metrics;

/// Tasks between two looks for news of the sockets while there is work; nginx handles 512 events at a time.
const EVENT_INTERVAL: u32 = 512;

/// A listener as one worker gets it.
pub(super) struct ListenerParts {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) settings: ListenerSettings,
    pub(super) bound: Bound,
    pub(super) server_tls: Option<Arc<ArcSwap<ServerConfig>>>,
    pub(super) client_tls: Option<Arc<ClientConfig>>,
}

/// Everything one worker gets.
pub(super) struct WorkerSetup {
    pub(super) workers: usize,
    pub(super) listeners: Vec<ListenerParts>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) lane: Lane,
    pub(super) metrics: Arc<Metrics>,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) drain_timeout: Duration,
}

/// Why a worker did not start.
pub(super) enum Failed {
    Runtime(io::Error),
    Listener(String, String),
}

/// Starts the thread and waits until it listens.
pub(super) fn spawn(index: usize, setup: WorkerSetup) -> Result<std::thread::JoinHandle<()>, Failed> {
    let (started, starting) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                // Ask the kernel for news when there is nothing left to do, not after every 61 tasks: under load
                // each question then brings more answers.
                .event_interval(EVENT_INTERVAL)
                .build_local(tokio::runtime::LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(work(setup, &started)),
                Err(error) => drop(started.send(Err(Failed::Runtime(error)))),
            }
        })
        .map_err(Failed::Runtime)?;
    match starting.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(failed)) => Err(failed),
        Err(_) => Err(Failed::Runtime(io::Error::other("the worker ended at once"))),
    }
}

async fn work(setup: WorkerSetup, started: &mpsc::SyncSender<Result<(), Failed>>) {
    let capture = Rc::new(Capture::new(setup.policy, setup.sessions, setup.lane, &setup.metrics));
    let watch = Watch::new();
    let mut forwarders = Vec::new();
    for listener in setup.listeners {
        let ListenerParts { index, name, settings, bound, server_tls, client_tls } = listener;
        let forwarder = match Forwarder::new(&settings.upstream, &settings.forward, client_tls, capture.clone()) {
            Ok(forwarder) => forwarder,
            Err(wrong) => return drop(started.send(Err(Failed::Listener(name, wrong)))),
        };
        forwarders.push(forwarder.clone());
        let worker = Worker::new(
            (index, &name),
            &settings,
            setup.workers,
            server_tls,
            capture.clone(),
            forwarder,
            watch.clone(),
        );
        tokio::task::spawn_local(async move {
            if let Err(error) = worker.accept(bound).await {
                tracing::error!(listener = %name, %error, "this worker can't accept connections");
            }
        });
    }
    tokio::task::spawn_local(watch.clone().run(move || forwarders.iter().for_each(|f| f.reap())));
    // The other side is gone only when start-up failed elsewhere; the channel below then says stop.
    let _ = started.send(Ok(()));

    let mut draining = setup.draining;
    let _ = draining.wait_for(|drain| *drain).await;
    watch.drain();
    if tokio::time::timeout(setup.drain_timeout, watch.drained()).await.is_err() {
        tracing::warn!("some exchanges did not end within drain_timeout; they are recorded as interrupted");
    }
    capture.interrupt();
}
