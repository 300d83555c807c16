//! What one client connection and the exchanges on it know of each other.
//!
//! `listen` owns the socket and hyper owns the protocol; some things must pass between the bytes and
//! the requests all the same: a refusal seen in the bytes, a FIN that may be a half-close, an
//! informational response, a tunnel after a 101, the moment a response's last byte was handed over.
//! Everything here belongs to one worker thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use crate::capture::{Connection, Exchange};
use crate::record::End;

use super::tunnel::Tunnel;

/// A request that may not go on, and what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status sent to the client.
    pub status: u16,
    /// Why, in a few words.
    pub reason: &'static str,
}

/// One client connection.
pub struct Link {
    /// Who connected; what capture needs of it.
    pub connection: Rc<Connection>,
    /// The peer's address as a header's value.
    pub(super) peer_text: Option<http::HeaderValue>,
    /// The peer is a trusted proxy: what it says of its own client is kept.
    pub(super) peer_trusted: bool,
    /// Longest silence within a request body.
    pub(super) body_idle_timeout: Duration,
    /// HTTP/2: many exchanges at once, and none of what stands below.
    pub multiplexed: bool,
    /// An exchange is between its head and its last byte.
    pub in_flight: Cell<bool>,
    /// The client has sent FIN: it half-closed, or it went away.
    pub fin: Cell<bool>,
    /// The bytes were refused, or the client was too slow.
    pub refusal: Cell<Option<Refusal>>,
    /// The client did not read for too long.
    pub write_stalled: Cell<bool>,
    /// The response's last byte has been handed to hyper, not yet to the kernel.
    pub last_byte: Cell<bool>,
    /// That response's exchange, where it is not recorded yet.
    pub finishing: RefCell<Option<Exchange>>,
    /// Informational responses, to be written before anything else.
    pub informational: RefCell<Vec<u8>>,
    /// Nothing of an earlier response waits to be written.
    pub flushed: Cell<bool>,
    /// What to do once hyper has let go of the connection after a 101.
    pub tunnel: RefCell<Option<Tunnel>>,
    /// Whether the answer to an upgrade request is known, and which.
    pub upgrade: Cell<Option<Upgrade>>,
    /// hyper was kept from reading although the socket may have more (or its end) for it. It believes
    /// that the socket will wake it, so it must be woken once it may read on.
    pub held_back: Cell<bool>,
    /// Wakes the connection's task.
    pub waker: RefCell<Option<Waker>>,
}

/// The answer to an upgrade request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// 101: the connection is a tunnel from here on.
    Accepted,
    /// Anything else: it stays HTTP.
    Declined,
}

impl Link {
    /// A fresh connection.
    pub fn new(connection: Rc<Connection>, multiplexed: bool, body_idle_timeout: Duration) -> Rc<Self> {
        let peer = connection.peer;
        Rc::new(Self {
            peer_text: peer.and_then(|ip| http::HeaderValue::from_str(&ip.to_string()).ok()),
            peer_trusted: peer.is_some_and(|ip| connection.trusted_proxies.iter().any(|net| net.contains(&ip))),
            connection,
            body_idle_timeout,
            multiplexed,
            in_flight: Cell::new(false),
            fin: Cell::new(false),
            refusal: Cell::new(None),
            write_stalled: Cell::new(false),
            last_byte: Cell::new(false),
            finishing: RefCell::new(None),
            informational: RefCell::new(Vec::new()),
            flushed: Cell::new(true),
            tunnel: RefCell::new(None),
            upgrade: Cell::new(None),
            held_back: Cell::new(false),
            waker: RefCell::new(None),
        })
    }

    /// Wakes the connection's task, which then looks at the cells above.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The last byte of a response is in hyper's hands. `exchange`: its record is still to be made,
    /// once the kernel has that byte.
    pub(super) fn last_byte_given(&self, exchange: Option<&Exchange>) {
        self.last_byte.set(true);
        match exchange {
            Some(exchange) if self.multiplexed => drop(exchange.finish(End::Complete, None)),
            exchange => *self.finishing.borrow_mut() = exchange.cloned(),
        }
    }

    /// The kernel has every byte of every response so far; `true` when that ended an exchange.
    pub fn all_written(&self) -> bool {
        self.flushed.set(true);
        if !self.last_byte.replace(false) {
            return false;
        }
        self.in_flight.set(false);
        if self.held_back.replace(false) {
            self.wake();
        }
        // After a FIN, whether the client still reads is asked when the connection ends.
        if !self.fin.get()
            && let Some(exchange) = self.finishing.borrow_mut().take()
        {
            let _ = exchange.finish(End::Complete, None);
        }
        true
    }

    /// Queues an informational response (1xx), unless an earlier response is still being written:
    /// such a response may be dropped, never put in the middle of another.
    pub(super) fn inform(&self, status: u16, reason: &str, headers: &http::HeaderMap) {
        if self.multiplexed || !self.flushed.get() {
            return;
        }
        let mut out = self.informational.borrow_mut();
        out.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
        for (name, value) in headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        drop(out);
        self.wake();
    }
}

/// A plain-text response of our own, as bytes on an HTTP/1 connection that is closed afterwards.
/// There is no request yet, and so no id of one.
pub fn plain_response(refusal: Refusal) -> Bytes {
    let reason = http::StatusCode::from_u16(refusal.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Refused");
    let body = super::fault::body(refusal.status, refusal.reason, "");
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        refusal.status,
        body.len(),
    )
    .into()
}
