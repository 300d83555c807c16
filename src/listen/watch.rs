//! A worker's watch over its connections: who is too slow, and when to stop.
//!
//! A timer for every wait of every connection would cost more than the waits are worth; one tick
//! looks at all of them. A limit is therefore kept to within a tick.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::Limits;
use crate::forward::Link;

use super::http1::{Client, Waiting};

/// How exactly limits are kept.
const TICK: Duration = Duration::from_millis(250);

/// One worker's connections.
pub struct Watch {
    /// Ticks so far: the clock of all waits.
    pub(super) now: Rc<Cell<u64>>,
    clients: RefCell<Vec<Weak<Client>>>,
    links: RefCell<Vec<Weak<Link>>>,
    draining: Cell<bool>,
    drain: Notify,
    open: Cell<usize>,
    closed: Notify,
}

/// Counts one connection while it is open.
pub(super) struct Open(Rc<Watch>);

impl Watch {
    /// A watch without connections.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            now: Rc::default(),
            clients: RefCell::default(),
            links: RefCell::default(),
            draining: Cell::new(false),
            drain: Notify::new(),
            open: Cell::new(0),
            closed: Notify::new(),
        })
    }

    /// Ticks until dropped; `each_second` is for what else wants to be done now and then.
    pub async fn run(self: Rc<Self>, each_second: impl Fn()) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.now.set(self.now.get() + 1);
            self.look();
            if self.now.get().is_multiple_of(4) {
                each_second();
            }
        }
    }

    /// No new connections, and no new requests on the open ones.
    pub fn drain(&self) {
        self.draining.set(true);
        self.drain.notify_waiters();
        for link in self.links.borrow().iter().filter_map(Weak::upgrade) {
            link.wake();
        }
    }

    /// Resolves when the last connection has closed.
    pub async fn drained(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Resolves when draining begins.
    pub(super) async fn draining(&self) {
        let begins = self.drain.notified();
        if !self.draining.get() {
            begins.await;
        }
    }

    pub(super) fn opened(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }

    pub(super) fn add_link(&self, link: &Rc<Link>) {
        push(&self.links, Rc::downgrade(link), |l| l.strong_count() > 0);
    }

    pub(super) fn add_client(&self, client: &Rc<Client>) {
        push(&self.clients, Rc::downgrade(client), |c| c.strong_count() > 0);
    }

    fn look(&self) {
        let now = self.now.get();
        // Collected first: waking a connection may add or drop others.
        let slow: Vec<(Rc<Client>, Waiting)> = self
            .clients
            .borrow()
            .iter()
            .filter_map(|client| {
                let client = client.upgrade()?;
                let (waiting, since) = client.waiting();
                let limit = limit(waiting, &client.limits)?;
                let waited = TICK.saturating_mul(u32::try_from(now.saturating_sub(since)).unwrap_or(u32::MAX));
                (waited > limit).then_some((client, waiting))
            })
            .collect();
        for (client, waiting) in slow {
            client.too_slow(waiting);
        }
    }
}

/// Adds to a list of things that go away by themselves, and clears it before it grows.
fn push<T>(list: &RefCell<Vec<T>>, item: T, alive: impl Fn(&T) -> bool) {
    let mut list = list.borrow_mut();
    if list.len() == list.capacity() {
        list.retain(alive);
    }
    list.push(item);
}

fn limit(waiting: Waiting, limits: &Limits) -> Option<Duration> {
    match waiting {
        Waiting::Nothing => None,
        Waiting::Request => Some(limits.keep_alive_timeout.0),
        Waiting::Head => Some(limits.head_timeout.0),
        Waiting::Body => Some(limits.body_idle_timeout.0),
        Waiting::Read => Some(limits.write_idle_timeout.0),
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.closed.notify_waiters();
    }
}
