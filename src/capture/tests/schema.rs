//! Records hold to the published schema.

use http::{Request, Response};
use serde_json::{Value as Json, json};

use super::Bench;
use crate::record::{Attributes, Record, Value};

const SCHEMA: &str = include_str!("../../../docs/record.schema.json");

fn complaints(record: &Json) -> Vec<String> {
    let schema: Json = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("the schema is one");
    validator.iter_errors(record).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

#[test]
fn real_records_hold_to_the_schema() {
    let bench = Bench::new(
        r#"
        [identity.jwt]
        [defaults]
        user = { id = "response.header.x-user" }
        [[rule]]
        name = "login"
        kind = "login"
        mode = "blocking-strict"
        level = "request-response"
        match = { path = "/login/{how}" }
        user = { email = "request.form.email" }
        session = "response.cookie.sid"
        tenant = "=acme"
        origin = "path.how"
        attributes = { source = "=form", status = "response.status" }
        "#,
    );
    let request = || {
        let request = Request::post("/login/form?next=%2F&token=x").header("host", "panel.example.com");
        let request = request.header("x-api-key", "0123456789abcdefghij").header("user-agent", "t\u{e9}st");
        let request = request.header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        request.header("content-type", "application/x-www-form-urlencoded").header("x-bytes", &b"a\xffb"[..])
    };
    let response = Response::builder().status(302).header("set-cookie", "sid=abc").header("content-type", "text/html");
    bench.run(request(), "email=a%40b.pl&password=x", response, b"<html>");
    let strict = bench.begin(request(), "");
    drop(strict.intent());
    strict.response_started();
    drop(strict);
    bench.run(Request::get("/").header("cookie", "sid=abc"), "", Response::builder().status(200), b"");
    bench.capture.refused(&bench.connection, super::RefusedHead::default(), 431, "head too large");
    for line in bench.all().lines() {
        let record: Json = serde_json::from_str(line).expect("JSON");
        assert_eq!(complaints(&record), Vec::<String>::new(), "{record:#}");
    }
    assert_eq!(bench.all().lines().count(), 6, "login; intent, start, outcome; action; refusal");
}

#[test]
fn what_the_journal_adds_and_its_own_records_hold_too() {
    let mut attributes = Attributes::default();
    attributes.push("count", Value::Number(3.into()));
    let mut loss = Record::own("loss", attributes);
    (loss.seq, loss.epoch, loss.instance) = (Some(1), Some(1), Some("panel-7c9f".into()));
    let mut bytes = Vec::new();
    loss.encode(&mut bytes);
    assert_eq!(complaints(&serde_json::from_slice(&bytes).expect("JSON")), Vec::<String>::new());
}

#[test]
fn strangers_are_noticed() {
    let bench = Bench::new("");
    let mut record = bench.run(Request::get("/"), "", Response::builder().status(200), b"");
    assert_eq!(complaints(&record), Vec::<String>::new());
    record["password"] = json!("x");
    record["status"] = json!("200");
    record["client"]["ip"] = json!("somewhere");
    assert_eq!(complaints(&record).len(), 3, "{:?}", complaints(&record));
}
