//! Who did it, from where: logins, sessions, impersonation, basic authentication, GeoIP.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use serde_json::{Value as Json, json};

use super::{Bench, get, ok, post};
use crate::capture::exchange::Outlet;
use crate::capture::{Capture, Sessions};
use crate::config::Config;

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
    let capture =
        Capture::with_outlet(bench.policy.clone(), sessions, Outlet::Memory(records.clone()), &super::metrics());
    let head = super::request_head(get("/").header("cookie", "sessionid=S"));
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
