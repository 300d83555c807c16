//! What one record costs: encoding it, and a whole exchange from its head to the journal's lane.
//!
//! `cargo bench --bench micro`. Compare lines of one run with each other, never runs of two machines.

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use daybook::app::capture_settings;
use daybook::capture::{Capture, Connection, Policy, Sessions};
use daybook::config::Config;
use daybook::journal::Journal;
use daybook::message::{RequestHead, ResponseHead};
use daybook::record::{Client, End, Outcome, Record, SCHEMA};
use daybook::telemetry::Metrics;
use divan::{Bencher, black_box};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// A capture on a real journal in a folder of its own.
struct Bench {
    capture: Capture,
    connection: Rc<Connection>,
    _journal: Journal,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(toml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config: Config = toml::from_str(toml).expect("a configuration");
        config.data = folder.path().to_owned();
        let policy = Arc::new(ArcSwap::from_pointee(Policy::compile(&capture_settings(&config)).expect("a policy")));
        let sessions = Arc::new(Sessions::open(folder.path(), &config.identity));
        let (journal, _) =
            Journal::open(&folder.path().join("journal"), &config.journal, "bench", &[]).expect("a journal");
        let connection = Rc::new(Connection {
            listener_index: 0,
            listener: "panel".into(),
            peer: "203.0.113.9".parse().ok(),
            tls_subject: None,
            tls: true,
            trusted_proxies: Rc::new([]),
            request_id_header: Some(http::HeaderName::from_static("x-request-id")),
        });
        Self {
            capture: Capture::new(policy, sessions, journal.lane(), &Arc::new(Metrics::new([]))),
            connection,
            _journal: journal,
            _folder: folder,
        }
    }

    fn exchange(&self, request: &Rc<RequestHead>, response: &Rc<ResponseHead>, body: &[u8]) {
        let exchange = self.capture.begin(&self.connection, request);
        exchange.connected(std::time::Duration::ZERO);
        exchange.first_byte();
        exchange.response_head(response);
        exchange.response_data(body);
        drop(exchange.finish(End::Complete, None));
    }
}

/// What a browser sends.
fn request(uri: &str) -> Rc<RequestHead> {
    let request = http::Request::get(uri)
        .header("host", "panel.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .header("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
        .header("accept-language", "en-US,en;q=0.5")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("cookie", "csrftoken=abcdefghijklmnopqrstuvwxyz012345; sessionid=abcdefghijklmnopqrstuvwxyz012345");
    Rc::new(RequestHead::from_parts(&request.body(()).expect("a request").into_parts().0))
}

fn run(bencher: Bencher<'_, '_>, toml: &str, uri: &str) {
    let bench = Bench::new(toml);
    let request = request(uri);
    let response = http::Response::builder().header("content-type", "application/json").body(()).expect("a response");
    let response = Rc::new(ResponseHead::from_parts(&response.into_parts().0));
    let body = format!("{{\"items\":[{}1]}}", "12345,".repeat(160));
    bencher.bench_local(|| bench.exchange(&request, &response, body.as_bytes()));
}

#[divan::bench]
fn exchange_without_rules(bencher: Bencher<'_, '_>) {
    run(bencher, "", "/orders/17");
}

#[divan::bench]
fn exchange_with_a_query(bencher: Bencher<'_, '_>) {
    run(bencher, "", "/orders?page=2&sort=created&filter=open&token=abcdef");
}

#[divan::bench]
fn exchange_with_a_session(bencher: Bencher<'_, '_>) {
    run(bencher, "defaults = { session = \"request.cookie.sessionid\" }", "/orders/17");
}

/// None of 100 rules matches: 50 exact paths and 50 patterns.
#[divan::bench]
fn exchange_past_100_rules(bencher: Bencher<'_, '_>) {
    let rule = |n: usize| {
        let path = if n.is_multiple_of(2) { format!("/exact/{n}") } else { format!("/part{n}/{{id}}/*") };
        format!("[[rule]]\nname = \"rule {n}\"\nmatch = {{ method = [\"GET\", \"POST\"], path = \"{path}\" }}\n")
    };
    run(bencher, &(0..100).map(rule).collect::<String>(), "/orders/17");
}

#[divan::bench]
fn exchange_in_full(bencher: Bencher<'_, '_>) {
    run(bencher, "defaults = { level = \"request-response\" }", "/orders/17");
}

#[divan::bench]
fn encode_a_record(bencher: Bencher<'_, '_>) {
    let record = Record {
        schema: SCHEMA.into(),
        id: "01938c5e-7d3a-7b1e-8c55-0123456789ab".into(),
        time: "2026-11-22T22:10:01.123456Z".into(),
        kind: "panel".into(),
        listener: Some("panel".into()),
        method: Some("GET".into()),
        scheme: Some("https".into()),
        host: Some("panel.example.com".into()),
        path: Some("/orders/17".into()),
        http_version: Some("1.1".into()),
        status: Some(200),
        result: Some(Outcome::Success),
        end: Some(End::Complete),
        duration_us: Some(1834),
        request_bytes: Some(0),
        response_bytes: Some(1024),
        client: Some(Client {
            ip: "203.0.113.9".parse().ok(),
            user_agent: Some("Mozilla/5.0".into()),
            ..Client::default()
        }),
        request_id: Some("01938c5e-7d3a-7b1e-8c55-0123456789ab".into()),
        ..Record::default()
    };
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        black_box(&record).encode(&mut out);
        out.len()
    });
}
