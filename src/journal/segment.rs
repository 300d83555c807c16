//! Segments: their names, what is known of each, and which may go. Pure.

use super::Position;

/// What is known of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Place of the first record it holds or will hold; its name.
    pub(super) first: Position,
    /// Bytes that may be read.
    pub(super) len: u64,
    /// When it was begun, milliseconds since 1970.
    pub(super) begun_ms: u64,
}

// === impl Segment ===

impl Segment {
    pub(super) fn name(&self) -> String {
        name(self.first)
    }
}

/// `0000000003-00000000000000001041.seg`: sorts as the records do.
pub(super) fn name(first: Position) -> String {
    format!("{:010}-{:020}.seg", first.epoch, first.seq)
}

/// The first position of the segment called `name`; `None` if that is no segment's name.
pub(super) fn parse(name: &str) -> Option<Position> {
    let (epoch, seq) = name.strip_suffix(".seg")?.split_once('-')?;
    let position = Position { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? };
    (self::name(position) == name).then_some(position)
}

/// How many of the oldest segments hold nothing that a sink still needs. `slowest` is its cursor;
/// without sinks (`None`) nothing is needed. The last segment is being written and always stays.
pub(super) fn delivered(segments: &[Segment], slowest: Option<Position>) -> usize {
    let Some(slowest) = slowest else { return segments.len().saturating_sub(1) };
    segments.windows(2).take_while(|pair| pair[1].first <= slowest).count()
}

/// How many of the oldest segments are delivered and older than `keep_ms`. Without sinks the journal
/// is a ring: age deletes nothing, `max_size` alone does.
pub(super) fn expired(segments: &[Segment], slowest: Option<Position>, keep_ms: u64, now_ms: u64) -> usize {
    if slowest.is_none() {
        return 0;
    }
    // A segment's last record is as old as the next segment's beginning.
    let old = segments.windows(2).take_while(|pair| now_ms.saturating_sub(pair[1].begun_ms) > keep_ms).count();
    old.min(delivered(segments, slowest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u32, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn segments() -> Vec<Segment> {
        [(at(1, 1), 1_000), (at(1, 50), 2_000), (at(2, 1), 3_000)]
            .map(|(first, begun_ms)| Segment { first, len: 100, begun_ms })
            .to_vec()
    }

    #[test]
    fn names_sort_as_positions_do_and_read_back() {
        assert_eq!(name(at(3, 1041)), "0000000003-00000000000000001041.seg");
        for position in [at(0, 0), at(1, 1), at(u32::MAX, u64::MAX)] {
            assert_eq!(parse(&name(position)), Some(position));
        }
        for other in ["lock", "1-2.seg", "0000000003-00000000000000001041.seg.bak", ".seg"] {
            assert_eq!(parse(other), None, "{other} is no segment");
        }
        assert!(name(at(1, u64::MAX)) < name(at(2, 1)));
    }

    #[test]
    fn a_segment_goes_only_when_every_sink_is_past_it() {
        assert_eq!(delivered(&segments(), Some(at(1, 49))), 0, "record 49 is still to be delivered");
        assert_eq!(delivered(&segments(), Some(at(1, 50))), 1);
        assert_eq!(delivered(&segments(), Some(at(9, 1))), 2, "the last one is being written");
        assert_eq!(delivered(&segments(), None), 2, "without sinks nothing is needed");
        assert_eq!(delivered(&[], None), 0);
    }

    #[test]
    fn delivered_segments_stay_for_a_while() {
        let all = Some(at(9, 1));
        assert_eq!(expired(&segments(), all, 1_000, 3_000), 0, "the first is 1000 ms old, not more");
        assert_eq!(expired(&segments(), all, 1_000, 3_001), 1);
        assert_eq!(expired(&segments(), Some(at(1, 1)), 1_000, 99_000), 0, "age alone deletes nothing undelivered");
        assert_eq!(expired(&segments(), None, 1_000, 99_000), 0, "a ring is bounded by size");
    }
}
