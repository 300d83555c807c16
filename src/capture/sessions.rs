//! Sessions learnt from logins: whose they are.
//!
//! Only tokens of the sessions' secrets are kept, in memory and on disk. The memory is bounded, the
//! session used longest ago is forgotten first, and unused ones are forgotten after a while. Saved
//! and read back, sessions survive a restart of Daybook, as they survive one of the application.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::lru::Lru;
use super::token::{Token, hex};
use crate::config::IdentitySettings;

/// Locks are held for less than a microsecond; 16 of them make it rare that two workers meet at one.
const SHARDS: usize = 16;

/// Which session belongs to whom; shared by all workers.
pub struct Sessions {
    shards: [Mutex<Lru<Token, Entry>>; SHARDS],
    /// Seconds after which an unused session is forgotten.
    idle: u64,
    file: PathBuf,
    /// Something is not as the file has it: without that, saving would cost an `fsync` for nothing.
    changed: AtomicBool,
}

/// A user as learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Person {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
}

/// Whose a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// Who acts, by all appearances.
    pub(super) user: Arc<Person>,
    /// Who really acts, while it is somebody else.
    pub(super) impersonator: Option<Arc<Person>>,
}

struct Entry {
    holder: Holder,
    /// Seconds since 1970.
    used: u64,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Saved {
    token: String,
    used: u64,
    user: Person,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    impersonator: Option<Person>,
}

// === impl Sessions ===

impl Sessions {
    /// The sessions that were saved in the folder `data`; an empty memory where there are none. A line
    /// that can't be read is passed over: its session is learnt again at the next login.
    pub fn open(data: &Path, settings: &IdentitySettings) -> Self {
        let capacity = settings.sessions.div_ceil(SHARDS);
        let sessions = Self {
            shards: std::array::from_fn(|_| Mutex::new(Lru::new(capacity))),
            idle: settings.session_idle.0.as_secs(),
            file: data.join("sessions.ndjson"),
            changed: AtomicBool::new(false),
        };
        let Ok(file) = File::open(&sessions.file) else { return sessions };
        let now = seconds(SystemTime::now());
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        for saved in lines.filter_map(|line| serde_json::from_str::<Saved>(&line).ok()) {
            if let Some(token) = unhex(&saved.token)
                && now.saturating_sub(saved.used) < sessions.idle
            {
                let holder = Holder { user: Arc::new(saved.user), impersonator: saved.impersonator.map(Arc::new) };
                sessions.shard(&token).insert(token, Entry { holder, used: saved.used });
            }
        }
        sessions
    }

    /// Writes them to the folder, as tokens: every minute or so, and at shutdown. Does nothing if they
    /// are as they were saved last.
    ///
    /// # Errors
    /// The file can't be written; the old one is then still whole.
    pub fn save(&self) -> io::Result<()> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.write().inspect_err(|_| self.note_change())
    }

    fn write(&self) -> io::Result<()> {
        let new = self.file.with_extension("new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut out = BufWriter::new(file);
        for shard in &self.shards {
            // Encoded under the lock, which workers share, and written outside of it.
            for line in lock(shard).iter().filter_map(|(token, entry)| line(token, entry)).collect::<Vec<_>>() {
                out.write_all(&line)?;
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&new, &self.file)
    }

    /// Whose session this is, which counts as a use at `now`.
    pub(super) fn find(&self, token: &Token, now: SystemTime) -> Option<Holder> {
        let now = seconds(now);
        let mut shard = self.shard(token);
        let entry = shard.get(token)?;
        if now.saturating_sub(entry.used) >= self.idle {
            shard.remove(token);
            self.note_change();
            return None;
        }
        if entry.used < now {
            entry.used = now;
            self.note_change();
        }
        Some(entry.holder.clone())
    }

    /// From now on the session is this one's.
    pub(super) fn learn(&self, token: Token, holder: Holder, now: SystemTime) {
        self.shard(&token).insert(token, Entry { holder, used: seconds(now) });
        self.note_change();
    }

    /// The session is over.
    pub(super) fn forget(&self, token: &Token) {
        let known = self.shard(token).remove(token).is_some();
        if known {
            self.note_change();
        }
    }

    /// To be called behind a change, so that a save at the same time takes it along or leaves the mark standing.
    fn note_change(&self) {
        self.changed.store(true, Ordering::Release);
    }

    fn shard(&self, token: &Token) -> MutexGuard<'_, Lru<Token, Entry>> {
        lock(&self.shards[usize::from(token[0]) % SHARDS])
    }
}

/// A panic elsewhere leaves a map that is whole: every change is one call.
fn lock(shard: &Mutex<Lru<Token, Entry>>) -> MutexGuard<'_, Lru<Token, Entry>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(token: &Token, entry: &Entry) -> Option<Vec<u8>> {
    let saved = Saved {
        token: hex(token),
        used: entry.used,
        user: Person::clone(&entry.holder.user),
        impersonator: entry.holder.impersonator.as_deref().cloned(),
    };
    let mut line = serde_json::to_vec(&saved).ok()?;
    line.push(b'\n');
    Some(line)
}

fn unhex(text: &str) -> Option<Token> {
    let mut token = Token::default();
    if text.len() != token.len() * 2 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in token.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(token)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known: usize = self.shards.iter().map(|shard| lock(shard).len()).sum();
        f.debug_struct("Sessions").field("known", &known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn holder(email: &str) -> Holder {
        Holder { user: Arc::new(Person { email: Some(email.to_owned()), ..Person::default() }), impersonator: None }
    }

    #[test]
    fn sessions_survive_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = IdentitySettings::default();
        let now = SystemTime::now();
        let sessions = Sessions::open(folder.path(), &settings);
        let mut acting = holder("b@c.pl");
        acting.impersonator = Some(holder("a@b.pl").user);
        sessions.learn([1; 16], holder("a@b.pl"), now);
        sessions.learn([2; 16], acting.clone(), now);
        sessions.learn([3; 16], holder("gone@b.pl"), now);
        sessions.forget(&[3; 16]);
        sessions.save().expect("saved");
        let again = Sessions::open(folder.path(), &settings);
        assert_eq!(again.find(&[1; 16], now), Some(holder("a@b.pl")));
        assert_eq!(again.find(&[2; 16], now), Some(acting));
        assert_eq!(again.find(&[3; 16], now), None);
        let file = folder.path().join("sessions.ndjson");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "{\"token\":\"é\"}\nnonsense\n").expect("written");
        assert_eq!(Sessions::open(folder.path(), &settings).find(&[1; 16], now), None);
    }

    #[test]
    fn only_a_change_is_worth_a_new_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let sessions = Sessions::open(folder.path(), &IdentitySettings::default());
        let file = folder.path().join("sessions.ndjson");
        let now = SystemTime::now();
        let saved_anew = || {
            let _ = std::fs::remove_file(&file);
            sessions.save().expect("saved");
            file.exists()
        };
        assert!(!saved_anew(), "nothing was learnt");
        sessions.learn([1; 16], holder("a@b.pl"), now);
        assert!(saved_anew() && !saved_anew(), "saved once");
        assert!(sessions.find(&[1; 16], now).is_some() && !saved_anew(), "used in the same second");
        assert!(sessions.find(&[1; 16], now + Duration::from_secs(1)).is_some() && saved_anew(), "used later");
        sessions.forget(&[1; 16]);
        assert!(saved_anew(), "forgotten");
    }

    #[test]
    fn a_save_that_fails_is_made_up_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let sessions = Sessions::open(&data, &IdentitySettings::default());
        sessions.learn([1; 16], holder("a@b.pl"), SystemTime::now());
        assert!(sessions.save().is_err(), "there is no folder");
        std::fs::create_dir(&data).expect("a folder");
        sessions.save().expect("saved");
        assert!(data.join("sessions.ndjson").exists());
    }

    #[test]
    fn unused_sessions_are_forgotten() {
        let settings = IdentitySettings { session_idle: Span::secs(60), sessions: 32, ..IdentitySettings::default() };
        let sessions = Sessions::open(Path::new("/nonexistent"), &settings);
        let now = SystemTime::now();
        sessions.learn([1; 16], holder("a@b.pl"), now);
        assert!(sessions.find(&[1; 16], now + Duration::from_secs(59)).is_some(), "used in time");
        assert!(sessions.find(&[1; 16], now + Duration::from_secs(118)).is_some(), "a use starts the time anew");
        assert!(sessions.find(&[1; 16], now + Duration::from_secs(178)).is_none(), "idle for a minute");
        for n in 0..3 {
            sessions.learn([16 + n * 16; 16], holder("a@b.pl"), now);
        }
        assert!(sessions.find(&[16; 16], now).is_none(), "two have room in a shard of 32/16, and this was the oldest");
    }
}
