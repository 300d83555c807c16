//! What one client connection and the exchanges on it know of each other.
//!
//! `listen` owns the socket; some things must pass between it and the exchanges all the same: a refusal
//! seen in a body's bytes, a FIN that may be a half-close, an informational response. Everything here
//! belongs to one worker thread.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::capture::Connection;
use crate::message::{Fields, Known, Refusal};

/// One client connection.
pub struct Link {
    /// Who connected; what capture needs of it.
    pub connection: Rc<Connection>,
    /// The peer's address as a header's value.
    pub(super) peer_text: Option<String>,
    /// The peer is a trusted proxy: what it says of its own client is kept.
    pub(super) peer_trusted: bool,
    /// Longest silence within a request body.
    pub(super) body_idle_timeout: Duration,
    /// HTTP/2: many exchanges at once, and none of what stands below.
    pub multiplexed: bool,
    /// The client has sent FIN: it half-closed, or it went away.
    pub fin: Cell<bool>,
    /// The bytes were refused, or the client was too slow.
    pub refusal: Cell<Option<Refusal>>,
    /// The client did not read for too long.
    pub write_stalled: Cell<bool>,
    /// Informational responses, to be written before anything else.
    pub informational: RefCell<Vec<u8>>,
    /// Wakes the connection's task.
    pub waker: RefCell<Option<Waker>>,
    /// Of the last exchange, for the next: setting a timer to a later time costs less than making one.
    timer: RefCell<Option<Timer>>,
}

/// Rings once a time has come.
pub(super) type Timer = Pin<Box<tokio::time::Sleep>>;

impl Link {
    /// A fresh connection.
    pub fn new(connection: Rc<Connection>, multiplexed: bool, body_idle_timeout: Duration) -> Rc<Self> {
        let peer = connection.peer;
        Rc::new(Self {
            peer_text: peer.map(|ip| ip.to_string()),
            peer_trusted: peer.is_some_and(|ip| connection.trusted_proxies.iter().any(|net| net.contains(&ip))),
            connection,
            body_idle_timeout,
            multiplexed,
            fin: Cell::new(false),
            refusal: Cell::new(None),
            write_stalled: Cell::new(false),
            informational: RefCell::new(Vec::new()),
            waker: RefCell::new(None),
            timer: RefCell::new(None),
        })
    }

    /// A timer that rings at `time`.
    pub(super) fn timer(&self, time: Instant) -> Timer {
        let time = tokio::time::Instant::from_std(time);
        match self.timer.borrow_mut().take() {
            Some(mut timer) => {
                timer.as_mut().reset(time);
                timer
            }
            None => Box::pin(tokio::time::sleep_until(time)),
        }
    }

    /// Takes a timer back.
    pub(super) fn keep_timer(&self, timer: Timer) {
        *self.timer.borrow_mut() = Some(timer);
    }

    /// Wakes the connection's task, which then looks at the cells above.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Remembers whom [`Link::wake`] wakes.
    pub fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Queues an informational response (1xx) of an exchange that has no other response yet.
    pub fn inform(&self, status: u16, reason: &[u8], fields: &Fields) {
        if self.multiplexed {
            return;
        }
        let mut out = self.informational.borrow_mut();
        out.extend_from_slice(format!("HTTP/1.1 {status} ").as_bytes());
        out.extend_from_slice(reason);
        out.extend_from_slice(b"\r\n");
        for field in fields.iter().filter(|field| field.known != Known::Connection) {
            for part in [field.name, b": ", field.value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"\r\n");
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
