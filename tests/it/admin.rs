//! `/live`, `/ready` and `/metrics` of a real process, from its start to SIGTERM.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A `daybook run` that does not outlive its test.
struct Daybook {
    child: Child,
    listener: SocketAddr,
    admin: SocketAddr,
}

impl Daybook {
    fn start(folder: &std::path::Path) -> Self {
        let file = folder.join("daybook.toml");
        let text = format!(
            "data = {:?}\nworkers = 1\n[listener.panel]\nbind = \"127.0.0.1:0\"\nupstream = \"http://127.0.0.1:1\"\n\
             [sink.file]\npath = {:?}\n[admin]\nbind = \"127.0.0.1:0\"\n",
            folder.join("data"),
            folder.join("records.ndjson")
        );
        std::fs::write(&file, text).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_daybook"))
            .args(["run", "--config"])
            .arg(&file)
            .env("DAYBOOK_LOG", "info")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("daybook starts");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (mut listener, mut admin, mut seen) = (None, None, String::new());
        let mut lines = log.lines().map_while(Result::ok);
        for line in lines.by_ref() {
            let address = || line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok();
            if line.contains("listener=panel") {
                listener = address();
            } else if line.contains("admin:") {
                admin = address();
            }
            seen.push_str(&line);
            seen.push('\n');
            if listener.is_some() && admin.is_some() {
                break;
            }
        }
        // What is logged later must be read, or the process would stand still at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let (Some(listener), Some(admin)) = (listener, admin) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("daybook named no addresses; it logged:\n{seen}");
        };
        Self { child, listener, admin }
    }

    /// SIGTERM, and the exit code.
    fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it still runs");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("daybook did not end within {PATIENCE:?} of SIGTERM");
    }
}

impl Drop for Daybook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(to: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(to).expect("connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(socket, "GET {path} HTTP/1.1\r\nhost: daybook\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered and closed");
    answer
}

/// The number behind a metric's name and labels.
fn number(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn a_running_process_is_ready_and_counts_its_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut daybook = Daybook::start(folder.path());
    assert!(get(daybook.admin, "/live").starts_with("HTTP/1.1 200"), "it lives");
    assert!(get(daybook.admin, "/ready").starts_with("HTTP/1.1 200"), "the listener is bound and the journal accepts");

    let answer = get(daybook.listener, "/orders");
    assert!(answer.starts_with("HTTP/1.1 502"), "nothing stands behind: {answer}");
    let until = Instant::now() + PATIENCE;
    loop {
        let metrics = get(daybook.admin, "/metrics");
        let written = number(&metrics, "daybook_journal_records_total").expect("the journal is counted");
        let delivered = number(&metrics, "daybook_sink_delivered_records_total{sink=\"file\"}").expect("and its sink");
        let lag = number(&metrics, "daybook_sink_lag_seconds{sink=\"file\"}").expect("and how far behind it is");
        if written >= 1.0 && delivered >= written && lag == 0.0 {
            assert_eq!(number(&metrics, "daybook_journal_accepting"), Some(1.0), "{metrics}");
            assert!(metrics.ends_with("# EOF\n"), "OpenMetrics ends with a mark");
            break;
        }
        assert!(Instant::now() < until, "the exchange is not recorded and delivered yet:\n{metrics}");
        std::thread::sleep(Duration::from_millis(50));
    }

    assert_eq!(daybook.terminate(), Some(0), "SIGTERM drains and is no failure");
    assert!(TcpStream::connect(daybook.admin).is_err(), "nothing listens any more");
}
