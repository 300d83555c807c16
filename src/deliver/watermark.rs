//! Acknowledgements come in any order; a cursor may only move over records that all arrived.

use std::collections::VecDeque;

use crate::journal::{Entry, Position};

/// The records on their way, in the journal's order, and how far all of them have arrived.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    /// Ticket of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    reached: Option<Position>,
}

#[derive(Debug)]
struct Slot {
    position: Position,
    next: Position,
    arrived: bool,
}

// === impl Watermark ===

impl Watermark {
    /// A record was sent; the ticket is what its acknowledgement names. Tickets count up from 0.
    pub(super) fn sent(&mut self, entry: &Entry<'_>) -> u64 {
        self.slots.push_back(Slot { position: entry.position, next: entry.next(), arrived: false });
        self.first + self.slots.len() as u64 - 1
    }

    /// The ticket the next [`Watermark::sent`] will give.
    pub(super) fn next_ticket(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// A record arrived. Returns by how many records the watermark moved. Unknown tickets are ignored.
    pub(super) fn arrived(&mut self, ticket: u64) -> u64 {
        let Some(slot) = ticket.checked_sub(self.first).and_then(|at| self.slots.get_mut(usize::try_from(at).ok()?))
        else {
            return 0;
        };
        slot.arrived = true;
        let before = self.first;
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.arrived) {
            self.reached = Some(slot.next);
            self.first += 1;
        }
        self.first - before
    }

    /// Where a record on its way stands in the journal.
    pub(super) fn position(&self, ticket: u64) -> Option<Position> {
        let at = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        self.slots.get(at).map(|slot| slot.position)
    }

    /// Everything before this place arrived; `None` until something did.
    pub(super) fn reached(&self) -> Option<Position> {
        self.reached
    }

    /// Records sent and not passed by the watermark.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.len()
    }

    /// Forgets what is on its way: it will be sent again. Its tickets are not given again.
    pub(super) fn rewind(&mut self) {
        self.first += self.slots.len() as u64;
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(seq: u64) -> Entry<'static> {
        Entry { position: Position { epoch: 1, seq }, written_ms: 0, payload: b"{}" }
    }

    proptest! {
        #[test]
        fn in_any_order_of_acknowledgement_the_watermark_is_the_longest_arrived_prefix(
            order in (1usize..60).prop_flat_map(|n| Just((0..n as u64).collect::<Vec<_>>()).prop_shuffle()),
            acknowledged in 0usize..60,
        ) {
            let mut watermark = Watermark::default();
            for seq in 1..=order.len() as u64 {
                prop_assert_eq!(watermark.sent(&entry(seq)), seq - 1);
            }
            let mut arrived = vec![false; order.len()];
            let mut moved = 0;
            for ticket in order.iter().take(acknowledged) {
                arrived[*ticket as usize] = true;
                moved += watermark.arrived(*ticket);
                let prefix = arrived.iter().take_while(|a| **a).count() as u64;
                prop_assert_eq!(moved, prefix);
                let expected = (prefix > 0).then_some(Position { epoch: 1, seq: prefix + 1 });
                prop_assert_eq!(watermark.reached(), expected);
                prop_assert_eq!(watermark.in_flight() as u64, order.len() as u64 - prefix);
            }
        }
    }

    #[test]
    fn after_a_rewind_late_acknowledgements_of_the_old_sendings_are_ignored() {
        let mut watermark = Watermark::default();
        let (a, b) = (watermark.sent(&entry(1)), watermark.sent(&entry(2)));
        assert_eq!(watermark.arrived(b), 0, "the first is still on its way");
        watermark.rewind();
        let again = watermark.sent(&entry(1));
        assert_eq!(watermark.arrived(a), 0, "an old ticket says nothing about the new sending");
        assert_eq!(watermark.position(again), Some(Position { epoch: 1, seq: 1 }));
        assert_eq!(watermark.arrived(again), 1);
        assert_eq!(watermark.reached(), Some(Position { epoch: 1, seq: 2 }));
    }
}
