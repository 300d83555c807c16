//! The real binary, an application behind it, and a client before it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{eventually, free_port};

/// How long a start, an answer or an end may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `daybook run`, killed when dropped.
pub(crate) struct Daybook {
    pub(crate) child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

/// A client's kept connection.
pub(crate) struct Client(BufReader<TcpStream>);

// === impl Daybook ===

impl Daybook {
    /// Runs with a configuration whose listener `panel` is ours: `rest` is what follows. All files are in `dir`.
    pub(crate) fn run(dir: &Path, upstream: u16, rest: &str) -> Self {
        let port = free_port();
        let text = format!(
            "data = \"{dir}/data\"\ninstance = \"panel-1\"\nworkers = 2\n\n\
             [listener.panel]\nbind = \"127.0.0.1:{port}\"\nupstream = \"http://127.0.0.1:{upstream}\"\n\n{rest}",
            dir = dir.display()
        );
        let file = dir.join("daybook.toml");
        std::fs::write(&file, text).expect("written");
        let log = dir.join("daybook.log");
        let stderr = File::options().create(true).append(true).open(&log).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_daybook"))
            .args(["run", "--config"])
            .arg(&file)
            .env("DAYBOOK_LOG", "debug")
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("daybook runs");
        let mut daybook = Self { child, port, log };
        eventually("daybook listens", PATIENCE, || {
            let ended = daybook.child.try_wait().expect("a child");
            assert!(ended.is_none(), "daybook ended with {ended:?}:\n{}", daybook.log());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        daybook
    }

    /// What it said on stderr, and those before it in the same folder.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM; the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("signalled");
        eventually("daybook ends", PATIENCE, || self.child.try_wait().expect("a child")).code()
    }
}

impl Drop for Daybook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Client ===

impl Client {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a GET and reads the whole answer; the body.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Vec<u8>> {
        self.0.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: panel.test\r\n\r\n").as_bytes())?;
        let (status, length) = read_head(&mut self.0)?;
        if !status.contains(" 200") {
            return Err(io::Error::other(status));
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }
}

/// An application that answers every request with its first line; lives as long as the test process.
pub(crate) fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer(connection));
        }
    });
    port
}

fn answer(connection: TcpStream) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (line, _) = read_head(&mut connection)?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
        connection.get_mut().write_all(head.as_bytes())?;
    }
}

/// The first line and the length of the body.
fn read_head(from: &mut impl BufRead) -> io::Result<(String, usize)> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() && !first.is_empty() {
            return Ok((first, length));
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if first.is_empty() {
            line.clone_into(&mut first);
        }
    }
}
