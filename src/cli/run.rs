//! `daybook run`: from the configuration to the signal that ends it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{App, StartError, Stopped, Watched};
use crate::config::{Config, FileSettings, LakeSettings, ListenerSettings};
use crate::telemetry::admin;

use super::{Exit, RunArgs, complain};

/// How often changed files are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often the sessions learnt from logins are saved: what a crash may forget of them.
const SAVE_EVERY: Duration = Duration::from_secs(30);

pub(super) fn run(args: &RunArgs) -> Exit {
    super::init_logs();
    let (config, file) = match configuration(args) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    // First of all: who is told to end while starting must drain as well.
    let (runtime, signals) = match steering() {
        Ok(steering) => steering,
        Err(error) => {
            complain(&error);
            return Exit::Unavailable;
        }
    };
    let app = match start(config.clone(), file.as_deref()) {
        Ok(app) => app,
        Err(exit) => return exit,
    };
    announce(&app, &config);
    match runtime.block_on(attend(app, signals, &config, file.as_deref())) {
        Ok(stopped) => {
            if !stopped.delivered {
                tracing::warn!("not everything is delivered; the journal keeps it for the next start");
            }
            if stopped.clean { Exit::Ok } else { Exit::Unavailable }
        }
        Err(error) => {
            complain(&error);
            Exit::Unavailable
        }
    }
}

fn configuration(args: &RunArgs) -> Result<(Config, Option<PathBuf>), Exit> {
    if let Some(path) = &args.config {
        return match Config::load(path) {
            Ok(loaded) => {
                eprint!("{}", loaded.warnings);
                Ok((loaded.config, Some(path.clone())))
            }
            Err(complaints) => {
                eprint!("{complaints}");
                Err(Exit::Config)
            }
        };
    }
    let usage = |wrong: String| {
        eprintln!("daybook: {wrong}");
        Exit::Usage
    };
    let bind = args.listen.as_deref().unwrap_or_default().parse().map_err(usage)?;
    let upstream = args.upstream.as_deref().unwrap_or_default().parse().map_err(usage)?;
    Ok((simple(ListenerSettings::new(bind, upstream), args.data.clone()), None))
}

/// What `--listen` and `--upstream` mean: one listener, records to stdout and into the lake, where there is one.
fn simple(listener: ListenerSettings, data: Option<PathBuf>) -> Config {
    let mut config = Config::default();
    config.data = data.unwrap_or(config.data);
    config.listener.insert("app".to_owned(), listener);
    config.sink.file = Some(FileSettings::default());
    config.sink.lake = cfg!(feature = "lake").then(LakeSettings::default);
    config
}

fn start(config: Config, file: Option<&Path>) -> Result<App, Exit> {
    App::start(config).map_err(|error| {
        report(&error, file);
        if error.is_configuration() { Exit::Config } else { Exit::Unavailable }
    })
}

/// Complaints about rules point into the file, where there is one.
fn report(error: &StartError, file: Option<&Path>) {
    if let (StartError::Policy(wrong), Some(Ok(loaded))) = (error, file.map(Config::load)) {
        eprint!("{}", super::check::policy_complaints(&loaded, wrong));
        return;
    }
    complain(error);
}

fn announce(app: &App, config: &Config) {
    let recovery = app.recovery();
    tracing::info!(next = %recovery.next, data = %config.data.display(), "journal open");
    if recovery.torn_bytes > 0 {
        tracing::warn!(bytes = recovery.torn_bytes, "cut off an unfinished write of an earlier crash");
    }
    for hole in &recovery.holes {
        tracing::error!(
            segment = hole.segment,
            offset = hole.offset,
            bytes = hole.bytes,
            "the journal is damaged here"
        );
    }
    for (name, listener) in &config.listener {
        let address = app.addresses().get(name).map_or_else(|| listener.bind.to_string(), ToString::to_string);
        tracing::info!(listener = %name, %address, upstream = %listener.upstream, "listening");
    }
}

/// The signals a service is steered by.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The main thread's runtime, with the signals taken.
fn steering() -> std::io::Result<(tokio::runtime::Runtime, Signals)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    Ok((runtime, signals))
}

/// Reloads when asked to, until a signal ends it; then drains.
async fn attend(mut app: App, mut signals: Signals, config: &Config, file: Option<&Path>) -> std::io::Result<Stopped> {
    if let Some(listener) = app.take_admin() {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tracing::info!(address = %listener.local_addr()?, "admin: /live /ready /metrics");
        // Until the process ends: a drain can be watched too.
        tokio::spawn(admin::serve(listener, app.probe(), std::future::pending()));
    }
    let mut watched = file.map(|file| Watched::new(file, config));
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut save = tokio::time::interval(SAVE_EVERY);
    loop {
        let reload = tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => {
                // What the signal is about is not found changed once more a moment later.
                watched.as_mut().map(Watched::changed);
                true
            }
            _ = look.tick() => watched.as_mut().is_some_and(Watched::changed),
            _ = save.tick() => {
                app.save_sessions();
                false
            }
        };
        if let (true, Some(file)) = (reload, file) {
            reload_from(&app, file, &mut watched);
        }
    }
    tracing::info!("draining");
    let stopping = tokio::task::spawn_blocking(|| app.stop());
    tokio::select! {
        stopped = stopping => stopped.map_err(std::io::Error::other),
        // Who asks again wants out now. The journal survives it: that is its purpose.
        () = signals.stop() => {
            tracing::warn!("second signal: aborting");
            std::process::exit(Exit::No as i32);
        }
    }
}

fn reload_from(app: &App, file: &Path, watched: &mut Option<Watched>) {
    match Config::load(file) {
        Err(complaints) => {
            app.reload_failed("the configuration is wrong");
            tracing::error!("the new configuration is wrong; the old one stays in force\n{complaints}");
        }
        Ok(loaded) => match app.reload(&loaded.config) {
            Ok(reloaded) => {
                *watched = Some(Watched::new(file, &loaded.config));
                tracing::info!("reloaded");
                if !reloaded.needs_restart.is_empty() {
                    tracing::warn!(tables = ?reloaded.needs_restart, "changed, but take effect only with a restart");
                }
            }
            Err(error) => {
                tracing::error!("the new configuration can't be used; the old one stays in force");
                report(&error, Some(file));
            }
        },
    }
}
