//! What the tests stand on: real servers, started and ended by the test that needs them.

pub(crate) mod client;
pub(crate) mod daybook;
#[cfg(feature = "kafka")]
pub(crate) mod geoip;
pub(crate) mod http2;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
pub(crate) mod message;
pub(crate) mod origin;
pub(crate) mod secrets;

#[cfg(feature = "kafka")]
use std::net::TcpListener;
#[cfg(any(feature = "kafka", feature = "lake"))]
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Folder of what `tests/run` prepared: `DAYBOOK_TEST_CACHE`, or `~/.cache/daybook-tests`.
#[cfg(any(feature = "kafka", feature = "lake"))]
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/daybook-tests");
    std::env::var_os("DAYBOOK_TEST_CACHE").map_or_else(home, PathBuf::from)
}

/// The Python environment that `tests/run` makes.
#[cfg(any(feature = "kafka", feature = "lake"))]
pub(crate) fn python_home() -> PathBuf {
    let home = cache().join("python");
    assert!(home.join("complete").exists(), "{} is missing: run `tests/run --prepare` once", home.display());
    home
}

/// A port on 127.0.0.1 that nobody listens on now.
#[cfg(feature = "kafka")]
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// Asks until the answer is `Some`, for at most `patience`.
pub(crate) fn eventually<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "within {patience:?} it never came true that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
