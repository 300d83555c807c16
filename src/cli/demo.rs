//! `daybook demo`: the main job on one machine with nothing else.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::app::App;
use crate::config::{Config, LakeSettings, Upstream};
use crate::journal::Tail;
use crate::record::{Outcome, Record, Stage};

use super::{Exit, complain};

mod sample;
mod traffic;

/// The configuration the demo runs, as anybody could write it.
const CONFIG: &str = include_str!("../../config/demo.toml");

/// The demo is for looking at: nothing is gained by more.
const MAX_TIME: Duration = Duration::from_secs(24 * 3600);

#[derive(Args, Debug)]
#[command(
    after_help = "Nothing outside a temporary folder is touched. Look at config/demo.toml for the rules it runs."
)]
pub(super) struct DemoArgs {
    /// How long, like `10s` or `5m`.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    time: Duration,
    /// Whole records as NDJSON instead of one line for people.
    #[arg(long)]
    json: bool,
    /// Keep the journal in this folder (it must be empty or a demo's).
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What happened, for the summary.
#[derive(Default)]
struct Tally {
    records: u64,
    failures: u64,
    kinds: BTreeMap<String, u64>,
    users: BTreeMap<String, u64>,
    durations: Vec<u64>,
    last_seq: Option<u64>,
    gaps: u64,
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: crate::config::Span = text.parse()?;
    if span.0 > MAX_TIME { Err("a demo lasts a day at most".to_owned()) } else { Ok(span.0) }
}

pub(super) fn demo(args: &DemoArgs) -> Exit {
    super::init_logs();
    match play(args) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            complain(&*error);
            Exit::Unavailable
        }
    }
}

fn play(args: &DemoArgs) -> Result<(), Box<dyn std::error::Error>> {
    let temporary = std::env::temp_dir().join(format!("daybook-demo-{}", std::process::id()));
    let data = args.data.clone().unwrap_or_else(|| temporary.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let upstream = runtime.block_on(sample::serve())?;
    let folder = data.display().to_string();
    let app = App::start(configuration(upstream, data)?)?;
    let address = app.addresses().get("shop").copied().ok_or("the demo's listener has no address")?;
    eprintln!("A sample shop runs on {upstream}; Daybook stands in front of it on {address}.");
    eprintln!("Try it yourself: curl -i http://{address}/orders   (an exchange like any other, and recorded)");
    if cfg!(feature = "lake") {
        eprintln!("Ask it: daybook query --data {folder} --where 'result=failure' --count --by user.email,path");
    }
    eprintln!();

    let mut tail = app.journal().tail("demo");
    let mut tally = Tally::default();
    let traffic = runtime.spawn(traffic::make(address));
    let end = Instant::now() + args.time;
    while Instant::now() < end {
        show(&mut tail, &mut tally, args.json)?;
    }
    traffic.abort();
    app.journal().flush()?;
    show(&mut tail, &mut tally, args.json)?;
    let bytes = app.journal().status().bytes;
    let stopped = app.stop();
    tally.summarize(bytes, stopped.clean);
    if args.data.is_none() {
        // Only what this process made: the name has its id.
        let _ = std::fs::remove_dir_all(temporary);
    }
    Ok(())
}

fn configuration(upstream: SocketAddr, data: PathBuf) -> Result<Config, Box<dyn std::error::Error>> {
    let mut config = Config::parse(CONFIG, "config/demo.toml").map_err(|complaints| complaints.to_string())?.config;
    config.data = data;
    config.sink.lake = cfg!(feature = "lake").then(LakeSettings::default);
    for listener in config.listener.values_mut() {
        listener.upstream = Upstream::Tcp { tls: false, host: upstream.ip().to_string(), port: upstream.port() };
    }
    Ok(config)
}

fn show(tail: &mut Tail, tally: &mut Tally, json: bool) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    for entry in tail.next(256 * 1024, Duration::from_millis(100))?.iter() {
        let record: Record<'_> = serde_json::from_slice(entry.payload)?;
        tally.count(&record);
        if json {
            out.write_all(entry.payload)?;
            out.write_all(b"\n")?;
        } else if record.method.is_some() {
            writeln!(out, "{}", line(&record, out.is_terminal()))?;
        }
    }
    out.flush()?;
    Ok(())
}

/// One record for people.
fn line(record: &Record<'_>, colour: bool) -> String {
    let who = record.user.as_ref().and_then(|user| user.email.as_ref().or(user.id.as_ref()).or(user.name.as_ref()));
    let key = record.api_key.as_ref().and_then(|key| key.hint.as_ref()).map(|hint| format!("key {hint}"));
    let who = who.map(ToString::to_string).or(key).unwrap_or_else(|| "-".to_owned());
    let time = record.time.get(11..23).unwrap_or_default();
    let status = match (record.stage, record.status) {
        (Stage::RequestReceived, _) => "intent".to_owned(),
        (_, Some(status)) => status.to_string(),
        (_, None) => "-".to_owned(),
    };
    let failed = record.result == Some(Outcome::Failure);
    let (on, off) = match (colour, failed) {
        (true, true) => ("\x1b[31m", "\x1b[0m"),
        _ => ("", ""),
    };
    let took = record.duration_us.map(|us| format!("{:.1} ms", us as f64 / 1000.0)).unwrap_or_default();
    let ip = record.client.as_ref().and_then(|c| c.ip).map(|ip| ip.to_string()).unwrap_or_default();
    format!(
        "{time} {:>6} {:<7} {on}{:>6}{off} {:<5} {:<24} {:<20} {:<15} {took}",
        record.seq.unwrap_or_default(),
        record.kind,
        status,
        record.method.as_deref().unwrap_or_default(),
        record.path.as_deref().unwrap_or_default(),
        who,
        ip,
    )
}

impl Tally {
    fn count(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.failures += u64::from(record.result == Some(Outcome::Failure));
        *self.kinds.entry(record.kind.to_string()).or_default() += 1;
        if let Some(email) = record.user.as_ref().and_then(|user| user.email.as_ref()) {
            *self.users.entry(email.to_string()).or_default() += 1;
        }
        self.durations.extend(record.duration_us);
        if let (Some(last), Some(seq)) = (self.last_seq, record.seq) {
            self.gaps += seq.saturating_sub(last + 1);
        }
        self.last_seq = record.seq.or(self.last_seq);
    }

    fn summarize(&mut self, journal_bytes: u64, clean: bool) {
        self.durations.sort_unstable();
        let at =
            |part: usize| self.durations.get(self.durations.len() * part / 100).map_or(0.0, |us| *us as f64 / 1000.0);
        let list = |all: &BTreeMap<String, u64>| {
            all.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        eprintln!("\n{} records, {} of failures; gaps in the sequence: {}", self.records, self.failures, self.gaps);
        eprintln!("kinds:   {}", list(&self.kinds));
        eprintln!("users:   {}", list(&self.users));
        eprintln!("latency: p50 {:.1} ms, p99 {:.1} ms", at(50), at(99));
        eprintln!("journal: {} KiB, closed {}", journal_bytes / 1024, if clean { "cleanly" } else { "uncleanly" });
        eprintln!("\nNext: put it in front of your own app:");
        eprintln!("  daybook run --listen 127.0.0.1:8080 --upstream http://127.0.0.1:3000");
    }
}
