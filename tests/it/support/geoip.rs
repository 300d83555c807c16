//! A city database in MaxMind's format with one place in it.

use std::path::Path;

use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use serde_json::{Value, json};

/// An address in it (RFC 5737).
pub(crate) const WARSAW: &str = "203.0.113.9";
/// An address that no database knows (RFC 5737).
pub(crate) const NOWHERE: &str = "198.51.100.23";

/// Writes it.
pub(crate) fn write(path: &Path) {
    let mut database = Database::default();
    database.metadata.ip_version = IpVersion::V4;
    database.metadata.database_type = "GeoLite2-City".to_owned();
    database.metadata.binary_format_major_version = 2;
    // 2026-11-01, as `geo` says.
    database.metadata.build_epoch = 1_793_491_200;
    let place = json!({
        "country": { "iso_code": "PL" },
        "subdivisions": [{ "iso_code": "14", "names": { "en": "Mazovia" } }],
        "city": { "names": { "en": "Warsaw" } },
    });
    let data = database.insert_value(place).expect("inserted");
    database.insert_node("203.0.113.0/24".parse::<IpAddrWithMask>().expect("a network"), data);
    database.write_to(std::fs::File::create(path).expect("a file")).expect("written");
}

/// What a record says of an address in it.
pub(crate) fn warsaw() -> Value {
    json!({ "country": "PL", "region": "Mazovia", "city": "Warsaw", "build": "2026-11-01" })
}
