//! `/live`, `/ready` and `/metrics` over HTTP: their figures are those of the traffic there was.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::daybook::{Daybook, Setup};
use crate::support::eventually;
use crate::support::message::Message;
use crate::support::origin::Origin;

const PATIENCE: Duration = Duration::from_secs(10);

fn start(origin: &Origin) -> (Daybook, SocketAddr) {
    let rules = "[[rule]]\nname = \"api\"\nkind = \"api\"\nmatch = { path = \"/api/**\" }\n\
                 [[rule]]\nname = \"login\"\nkind = \"login\"\nmatch = { path = \"/login\" }\n\
                 [admin]\nbind = \"127.0.0.1:0\"";
    let daybook = Setup::new(&origin.url).rest(rules).start();
    let admin = eventually("the admin address is told", PATIENCE, || {
        let log = daybook.log();
        let line = log.lines().find(|line| line.contains("/metrics"))?;
        line.split("address=").nth(1)?.split(' ').next()?.parse().ok()
    });
    (daybook, admin)
}

fn ask(admin: SocketAddr, path: &str) -> Message {
    let mut client = Client::connect(admin);
    client.get(path, "")
}

/// The value of the one sample that begins with `name`.
fn sample(metrics: &str, name: &str) -> Option<f64> {
    let mut found = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = found.next()?.parse().ok();
    assert_eq!(found.next(), None, "{name} is one sample");
    value
}

#[test]
fn probes_say_live_and_ready() {
    let origin = Origin::answering("ok");
    let (_daybook, admin) = start(&origin);
    for (path, text) in [("/live", "live\n"), ("/ready", "ready\n")] {
        let answer = ask(admin, path);
        assert_eq!((answer.status(), answer.text().as_str()), (200, text));
    }
}

#[test]
fn metrics_count_what_happened() {
    let origin = Origin::new(|visit| {
        while let Some(request) = visit.request() {
            if request.line().contains("/missing") {
                visit.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            } else {
                visit.ok("ok");
            }
        }
    });
    let (daybook, admin) = start(&origin);
    let mut client = daybook.connect();
    for path in ["/", "/", "/", "/missing", "/api/a", "/api/b"] {
        client.get(path, "");
    }
    client.send("POST /login HTTP/1.1\r\nHost: app\r\nContent-Length: 3\r\n\r\na=1");
    client.response();
    let refused = daybook.connect().get("/bad", "Content-Length: 1\r\nContent-Length: 2\r\n");
    assert_eq!(refused.status(), 400);
    daybook.records("all of it", 8, |record| record["method"].is_string() || record["end"] == "refused");

    let expected = [
        ("daybook_http_requests_total{listener=\"app\",method=\"GET\",status=\"2xx\",end=\"complete\"}", 5.0),
        ("daybook_http_requests_total{listener=\"app\",method=\"GET\",status=\"4xx\",end=\"complete\"}", 1.0),
        ("daybook_http_requests_total{listener=\"app\",method=\"GET\",status=\"4xx\",end=\"refused\"}", 1.0),
        ("daybook_http_requests_total{listener=\"app\",method=\"POST\",status=\"2xx\",end=\"complete\"}", 1.0),
        ("daybook_http_request_duration_seconds_bucket{le=\"+Inf\",listener=\"app\"}", 8.0),
        ("daybook_connections_open{listener=\"app\"}", 1.0),
        ("daybook_records_total{kind=\"api\"}", 2.0),
        ("daybook_records_total{kind=\"login\"}", 1.0),
        ("daybook_records_total{kind=\"panel\"}", 5.0),
        // These eight, and the start.
        ("daybook_journal_records_total", 9.0),
        ("daybook_journal_last_sequence", 9.0),
        ("daybook_journal_accepting", 1.0),
        ("daybook_sink_delivered_records_total{sink=\"file\"}", 9.0),
        ("daybook_sink_lag_seconds{sink=\"file\"}", 0.0),
        ("daybook_sink_up{sink=\"file\"}", 1.0),
    ];
    let mut metrics = String::new();
    let all_there = || {
        metrics = ask(admin, "/metrics").text();
        expected.iter().all(|(name, value)| sample(&metrics, name) == Some(*value)).then_some(())
    };
    let begun = std::time::Instant::now();
    let mut all_there = all_there;
    while all_there().is_none() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    for (name, value) in expected {
        assert_eq!(sample(&metrics, name), Some(value), "{name} in:\n{metrics}");
    }
    let bytes = sample(&metrics, "daybook_journal_bytes").expect("the journal's size");
    assert!((1000.0..100_000.0).contains(&bytes), "{bytes} bytes for nine records");
    assert!(metrics.ends_with("# EOF\n"), "OpenMetrics ends so");
}
