//! Times as records write them.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-22T22:10:01`, and the second since 1970 it stands for.
type Second = (u64, [u8; 19]);

thread_local! {
    /// The calendar is worked out once a second, not once a record.
    static LAST: Cell<Second> = const { Cell::new((u64::MAX, [b'0'; 19])) };
}

/// RFC 3339 in UTC with microseconds: `2026-11-22T22:10:01.123456Z`.
pub fn timestamp(at: SystemTime) -> String {
    let Ok(since) = at.duration_since(UNIX_EPOCH) else { return by_calendar(at) };
    let (mut second, mut text) = LAST.get();
    if second != since.as_secs() {
        let whole = by_calendar(at);
        let Some(prefix) = whole.as_bytes().first_chunk().filter(|_| whole.len() == 27) else { return whole };
        (second, text) = (since.as_secs(), *prefix);
        LAST.set((second, text));
    }
    let mut out = Vec::with_capacity(27);
    out.extend_from_slice(&text);
    out.push(b'.');
    let mut unit = 100_000;
    while unit > 0 {
        out.push(b'0' + (since.subsec_micros() / unit % 10) as u8);
        unit /= 10;
    }
    out.push(b'Z');
    String::from_utf8(out).unwrap_or_else(|_| by_calendar(at))
}

fn by_calendar(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(at) => format!("{at:.6}"),
        Err(_) => "0001-01-01T00:00:00.000000Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_what_the_calendar_says(seconds in 0u64..20_000_000_000, micros in 0u32..1_000_000, again in 0u32..1_000_000) {
            for micros in [micros, again] {
                let at = UNIX_EPOCH + Duration::new(seconds, micros * 1000);
                prop_assert_eq!(timestamp(at), by_calendar(at));
            }
        }
    }
}
