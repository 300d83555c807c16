//! Reload: rules, redaction, GeoIP and certificates change at once for new requests; a file that is
//! wrong changes nothing; either way it is a record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::capture::Policy;
use crate::config::Config;
use crate::listen::server_config;

use super::{App, StartError, capture_settings};

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Tables that changed in the file and take effect only with a restart.
    pub needs_restart: Vec<&'static str>,
}

impl App {
    /// Puts a new configuration into force, as far as that is possible without a restart.
    ///
    /// # Errors
    /// What is wrong with the new one; the old one then stays in force as a whole.
    pub fn reload(&self, new: &Config) -> Result<Reloaded, StartError> {
        let outcome = self.try_reload(new);
        match &outcome {
            Ok(_) => self.own_record("reload", &[("outcome", "success")]),
            Err(error) => self.own_record("reload", &[("outcome", "failure"), ("reason", &error.to_string())]),
        }
        outcome
    }

    /// The new file could not even be read: the record of it.
    pub fn reload_failed(&self, reason: &str) {
        self.own_record("reload", &[("outcome", "failure"), ("reason", reason)]);
    }

    fn try_reload(&self, new: &Config) -> Result<Reloaded, StartError> {
        // Everything that can fail comes before anything that changes.
        let policy = Policy::compile(&capture_settings(new)).map_err(StartError::Policy)?;
        let mut certificates = Vec::new();
        for (name, current) in &self.certificates {
            if let Some(tls) = new.listener.get(name).and_then(|listener| listener.tls.as_ref()) {
                let config = server_config(tls).map_err(|e| StartError::Tls(name.clone(), e))?;
                certificates.push((current, config));
            }
        }
        self.policy.store(Arc::new(policy));
        for (current, config) in certificates {
            current.store(config);
        }
        Ok(Reloaded { needs_restart: needs_restart(&self.config, new) })
    }
}

/// The tables that differ and are read only at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = |a: String, b: String| a != b;
    let mut all = Vec::new();
    let mut compare = |name, a: String, b: String| {
        if differs(a, b) {
            all.push(name);
        }
    };
    compare("data", format!("{:?}", old.data), format!("{:?}", new.data));
    compare("instance", format!("{:?}", old.instance), format!("{:?}", new.instance));
    compare("workers", old.workers.to_string(), new.workers.to_string());
    compare("listener", format!("{:?}", old.listener), format!("{:?}", new.listener));
    compare("journal", format!("{:?}", old.journal), format!("{:?}", new.journal));
    compare("sink", format!("{:?}", old.sink), format!("{:?}", new.sink));
    compare("admin", format!("{:?}", old.admin), format!("{:?}", new.admin));
    all
}

/// Files whose change means reload, as they last were.
#[derive(Debug)]
pub struct Watched(BTreeMap<PathBuf, Option<(SystemTime, u64)>>);

impl Watched {
    /// The configuration file and every file it names that can be reloaded.
    pub fn new(file: &Path, config: &Config) -> Self {
        let mut paths = vec![file.to_owned()];
        paths.extend(config.geoip.city.clone());
        paths.extend(config.identity.jwt.as_ref().and_then(|jwt| jwt.jwks.clone()));
        for tls in config.listener.values().filter_map(|listener| listener.tls.as_ref()) {
            paths.extend([tls.cert.clone(), tls.key.clone()]);
            paths.extend(tls.more.iter().flat_map(|more| [more.cert.clone(), more.key.clone()]));
            paths.extend(tls.client_ca.clone());
        }
        Self(paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// Whether any of them changed since the last call. A file that is gone for a moment, as it is
    /// while it is being replaced, is no change yet.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, last) in &mut self.0 {
            let now = stamp(path);
            if now.is_some() && now != *last {
                *last = now;
                changed = true;
            }
        }
        changed
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
