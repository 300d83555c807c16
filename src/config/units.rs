//! Values as people write them: `"64KiB"`, `"10s"`, one string or a list of strings, a secret.
//!
//! Each is a newtype with its own sentence for a bad value, so that serde's span, and with it the
//! line and column of the complaint, points at the value itself.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes, written as `65536`, `"64KiB"`, `"10MB"`.
///
/// `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024 and `kB`, `MB`, `GB`, `TB` powers of 1000 (IEC 80000-13).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A length of time, written as `"250ms"`, `"10s"`, `"5m"`, `"24h"`, `"7d"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// One string or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings(pub Vec<String>);

/// A value that must not be shown: its `Debug` is `***`.
///
/// Written literally, or as `"env:NAME"` or `"file:/path"`, which are read when the configuration is
/// loaded, so that the secret itself need not stand in the file.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

// === impl Bytes ===

const BYTE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl Bytes {
    /// `n` times 1024 bytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` times 1024² bytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number of bytes as a `usize`, saturating on machines with a smaller one.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size; write it like `64KiB`, `10MB` or `4096`");
        let (number, unit) =
            BYTE_UNITS.iter().find_map(|(name, factor)| Some((text.strip_suffix(name)?, *factor))).unwrap_or((text, 1));
        let number: u64 = number.trim_end().parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = BYTE_UNITS[..4].iter().rev().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like `64KiB`, `10MB` or `4096`")
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Bytes, E> {
                u64::try_from(v).map(Bytes).map_err(|_| {
                    E::custom(format!("{v} is less than nothing; write a size like `64KiB`, `10MB` or `4096`"))
                })
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Bytes, E> {
                Ok(Bytes(v))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Bytes, E> {
                Bytes::parse(v).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Span ===

const SPAN_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Span {
    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration; write it like `250ms`, `30s`, `5m`, `24h` or `7d`");
        let (number, factor) =
            SPAN_UNITS.iter().find_map(|(name, factor)| Some((text.strip_suffix(name)?, *factor))).ok_or_else(wrong)?;
        let number: u64 = number.trim_end().parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(wrong)
    }
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, factor) =
            SPAN_UNITS.iter().rev().find(|(_, factor)| ms != 0 && ms.is_multiple_of(*factor)).unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", ms / factor)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like `250ms`, `30s`, `5m`, `24h` or `7d`")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Span, E> {
                Span::parse(v).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(V)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Strings ===

impl Strings {
    /// The strings in the order they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Strings;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Strings, E> {
                Ok(Strings(vec![v.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strings, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(Strings(all))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl Serialize for Strings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

// === impl Secret ===

impl Secret {
    /// The value itself. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// No secret was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn read(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("env:") {
            return std::env::var(name)
                .map(Self)
                .map_err(|_| format!("the environment variable `{name}` is not set (or is not UTF-8)"));
        }
        if let Some(path) = text.strip_prefix("file:") {
            return std::fs::read_to_string(path)
                .map(|s| Self(s.trim_end_matches(['\r', '\n']).to_owned()))
                .map_err(|e| format!("the secret's file `{path}` can't be read: {e}"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).map_err(de::Error::custom)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_back_what_they_print() {
        for text in ["0B", "1B", "4096B", "4KiB", "64KiB", "10MiB", "3GiB"] {
            let size = Bytes::parse(text).expect(text);
            assert_eq!(Bytes::parse(&size.to_string()), Ok(size), "{text}");
        }
        for text in ["0ms", "250ms", "10s", "5m", "24h", "7d"] {
            let span = Span::parse(text).expect(text);
            assert_eq!(span.to_string(), if text == "24h" { "1d" } else { text });
        }
    }

    #[test]
    fn nonsense_is_answered_with_what_to_write() {
        assert!(Bytes::parse("many").unwrap_err().contains("64KiB"));
        assert!(Bytes::parse("99999999999TiB").unwrap_err().contains("is not a size"));
        assert!(Span::parse("soon").unwrap_err().contains("write it like"));
        assert!(Span::parse("10").unwrap_err().contains("write it like"));
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::read("hunter2").expect("a literal");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.expose(), "hunter2");
    }
}
