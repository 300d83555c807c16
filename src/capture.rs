//! Capture: what the record of an exchange says. Rules, identity, redaction, GeoIP.
//!
//! [`Policy`] is everything the configuration decides, compiled once, immutable, and swapped as a
//! whole on reload. [`Capture`] belongs to one worker thread; it hands out an [`Exchange`] for each
//! request, which the forwarding path tells what happens, and which turns itself into a record and
//! hands that to the journal.
//!
//! - An exchange sees bytes only as copies: nothing here can change or hold up what is forwarded.
//! - An exchange keeps the policy under which it began.
//! - Bodies are copied only where the rule's level or a selector needs them, and only up to a bound.
//! - What the redaction names never leaves this room: see `redact.rs` for what that is.
//! - An exchange that is dropped without an end is recorded as [`End::ClientClosed`](crate::record::End).

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use ipnet::IpNet;

use crate::config::{Defaults, GeoipSettings, IdentitySettings, RedactionSettings, RuleSettings};
use crate::journal::Lane;
use crate::message::RequestHead;
use crate::telemetry::Metrics;

mod address;
mod body;
mod count;
mod entry;
mod exchange;
mod facts;
mod geoip;
mod identity;
mod jwt;
mod lru;
mod message;
mod pattern;
mod plan;
mod policy;
mod redact;
mod rules;
mod selector;
mod sessions;
mod token;

#[cfg(test)]
mod tests;

pub use exchange::Exchange;
pub use policy::{Policy, PolicyError};
pub use sessions::Sessions;

use count::Counters;
use exchange::{Outlet, Worker};
use policy::Held;

/// The pieces of the configuration that decide what records say.
#[derive(Clone, Copy, Debug)]
pub struct CaptureSettings<'a> {
    /// Folder for the token key.
    pub data: &'a Path,
    /// `[[rule]]`
    pub rules: &'a [RuleSettings],
    /// `[defaults]`
    pub defaults: &'a Defaults,
    /// `[identity]`
    pub identity: &'a IdentitySettings,
    /// `[redaction]`
    pub redaction: &'a RedactionSettings,
    /// `[geoip]`
    pub geoip: &'a GeoipSettings,
}

/// One worker's capture: not shared between threads.
pub struct Capture {
    policy: Arc<ArcSwap<Policy>>,
    /// The policy in force as this worker last saw it.
    held: RefCell<Rc<Held>>,
    worker: Rc<Worker>,
}

/// What is known of a client's connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The listener's place among those that [`Metrics`] was made for.
    pub listener_index: usize,
    /// The other end: of the socket, or as the PROXY protocol header says. `None` on Unix sockets.
    pub peer: Option<IpAddr>,
    /// Subject of the verified client certificate.
    pub tls_subject: Option<Rc<str>>,
    /// The client speaks TLS to us.
    pub tls: bool,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Rc<[IpNet]>,
    /// The request header that carries a request's id.
    pub request_id_header: Option<http::HeaderName>,
}

/// As much of a refused request as could be read.
#[derive(Clone, Debug, Default)]
pub struct RefusedHead {
    /// Method.
    pub method: Option<http::Method>,
    /// Target as sent, as far as it was read.
    pub target: Option<Bytes>,
    /// Version.
    pub version: Option<http::Version>,
    /// `Host`, as far as it was read.
    pub host: Option<Bytes>,
}

// === impl Capture ===

impl Capture {
    /// The capture of one worker thread, which writes to `lane` and counts in `metrics`.
    pub fn new(policy: Arc<ArcSwap<Policy>>, sessions: Arc<Sessions>, lane: Lane, metrics: &Arc<Metrics>) -> Self {
        Self::with_outlet(policy, sessions, Outlet::Journal(lane), metrics)
    }

    fn with_outlet(
        policy: Arc<ArcSwap<Policy>>,
        sessions: Arc<Sessions>,
        outlet: Outlet,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let held = RefCell::new(Rc::new(Held::new(policy.load_full())));
        Self { policy, held, worker: Rc::new(Worker::new(sessions, outlet, Counters::new(metrics))) }
    }

    /// A request's head has been read: decides the rule and begins the exchange.
    pub fn begin(&self, connection: &Rc<Connection>, head: &Rc<RequestHead>) -> Exchange {
        Exchange::begin(self.worker.clone(), self.policy(), connection.clone(), head.clone())
    }

    /// A request was refused before it could be read as a whole; the application did not see it.
    pub fn refused(&self, connection: &Rc<Connection>, seen: RefusedHead, status: u16, reason: &'static str) {
        entry::refused(&self.worker, &self.policy(), connection, &seen, status, reason);
    }

    /// A client has connected.
    pub fn connected(&self, connection: &Connection) {
        self.worker.counters.connected(connection.listener_index);
    }

    /// A client's connection is closed.
    pub fn disconnected(&self, connection: &Connection) {
        self.worker.counters.disconnected(connection.listener_index);
    }

    /// Daybook is stopping: exchanges dropped from now on are recorded as interrupted.
    pub fn interrupt(&self) {
        self.worker.interrupted.set(true);
    }

    fn policy(&self) -> Rc<Held> {
        let current = self.policy.load();
        let mut held = self.held.borrow_mut();
        if !held.is(&current) {
            *held = Rc::new(Held::new(Arc::clone(&current)));
        }
        held.clone()
    }
}

/// The path a request asks for. An absolute target without one asks for the root (RFC 9110 section 4.2.3).
fn path_of(head: &RequestHead) -> &str {
    match head.path() {
        "" => "/",
        path => path,
    }
}

/// A header's value as text. Nothing is read out of one that is not ASCII: what other bytes mean is anybody's guess.
fn ascii(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| text.is_ascii())
}
