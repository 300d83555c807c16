//! The command line as people and scripts use it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::daybook::Daybook;
use crate::support::eventually;
use crate::support::origin::Origin;

fn daybook(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
    // Help is wrapped to the terminal's width; tests have none.
    command.args(arguments).env_remove("DAYBOOK_LOG").env_remove("COLUMNS").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    daybook(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn help_teaches() {
    for command in ["", "demo", "run", "check", "tail", "query"] {
        let arguments = [command, "--help"];
        let output = run(&arguments[usize::from(command.is_empty())..]);
        assert_eq!(output.status.code(), Some(0), "help is an answer");
        assert!(output.stderr.is_empty(), "help that was asked for is data");
        let name = if command.is_empty() { "help".to_owned() } else { format!("help_{command}") };
        insta::assert_snapshot!(name, text(&output.stdout));
    }
}

#[test]
fn the_version_is_the_packages() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), concat!("daybook ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn what_makes_no_sense_exits_64() {
    let wrong: [&[&str]; 7] = [
        &[],
        &["fly"],
        &["run"],
        &["run", "--listen", "127.0.0.1:0"],
        &["run", "--listen", "nowhere", "--upstream", "http://127.0.0.1:1"],
        &["run", "--config", "a.toml", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1"],
        &["demo", "--for", "soon"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?} (EX_USAGE): {}", text(&output.stderr));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}: told on stderr");
    }
}

#[test]
fn what_is_not_there_exits_69_and_a_wrong_file_78() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = run(&["tail", "--data", path(dir.path())]);
    assert_eq!(output.status.code(), Some(69), "EX_UNAVAILABLE: {}", text(&output.stderr));
    assert!(text(&output.stderr).contains("hint: "), "it says what to do: {}", text(&output.stderr));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let data = dir.path().join("data");
    let output = run(&["run", "--listen", &address, "--upstream", "http://127.0.0.1:1", "--data", path(&data)]);
    assert_eq!(output.status.code(), Some(69), "EX_UNAVAILABLE: {}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&address), "it names the address: {}", text(&output.stderr));

    let file = dir.path().join("daybook.toml");
    for command in ["run", "check"] {
        let output = run(&[command, "--config", path(&file)]);
        assert_eq!(output.status.code(), Some(78), "{command} without the file (EX_CONFIG): {}", text(&output.stderr));
    }
    std::fs::write(&file, "listner = 1\n").expect("written");
    for command in ["run", "check"] {
        let output = run(&[command, "--config", path(&file)]);
        assert_eq!(output.status.code(), Some(78), "EX_CONFIG: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("daybook.toml:1:1"), "{}", text(&output.stderr));
    }
}

/// `daybook run` without a file, and a client of it.
struct Running {
    child: Child,
    client: Client,
    log: Arc<Mutex<String>>,
    _data: TempDir,
}

impl Running {
    fn before(origin: &Origin) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut child = daybook(&["run", "--listen", "127.0.0.1:0", "--upstream", &origin.url])
            .arg("--data")
            .arg(dir.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let listening = lines.find(|line| line.contains(": listening ")).expect("it listens");
        let address = listening.split("address=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
        let client = Client::connect(address.parse().expect("an address"));
        let log = Arc::<Mutex<String>>::default();
        let told = Arc::clone(&log);
        std::thread::spawn(move || lines.for_each(|line| told.lock().expect("no panic").push_str(&line)));
        Self { child, client, log, _data: dir }
    }

    fn terminate(&mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), Signal::TERM).expect("it runs");
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().expect("our child").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn run_without_a_file_prints_records_and_ends_well_on_sigterm() {
    let origin = Origin::answering("ok");
    let mut running = Running::before(&origin);
    assert_eq!(running.client.get("/orders?page=2", "").status(), 200);
    running.terminate();
    let mut out = String::new();
    running.child.stdout.take().expect("piped").read_to_string(&mut out).expect("UTF-8");
    assert_eq!(running.code(), Some(0), "SIGTERM is how services end: {:?}", running.log);
    let records: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("stdout is data only")).collect();
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["start", "panel", "stop"], "all is delivered before the end");
    assert_eq!((&records[1]["path"], &records[1]["query"]), (&"/orders".into(), &"page=2".into()));
}

#[test]
fn sigterm_at_the_very_first_moment_drains_too() {
    let origin = Origin::answering("ok");
    for _ in 0..5 {
        let dir = tempfile::tempdir().expect("a folder");
        let mut child = daybook(&["run", "--listen", "127.0.0.1:0", "--upstream", &origin.url])
            .arg("--data")
            .arg(dir.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut first = String::new();
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        log.read_line(&mut first).expect("a line of the log");
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).expect("it runs");
        let mut rest = String::new();
        log.read_to_string(&mut rest).expect("UTF-8");
        assert_eq!(child.wait().expect("our child").code(), Some(0), "{first}{rest}");
    }
}

#[test]
fn a_reader_that_closes_stdout_ends_the_sink_and_not_the_process() {
    let origin = Origin::answering("ok");
    let mut running = Running::before(&origin);
    let mut stdout = BufReader::new(running.child.stdout.take().expect("piped"));
    running.client.get("/read", "");
    let mut line = String::new();
    while !line.contains("\"/read\"") {
        line.clear();
        assert!(stdout.read_line(&mut line).expect("readable") > 0, "the record comes on stdout");
    }
    drop(stdout);
    eventually("the sink says that it is over", Duration::from_secs(20), || {
        assert_eq!(running.client.get("/unread", "").status(), 200, "traffic goes on");
        running.log.lock().expect("no panic").contains("stdout was closed").then_some(())
    });
    assert_eq!(running.client.get("/after", "").status(), 200, "traffic goes on");
    running.terminate();
    assert_eq!(running.code(), Some(0));
}

#[test]
fn tail_prints_the_journal_of_a_running_process_by_kind_and_as_it_grows() {
    let origin = Origin::answering("ok");
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for number in 0..5 {
        client.get(&format!("/{number}"), "");
    }
    daybook.outcome("/4");
    let all = daybook.tail(&[]);
    assert_eq!(all.len(), 6, "the start and five: {all:?}");
    let panel = daybook.tail(&["--kind", "panel"]);
    assert_eq!(panel, all[1..], "only that kind, as it stands");
    assert!(daybook.tail(&["--kind", "login"]).is_empty());

    let data = daybook.dir().join("data");
    let mut following = self::daybook(&["tail", "--follow", "--data", path(&data)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(following.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert_eq!(lines.by_ref().take(6).collect::<Vec<_>>(), all);
    client.get("/later", "");
    assert!(lines.next().is_some_and(|line| line.contains("\"path\":\"/later\"")), "it goes on");
    following.kill().and_then(|()| following.wait()).expect("our child");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let origin = Origin::answering("ok");
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    // More than a pipe holds (64 KiB).
    for number in 0..300 {
        client.get(&format!("/{number}"), "");
    }
    daybook.outcome("/299");
    let data = daybook.dir().join("data");
    let mut tail = self::daybook(&["tail", "--data", path(&data)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut first = String::new();
    BufReader::new(tail.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
    let output = tail.wait_with_output().expect("our child");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "as `head` expects");
}

#[test]
fn the_demo_shows_records_and_sums_up() {
    let begun = Instant::now();
    let output = run(&["demo", "--for", "2s"]);
    let (shown, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(30), "it ends by itself");
    assert!(shown.lines().count() > 10, "records on stdout:\n{shown}\n{told}");
    assert!(shown.contains("ada@example.com") && shown.contains("/login"), "people at work:\n{shown}");
    assert!(told.contains("gaps in the sequence: 0"), "{told}");
    assert!(told.contains("closed cleanly") && told.contains("daybook run --listen"), "what next: {told}");

    let dir = tempfile::tempdir().expect("a folder");
    let output = run(&["demo", "--for", "1s", "--json", "--data", path(dir.path())]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let records: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (expected, record) in (1..).zip(&records) {
        assert_eq!(record["seq"].as_u64(), Some(expected), "gap-free");
    }
    let kept = run(&["tail", "--data", path(dir.path())]);
    assert!(text(&kept.stdout).starts_with(&shown), "the journal is kept where --data says");
}
