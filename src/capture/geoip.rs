//! Where clients are, by a memory-mapped city database in MaxMind's format.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use maxminddb::{MaxMindDbError, Mmap, Reader, geoip2};

use crate::record::{Geo, timestamp};

/// An open database. It is part of the policy, and is swapped with it.
pub(super) struct Places {
    reader: Reader<Mmap>,
    /// Day it was built, `2026-11-01`.
    build: String,
}

impl Places {
    /// Opens and maps the file.
    ///
    /// # Errors
    /// It can't be read, or is not a database.
    pub(super) fn open(path: &Path) -> Result<Self, MaxMindDbError> {
        // SAFETY: the map is only read. GeoIP updaters replace the file by renaming, which leaves the
        // mapped one as it is; a file truncated in place could end the process, as for every user of
        // a mapped database, and README says to replace it by renaming.
        let reader = unsafe { Reader::open_mmap(path) }?;
        let built = UNIX_EPOCH + Duration::from_secs(reader.metadata().build_epoch);
        let mut build = timestamp(built);
        build.truncate("2026-11-01".len());
        Ok(Self { reader, build })
    }

    /// Where `ip` is, if the database knows.
    pub(super) fn find(&self, ip: IpAddr) -> Option<Geo<'_>> {
        let city: geoip2::City<'_> = self.reader.lookup(ip).ok()?.decode().ok()??;
        let region = city.subdivisions.first().and_then(|s| s.names.english.or(s.iso_code));
        let country = city.country.iso_code.or(city.registered_country.iso_code);
        let city = city.city.names.english;
        if country.is_none() && region.is_none() && city.is_none() {
            return None;
        }
        Some(Geo {
            country: country.map(Into::into),
            region: region.map(Into::into),
            city: city.map(Into::into),
            build: Some(self.build.as_str().into()),
        })
    }
}
