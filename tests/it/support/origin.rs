//! The application behind, by script: raw sockets and std threads, so that nothing is tidied up on the way.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::message::{Message, Reader};

/// Longest a test waits for a byte.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// An application that does on each connection what its script says. Its threads end with their connections.
pub(crate) struct Origin {
    /// As in a configuration.
    pub(crate) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    requests: Mutex<Vec<Message>>,
}

/// One connection to the application.
pub(crate) struct Visit {
    pub(crate) reader: Reader<Socket>,
    state: Arc<State>,
}

/// Either kind of socket, or TLS over one.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>),
}

// === impl Origin ===

impl Origin {
    /// On TCP.
    pub(crate) fn new(script: impl Fn(&mut Visit) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        Self::accept(url, script, move || listener.accept().map(|(stream, _)| patient(stream)).ok().map(Socket::Tcp))
    }

    /// On a Unix socket.
    pub(crate) fn unix(path: &Path, script: impl Fn(&mut Visit) + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        Self::accept(format!("unix:{}", path.display()), script, move || {
            let (stream, _) = listener.accept().ok()?;
            stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
            Some(Socket::Unix(stream))
        })
    }

    /// On TCP with TLS; the URL names `localhost`.
    pub(crate) fn tls(config: Arc<rustls::ServerConfig>, script: impl Fn(&mut Visit) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
        Self::accept(url, script, move || {
            let (stream, _) = listener.accept().ok()?;
            let connection = rustls::ServerConnection::new(config.clone()).expect("a session");
            Some(Socket::Tls(Box::new(rustls::StreamOwned::new(connection, patient(stream)))))
        })
    }

    /// One that answers every request with 200 and `body`, and keeps connections open.
    pub(crate) fn answering(body: &'static str) -> Self {
        Self::new(move |visit| visit.answer_all(body))
    }

    fn accept(
        url: String,
        script: impl Fn(&mut Visit) + Send + Sync + 'static,
        accept: impl Fn() -> Option<Socket> + Send + 'static,
    ) -> Self {
        let state = Arc::<State>::default();
        let (script, shared) = (Arc::new(script), Arc::clone(&state));
        std::thread::spawn(move || {
            while let Some(socket) = accept() {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (script, state) = (Arc::clone(&script), Arc::clone(&shared));
                std::thread::spawn(move || script(&mut Visit { reader: Reader::new(socket), state }));
            }
        });
        Self { url, state }
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Requests so far, as far as scripts have read them.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.state.requests.lock().expect("no script panicked in here").clone()
    }
}

// === impl Visit ===

impl Visit {
    /// The next request with its body; `None` when the connection ends.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut message = self.reader.head()?;
        let at = self.arrived(&message);
        let body = message.request_body();
        self.reader.body(&mut message, body);
        self.state.requests.lock().expect("no panic")[at] = message.clone();
        Some(message)
    }

    /// The next request's head only.
    pub(crate) fn head(&mut self) -> Option<Message> {
        let message = self.reader.head()?;
        self.arrived(&message);
        Some(message)
    }

    /// Leaves a mark among the requests: something was seen that is no request.
    pub(crate) fn mark(&self, what: &str) {
        self.arrived(&Message { head: what.to_owned(), ..Message::default() });
    }

    fn arrived(&self, message: &Message) -> usize {
        let mut requests = self.state.requests.lock().expect("no panic");
        requests.push(message.clone());
        requests.len() - 1
    }

    /// Writes; what the other side thinks of it shows elsewhere.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let io = self.reader.get_mut();
        io.write_all(bytes.as_ref()).and_then(|()| io.flush()).is_ok()
    }

    /// One chunk.
    pub(crate) fn chunk(&mut self, data: &[u8]) -> bool {
        let mut out = format!("{:x}\r\n", data.len()).into_bytes();
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
        self.send(out)
    }

    /// 200 with a length.
    pub(crate) fn ok(&mut self, body: &str) -> bool {
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// Answers 200 until the connection ends.
    pub(crate) fn answer_all(&mut self, body: &str) {
        while self.request().is_some() {
            self.ok(body);
        }
    }

    /// No more will be written.
    pub(crate) fn half_close(&mut self) {
        self.reader.get_mut().shutdown(Shutdown::Write);
    }

    /// Closes with a reset.
    pub(crate) fn reset(&mut self) -> bool {
        if let Socket::Tcp(tcp) = self.reader.get_mut() {
            socket2::SockRef::from(&*tcp).set_linger(Some(Duration::ZERO)).expect("an open socket");
        }
        true
    }

    /// Does nothing for so long.
    pub(crate) fn idle(&mut self, time: Duration) -> bool {
        std::thread::sleep(time);
        true
    }
}

// === impl Socket ===

impl Socket {
    fn shutdown(&mut self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(tcp) => tcp.shutdown(how),
            Self::Unix(unix) => unix.shutdown(how),
            Self::Tls(tls) => {
                tls.conn.send_close_notify();
                tls.flush()
            }
        };
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.read(buffer),
            Self::Unix(unix) => unix.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.write(buffer),
            Self::Unix(unix) => unix.write(buffer),
            Self::Tls(tls) => tls.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.flush(),
            Self::Unix(unix) => unix.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// A socket on which nothing blocks for ever.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    stream.set_nodelay(true).expect("an open socket");
    stream
}

/// An address on which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port")
}
