//! What must never be written: secrets are planted wherever clients and applications put them, everything is recorded
//! in full, everything is logged, and then every file and the log are searched.

use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use crate::support::daybook::{Daybook, Setup};
use crate::support::eventually;
use crate::support::message::Message;
use crate::support::origin::Origin;
use crate::support::secrets::assert_nowhere;

/// One for each place, so that a failure says which.
const PLANTED: [&str; 24] = [
    "pw-form-7d1f20aa4b",
    "pw-json-91ce77b0d3",
    "pw-nested-0c55e1f2a9",
    "pw-multipart-44aa87c1e0",
    "pw-query-5fe01b93d7",
    "pw-basic-c0ffee1234",
    "bearer-e7a9d15c3b2f48",
    "jwt-like.eyJzdWIiOiIxNyJ9.c2lnbmF0dXJlMTIz",
    "key-header-3b2a190f8e7d",
    "key-query-77bd02c4e19a",
    "cookie-session-a81f3cd9907e",
    "cookie-other-55d0e1c2b3a4",
    "cookie-response-9e8d7c6b5a40",
    "csrf-form-1029384756abcd",
    "csrf-header-abcd56473829",
    "csrf-cookie-0f1e2d3c4b5a",
    "token-path-deadbeef00112233",
    "token-response-beef4455aa66",
    "secret-url-6677889900aabb",
    "otp-form-482913-775511",
    "refused-query-8a7b6c5d4e",
    "lost-query-1a2b3c4d5e6f",
    "broken-json-0a9b8c7d6e5f",
    "proxy-auth-f0e1d2c3b4a5",
];

const RULES: &str = r#"
[defaults]
level = "request-response"
session = ["request.cookie.sid"]

[[rule]]
name = "login"
kind = "login"
match = { method = "POST", path = "/login" }
user = { name = "request.form.username" }
session = "response.cookie.sid"

[[rule]]
name = "reset"
match = { path = "/reset/{token}" }
"#;

/// Sets cookies and answers with a token in JSON, a URL with another, and a header with the first once more.
fn application() -> Origin {
    Origin::new(|visit| {
        while let Some(request) = visit.request() {
            let body = "{\"access_token\":\"token-response-beef4455aa66\",\"user\":{\"id\":17},\
                        \"next\":\"https://x.example/?token=secret-url-6677889900aabb\"}";
            let body = if request.line().contains("/broken") { &body[..40] } else { body };
            visit.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Set-Cookie: sid=cookie-session-a81f3cd9907e; HttpOnly\r\n\
                 Set-Cookie: remember=cookie-response-9e8d7c6b5a40; HttpOnly\r\n\
                 Location: /welcome?access_token=token-response-beef4455aa66\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

/// A request with secrets in every header that may hold one.
fn request(daybook: &Daybook, line: &str, authorization: &str, content_type: &str, body: &str) -> Message {
    let mut client = daybook.connect();
    client.send(format!(
        "{line} HTTP/1.1\r\nHost: app.test\r\nAuthorization: {authorization}\r\n\
         Proxy-Authorization: Bearer proxy-auth-f0e1d2c3b4a5\r\n\
         Cookie: sid=cookie-session-a81f3cd9907e; theme=dark; tracker=cookie-other-55d0e1c2b3a4; csrftoken=csrf-cookie-0f1e2d3c4b5a\r\n\
         X-CSRFToken: csrf-header-abcd56473829\r\nX-Api-Key: key-header-3b2a190f8e7d\r\n\
         Referer: https://app.test/login?password=pw-query-5fe01b93d7\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.response()
}

/// Every way in that there is.
fn plant(daybook: &Daybook) {
    let basic = base64::engine::general_purpose::STANDARD.encode("ada:pw-basic-c0ffee1234");
    let (basic, bearer) = (format!("Basic {basic}"), "Bearer bearer-e7a9d15c3b2f48");
    let form = "application/x-www-form-urlencoded";
    let login = "username=ada%40example.com&password=pw-form-7d1f20aa4b&csrfmiddlewaretoken=csrf-form-1029384756abcd\
                 &otp=otp-form-482913-775511&next=%2Forders";
    request(daybook, "POST /login", &basic, form, login);
    // As a person who mistook the fields, and a client that escapes more than it must.
    let escaped: String = "pw-form-7d1f20aa4b".bytes().map(|byte| format!("%{byte:02X}")).collect();
    request(daybook, "POST /login", bearer, form, &format!("username=ada&password={escaped}"));
    let json = "{\"password\":\"pw-json-91ce77b0d3\",\"deep\":[{\"credentials\":{\"api_key\":\"pw-nested-0c55e1f2a9\"}}],\
                \"callback\":\"https://x.example/?token=secret-url-6677889900aabb\",\"amount\":12}";
    request(daybook, "PUT /api/account?api_key=key-query-77bd02c4e19a&page=2", bearer, "application/json", json);
    let jwt = "Bearer jwt-like.eyJzdWIiOiIxNyJ9.c2lnbmF0dXJlMTIz";
    request(daybook, "GET /orders?password=pw-query-5fe01b93d7&q=blue+chair", jwt, "text/plain", "");
    let parts = "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\npw-multipart-44aa87c1e0\r\n\
                 --b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nblue chair\r\n--b--\r\n";
    request(daybook, "POST /upload", bearer, "multipart/form-data; boundary=b", parts);
    request(daybook, "GET /reset/token-path-deadbeef00112233", bearer, "text/plain", "");
    // Bodies that are not what their type says.
    request(daybook, "POST /broken", bearer, "application/json", "{\"password\":\"broken-json-0a9b8c7d6e5f");
    request(daybook, "POST /odd", bearer, "application/octet-stream", "password=broken-json-0a9b8c7d6e5f");
}

/// Faults write logs of their own.
fn plant_in_faults(daybook: &Daybook) {
    let mut client = daybook.connect();
    let refused = client.get("/bad?token=refused-query-8a7b6c5d4e", "Content-Length: 1\r\nContent-Length: 2\r\n");
    assert_eq!(refused.status(), 400);
    let mut client = daybook.connect();
    client.send("GET /bad?password=refused-query-8a7b6c5d4e HTTP/1.1\nX-Api-Key: key-header-3b2a190f8e7d\n\n");
    client.maybe();
    // Gone before the response.
    let mut client = daybook.connect();
    client.send("POST /gone?api_key=lost-query-1a2b3c4d5e6f HTTP/1.1\r\nHost: app.test\r\nContent-Length: 90\r\n\r\npassword=pw-form-7d1f20aa4b");
    std::thread::sleep(Duration::from_millis(100));
    client.reset();
}

/// The same over HTTP/2, by prior knowledge, which has a library and logs of its own.
fn plant_over_http2(daybook: &Daybook) {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let response = runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(daybook.address()).await.expect("Daybook listens");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let body = "username=ada&password=pw-form-7d1f20aa4b&csrfmiddlewaretoken=csrf-form-1029384756abcd";
        let request = http::Request::post(format!("http://{}/two?api_key=key-query-77bd02c4e19a", daybook.address()))
            .header("authorization", "Bearer bearer-e7a9d15c3b2f48")
            .header("cookie", "sid=cookie-session-a81f3cd9907e; tracker=cookie-other-55d0e1c2b3a4")
            .header("x-api-key", "key-header-3b2a190f8e7d")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::<bytes::Bytes>::from(body))
            .expect("a request");
        let response = sender.send_request(request).await.expect("a response");
        response.into_body().collect().await.expect("as a whole").to_bytes()
    });
    assert!(!response.is_empty());
}

fn planted() -> Vec<String> {
    PLANTED.map(str::to_owned).into()
}

fn awaited(daybook: &Daybook, path: &str) {
    eventually("the last exchange is recorded", Duration::from_secs(20), || {
        daybook.all_records().iter().any(|record| record["path"] == path).then_some(())
    });
}

#[test]
fn planted_secrets_are_in_no_file_and_no_log() {
    let origin = application();
    let daybook = Setup::new(&origin.url).log("trace").rest(RULES).start();
    plant(&daybook);
    plant_over_http2(&daybook);
    plant_in_faults(&daybook);
    awaited(&daybook, "/two");
    awaited(&daybook, "/gone");
    awaited(&daybook, "/odd");
    let mut daybook = daybook;
    daybook.signal(rustix::process::Signal::TERM);
    assert_eq!(daybook.ended().code(), Some(0));
    assert_nowhere(&daybook, &planted());
    assert!(daybook.log().contains("TRACE"), "everything was logged:\n{}", daybook.log());

    let record = daybook.outcome("/api/account");
    assert_eq!(record["api_key"]["hint"], "…8e7d", "an API key keeps its last four characters: {record:#}");
    let body: Value = serde_json::from_str(record["request"]["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!((&body["amount"], &body["password"]), (&12.into(), &"***".into()), "the rest of the body is there");
    let query = record["query"].as_str().expect("a query");
    assert!(query.contains("page=2") && query.contains("api_key=***"), "{query}");
}

#[test]
fn planted_secrets_are_not_logged_when_the_application_is_away() {
    let nobody = crate::support::origin::nobody();
    let daybook = Setup::new(&format!("http://{nobody}")).log("trace").rest(RULES).start();
    plant(&daybook);
    awaited(&daybook, "/odd");
    assert_nowhere(&daybook, &planted());
}

#[cfg(feature = "kafka")]
#[test]
fn planted_secrets_are_in_no_message_and_no_dead_letter() {
    use crate::support::kafka::{create_topic, read, shared};

    let topic = format!("secrets.{}", std::process::id());
    create_topic(shared(), &topic, 1, &[]);
    let origin = application();
    // Small enough that the fullest records are refused.
    let sink = format!("[sink.kafka]\nbrokers = \"{}\"\ntopic = \"{topic}\"\nmax_message = 1500", shared());
    let daybook = Setup::new(&origin.url).log("trace").rest(&format!("{RULES}\n{sink}")).start();
    plant(&daybook);
    awaited(&daybook, "/odd");
    let count = daybook.journal().len();
    let messages = read(shared(), &topic, Duration::from_secs(60), |received| received.len() >= count);
    assert_eq!(messages.len(), count, "a stub stands for what was refused");
    let dead = std::fs::read_to_string(daybook.dir().join("data/dead-letter.ndjson")).expect("a dead-letter file");
    assert!(dead.lines().count() > 2, "some were refused");
    assert_nowhere(&daybook, &planted());
    for message in &messages {
        let text = String::from_utf8_lossy(&message.payload);
        let found = PLANTED.iter().find(|secret| text.contains(*secret));
        assert_eq!(found, None, "{text}");
    }
}
