//! Tokens: keyed stand-ins for secrets, equal where the secrets are equal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::{hmac, rand};

/// Bytes of the key in the key file.
const KEY_BYTES: usize = 32;

/// A token: HMAC-SHA256 cut to 128 bits, which RFC 2104 (section 5) allows and which keeps records short.
pub(super) type Token = [u8; 16];

/// Makes tokens. Whoever has neither the key nor the secret learns nothing from a token.
pub(super) struct Tokens(hmac::Key);

impl Tokens {
    /// Reads the key from `path`; on the first run makes one there, readable by its owner only.
    ///
    /// # Errors
    /// The file can't be read or made, or holds fewer than 32 bytes.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match File::open(path) {
            Ok(file) => Self::read(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(e) => Err(e),
        }
    }

    /// A key nobody will know again: for checking a configuration, and for tests.
    pub(super) fn ephemeral() -> Self {
        let mut key = [0; KEY_BYTES];
        // No randomness means a key of zeroes, which is as good as any for tokens that are never written.
        let _ = rand::fill(&mut key);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    fn read(file: File) -> io::Result<Self> {
        let mut key = Vec::with_capacity(KEY_BYTES);
        file.take(4096).read_to_end(&mut key)?;
        if key.len() < KEY_BYTES {
            let message = format!("the key has {} bytes, at least {KEY_BYTES} are needed", key.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// Written whole under another name first, then linked into place: a crash leaves no half key, and
    /// of two processes that start at once both use the key of the one that was first.
    fn make(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut key = [0; KEY_BYTES];
        rand::fill(&mut key).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let made = file.write_all(&key).and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&new, path));
        let _ = std::fs::remove_file(&new);
        match made {
            Ok(()) => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key))),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Self::read(File::open(path)?),
            Err(e) => Err(e),
        }
    }

    /// The token of `secret`.
    pub(super) fn of(&self, secret: &[u8]) -> Token {
        let tag = hmac::sign(&self.0, secret);
        let mut token = Token::default();
        token.copy_from_slice(&tag.as_ref()[..16]);
        token
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
    out
}

/// `…` and the last four characters, where at least three times as many stay hidden.
pub(super) fn hint(secret: &str) -> Option<String> {
    let characters = secret.chars().count();
    (characters >= 16).then(|| format!("…{}", secret.chars().skip(characters - 4).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_and_is_nobody_elses() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/token.key");
        let first = Tokens::open(&path).expect("made");
        let again = Tokens::open(&path).expect("read");
        assert_eq!(first.of(b"secret"), again.of(b"secret"), "the key did not survive");
        assert_ne!(first.of(b"secret"), Tokens::ephemeral().of(b"secret"));
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().expect("a parent")).expect("a folder").count(), 1);
    }

    #[test]
    fn a_short_key_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token.key");
        std::fs::write(&path, b"short").expect("written");
        assert!(Tokens::open(&path).err().expect("refused").to_string().contains("at least 32"));
    }

    #[test]
    fn hints_are_only_given_of_long_secrets() {
        assert_eq!(hint("0123456789abcdef").as_deref(), Some("…cdef"));
        assert_eq!(hint("0123456789abcde"), None);
    }
}
