//! What a destination does; [`super::worker`] does the rest.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::journal::{Entry, Position, Tail};

/// A destination. Called by one thread only.
pub(super) trait Sink: Send {
    /// Looks, before the first record, how far an earlier process came; `tail` is only for looking.
    fn resume(&mut self, tail: &mut Tail) -> Result<(), Trouble> {
        let _ = tail;
        Ok(())
    }

    /// Takes the next record, if there is room.
    fn send(&mut self, entry: &Entry<'_>) -> Result<Sent, Trouble>;

    /// A batch ends: what was taken should go out now.
    fn flush(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    /// The journal was read to its end, and a stop was asked for: nothing more will come soon. What it complains of.
    fn drain(&mut self) -> Option<String> {
        None
    }

    /// Takes acknowledgements for `wait`. Returns what the destination complains of meanwhile, if it does.
    fn serve(&mut self, wait: Duration) -> Result<Option<String>, Trouble>;

    /// Everything before this place has arrived.
    fn reached(&self) -> Option<Position>;

    /// Makes what has arrived survive a power cut: called before the cursor moves.
    fn secure(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    /// Records taken that have not arrived.
    fn in_flight(&self) -> usize;

    /// Records that arrived since the start.
    fn delivered(&self) -> u64;

    /// Records that were refused for good since the start.
    fn rejected(&self) -> u64 {
        0
    }

    /// Forgets what has not arrived: it is sent again from the cursor.
    fn rewind(&mut self);
}

/// Whether a record was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was.
    Taken,
    /// There is no room: serve acknowledgements, then offer the same record again.
    Full,
}

/// Why sending stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Go back to the cursor after a while.
    Retry(String),
    /// Go back to the cursor at once: the sink knows what to do differently.
    #[cfg(feature = "kafka")]
    Again,
    /// This sink is over.
    Ended(String),
}

// === impl Trouble ===

impl Trouble {
    /// Worth another try, with everything the error says.
    pub(super) fn retry(error: &dyn Error) -> Self {
        Self::Retry(told(error))
    }

    /// The file system said no; it may say yes later.
    pub(super) fn io(action: &str, error: &io::Error) -> Self {
        Self::Retry(format!("{action} failed: {error}"))
    }
}

/// An error with its causes, in one line.
pub(super) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
