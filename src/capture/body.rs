//! Bodies on their way through: counted, hashed, and copied up to a bound.

use std::borrow::Cow;
use std::io::{self, Read};

use aws_lc_rs::digest;

use super::token::hex;

/// A tap on one body.
pub(super) struct Tap {
    bytes: Vec<u8>,
    limit: usize,
    length: u64,
    hash: Option<Box<digest::Context>>,
    ended: bool,
}

/// The beginning of a body, decoded.
pub(super) struct Decoded<'t> {
    pub(super) bytes: Cow<'t, [u8]>,
    /// It is not the whole.
    pub(super) cut: bool,
}

/// Most encodings that are undone; nobody sends more than one in earnest.
const ENCODINGS: usize = 2;

/// Largest window of a zstd frame, as the content coding has it (RFC 9659): 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

impl Tap {
    /// A tap that keeps the first `limit` bytes, and hashes all of them where asked.
    pub(super) fn new(limit: usize, hash: bool) -> Self {
        let hash = hash.then(|| Box::new(digest::Context::new(&digest::SHA256)));
        Self { bytes: Vec::new(), limit, length: 0, hash, ended: false }
    }

    /// A piece goes by.
    pub(super) fn data(&mut self, data: &[u8]) {
        self.length += data.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(data);
        }
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// That was all of it.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether bytes went by.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// SHA-256 of all bytes that went by, in hex.
    pub(super) fn sha256(&self) -> Option<String> {
        self.hash.as_ref().map(|hash| hex(hash.as_ref().clone().finish().as_ref()))
    }

    /// What was kept, with its content codings (RFC 9110 section 8.4) undone, up to `limit` bytes.
    ///
    /// # Errors
    /// Why it can't be read.
    pub(super) fn decoded(&self, encoding: &str, limit: usize) -> Result<Decoded<'_>, &'static str> {
        let mut cut = !self.ended || self.length > self.bytes.len() as u64;
        let mut bytes = Cow::Borrowed(self.bytes.as_slice());
        let codings: Vec<&str> = encoding.split(',').map(str::trim).filter(|c| !c.is_empty()).collect();
        if codings.len() > ENCODINGS {
            return Err("it has too many content-encodings");
        }
        for coding in codings.iter().rev() {
            if coding.eq_ignore_ascii_case("identity") {
                continue;
            }
            let (decoded, more) = undo(coding, &bytes, limit, cut)?;
            bytes = Cow::Owned(decoded);
            cut |= more;
        }
        Ok(Decoded { bytes, cut })
    }
}

/// One coding undone, and whether the result is only the beginning.
fn undo(coding: &str, bytes: &[u8], limit: usize, cut: bool) -> Result<(Vec<u8>, bool), &'static str> {
    match coding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => read(flate2::read::MultiGzDecoder::new(bytes), limit, cut),
        // Meant is zlib (RFC 1950); some senders leave its two bytes out.
        "deflate" if bytes.first().is_some_and(|b| b & 15 == 8) => {
            read(flate2::read::ZlibDecoder::new(bytes), limit, cut)
        }
        "deflate" => read(flate2::read::DeflateDecoder::new(bytes), limit, cut),
        "br" => read(brotli::Decompressor::new(bytes, 4096), limit, cut),
        "zstd" => {
            let mut decoder = zstd::stream::read::Decoder::new(bytes).map_err(|_| "it can't be decompressed")?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| "it can't be decompressed")?;
            read(decoder, limit, cut)
        }
        _ => Err("its content-encoding is unknown"),
    }
}

fn read(mut decoder: impl Read, limit: usize, cut: bool) -> Result<(Vec<u8>, bool), &'static str> {
    let mut out = Vec::new();
    let mut piece = [0; 8192];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return Ok((out, cut)),
            Ok(n) if out.len() + n > limit => {
                out.extend_from_slice(&piece[..limit - out.len()]);
                return Ok((out, true));
            }
            Ok(n) => out.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Of a body that was cut the end is missing, and what was read before it is sound.
            Err(_) if cut => return Ok((out, true)),
            Err(_) => return Err("it can't be decompressed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn tap(bytes: &[u8], limit: usize) -> Tap {
        let mut tap = Tap::new(limit, true);
        for piece in bytes.chunks(7) {
            tap.data(piece);
        }
        tap.end();
        tap
    }

    fn encoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
        use flate2::{Compression, write};
        match coding {
            "gzip" => {
                let mut encoder = write::GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).expect("written");
                encoder.finish().expect("finished")
            }
            "deflate" => {
                let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).expect("written");
                encoder.finish().expect("finished")
            }
            "br" => {
                let mut out = Vec::new();
                brotli::CompressorWriter::new(&mut out, 4096, 3, 20).write_all(bytes).expect("written");
                out
            }
            "zstd" => zstd::encode_all(bytes, 1).expect("encoded"),
            _ => bytes.to_vec(),
        }
    }

    #[test]
    fn every_coding_is_undone() {
        let text = "name=value&".repeat(1000);
        for coding in ["identity", "gzip", "deflate", "br", "zstd"] {
            let tap = tap(&encoded(coding, text.as_bytes()), 64 << 10);
            let decoded = tap.decoded(coding, 64 << 10).expect(coding);
            assert_eq!(decoded.bytes, text.as_bytes(), "{coding}");
            assert!(!decoded.cut, "{coding}");
            assert!(tap.sha256().is_some_and(|h| h.len() == 64));
        }
        let twice = encoded("br", &encoded("gzip", text.as_bytes()));
        assert_eq!(tap(&twice, 64 << 10).decoded("gzip, br", 64 << 10).expect("both").bytes, text.as_bytes());
    }

    #[test]
    fn a_bomb_is_cut() {
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let bomb = encoded(coding, &vec![b'a'; 50 << 20]);
            let tap = tap(&bomb, 1 << 20);
            let decoded = tap.decoded(coding, 100_000).expect(coding);
            assert_eq!((decoded.bytes.len(), decoded.cut), (100_000, true), "{coding}");
        }
    }

    #[test]
    fn the_beginning_of_a_long_body_is_kept() {
        let text = (0..20_000u32).map(|n| n.to_string()).collect::<String>();
        for coding in ["identity", "gzip", "br", "zstd"] {
            let tap = tap(&encoded(coding, text.as_bytes()), 4000);
            let decoded = tap.decoded(coding, 64 << 10).expect(coding);
            assert!(decoded.cut, "{coding}");
            assert!(text.as_bytes().starts_with(&decoded.bytes), "{coding}");
        }
    }

    #[test]
    fn garbage_is_said_to_be_garbage() {
        assert!(tap(b"not compressed", 100).decoded("gzip", 100).is_err());
        assert!(tap(b"x", 100).decoded("compress", 100).is_err());
        assert!(tap(b"x", 100).decoded("gzip,gzip,gzip", 100).is_err());
    }
}
