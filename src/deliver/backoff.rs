//! How long to wait before trying again: doubling, bounded, with jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Doubles from [`Backoff::FIRST`] to [`Backoff::LONGEST`]; each delay is shortened by up to a quarter at
/// random, so that the sidecars of many pods don't come back to a restarted broker in step.
#[derive(Debug)]
pub(super) struct Backoff {
    step: u32,
    random: RandomState,
}

// === impl Backoff ===

impl Backoff {
    /// The first delay.
    pub(super) const FIRST: Duration = Duration::from_millis(250);
    /// The longest delay: a topic created or a password corrected is noticed within this time.
    pub(super) const LONGEST: Duration = Duration::from_secs(15);

    pub(super) fn new() -> Self {
        Self { step: 0, random: RandomState::new() }
    }

    /// How long to wait this time.
    pub(super) fn next(&mut self) -> Duration {
        let whole = Self::FIRST.saturating_mul(1 << self.step.min(16)).min(Self::LONGEST);
        let jitter = whole / 4 * (self.random.hash_one(self.step) % 100) as u32 / 100;
        self.step = self.step.saturating_add(1);
        whole - jitter
    }

    /// Something was delivered: the next delay is the first again.
    pub(super) fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_start_again_after_success() {
        let mut backoff = Backoff::new();
        let mut whole = Backoff::FIRST;
        for _ in 0..40 {
            let delay = backoff.next();
            assert!(delay <= whole && delay >= whole * 3 / 4, "{delay:?} is a jittered {whole:?}");
            whole = (whole * 2).min(Backoff::LONGEST);
        }
        backoff.reset();
        assert!(backoff.next() <= Backoff::FIRST, "success starts over");
    }
}
