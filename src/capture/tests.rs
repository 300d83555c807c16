//! Capture from its door: exchanges in, records out.

mod schema;
mod secrets;

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
        let capture = Capture::with_outlet(policy.clone(), sessions.clone(), Outlet::Memory(records.clone()));
        let connection = Rc::new(Connection {
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
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let exchange = self.capture.begin(&self.connection, &head);
        for piece in body.as_bytes().chunks(5) {
            exchange.request_data(&Bytes::copy_from_slice(piece));
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
        let (head, ()) = response.body(()).expect("a response").into_parts();
        exchange.connected(std::time::Duration::ZERO);
        exchange.first_byte();
        exchange.response_head(&head);
        exchange.response_data(&Bytes::copy_from_slice(answer));
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
    for absent in ["rule", "user", "request", "response", "session", "reason", "attempts", "escaped"] {
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
    exchange.attempts(2);
    assert!(exchange.finish(End::Complete, None).is_none());
    assert!(exchange.finish(End::Timeout, None).is_none(), "an exchange ends once");
    drop(exchange);
    let record = bench.last();
    assert_eq!(record["end"], "upstream_unreachable");
    assert_eq!(record["reason"], "connection refused");
    assert_eq!((&record["status"], &record["attempts"]), (&json!(502), &json!(2)));
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
    exchange.response_head(&ok().body(()).expect("a response").into_parts().0);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("7"));
    exchange.response_trailers(&trailers);
    drop(exchange.finish(End::Complete, None));
    let record = bench.last();
    assert_eq!((&record["grpc_status"], &record["result"]), (&json!(7), &json!("failure")));
}

/// Django's admin, by its wire format: form login, `sessionid`, a new session after the password changed.
const DJANGO: &str = r#"
    [[rule]]
    name = "login"
    kind = "login"
    match = { method = "POST", path = "/admin/login/" }
    success = { status = [302] }
    user = { email = "request.form.username" }
    session = "response.cookie.sessionid"
    [[rule]]
    name = "logout"
    kind = "logout"
    match = { method = "POST", path = "/admin/logout/" }
    [[rule]]
    name = "act as"
    kind = "impersonation"
    match = { method = "POST", path = "/hijack/{id}" }
    target = { id = "path.id" }
    [[rule]]
    name = "act as oneself"
    kind = "impersonation"
    match = { method = "POST", path = "/release" }
"#;

fn sign_in(bench: &Bench, session: &str) -> Json {
    let body = "csrfmiddlewaretoken=QQQQQQQQ&username=a%40b.pl&password=hunter22&next=%2Fadmin%2F";
    let response = Response::builder()
        .status(302)
        .header("location", "/admin/")
        .header("set-cookie", "csrftoken=ZZZZZZZZ; Path=/")
        .header("set-cookie", format!("sessionid={session}; HttpOnly; Max-Age=1209600; Path=/"));
    bench.run(post("/admin/login/?next=/admin/"), body, response, b"")
}

fn act(bench: &Bench, method: &str, path: &str, session: &str) -> Json {
    let request =
        Request::builder().method(method).uri(path).header("cookie", format!("csrftoken=x; sessionid={session}"));
    bench.run(request, "", ok(), b"")
}

#[test]
fn a_session_is_learnt_at_login_and_forgotten_at_logout() {
    let bench = Bench::new(DJANGO);
    let login = sign_in(&bench, "SESSIONSECRET1");
    assert_eq!(login["user"], json!({ "email": "a@b.pl", "source": "request" }), "{login:#}");
    assert_eq!(login["result"], "success");
    let action = act(&bench, "GET", "/admin/auth/", "SESSIONSECRET1");
    assert_eq!(action["user"], json!({ "email": "a@b.pl", "source": "session" }), "{action:#}");
    assert_eq!(action["session"], login["session"], "one session has one token");
    assert_eq!(act(&bench, "GET", "/admin/auth/", "ANOTHER").get("user"), None, "a session nobody began");
    let logout = act(&bench, "POST", "/admin/logout/", "SESSIONSECRET1");
    assert_eq!(logout["user"]["email"], "a@b.pl", "{logout:#}");
    assert_eq!(act(&bench, "GET", "/admin/auth/", "SESSIONSECRET1").get("user"), None, "logged out");
    for secret in ["SESSIONSECRET1", "hunter22", "QQQQQQQQ", "ZZZZZZZZ"] {
        assert!(!bench.all().contains(secret), "{secret} in {}", bench.all());
    }
}

#[test]
fn a_failed_login_carries_who_was_tried() {
    let bench = Bench::new(DJANGO);
    let record = bench.run(post("/admin/login/"), "username=a%40b.pl&password=wrong", ok(), b"try again");
    assert_eq!(record["user"], json!({ "email": "a@b.pl", "source": "request" }), "{record:#}");
    assert_eq!((&record["result"], &record["kind"]), (&json!("failure"), &json!("login")));
}

#[test]
fn a_session_goes_on_under_a_new_cookie_and_ends_with_its_deletion() {
    let bench = Bench::new(DJANGO);
    sign_in(&bench, "OLD");
    let with = |cookie: &str| get("/admin/password_change/").header("cookie", cookie.to_owned());
    bench.run(with("sessionid=OLD"), "", ok().header("set-cookie", "sessionid=NEW; Path=/"), b"");
    assert_eq!(act(&bench, "GET", "/", "NEW")["user"]["email"], "a@b.pl", "the new cookie is the same session");
    let gone = ok().header("set-cookie", "sessionid=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0");
    bench.run(with("sessionid=NEW"), "", gone, b"");
    assert_eq!(act(&bench, "GET", "/", "NEW").get("user"), None, "the application took the cookie away");
}

#[test]
fn impersonation_names_both_until_it_ends() {
    let bench = Bench::new(DJANGO);
    sign_in(&bench, "S");
    let begin = act(&bench, "POST", "/hijack/42", "S");
    assert_eq!((&begin["user"]["id"], &begin["impersonator"]["email"]), (&json!("42"), &json!("a@b.pl")), "{begin:#}");
    let again = act(&bench, "POST", "/hijack/43", "S");
    assert_eq!(again["impersonator"]["email"], "a@b.pl", "the first one stays the real one: {again:#}");
    let during = act(&bench, "GET", "/", "S");
    assert_eq!((&during["user"]["id"], &during["impersonator"]["email"]), (&json!("43"), &json!("a@b.pl")));
    let end = act(&bench, "POST", "/release", "S");
    assert_eq!(end["impersonator"]["email"], "a@b.pl", "{end:#}");
    let after = act(&bench, "GET", "/", "S");
    assert_eq!((&after["user"]["email"], after.get("impersonator")), (&json!("a@b.pl"), None), "{after:#}");
}

#[test]
fn sessions_survive_a_restart_of_daybook() {
    let bench = Bench::new(DJANGO);
    sign_in(&bench, "S");
    bench.sessions.save().expect("saved");
    let config: Config = toml::from_str(DJANGO).expect("a configuration");
    let sessions = Arc::new(Sessions::open(bench.folder.path(), &config.identity));
    let records = Rc::new(RefCell::new(Vec::new()));
    let capture = Capture::with_outlet(bench.policy.clone(), sessions, Outlet::Memory(records.clone()));
    let head = get("/").header("cookie", "sessionid=S").body(()).expect("a request").into_parts().0;
    drop(capture.begin(&bench.connection, &head));
    assert!(records.borrow()[0].contains(r#""email":"a@b.pl","source":"session""#), "{records:?}");
    let saved = std::fs::read_to_string(bench.folder.path().join("sessions.ndjson")).expect("saved");
    assert!(!saved.contains("\"S\""), "{saved}");
}

#[test]
fn api_logins_give_out_bearer_tokens() {
    let bench = Bench::new(
        r#"
        [[rule]]
        name = "token"
        kind = "login"
        match = { path = "/token" }
        success = { response_json = { "/ok" = "true" } }
        user = { id = "response.json./user/id", name = "request.json./login" }
        session = "response.json./access_token"
        "#,
    );
    let login = || Request::post("/token").header("content-type", "application/json");
    let answer = br#"{"ok":true,"user":{"id":17},"access_token":"TOKENTOKENTOKEN"}"#;
    let record = bench.run(login(), r#"{"login":"ann","password":"PASSPASS"}"#, ok(), answer);
    assert_eq!(record["user"], json!({ "id": "17", "name": "ann", "source": "request" }), "{record:#}");
    let record = bench.run(get("/x").header("authorization", "Bearer TOKENTOKENTOKEN"), "", ok(), b"");
    assert_eq!(record["user"], json!({ "id": "17", "name": "ann", "source": "session" }), "{record:#}");
    let record = bench.run(login(), r#"{"login":"ann"}"#, ok(), br#"{"ok":false}"#);
    assert_eq!(record["result"], "failure");
    assert!(!bench.all().contains("TOKENTOKEN") && !bench.all().contains("PASSPASS"), "{}", bench.all());
}

#[test]
fn basic_authentication_is_believed_only_when_it_worked() {
    let bench = Bench::new("");
    let request = || get("/").header("authorization", "Basic YW5uOmh1bnRlcjIy");
    assert_eq!(bench.run(request(), "", ok(), b"")["user"], json!({ "name": "ann", "source": "basic" }));
    let refused = bench.run(request(), "", Response::builder().status(401), b"");
    assert_eq!(refused["user"], json!({ "name": "ann", "source": "request" }));
    assert!(!bench.all().contains("hunter22") && !bench.all().contains("YW5u"), "{}", bench.all());
}

#[test]
fn the_application_knows_its_users_best() {
    let bench =
        Bench::new("[defaults]\nuser = { email = \"response.header.x-user\", id = \"request.header.x-claimed\" }");
    let record = bench.run(get("/"), "", ok().header("x-user", "a@b.pl"), b"");
    assert_eq!(record["user"], json!({ "email": "a@b.pl", "source": "response" }));
    let record = bench.run(get("/").header("x-claimed", "17"), "", ok(), b"");
    assert_eq!(record["user"], json!({ "id": "17", "source": "request" }));
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

#[test]
fn logins_are_placed_on_the_map() {
    use maxminddb_writer::metadata::IpVersion;
    use maxminddb_writer::paths::IpAddrWithMask;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("city.mmdb");
    let mut database = maxminddb_writer::Database::default();
    database.metadata.ip_version = IpVersion::V4;
    database.metadata.database_type = "GeoLite2-City".to_owned();
    database.metadata.binary_format_major_version = 2;
    database.metadata.build_epoch = 1_793_491_200;
    let place = json!({
        "country": { "iso_code": "PL" },
        "subdivisions": [{ "iso_code": "14", "names": { "en": "Mazovia" } }],
        "city": { "names": { "en": "Warsaw", "de": "Warschau" } },
    });
    let data = database.insert_value(place).expect("inserted");
    database.insert_node("203.0.113.0/24".parse::<IpAddrWithMask>().expect("a network"), data);
    database.write_to(std::fs::File::create(&path).expect("a file")).expect("written");
    let bench = Bench::new(&format!("{DJANGO}\n[geoip]\ncity = {path:?}"));
    let login = sign_in(&bench, "S");
    let geo = json!({ "country": "PL", "region": "Mazovia", "city": "Warsaw", "build": "2026-11-01" });
    assert_eq!(login["client"]["geo"], geo, "{login:#}");
    assert_eq!(act(&bench, "GET", "/", "S")["client"].get("geo"), None, "only logins ask by default");
}
