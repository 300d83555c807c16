//! A client that sends exactly what it is told and shows exactly what it gets.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::message::{Body, Message, Reader};
use super::origin::patient;

/// One connection.
pub(crate) struct Client {
    pub(crate) reader: Reader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self { reader: Reader::new(patient(TcpStream::connect(address).expect("Daybook listens"))) }
    }

    /// Sends; a connection that is closed already shows when the answer is read.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.reader.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// `GET path` in HTTP/1.1, with more header lines (each with its CRLF), and its answer.
    pub(crate) fn get(&mut self, path: &str, headers: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n{headers}\r\n"));
        self.response()
    }

    /// A whole response that is not 1xx; panics when there is none.
    pub(crate) fn response(&mut self) -> Message {
        let message = self.head();
        self.rest_of(message)
    }

    /// The body behind a head.
    pub(crate) fn rest_of(&mut self, mut message: Message) -> Message {
        let body = message.response_body();
        self.reader.body(&mut message, body);
        message
    }

    /// A response to HEAD.
    pub(crate) fn headless(&mut self) -> Message {
        let mut message = self.head();
        self.reader.body(&mut message, Body::None);
        message
    }

    /// A head, 1xx or not.
    pub(crate) fn head(&mut self) -> Message {
        self.reader.head().expect("a response, but the connection was closed")
    }

    /// A head, or `None` where the connection was closed instead.
    pub(crate) fn maybe(&mut self) -> Option<Message> {
        let message = self.reader.head()?;
        Some(self.rest_of(message))
    }

    /// Everything until the connection is closed.
    pub(crate) fn rest(&mut self) -> String {
        String::from_utf8_lossy(&self.reader.rest()).into_owned()
    }

    /// The server closed, and sent nothing more before.
    pub(crate) fn assert_closed(&mut self, why: &str) {
        let rest = self.rest();
        assert!(rest.is_empty(), "{why}: the connection should just be closed, but {rest:?} came");
    }

    /// Sends FIN and goes on reading.
    pub(crate) fn half_close(&mut self) {
        self.reader.get_mut().shutdown(Shutdown::Write).expect("an open socket");
    }

    /// Goes away with FIN.
    pub(crate) fn close(self) {}

    /// Goes away with a reset.
    pub(crate) fn reset(mut self) {
        let socket = socket2::SockRef::from(&*self.reader.get_mut()).set_linger(Some(Duration::ZERO));
        socket.expect("an open socket");
    }
}
