//! The frame's bytes, written by hand: the format outlives any struct. Pure.
//!
//! The module doc of [`crate::journal`] has the table.

use super::Position;

/// Bytes of a frame before its payload.
pub(super) const HEADER: usize = 32;
/// The layout's version. `len`, `crc`, `kind` and `version` keep their places in every later one.
pub(super) const VERSION: u8 = 1;
/// Largest payload. A length above it is damage, so that a bad one never asks for gigabytes.
pub(super) const MAX_PAYLOAD: usize = 8 << 20;

/// A record: the payload is its JSON.
pub(super) const RECORD: u8 = 1;
/// Everything known besides records, at the head of each segment and at each start: JSON of [`super::book::Book`].
pub(super) const BOOK: u8 = 2;
/// The sinks' cursors: a JSON map.
pub(super) const CURSORS: u8 = 3;
/// The journal was closed in good order; nothing is in flight. No payload.
pub(super) const CLEAN: u8 = 4;

/// What a frame says about its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    /// A record's own place; of other kinds, the place of the next record.
    pub(super) position: Position,
    /// Milliseconds since 1970.
    pub(super) written_ms: u64,
    pub(super) payload_len: usize,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// They may be, once this many are there.
    Incomplete { need: usize },
    /// They are not.
    Corrupt,
    /// They are, of a version or with flags that this one does not know.
    Newer { version: u8 },
}

impl Frame {
    pub(super) fn size(&self) -> usize {
        HEADER + self.payload_len
    }
}

/// Makes room for a header at the end of `out`; the payload is to be appended, then [`finish`] called.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER]);
    at
}

/// Fills in the header begun at `at`; everything behind it is its payload.
pub(super) fn finish(out: &mut [u8], at: usize, kind: u8, position: Position, written_ms: u64) {
    let frame = &mut out[at..];
    // Lanes and bookkeeping keep payloads far below MAX_PAYLOAD, which fits u32.
    let len = (frame.len() - HEADER) as u32;
    frame[0..4].copy_from_slice(&len.to_le_bytes());
    frame[8] = kind;
    frame[9] = VERSION;
    frame[10..12].copy_from_slice(&[0, 0]);
    frame[12..16].copy_from_slice(&position.epoch.to_le_bytes());
    frame[16..24].copy_from_slice(&position.seq.to_le_bytes());
    frame[24..32].copy_from_slice(&written_ms.to_le_bytes());
    let crc = checksum(frame);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The frame that `bytes` begin with. Its payload is `bytes[HEADER..frame.size()]`.
pub(super) fn decode(bytes: &[u8]) -> Result<Frame, Bad> {
    if bytes.len() < HEADER {
        return Err(Bad::Incomplete { need: HEADER });
    }
    let payload_len = u32_at(bytes, 0) as usize;
    if payload_len > MAX_PAYLOAD {
        return Err(Bad::Corrupt);
    }
    let size = HEADER + payload_len;
    if bytes.len() < size {
        return Err(Bad::Incomplete { need: size });
    }
    let frame = &bytes[..size];
    if checksum(frame) != u32_at(frame, 4) {
        return Err(Bad::Corrupt);
    }
    if frame[9] != VERSION || frame[10..12] != [0, 0] {
        return Err(Bad::Newer { version: frame[9] });
    }
    Ok(Frame {
        kind: frame[8],
        position: Position { epoch: u32_at(frame, 12), seq: u64_at(frame, 16) },
        written_ms: u64_at(frame, 24),
        payload_len,
    })
}

/// Whether a frame may begin here: a cheap look before a checksum, for searching behind damage.
///
/// No payload passes as a frame: JSON holds no NUL byte, and a header of this version holds two.
pub(super) fn plausible(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER
        && bytes[9] == VERSION
        && bytes[10..12] == [0, 0]
        && bytes[8] != 0
        && u32_at(bytes, 0) as usize <= MAX_PAYLOAD
}

/// CRC-32C over everything but the checksum itself: the length too.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(kind: u8, position: Position, written_ms: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let at = begin(&mut out);
        out.extend_from_slice(payload);
        finish(&mut out, at, kind, position, written_ms);
        out.split_off(at)
    }

    proptest! {
        #[test]
        fn a_frame_reads_back_what_it_wrote(
            kind in 1u8..5, epoch: u32, seq: u64, ms: u64, payload in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let bytes = encoded(kind, Position { epoch, seq }, ms, &payload);
            let frame = decode(&bytes).expect("what was encoded decodes");
            let same = Frame { kind, position: Position { epoch, seq }, written_ms: ms, payload_len: payload.len() };
            prop_assert_eq!(frame, same);
            prop_assert_eq!(&bytes[HEADER..frame.size()], payload.as_slice());
            prop_assert!(plausible(&bytes));
        }

        #[test]
        fn any_flipped_bit_is_noticed(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = encoded(RECORD, Position { epoch: 3, seq: 1041 }, 1_795_385_401_000, &payload);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                flipped.extend_from_slice(&bytes); // a longer length must find bytes to be wrong about
                prop_assert!(
                    matches!(decode(&flipped), Err(Bad::Corrupt | Bad::Incomplete { .. })),
                    "bit {} went unnoticed", bit
                );
            }
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
            let _ = plausible(&bytes);
        }
    }

    #[test]
    fn every_shorter_beginning_asks_for_more() {
        let bytes = encoded(RECORD, Position { epoch: 1, seq: 1 }, 0, b"{}");
        for n in 0..bytes.len() {
            let need = if n < HEADER { HEADER } else { bytes.len() };
            assert_eq!(decode(&bytes[..n]), Err(Bad::Incomplete { need }), "{n} bytes of {}", bytes.len());
        }
    }

    #[test]
    fn a_sound_frame_of_another_version_is_not_called_damage() {
        let mut bytes = encoded(RECORD, Position { epoch: 1, seq: 1 }, 0, b"{}");
        bytes[9] = 2;
        let crc = checksum(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&bytes), Err(Bad::Newer { version: 2 }));
    }

    #[test]
    fn the_bytes_on_disk_never_change() {
        let bytes = encoded(RECORD, Position { epoch: 3, seq: 1041 }, 0x0102_0304, b"{}");
        let header = [
            2, 0, 0, 0, 0xe7, 0x6d, 0xfb, 0xbf, 1, 1, 0, 0, 3, 0, 0, 0, 0x11, 4, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0,
            0,
        ];
        assert_eq!(bytes[..HEADER], header, "an old journal must stay readable");
    }
}
