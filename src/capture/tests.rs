//! Capture from its door: exchanges in, records out.

mod schema;
mod secrets;
mod users;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value as Json, json};

use super::exchange::Outlet;
use super::{Capture, CaptureSettings, Connection, Exchange, Policy, PolicyError, RefusedHead, Sessions};
use crate::config::{Config, Mode};
use crate::message::{Fields, HeadLimits, RequestHead, RequestReader, ResponseHead};
use crate::record::End;

/// A capture by a configuration, and the records it wrote.
pub(super) struct Bench {
    pub(super) capture: Capture,
    connection: Rc<Connection>,
    records: Rc<RefCell<Vec<String>>>,
    folder: tempfile::TempDir,
    sessions: Arc<Sessions>,
    policy: Arc<ArcSwap<Policy>>,
}

pub(super) fn settings(config: &Config) -> CaptureSettings<'_> {
    CaptureSettings {
        data: &config.data,
        rules: &config.rule,
        defaults: &config.defaults,
        identity: &config.identity,
        redaction: &config.redaction,
        geoip: &config.geoip,
    }
}

impl Bench {
    pub(super) fn new(toml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config: Config = toml::from_str(toml).expect("a configuration");
        config.data = folder.path().to_owned();
        let policy = Policy::compile(&settings(&config)).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
        let policy = Arc::new(ArcSwap::from_pointee(policy));
        let sessions = Arc::new(Sessions::open(folder.path(), &config.identity));
        let records = Rc::new(RefCell::new(Vec::new()));
        let capture =
            Capture::with_outlet(policy.clone(), sessions.clone(), Outlet::Memory(records.clone()), &metrics());
        let connection = Rc::new(Connection {
            listener_index: 0,
            listener: "panel".into(),
            peer: "203.0.113.9".parse().ok(),
            tls_subject: None,
            tls: true,
            trusted_proxies: Rc::new([]),
            request_id_header: Some(http::HeaderName::from_static("x-request-id")),
        });
        Self { capture, connection, records, folder, sessions, policy }
    }

    pub(super) fn begin(&self, request: http::request::Builder, body: &str) -> Exchange {
        let exchange = self.capture.begin(&self.connection, &request_head(request));
        for piece in body.as_bytes().chunks(5) {
            exchange.request_data(piece);
        }
        exchange.request_end();
        exchange
    }

    /// A whole exchange; the last record it made.
    pub(super) fn run(
        &self,
        request: http::request::Builder,
        body: &str,
        response: http::response::Builder,
        answer: &[u8],
    ) -> Json {
        let exchange = self.begin(request, body);
        exchange.connected(std::time::Duration::ZERO);
        exchange.first_byte();
        exchange.response_head(&response_head(response));
        exchange.response_data(answer);
        drop(exchange.finish(End::Complete, None));
        self.last()
    }

    pub(super) fn last(&self) -> Json {
        serde_json::from_str(self.records.borrow().last().expect("a record")).expect("JSON")
    }

    pub(super) fn all(&self) -> String {
        self.records.borrow().join("\n")
    }
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri).header("host", "panel.example.com")
}

fn post(uri: &str) -> http::request::Builder {
    Request::post(uri).header("host", "panel.example.com").header("content-type", "application/x-www-form-urlencoded")
}

fn ok() -> http::response::Builder {
    Response::builder().status(200)
}

fn request_head(request: http::request::Builder) -> Rc<RequestHead> {
    Rc::new(RequestHead::from_parts(&request.body(()).expect("a request").into_parts().0))
}

fn response_head(response: http::response::Builder) -> Rc<ResponseHead> {
    Rc::new(ResponseHead::from_parts(&response.body(()).expect("a response").into_parts().0))
}

#[test]
fn an_unmatched_request_gets_a_metadata_record() {
    let bench = Bench::new("");
    let request = get("/orders?page=2&api_key=abcdefghijklmnopqrstuvwxyz")
        .header("user-agent", "test/1")
        .header("x-request-id", "req-7")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let record = bench.run(request, "", ok(), b"hello");
    for (pointer, expected) in [
        ("/schema", json!("daybook/1")),
        ("/stage", json!("response_complete")),
        ("/kind", json!("panel")),
        ("/listener", json!("panel")),
        ("/method", json!("GET")),
        ("/scheme", json!("https")),
        ("/host", json!("panel.example.com")),
        ("/path", json!("/orders")),
        ("/query", json!("page=2&api_key=***")),
        ("/http_version", json!("1.1")),
        ("/status", json!(200)),
        ("/result", json!("success")),
        ("/end", json!("complete")),
        ("/request_bytes", json!(0)),
        ("/response_bytes", json!(5)),
        ("/client/ip", json!("203.0.113.9")),
        ("/client/user_agent", json!("test/1")),
        ("/request_id", json!("req-7")),
        ("/trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("/api_key/hint", json!("…wxyz")),
        ("/redacted", json!(["request.query.api_key"])),
        ("/timing/connect_us", json!(0)),
    ] {
        assert_eq!(record.pointer(pointer), Some(&expected), "{pointer} in {record:#}");
    }
    for absent in ["rule", "user", "request", "response", "session", "reason", "escaped"] {
        assert_eq!(record.get(absent), None, "{absent} in {record:#}");
    }
}

#[test]
fn ends_that_are_not_complete_are_told_as_they_were() {
    let bench = Bench::new("");
    drop(bench.begin(get("/gone"), ""));
    let record = bench.last();
    assert_eq!(
        (&record["end"], &record["status"], &record["result"]),
        (&json!("client_closed"), &Json::Null, &json!("failure"))
    );

    let exchange = bench.begin(get("/down"), "");
    exchange.own_response(502, End::UpstreamUnreachable, "connection refused");
    assert!(exchange.finish(End::Complete, None).is_none());
    assert!(exchange.finish(End::Timeout, None).is_none(), "an exchange ends once");
    drop(exchange);
    let record = bench.last();
    assert_eq!(record["end"], "upstream_unreachable");
    assert_eq!(record["reason"], "connection refused");
    assert_eq!(&record["status"], &json!(502));
    assert_eq!(bench.records.borrow().len(), 2, "one record an exchange: {}", bench.all());

    let seen = RefusedHead {
        method: Some(http::Method::GET),
        target: Some(Bytes::from_static(b"/a\xff?password=x")),
        ..RefusedHead::default()
    };
    bench.capture.refused(&bench.connection, seen, 400, "bad header");
    let record = bench.last();
    assert_eq!(
        (&record["end"], &record["path"], &record["escaped"]),
        (&json!("refused"), &json!("/a\\xFF"), &json!(["path"]))
    );
}

#[test]
fn grpc_says_in_its_trailers_whether_it_worked() {
    let bench = Bench::new("");
    let exchange = bench.begin(post("/svc/Method"), "");
    exchange.response_head(&response_head(ok()));
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("7"));
    exchange.response_trailers(&Fields::from_map(&trailers));
    drop(exchange.finish(End::Complete, None));
    let record = bench.last();
    assert_eq!((&record["grpc_status"], &record["result"]), (&json!(7), &json!("failure")));
}

#[test]
fn rules_name_tenant_origin_route_and_attributes() {
    let bench = Bench::new(
        r#"
        [[rule]]
        name = "orders"
        kind = "api"
        match = { path = "/t/{tenant}/orders/{id}" }
        tenant = "path.tenant"
        origin = "request.header.x-origin"
        [rule.attributes]
        order = "path.id"
        amount = "request.json./amount"
        fast = "request.json./fast"
        link = "request.json./link"
        nothing = "request.json./nothing"
        source = "=rest"
        "#,
    );
    let body = r#"{"amount":12.50,"fast":true,"link":"https://x/?token=SECRETSECRET","nothing":null}"#;
    let request =
        Request::put("/t/acme%20inc/orders/17").header("x-origin", "shop").header("content-type", "application/json");
    let record = bench.run(request, body, ok(), b"");
    assert_eq!(record["tenant"], "acme inc", "{record:#}");
    assert_eq!((&record["origin"], &record["route"]), (&json!("shop"), &json!("/t/{tenant}/orders/{id}")));
    let attributes =
        json!({ "amount": 12.5, "fast": true, "link": "https://x/?token=***", "order": "17", "source": "rest" });
    assert_eq!(record["attributes"], attributes);
    assert_eq!(record.get("request"), None, "the level is metadata");
}

#[test]
fn levels_say_how_much_is_told() {
    let bench = Bench::new(
        r#"
        [[rule]]
        name = "none"
        match = { path = "/none" }
        level = "none"
        [[rule]]
        name = "full"
        match = { path = "/full" }
        level = "request-response"
        "#,
    );
    let silent = bench.begin(get("/none").header("x-request-id", "r1"), "");
    assert_eq!(silent.request_id(), "r1");
    drop(silent.finish(End::Complete, None));
    assert!(bench.records.borrow().is_empty(), "{}", bench.all());

    let answer = {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut e, br#"{"items":[1,2],"next_token":"SECRETSECRET"}"#).expect("written");
        e.finish().expect("finished")
    };
    let response =
        ok().header("content-type", "application/json").header("content-encoding", "gzip").header("set-cookie", "a=b");
    let record = bench.run(
        post("/full").header("accept", "a").header("accept", "b"),
        "x=1&password=SECRETSECRET",
        response,
        &answer,
    );
    assert_eq!(record["request"]["body"], "x=1&password=***", "{record:#}");
    assert_eq!(record["request"]["headers"]["accept"], "a, b");
    assert_eq!(record["response"]["body"], r#"{"items":[1,2],"next_token":"***"}"#);
    assert_eq!(record["response"]["headers"]["set-cookie"], "***");
    assert_eq!(record["response"]["truncated"], false);
    assert_eq!(record["response"]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(record["response_bytes"], answer.len(), "bytes as they went over the wire");
    assert_eq!(
        record["redacted"],
        json!(["request.form.password", "response.header.set-cookie", "response.json./next_token"])
    );
    let record = bench.run(get("/full"), "", ok().header("content-type", "text/html"), b"<input value=SECRETSECRET>");
    assert_eq!(record["response"]["omitted"], "nothing can be masked in text/html", "{record:#}");
    assert!(!bench.all().contains("SECRETSECRET"));
}

#[test]
fn heads_are_told_as_they_came() {
    let bench = Bench::new("[defaults]\nlevel = \"request\"\n[[rule]]\nname = \"root\"\nmatch = { path = \"/\" }");
    let told = |text: &[u8]| {
        let limits = HeadLimits { size: 4096, lines: 100 };
        let (head, ..) = RequestReader::default().read(text, limits).expect("legible").expect("whole");
        drop(bench.capture.begin(&bench.connection, &Rc::new(head)));
        bench.last()
    };
    let record =
        told(b"GET /caf\xe9?q=a\\b HTTP/1.1\r\nX-Zoo: 1\r\nHost: a\r\nX-API-Key: k\r\nAccept: b\r\nx-zoo: 2\r\n\r\n");
    assert_eq!((&record["path"], &record["query"]), (&json!("/caf\\xE9"), &json!("q=a\\b")), "{record:#}");
    assert_eq!(record["escaped"], json!(["path"]), "the query is UTF-8");
    let headers = r#""headers":{"x-zoo":"1, 2","host":"a","x-api-key":"***","accept":"b"}"#;
    assert!(bench.all().contains(headers), "{}", bench.all());
    let record = told(b"GET /a?q=\xff HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((&record["query"], &record["escaped"]), (&json!("q=\\xFF"), &json!(["query"])));
    let record = told(b"GET http://panel HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((&record["path"], &record["rule"], &record["host"]), (&json!("/"), &json!("root"), &json!("panel")));
}

#[test]
fn strict_rules_tell_the_intent_first() {
    let bench = Bench::new("[[rule]]\nname = \"strict\"\nmode = \"blocking-strict\"\nmatch = { path = \"/pay\" }");
    assert_eq!(bench.begin(get("/else"), "").mode(), Mode::Batch);
    let before = bench.records.borrow().len();
    let exchange = bench.begin(post("/pay?to=x"), "");
    assert_eq!(exchange.mode(), Mode::BlockingStrict);
    drop(exchange.intent());
    let intent = bench.last();
    assert_eq!(bench.records.borrow().len(), before + 1);
    assert_eq!((&intent["stage"], intent.get("end"), intent.get("status")), (&json!("request_received"), None, None));
    drop(exchange);
    assert_eq!(bench.last()["id"], intent["id"], "all stages have one id");
}

#[test]
fn wrong_settings_are_all_reported_with_their_places() {
    let config: Config = toml::from_str(
        r#"
        [defaults]
        session = "cookie.sid"
        [redaction]
        json = ["a.b"]
        [[rule]]
        name = "a"
        kind = "Panel"
        match = { path = "login" }
        [rule.attributes]
        p = "request.form.password"
        [[rule]]
        name = "a"
        user = { mail = "request.form.x", id = "path.id" }
        "#,
    )
    .expect("a configuration");
    let wrong = Policy::check(&settings(&config));
    let places: Vec<(Option<usize>, String)> = wrong.iter().map(|e: &PolicyError| (e.rule, e.key.join("."))).collect();
    for expected in [
        (Some(0), "match.path"),
        (Some(0), "kind"),
        (Some(0), "attributes.p"),
        (Some(1), "name"),
        (Some(1), "user.mail"),
        (None, "defaults.session"),
        (None, "redaction.json"),
    ] {
        assert!(places.contains(&(expected.0, expected.1.to_owned())), "{expected:?} is missing in {wrong:#?}");
    }
    assert!(!PathBuf::from("daybook-data").exists(), "checking makes no files");
}

#[test]
fn a_new_policy_is_for_new_exchanges() {
    let bench = Bench::new("");
    let old = bench.begin(get("/"), "");
    let mut config: Config = toml::from_str("[defaults]\nkind = \"api\"").expect("a configuration");
    config.data = bench.folder.path().to_owned();
    bench.policy.store(Arc::new(Policy::compile(&settings(&config)).expect("compiles")));
    let new = bench.begin(get("/"), "");
    drop(new);
    assert_eq!(bench.last()["kind"], "api");
    drop(old);
    assert_eq!(bench.last()["kind"], "panel");
}

fn metrics() -> Arc<crate::telemetry::Metrics> {
    Arc::new(crate::telemetry::Metrics::new([]))
}
