//! An exchange under way: what the forwarding path tells about it until it becomes a record.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::{ContextV7, Timestamp, Uuid};

use super::body::Tap;
use super::count::Counters;
use super::plan::Plan;
use super::policy::Held;
use super::rules::Decision;
use super::{Connection, Sessions, address, entry};
use crate::config::{Level, Mode};
use crate::journal::{Committed, Lane, Refused};
use crate::message::{Fields, Known, RequestHead, ResponseHead};
use crate::record::{End, Stage};

/// One request and its response. Cheap to clone; all clones are the same exchange.
///
/// When the last clone is dropped before [`Exchange::finish`], the client is taken to have gone away.
#[derive(Clone)]
pub struct Exchange(Rc<State>);

/// What one worker's exchanges share.
pub(super) struct Worker {
    pub(super) sessions: Arc<Sessions>,
    pub(super) outlet: Outlet,
    pub(super) buffer: RefCell<Vec<u8>>,
    pub(super) counters: Counters,
    /// Each worker counts its own ids: the library's counter is behind a lock that all threads share.
    ids: ContextV7,
    /// Daybook is stopping: exchanges that are dropped now were interrupted by it, not by their clients.
    pub(super) interrupted: Cell<bool>,
}

/// Where records go.
pub(super) enum Outlet {
    Journal(Lane),
    #[cfg(test)]
    Memory(Rc<RefCell<Vec<String>>>),
}

/// What is known when the request's head has been read, and, in `progress`, what happened since.
pub(super) struct State {
    pub(super) worker: Rc<Worker>,
    pub(super) policy: Rc<Held>,
    pub(super) connection: Rc<Connection>,
    pub(super) decision: Option<Decision>,
    pub(super) id: [u8; 36],
    pub(super) time: SystemTime,
    pub(super) began: Instant,
    pub(super) head: Rc<RequestHead>,
    pub(super) https: bool,
    pub(super) client: Option<IpAddr>,
    pub(super) progress: RefCell<Progress>,
    done: Cell<bool>,
    /// The rule says that there is no record; the exchange is counted all the same.
    left_out: bool,
}

/// What happened since the request's head.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) connect: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) status: Option<u16>,
    pub(super) grpc_status: Option<u32>,
    /// Set where we answered ourselves.
    pub(super) own: Option<(End, &'static str)>,
    /// The application's response, where it gave one.
    pub(super) head: Option<Rc<ResponseHead>>,
    pub(super) request_body: Option<Tap>,
    pub(super) response_body: Option<Tap>,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(sessions: Arc<Sessions>, outlet: Outlet, counters: Counters) -> Self {
        Self {
            sessions,
            outlet,
            counters,
            ids: ContextV7::new(),
            buffer: RefCell::new(Vec::with_capacity(4096)),
            interrupted: Cell::new(false),
        }
    }

    /// A UUIDv7 of this moment, as text.
    fn id(&self, time: SystemTime) -> [u8; 36] {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = Timestamp::from_unix(&self.ids, since.as_secs(), since.subsec_nanos());
        let mut id = [0; 36];
        Uuid::new_v7(timestamp).hyphenated().encode_lower(&mut id);
        id
    }
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn begin(
        worker: Rc<Worker>,
        policy: Rc<Held>,
        connection: Rc<Connection>,
        head: Rc<RequestHead>,
    ) -> Self {
        let (time, began) = (SystemTime::now(), Instant::now());
        let decision = policy.decide(&connection.listener, &head);
        let plan = policy.plan(decision);
        Self(Rc::new(State {
            id: worker.id(time),
            time,
            began,
            https: is_https(&connection, &head.fields),
            client: address::client(connection.peer, &head.fields, &connection.trusted_proxies),
            progress: RefCell::new(Progress {
                request_body: tap(&policy, plan.request_body, plan.level >= Level::Request),
                response_body: tap(&policy, plan.response_body, plan.level >= Level::RequestResponse),
                ..Progress::default()
            }),
            done: Cell::new(false),
            left_out: plan.level == Level::None,
            decision,
            head,
            connection,
            policy,
            worker,
        }))
    }

    /// How safe the record must be before the response goes out.
    pub fn mode(&self) -> Mode {
        if self.0.left_out { Mode::Batch } else { self.0.plan().mode }
    }

    /// The client's request id where it sent a usable one, else ours, which is also the record's `id`.
    pub fn request_id(&self) -> &str {
        self.0.request_id()
    }

    /// The client's address, by the walk through trusted proxies.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.0.client
    }

    /// When the request's head had been read.
    pub fn began(&self) -> Instant {
        self.0.began
    }

    /// Whether the journal takes this exchange's record; where it doesn't, the request is refused.
    ///
    /// # Errors
    /// [`Refused`] when the journal is full under `when_full = "refuse"`, or its disk failed and the
    /// mode promises more than `batch`.
    pub fn admits(&self) -> Result<(), Refused> {
        if self.0.left_out {
            return Ok(());
        }
        match &self.0.worker.outlet {
            Outlet::Journal(lane) => match lane.accepts() {
                Err(Refused::Poisoned) if self.mode() == Mode::Batch => Ok(()),
                verdict => verdict,
            },
            #[cfg(test)]
            Outlet::Memory(_) => Ok(()),
        }
    }

    /// In mode `blocking-strict`: records the intent. The application may see the request only when
    /// this has resolved well; answer 503 otherwise.
    pub fn intent(&self) -> Option<Committed> {
        if self.mode() != Mode::BlockingStrict || self.0.left_out {
            return None;
        }
        entry::stage(&self.0, Stage::RequestReceived)
    }

    /// A connection to the application was there after `connect` (zero for a kept one).
    pub fn connected(&self, connect: Duration) {
        self.0.progress.borrow_mut().connect = Some(connect);
    }

    /// The response's head has been read.
    pub fn first_byte(&self) {
        let elapsed = self.0.began.elapsed();
        self.0.progress.borrow_mut().first_byte.get_or_insert(elapsed);
    }

    /// A piece of the request's body has come.
    pub fn request_data(&self, data: &[u8]) {
        let mut progress = self.0.progress.borrow_mut();
        progress.request_bytes += data.len() as u64;
        if let Some(tap) = &mut progress.request_body {
            tap.data(data);
        }
    }

    /// The request's body is complete.
    pub fn request_end(&self) {
        if let Some(tap) = &mut self.0.progress.borrow_mut().request_body {
            tap.end();
        }
    }

    /// The application's response has begun.
    pub fn response_head(&self, head: &Rc<ResponseHead>) {
        let mut progress = self.0.progress.borrow_mut();
        progress.status = Some(head.status.as_u16());
        progress.grpc_status = grpc_status(&head.fields);
        progress.head = Some(head.clone());
    }

    /// A piece of the response's body goes out.
    pub fn response_data(&self, data: &[u8]) {
        let mut progress = self.0.progress.borrow_mut();
        progress.response_bytes += data.len() as u64;
        if let Some(tap) = &mut progress.response_body {
            tap.data(data);
        }
    }

    /// The response's trailers go out.
    pub fn response_trailers(&self, trailers: &Fields) {
        if let Some(status) = grpc_status(trailers) {
            self.0.progress.borrow_mut().grpc_status = Some(status);
        }
    }

    /// Records that the response began, for those that may never end: upgrades and long streams.
    pub fn response_started(&self) {
        if !self.0.done.get() && !self.0.left_out {
            // A stage on the way holds nothing up: the outcome's record will.
            drop(entry::stage(&self.0, Stage::ResponseStarted));
        }
    }

    /// We answered ourselves. `end` and `reason` stand even when the answer then goes out completely.
    pub fn own_response(&self, status: u16, end: End, reason: &'static str) {
        let mut progress = self.0.progress.borrow_mut();
        progress.status = Some(status);
        progress.own = Some((end, reason));
    }

    /// Bytes that went through an upgraded connection: towards the application, and back.
    pub fn tunnel_bytes(&self, up: u64, down: u64) {
        let mut progress = self.0.progress.borrow_mut();
        progress.request_bytes += up;
        progress.response_bytes += down;
    }

    /// The exchange is over: records the outcome, once; later calls do nothing.
    ///
    /// In the blocking modes the caller must wait for what is returned before it lets the last byte
    /// of the response go.
    pub fn finish(&self, end: End, reason: Option<&str>) -> Option<Committed> {
        self.0.finish(end, reason)
    }
}

// === impl Progress ===

impl Progress {
    /// The response's header lines.
    pub(super) fn fields(&self) -> Option<&Fields> {
        self.head.as_ref().map(|head| &head.fields)
    }
}

// === impl State ===

impl State {
    pub(super) fn plan(&self) -> &Plan {
        self.policy.plan(self.decision)
    }

    pub(super) fn request_id(&self) -> &str {
        let header = self.connection.request_id_header.as_ref();
        let clients = header.and_then(|name| self.head.fields.get(name)).filter(|id| is_request_id(id));
        // Both are ASCII.
        std::str::from_utf8(clients.unwrap_or(&self.id)).unwrap_or_default()
    }

    /// The host the client asked for.
    pub(super) fn host(&self) -> Option<&str> {
        let host = self.head.host()?;
        // What stands before an `@` is a name and a password.
        Some(host.rsplit_once('@').map_or(host, |(_, host)| host)).filter(|host| !host.is_empty())
    }

    fn finish(&self, end: End, reason: Option<&str>) -> Option<Committed> {
        if self.done.replace(true) {
            return None;
        }
        let duration = self.began.elapsed();
        let mut progress = self.progress.borrow_mut();
        if let Some(tap) = progress.response_body.as_mut().filter(|_| end == End::Complete) {
            tap.end();
        }
        let (end, reason) = match progress.own {
            Some((own_end, own_reason)) if end == End::Complete => (own_end, Some(own_reason)),
            Some((_, own_reason)) => (end, reason.or(Some(own_reason))),
            None => (end, reason),
        };
        self.worker.counters.exchange(self, progress.status, end, duration);
        if self.left_out { None } else { entry::outcome(self, &progress, end, reason, duration) }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let end = if self.worker.interrupted.get() { End::Interrupted } else { End::ClientClosed };
        // Nobody is left to wait for it.
        drop(self.finish(end, None));
    }
}

fn tap(policy: &Held, wanted: bool, hash: bool) -> Option<Tap> {
    wanted.then(|| Tap::new(policy.body_size, hash))
}

/// As the client used it: by our own TLS, or by the word of a trusted proxy.
fn is_https(connection: &Connection, fields: &Fields) -> bool {
    let trusted = connection.peer.is_some_and(|peer| address::is_trusted(peer, &connection.trusted_proxies));
    let forwarded = || fields.known(Known::XForwardedProto).map(|proto| proto.eq_ignore_ascii_case(b"https"));
    trusted.then(forwarded).flatten().unwrap_or(connection.tls)
}

/// Printable, short, and nothing that a log or a shell would stumble over.
fn is_request_id(id: &[u8]) -> bool {
    let fine = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(b);
    (1..=128).contains(&id.len()) && id.iter().all(fine)
}

fn grpc_status(fields: &Fields) -> Option<u32> {
    std::str::from_utf8(fields.known(Known::GrpcStatus)?).ok()?.parse().ok()
}
