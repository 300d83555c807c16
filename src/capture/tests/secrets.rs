//! Secrets planted everywhere reach no record.

use std::io::Write;

use base64::Engine as _;
use http::{Request, Response};
use proptest::prelude::*;

use super::Bench;

/// Everything is recorded in full, and the selectors look at everything they may look at.
const FULL: &str = r#"
    [defaults]
    level = "request-response"
    session = ["request.cookie.sid", "request.header.x-session"]
    api_key = ["request.header.x-api-key", "request.query.api_key", "request.header.x-shop"]
    [identity.jwt]
    [redaction]
    fields = ["Internal Note"]
    headers = ["x-internal"]
    query = ["who"]
    json = ["/a/*/b"]
    unmasked_types = ["text/plain"]
    [[rule]]
    name = "reset"
    match = { path = "/reset/{token}/**" }
    [[rule]]
    name = "login"
    kind = "login"
    match = { path = "/login" }
    user = { email = "request.form.email", name = "request.json./user" }
    session = "response.cookie.sid"
    [rule.attributes]
    next = "request.query.next"
    from = "request.header.referer"
    to = "response.header.location"
    note = "request.json./note"
"#;

/// Letters that are no hex digits: six of them in a row stand in no token, id or time by chance.
const ALPHABET: &str = "[G-Zg-z]{16,24}";

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("written");
    encoder.finish().expect("finished")
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn jwt(secret: &str) -> String {
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{secret}", part(r#"{"alg":"HS256"}"#), part(r#"{"sub":"17"}"#))
}

/// A request header with a secret in it.
fn header(place: usize, s: &str) -> (&'static str, String) {
    match place {
        0 => ("authorization", format!("Bearer {s}")),
        1 => ("authorization", format!("Basic {}", base64(&format!("ann:{s}")))),
        2 => ("authorization", format!("Bearer {}", jwt(s))),
        3 => ("cookie", format!("a=b; sid={s}")),
        4 => ("cookie", format!("unknown={s}")),
        5 => ("x-api-key", s.to_owned()),
        6 => ("x-csrftoken", s.to_owned()),
        7 => ("x-internal", s.to_owned()),
        8 => ("referer", format!("https://x.example/a?b=c&password={s}&d=e")),
        9 => ("referer", format!("https://ann:{s}@x.example/a")),
        10 => ("referer", format!("https://x.example/cb#access_token={s}&state=1")),
        11 => ("referer", format!("/login?next=%2Freset%3Ftoken%3D{s}")),
        12 => ("x-original-url", format!("/a;jsessionid={s}?x=y")),
        13 => ("x-anything", format!("Bearer {s}")),
        14 => ("x-anything", jwt(s)),
        15 => ("proxy-authorization", format!("Digest {s}")),
        16 => ("x-session", s.to_owned()),
        17 => ("x-shop", s.to_owned()),
        _ => ("x-forwarded-uri", format!("/cb?code={s}&state=xyz")),
    }
}

const HEADERS: usize = 19;

/// A target with a secret in it.
fn target(place: usize, s: &str) -> String {
    match place {
        0 => format!("/login?password={s}"),
        1 => format!("/login?a=b&Access_Token={s}&c=d"),
        2 => format!("/login?next=https%3A%2F%2Fx%2F%3Ftoken%3D{s}"),
        3 => format!("/login?user%5Bpassword%5D={s}"),
        4 => format!("/login?pass%77ord={s}"),
        5 => format!("/login?a=b;password={s}"),
        6 => format!("/login?who={s}"),
        7 => format!("/cb?code={s}&state=1"),
        8 => format!("/reset/{s}/"),
        9 => format!("/login;jsessionid={s}"),
        10 => format!("/login?filter=%7B%22password%22%3A%22{s}%22%7D"),
        11 => format!("/login?next=%252Fa%253Ftoken%253D{s}"),
        _ => format!("/login?url=https://ann:{s}@x/"),
    }
}

const TARGETS: usize = 13;

/// A body with a secret in it, and its type.
fn body(place: usize, s: &str) -> (&'static str, String) {
    let form = "application/x-www-form-urlencoded";
    let json = "application/json; charset=utf-8";
    let multipart = "multipart/form-data; boundary=xyz";
    match place {
        0 => (form, format!("email=a%40b.pl&password={s}")),
        1 => (form, format!("user[new_password1]={s}&user[email]=x")),
        2 => (form, format!("Internal+Note={s}")),
        3 => (form, format!(r#"{{"password":"{s}"}}"#)),
        4 => (form, format!("payload=%7B%22a%22%3A%7B%22pin%22%3A%22{s}%22%7D%7D")),
        5 => (json, format!(r#"{{"user":"ann","password":"{s}"}}"#)),
        6 => (json, format!(r#"{{"a":[{{"deep":{{"Client-Secret":["{s}",{{"x":"{s}"}}]}}}}]}}"#)),
        7 => (json, format!(r#"{{"a":[{{"b":"{s}"}},{{"b":{{"c":"{s}"}}}}]}}"#)),
        8 => (json, format!(r#"{{"pass\u0077ord":"{s}"}}"#)),
        9 => (json, format!(r#"{{"note":"see https://x/?token={s} please"}}"#)),
        10 => (json, format!(r#"{{"note":"{{\"otp\":\"{s}\"}}"}}"#)),
        11 => (json, format!(r#"[{{"name":"password","value":"{s}"}}]"#)),
        12 => (json, format!(r#"{{"password":"{s}"#)),
        13 => (json, format!("password={s}")),
        14 => (json, format!(r#"{{"note":"Bearer {s}"}}"#)),
        15 => {
            (multipart, format!("--xyz\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n{s}\r\n--xyz--\r\n"))
        }
        16 => (
            multipart,
            format!(
                "--xyz\r\nContent-Disposition: form-data; name=\"f\"; filename=\"keys.txt\"\r\n\r\n{s}\r\n--xyz--\r\n"
            ),
        ),
        17 => {
            (multipart, format!("--abc\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n{s}\r\n--abc--\r\n"))
        }
        18 => ("text/html", format!("<input name=csrf value={s}>")),
        19 => ("application/octet-stream", s.to_owned()),
        20 => ("application/x-ndjson", format!("{{\"a\":1}}\n{{\"secret\":\"{s}\"}}\n")),
        21 => ("text/plain", format!("go to https://x/?token={s} now")),
        22 => ("", format!("password={s}")),
        _ => ("application/vnd.api+json", format!(r#"{{"data":{{"attributes":{{"refresh_token":"{s}"}}}}}}"#)),
    }
}

const BODIES: usize = 24;

/// A response header with a secret in it.
fn answer(place: usize, s: &str) -> (&'static str, String) {
    match place {
        0 => ("set-cookie", format!("sid={s}; HttpOnly")),
        1 => ("set-cookie", format!("other={s}")),
        2 => ("location", format!("https://app/cb?code={s}&state=1")),
        3 => ("location", format!("https://app/cb#id_token={s}")),
        4 => ("location", format!("https://ann:{s}@app/")),
        5 => ("x-auth-token", s.to_owned()),
        6 => ("link", format!("<https://x/?api_key={s}>; rel=\"next\"")),
        _ => ("refresh", format!("0; url=/a?session_token={s}")),
    }
}

const ANSWERS: usize = 8;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_planted_secret_reaches_a_record(
        secret in ALPHABET,
        (h1, h2) in (0..HEADERS, 0..HEADERS),
        t in 0..TARGETS,
        (b, r) in (0..BODIES, 0..BODIES),
        a in 0..ANSWERS,
        (zip, status) in (any::<bool>(), prop::sample::select(vec![200u16, 302, 401, 500])),
        echo in any::<bool>(),
    ) {
        let bench = Bench::new(FULL);
        let (kind, sent) = body(b, &secret);
        let mut request = Request::post(target(t, &secret)).header("host", "x.example");
        for (name, value) in [header(h1, &secret), header(h2, &secret)] {
            request = request.header(name, value);
        }
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let (name, value) = answer(a, &secret);
        let mut response = Response::builder().status(status).header(name, value);
        let (kind, mut received) = body(r, &secret);
        // What is known to be a secret is masked wherever the application repeats it.
        let known = [3, 5, 16, 17].contains(&h1);
        if echo && known {
            received = format!(r#"{{"you sent":"{secret}"}}"#);
            response = response.header("content-type", "application/json");
        } else if !kind.is_empty() {
            response = response.header("content-type", kind);
        }
        let received = if zip { gzip(&received) } else { received.into_bytes() };
        if zip {
            response = response.header("content-encoding", "gzip");
        }
        let exchange = bench.begin(request, &sent);
        exchange.response_head(&super::response_head(response));
        exchange.response_started();
        exchange.response_data(&received);
        drop(exchange.finish(crate::record::End::Complete, None));
        let written = bench.all();
        for window in secret.as_bytes().windows(6) {
            let part = std::str::from_utf8(window).expect("letters");
            prop_assert!(!written.contains(part), "{secret} ({part}) from {h1} {h2} {t} {b} {r} {a} in {written}");
        }
        let encoded = base64(&format!("ann:{secret}"));
        prop_assert!(!written.contains(&encoded[8..16]), "{encoded} in {written}");
    }
}
