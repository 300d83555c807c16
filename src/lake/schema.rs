//! The table's columns, derived from the record in one place.
//!
//! A column is a member of the record that is not an object: its *path* is the member's name with its parents'
//! (`client.geo.city`), as in NDJSON and in queries; its *name* in the table has underscores instead
//! (`client_geo_city`), so that no SQL engine wants it quoted. The columns stand in the order in which a record is
//! encoded, so a row becomes the same bytes again.
//!
//! **Versions.** Columns are only added, at the place where the record has them; never renamed, retyped or taken away.
//! A member that this version does not know is kept in `other`.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number from 0 to 2⁶³ - 1.
    Number,
    /// A moment, µs since 1970 in UTC.
    Time,
    /// An object or a list, as JSON text.
    Json,
}

/// One column.
#[derive(Debug)]
pub struct Column {
    /// Where the record has it: `client.geo.city`.
    pub path: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its values are looked up one by one: it gets bloom filters.
    pub is_key: bool,
    /// The column's name in the table.
    pub name: &'static str,
}

macro_rules! columns {
    ($($kind:ident $path:literal $name:literal $($key:ident)?;)*) => {
        &[$(Column { path: $path, kind: Kind::$kind, is_key: columns!(@ $($key)?), name: $name }),*]
    };
    (@ key) => { true };
    (@) => { false };
}

/// All columns but the partition's, in the order of the record's encoding.
pub const COLUMNS: &[Column] = columns! {
    Number "seq" "seq";
    Number "epoch" "epoch";
    Text "instance" "instance";
    Text "chain" "chain";
    Text "schema" "schema";
    Text "id" "id" key;
    Time "time" "time";
    Text "stage" "stage";
    Text "kind" "kind";
    Text "rule" "rule";
    Text "listener" "listener";
    Text "tenant" "tenant";
    Text "origin" "origin";
    Text "method" "method";
    Text "scheme" "scheme";
    Text "host" "host";
    Text "path" "path";
    Text "query" "query";
    Text "route" "route";
    Text "http_version" "http_version";
    Number "status" "status";
    Number "grpc_status" "grpc_status";
    Text "result" "result";
    Text "end" "end";
    Text "reason" "reason";
    Number "duration_us" "duration_us";
    Number "timing.connect_us" "timing_connect_us";
    Number "timing.first_byte_us" "timing_first_byte_us";
    Number "request_bytes" "request_bytes";
    Number "response_bytes" "response_bytes";
    Text "client.ip" "client_ip" key;
    Text "client.peer" "client_peer";
    Text "client.user_agent" "client_user_agent";
    Text "client.geo.country" "client_geo_country";
    Text "client.geo.region" "client_geo_region";
    Text "client.geo.city" "client_geo_city";
    Text "client.geo.build" "client_geo_build";
    Text "user.id" "user_id" key;
    Text "user.email" "user_email" key;
    Text "user.name" "user_name";
    Text "user.source" "user_source";
    Text "impersonator.id" "impersonator_id";
    Text "impersonator.email" "impersonator_email";
    Text "impersonator.name" "impersonator_name";
    Text "impersonator.source" "impersonator_source";
    Text "api_key.hint" "api_key_hint";
    Text "api_key.token" "api_key_token" key;
    Text "session" "session" key;
    Text "request_id" "request_id" key;
    Text "trace_id" "trace_id" key;
    Json "attributes" "attributes";
    Json "request" "request";
    Json "response" "response";
    Json "redacted" "redacted";
    Json "escaped" "escaped";
    Json "other" "other";
};

/// The table is partitioned by the UTC day of `time`: `2026-11-24`.
pub const DATE: &str = "date";

/// Where a column stands in [`COLUMNS`].
pub const fn index(path: &str) -> usize {
    let mut at = 0;
    while at < COLUMNS.len() {
        if same(COLUMNS[at].path, path) {
            return at;
        }
        at += 1;
    }
    panic!("no such column");
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Where the members that this version does not know are kept.
pub(super) const OTHER: usize = index("other");
pub(super) const SEQ: usize = index("seq");
pub(super) const EPOCH: usize = index("epoch");
pub(super) const INSTANCE: usize = index("instance");
pub(super) const TIME: usize = index("time");
pub(super) const ID: usize = index("id");

/// The column of a path, and its place.
pub fn find(path: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.path == path)
}

/// The Arrow schema of a data file: [`COLUMNS`], without the partition's.
pub fn arrow() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let field = |column: &Column| Field::new(column.name, column.kind.arrow(), true);
        Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

impl Kind {
    fn arrow(self) -> DataType {
        match self {
            Self::Text | Self::Json => DataType::Utf8,
            Self::Number => DataType::Int64,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The type's name in a Delta table (Delta protocol, "Primitive Types").
    pub(super) fn delta(self) -> &'static str {
        match self {
            Self::Text | Self::Json => "string",
            Self::Number => "long",
            Self::Time => "timestamp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_named_after_its_path_and_stands_once() {
        for (at, column) in COLUMNS.iter().enumerate() {
            assert_eq!(column.name, column.path.replace('.', "_"));
            assert_eq!(find(column.path), Some(at), "{} stands twice", column.path);
        }
    }

    #[test]
    fn the_published_columns_are_these() {
        let published = include_str!("../../docs/lake.md");
        for column in COLUMNS {
            let line = format!("| `{}` | `{}` | {}", column.name, column.path, column.kind.delta());
            assert!(published.contains(&line), "docs/lake.md lacks: {line}");
        }
        let rows = published.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, COLUMNS.len() + 1, "docs/lake.md has the columns and `{DATE}`, and no others");
    }

    /// The order of the record's members in `docs/record.schema.json` is not said; that of its encoding is.
    #[test]
    fn every_member_of_a_record_has_a_column() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../docs/record.schema.json")).expect("the published schema is JSON");
        let members = schema["properties"].as_object().expect("an object with members");
        for name in members.keys() {
            let inside = format!("{name}.");
            let there = COLUMNS.iter().any(|c| c.path == name || c.path.starts_with(&inside));
            assert!(there, "the member `{name}` has no column");
        }
    }
}
