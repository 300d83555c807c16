//! Django's admin, real and unmodified, behind the real binary with `config/presets/django-admin.toml`. Its records
//! are read back from a real Kafka by a plain consumer and compared, field by field, with what a browser saw happen.

mod browser;
mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daybook::{Daybook, Setup};
use crate::support::geoip::{self, NOWHERE, WARSAW};
use crate::support::kafka::{Received, create_topic, read, shared};
use crate::support::origin::Origin;
use crate::support::python_home;
use crate::support::secrets;

use browser::{AGENT, Browser, Done};
use server::Django;

const ADA: &str = "ada@example.com";
const PASSWORD: &str = "planted-horse-battery-1";
const NEW_PASSWORD: &str = "planted-staple-correct-2";

/// An exchange with what its record must say beyond what the browser saw.
struct Step {
    done: Done,
    rule: &'static str,
    route: &'static str,
    kind: &'static str,
    failed: bool,
    user: Option<Value>,
    /// Which of the sessions, by the order they began in.
    session: Option<usize>,
    attributes: Value,
    geo: bool,
}

impl Step {
    fn new(done: Done, rule: &'static str, route: &'static str) -> Self {
        let (user, attributes) = (None, Value::Null);
        Self { done, rule, route, kind: "panel", failed: false, user, session: None, attributes, geo: false }
    }

    fn login(done: Done, name: &str) -> Self {
        let mut user = json!({ "name": name, "source": "request" });
        if name.contains('@') {
            user["email"] = name.into();
        }
        let geo = done.ip == WARSAW;
        let user = Some(user);
        Self { kind: "login", user, geo, ..Self::new(done, "django admin login", "/admin/login/") }
    }

    /// By whoever signed in, in this session.
    fn by_ada(self, session: usize) -> Self {
        let user = json!({ "name": ADA, "email": ADA, "source": "session" });
        Self { user: Some(user), session: Some(session), ..self }
    }

    fn failed(self) -> Self {
        Self { failed: true, ..self }
    }

    fn with(self, attributes: Value) -> Self {
        Self { attributes, ..self }
    }

    /// The whole record, save for what only it can know.
    fn record(&self) -> Value {
        let done = &self.done;
        let mut record = json!({
            "schema": "daybook/1", "stage": "response_complete", "kind": self.kind, "rule": self.rule,
            "listener": "app", "instance": "panel-1", "method": done.method, "scheme": "http", "host": done.host,
            "path": done.path, "route": self.route, "http_version": "1.1", "status": done.status,
            "result": if self.failed { "failure" } else { "success" }, "end": "complete",
            "request_bytes": done.sent, "response_bytes": done.received,
            "client": { "ip": done.ip, "peer": "127.0.0.1", "user_agent": AGENT },
        });
        let optional = [("query", done.query.as_deref().map(Value::from)), ("user", self.user.clone())];
        for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            record[name] = value;
        }
        if !self.attributes.is_null() {
            record["attributes"] = self.attributes.clone();
        }
        if self.geo {
            record["client"]["geo"] = geoip::warsaw();
        }
        record
    }
}

/// An afternoon in the admin. Returns what happened, in order.
fn afternoon(ada: &mut Browser, mallory: &mut Browser) -> Vec<Step> {
    let mut story = Vec::new();
    let mut step = |step| story.push(step);
    step(Step::new(mallory.get("/admin/"), "django admin", "/admin/**"));
    step(Step::new(mallory.get("/admin/login/?next=/admin/"), "django admin", "/admin/**"));
    let guess = mallory.post("/admin/login/", &[("username", "mallory"), ("password", "planted-guess-99")]);
    step(Step::login(guess, "mallory").failed());

    step(Step::new(ada.get("/admin/login/"), "django admin", "/admin/**"));
    let credentials = [("username", ADA), ("password", PASSWORD), ("next", "/admin/auth/user/")];
    let login = Step::login(ada.post("/admin/login/?next=/admin/auth/user/", &credentials), ADA);
    step(Step { session: Some(0), ..login });
    in_the_admin(ada, &mut step);

    let old = ada.cookie("sessionid").expect("a session").to_owned();
    step(Step::new(ada.post("/admin/logout/", &[]), "django admin logout", "/admin/logout/").by_ada(1));
    if let Some(last) = story.last_mut() {
        last.kind = "logout";
    }
    assert_eq!(ada.cookie("sessionid"), None, "Django takes the cookie away");
    story.push(Step::new(ada.get("/admin/"), "django admin", "/admin/**"));
    // The old cookie names nobody any more, but it is still the same session's.
    ada.set_cookie("sessionid", &old);
    story.push(Step { session: Some(1), ..Step::new(ada.get("/admin/auth/"), "django admin", "/admin/**") });

    story.push(Step { session: None, ..Step::new(ada.get("/admin/login/"), "django admin", "/admin/**") });
    let credentials = [("username", ADA), ("password", NEW_PASSWORD)];
    let login = Step::login(ada.post("/admin/login/", &credentials), ADA);
    story.push(Step { session: Some(2), ..login });
    story.push(Step::new(ada.get("/admin/"), "django admin", "/admin/**").by_ada(2));
    story
}

/// What she does between login and logout: a group comes and goes, a colleague is added, the password changes.
fn in_the_admin(ada: &mut Browser, step: &mut impl FnMut(Step)) {
    let group = |action: &str| json!({ "action": action, "app": "auth", "model": "group" });
    let list = ada.get("/admin/auth/user/?q=ada&o=1");
    assert!(list.page.contains(ADA), "the list shows her: {}", list.page);
    let listed = Step::new(list, "django admin list", "/admin/{app}/{model}/").by_ada(0);
    step(listed.with(json!({ "action": "list", "app": "auth", "model": "user" })));

    let (rule, route) = ("django admin add", "/admin/{app}/{model}/add/");
    // The form is a page whose path looks like an object's.
    step(Step::new(ada.get("/admin/auth/group/add/"), "django admin", "/admin/**").by_ada(0));
    let nameless = ada.post("/admin/auth/group/add/", &[("name", ""), ("_save", "Save")]);
    step(Step::new(nameless, rule, route).by_ada(0).with(group("add")).failed());
    let added = ada.post("/admin/auth/group/add/", &[("name", "auditors"), ("_save", "Save")]);
    step(Step::new(added, rule, route).by_ada(0).with(group("add")));

    let mut of_one = group("change");
    of_one["object"] = "1".into();
    let (rule, route) = ("django admin change", "/admin/{app}/{model}/{object}/change/");
    let mut viewed = of_one.clone();
    viewed["action"] = "view".into();
    let page = ada.get("/admin/auth/group/1/change/");
    assert!(page.page.contains("auditors"), "the group is there");
    step(Step::new(page, "django admin object", route).by_ada(0).with(viewed));
    let changed = ada.post("/admin/auth/group/1/change/", &[("name", "inspectors"), ("_save", "Save")]);
    step(Step::new(changed, rule, route).by_ada(0).with(of_one.clone()));
    let (rule, route) = ("django admin delete", "/admin/{app}/{model}/{object}/delete/");
    of_one["action"] = "delete".into();
    let deleted = ada.post("/admin/auth/group/1/delete/", &[("post", "yes")]);
    step(Step::new(deleted, rule, route).by_ada(0).with(of_one));

    let colleague = [
        ("username", "grace"),
        ("usable_password", "true"),
        ("password1", "planted-colleague-3"),
        ("password2", "planted-colleague-3"),
        ("_save", "Save"),
    ];
    let added = ada.post("/admin/auth/user/add/", &colleague);
    let (rule, route) = ("django admin add", "/admin/{app}/{model}/add/");
    step(Step::new(added, rule, route).by_ada(0).with(json!({ "action": "add", "app": "auth", "model": "user" })));

    let before = ada.cookie("sessionid").expect("a session").to_owned();
    let passwords = [("old_password", PASSWORD), ("new_password1", NEW_PASSWORD), ("new_password2", NEW_PASSWORD)];
    let changed = ada.post("/admin/password_change/", &passwords);
    let (rule, route) = ("django admin password", "/admin/password_change/");
    step(Step::new(changed, rule, route).by_ada(0).with(json!({ "action": "password" })));
    assert_ne!(ada.cookie("sessionid"), Some(&*before), "Django changes the session with the password");
    let done = ada.get("/admin/password_change/done/");
    step(Step::new(done, "django admin password page", "/admin/password_change/**").by_ada(1));
}

/// What the browser saw is what the story says.
fn check_story(story: &[Step]) {
    let redirects = |status| matches!(status, 302);
    for Step { done, failed, kind, .. } in story {
        let accepted = match done.method {
            "POST" if *kind == "logout" => done.status == 200,
            "POST" => redirects(done.status) != *failed,
            _ => matches!(done.status, 200 | 302),
        };
        assert!(accepted, "{} {}: {} to {:?}\n{}", done.method, done.path, done.status, done.location, done.page);
    }
}

#[test]
fn the_records_of_an_afternoon_in_the_admin_come_out_of_kafka_as_it_happened() {
    let topic = format!("django.{}", std::process::id());
    create_topic(shared(), &topic, 1, &[]);
    let django = Django::start(ADA, ADA, PASSWORD);
    let daybook = behind_daybook(&django, &topic);

    let mut ada = Browser::new(daybook.address(), WARSAW);
    let mut mallory = Browser::new(daybook.address(), NOWHERE);
    let style = ada.get("/static/admin/css/base.css");
    assert_eq!(style.status, 200);
    let story = afternoon(&mut ada, &mut mallory);
    check_story(&story);

    let expected = story.len() + 1;
    let received = read(shared(), &topic, Duration::from_secs(60), |received| received.len() >= expected);
    assert_eq!(received.len(), expected, "every exchange and the start, nothing of /static/");
    check_envelopes(&received);
    let journal: Vec<_> = daybook.tail(&[]).into_iter().map(String::into_bytes).collect();
    let payloads: Vec<_> = received.iter().map(|one| one.payload.clone()).collect();
    assert_eq!(journal, payloads, "Kafka has the journal's bytes");
    let mut records: Vec<Value> = payloads.iter().map(|p| serde_json::from_slice(p).expect("JSON")).collect();
    let start = records.remove(0);
    assert_eq!((&start["kind"], &start["seq"]), (&json!("start"), &json!(1)), "{start}");
    // A response and the record of it are done at the same moment, and the next request may be faster.
    records.sort_by_key(|record| record["time"].as_str().map(str::to_owned));
    let tokens = compare(&records, &story);
    assert_eq!(tokens.len(), 3, "one of the first login, one of the changed password, one of the second login");

    let mut planted: Vec<String> =
        [PASSWORD, NEW_PASSWORD, "planted-guess-99", "planted-colleague-3"].map(str::to_owned).into();
    planted.extend(ada.secrets.into_iter().chain(mallory.secrets));
    secrets::assert_nowhere(&daybook, &planted);
}

fn behind_daybook(django: &Django, topic: &str) -> Daybook {
    let preset = include_str!("../../config/presets/django-admin.toml");
    let (_, rules) = preset.split_once("\n[defaults]\n").expect("rules follow the listener and the sink");
    let setup = Setup::new(&django.url);
    let database = setup.dir().join("city.mmdb");
    geoip::write(&database);
    setup
        .top("instance = \"panel-1\"")
        .log("trace")
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .rest(&format!("[defaults]\n{rules}\n[geoip]\ncity = {database:?}"))
        .rest(&format!("[sink.kafka]\nbrokers = \"{}\"\ntopic = \"{topic}\"", shared()))
        .start()
}

/// Numbers without a gap, headers as in the payload, one key.
fn check_envelopes(received: &[Received]) {
    for (number, one) in (1..).zip(received) {
        let record: Value = serde_json::from_slice(&one.payload).expect("JSON");
        assert_eq!(one.place(), (1, number), "gap-free, in order");
        assert_eq!((&record["epoch"], &record["seq"]), (&json!(1), &json!(number)));
        assert_eq!(one.key.as_deref(), Some("panel-1"), "one instance, one partition");
        assert_eq!(one.header("daybook-instance"), Some("panel-1"));
        assert_eq!(one.header("daybook-schema"), Some("daybook/1"));
        assert_eq!(one.header("daybook-kind"), record["kind"].as_str());
    }
}

/// Compares all records with the story; returns the sessions' tokens.
fn compare(records: &[Value], story: &[Step]) -> BTreeMap<usize, String> {
    let mut tokens: BTreeMap<usize, String> = BTreeMap::new();
    for (record, step) in records.iter().zip(story) {
        let mut told = record.clone();
        let told = told.as_object_mut().expect("an object");
        let own = ["seq", "epoch", "id", "time", "duration_us", "timing", "request_id"]
            .map(|name| told.remove(name).unwrap_or_else(|| panic!("no {name} in {record:#}")));
        let [.., id, time, duration, timing, request_id] = &own;
        assert_eq!(id.as_str().and_then(|id| id.parse::<uuid::Uuid>().ok()).map(|id| id.get_version_num()), Some(7));
        assert!(time.as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 27), "{time}");
        assert!(timing["first_byte_us"].as_u64() <= duration.as_u64(), "{timing} of {duration} µs");
        assert!(request_id.is_string(), "{request_id}");
        let session = told.remove("session").map(|token| token.as_str().expect("text").to_owned());
        told.remove("redacted");
        assert_eq!(Value::from(told.clone()), step.record(), "the record of {:?}", step.done.path);
        match (step.session, session) {
            (None, None) => {}
            (Some(which), Some(token)) => {
                assert_eq!(*tokens.entry(which).or_insert_with(|| token.clone()), token, "session {which}: {record:#}");
            }
            (expected, told) => panic!("session {expected:?} was expected, not {told:?}: {record:#}"),
        }
    }
    let different: std::collections::BTreeSet<_> = tokens.values().collect();
    assert_eq!(different.len(), tokens.len(), "different sessions have different tokens");
    tokens
}

#[test]
fn a_real_city_database_says_where_clients_are() {
    let site = python_home().join("lib");
    let database = std::fs::read_dir(site)
        .expect("an environment")
        .map(|python| python.expect("listed").path().join("site-packages/_maxminddb_geolite2/GeoLite2-City.mmdb"))
        .find(|path| path.is_file())
        .expect("the package holds a database");
    let origin = Origin::answering("ok");
    let daybook = Setup::new(&origin.url)
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .rest("[[rule]]\nname = \"login\"\nkind = \"login\"\nmatch = { path = \"/login/**\" }")
        .rest(&format!("[geoip]\ncity = {database:?}"))
        .start();
    // Public resolvers and a university: places that have not moved. IPv6 too.
    let places = [("8.8.8.8", "US"), ("2001:4860:4860::8888", "US"), ("193.0.6.139", "NL"), ("130.192.181.193", "IT")];
    for (index, (ip, country)) in places.into_iter().enumerate() {
        let path = format!("/login/{index}");
        daybook.connect().get(&path, &format!("X-Forwarded-For: {ip}\r\n"));
        let client = daybook.outcome(&path)["client"].clone();
        assert_eq!(client["ip"], ip);
        assert_eq!(client["geo"]["country"], country, "{client}");
        assert!(client["geo"]["build"].as_str().is_some_and(|day| day.starts_with("2018-0")), "{client}");
    }
    daybook.connect().get("/login/private", "X-Forwarded-For: 10.1.2.3\r\n");
    assert_eq!(daybook.outcome("/login/private")["client"].get("geo"), None, "nobody knows where that is");
    daybook.connect().get("/elsewhere", "X-Forwarded-For: 8.8.8.8\r\n");
    assert_eq!(daybook.outcome("/elsewhere")["client"].get("geo"), None, "only logins are asked about");
}
