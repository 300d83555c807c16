//! The table's log, by the Delta protocol (delta-io/delta, PROTOCOL.md): each commit is a file of JSON actions, and the
//! table is what they add up to.
//!
//! Written by hand: a data file is added, removed or compacted, a `txn` says how far a journal has come, and every so many
//! commits a checkpoint sums up. A commit is made by creating its file, which fails when it exists: of two writers one
//! wins, the other reads what happened and tries again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode};
use serde::{Deserialize, Serialize};

use super::LakeError;
use super::schema::{COLUMNS, DATE};

mod checkpoint;

/// The log's folder.
const LOG: &str = "_delta_log";
/// Commits between checkpoints. Readers without one read every commit.
const CHECKPOINT_EVERY: u64 = 100;
/// How long checkpoints tell of a removed file, ms (Delta's default for `delta.deletedFileRetentionDuration`).
const REMOVALS_KEPT: i64 = 7 * 86_400_000;
/// Writers that got in between before a commit is given up for now.
const TRIES: usize = 20;

/// One line of a commit: an object with one member.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Action {
    /// A data file joins the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) add: Option<Add>,
    /// A data file leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remove: Option<Remove>,
    /// How far an application has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) txn: Option<Txn>,
    /// The table's schema and settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) meta_data: Option<MetaData>,
    /// What readers and writers must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<Protocol>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit_info: Option<serde_json::Value>,
}

/// A data file of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    /// Relative to the table, URL-encoded.
    pub(super) path: String,
    /// `date` and its day.
    pub(super) partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub(super) size: i64,
    /// ms since 1970.
    pub(super) modification_time: i64,
    /// False when the file holds only rows that were in the table before.
    pub(super) data_change: bool,
    /// Counts and bounds, as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stats: Option<String>,
}

/// A data file that was of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    /// As it was added.
    pub(super) path: String,
    /// ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deletion_timestamp: Option<i64>,
    /// False when its rows are in another file now.
    pub(super) data_change: bool,
    /// The three below are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) extended_file_metadata: Option<bool>,
    /// As it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partition_values: Option<BTreeMap<String, Option<String>>>,
    /// As it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<i64>,
}

/// How far an application has come: with the rows of the same commit, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    /// Who: an instance and its epoch, a topic and its partition.
    pub(super) app_id: String,
    /// The last sequence number, or offset, that is in the table.
    pub(super) version: i64,
    /// ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_updated: Option<i64>,
}

/// The table's schema and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetaData {
    /// A UUID.
    pub(super) id: String,
    /// `parquet`.
    pub(super) format: Format,
    /// The schema as JSON text.
    pub(super) schema_string: String,
    /// `date`.
    pub(super) partition_columns: Vec<String>,
    /// Table properties.
    pub(super) configuration: BTreeMap<String, String>,
    /// ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created_time: Option<i64>,
}

/// The data files' format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    /// `parquet`.
    pub(super) provider: String,
    /// None.
    pub(super) options: BTreeMap<String, String>,
}

/// What readers and writers must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    /// 1: everybody can read it.
    pub(super) min_reader_version: i32,
    /// 2: appends, removals, `txn`.
    pub(super) min_writer_version: i32,
    /// Of readers from version 3 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reader_features: Option<Vec<String>>,
    /// Of writers from version 7 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) writer_features: Option<Vec<String>>,
}

/// The table as of one version.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// The last commit; `None` when there is no table yet.
    pub(super) version: Option<u64>,
    /// Data files by path.
    pub(super) files: BTreeMap<String, Arc<Add>>,
    /// Files that were removed, for `vacuum`: deletion time (ms) by path.
    pub(super) removed: BTreeMap<String, i64>,
    /// Versions by application.
    pub(super) txns: BTreeMap<String, Txn>,
    /// Schema and settings.
    pub(super) meta_data: Option<MetaData>,
    protocol: Option<Protocol>,
    /// Version of the last checkpoint.
    checkpoint: Option<u64>,
}

/// A table's log.
#[derive(Clone, Debug)]
pub(super) struct Log {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

// === impl Action ===

impl From<Add> for Action {
    fn from(add: Add) -> Self {
        Self { add: Some(add), ..Self::default() }
    }
}

impl From<Txn> for Action {
    fn from(txn: Txn) -> Self {
        Self { txn: Some(txn), ..Self::default() }
    }
}

// === impl Add ===

impl Add {
    /// Takes it out of the table, now.
    pub(super) fn removal(&self, data_change: bool) -> Action {
        let remove = Remove {
            path: self.path.clone(),
            deletion_timestamp: Some(now_ms()),
            data_change,
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition_values.clone()),
            size: Some(self.size),
        };
        Action { remove: Some(remove), ..Action::default() }
    }

    /// The day of all its rows: `2026-11-24`.
    pub(super) fn day(&self) -> Option<&str> {
        self.partition_values.get(DATE)?.as_deref()
    }

    /// Its name in the table's folder.
    pub(super) fn file_name(&self) -> String {
        file_name(&self.path)
    }
}

/// The name of a file that the log calls `path`: paths there are URL-encoded.
pub(super) fn file_name(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

// === impl Log ===

impl Log {
    /// The log of the table at `root` of a store. Nothing is read yet.
    pub(super) fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root }
    }

    /// Reads what the table is now, from scratch.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, LakeError> {
        let mut snapshot = match self.last_checkpoint().await? {
            Some(version) => self.read_checkpoint(version).await?,
            None => Snapshot::default(),
        };
        self.update(&mut snapshot).await?;
        Ok(snapshot)
    }

    /// Reads the commits that came since; whether there were any.
    pub(super) async fn update(&self, snapshot: &mut Snapshot) -> Result<bool, LakeError> {
        let before = snapshot.version;
        loop {
            let next = snapshot.version.map_or(0, |version| version + 1);
            let path = self.commit_path(next);
            match self.store.get(&path).await {
                Ok(found) => {
                    let bytes = found.bytes().await.map_err(|e| LakeError::store(&path, e))?;
                    snapshot.apply(next, &actions(&path, &bytes)?);
                }
                // A log that was cleaned up begins later, with a checkpoint.
                Err(object_store::Error::NotFound { .. }) if next == 0 => match self.first_checkpoint().await? {
                    Some(version) => *snapshot = self.read_checkpoint(version).await?,
                    None => break,
                },
                Err(object_store::Error::NotFound { .. }) => break,
                Err(error) => return Err(LakeError::store(&path, error)),
            }
        }
        snapshot.check()?;
        Ok(snapshot.version != before)
    }

    /// Commits actions on top of `snapshot`, which then shows them. `still_right` is asked before each try:
    /// whether, after what others committed, these actions are still to be made.
    ///
    /// # Errors
    /// [`LakeError::Contended`] when others came first too often, or `still_right` says no.
    pub(super) async fn commit(
        &self,
        snapshot: &mut Snapshot,
        actions: Vec<Action>,
        operation: &str,
        still_right: impl Fn(&Snapshot) -> bool,
    ) -> Result<(), LakeError> {
        for _ in 0..TRIES {
            if !still_right(snapshot) {
                return Err(LakeError::Contended);
            }
            let version = snapshot.version.map_or(0, |version| version + 1);
            let mut all = Vec::with_capacity(actions.len() + 3);
            all.push(commit_info(operation));
            if snapshot.version.is_none() {
                all.push(Action { protocol: Some(protocol()), ..Action::default() });
            }
            if let Some(meta_data) = snapshot.wanted_meta_data() {
                all.push(Action { meta_data: Some(meta_data), ..Action::default() });
            }
            all.extend(actions.iter().cloned());
            let path = self.commit_path(version);
            let put = self.store.put_opts(&path, lines(&all).into(), PutMode::Create.into()).await;
            match put {
                Ok(_) => {
                    snapshot.apply(version, &all);
                    // The commit is made, with a checkpoint or without: readers then read more commits.
                    if version > 0
                        && version.is_multiple_of(CHECKPOINT_EVERY)
                        && let Err(error) = self.write_checkpoint(snapshot).await
                    {
                        tracing::warn!(version, %error, "the table's checkpoint can't be written; the next one will do");
                    }
                    return Ok(());
                }
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    self.update(snapshot).await?;
                }
                Err(error) => return Err(LakeError::store(&path, error)),
            }
        }
        Err(LakeError::Contended)
    }

    fn commit_path(&self, version: u64) -> Path {
        self.root.clone().join(LOG).join(format!("{version:020}.json"))
    }

    fn checkpoint_path(&self, version: u64) -> Path {
        self.root.clone().join(LOG).join(format!("{version:020}.checkpoint.parquet"))
    }

    fn last_checkpoint_path(&self) -> Path {
        self.root.clone().join(LOG).join("_last_checkpoint")
    }

    /// What `_last_checkpoint` says.
    async fn last_checkpoint(&self) -> Result<Option<u64>, LakeError> {
        #[derive(Deserialize)]
        struct Last {
            version: u64,
            #[serde(default)]
            parts: Option<u64>,
        }
        let path = self.last_checkpoint_path();
        let bytes = match self.store.get(&path).await {
            Ok(found) => found.bytes().await.map_err(|e| LakeError::store(&path, e))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(LakeError::store(&path, error)),
        };
        // It is a hint: where it can't be read, the folder says it as well.
        match serde_json::from_slice::<Last>(&bytes) {
            Ok(Last { version, parts: None }) => Ok(Some(version)),
            _ => self.first_checkpoint().await,
        }
    }

    /// The newest checkpoint of one part in the folder.
    async fn first_checkpoint(&self) -> Result<Option<u64>, LakeError> {
        let folder = self.root.clone().join(LOG);
        let listed = self.store.list(Some(&folder)).map_ok(|meta| meta.location);
        let paths: Vec<Path> = listed.try_collect().await.map_err(|e| LakeError::store(&folder, e))?;
        let version = |path: &Path| path.filename()?.strip_suffix(".checkpoint.parquet")?.parse::<u64>().ok();
        Ok(paths.iter().filter_map(version).max())
    }

    async fn read_checkpoint(&self, version: u64) -> Result<Snapshot, LakeError> {
        let path = self.checkpoint_path(version);
        let found = self.store.get(&path).await.map_err(|e| LakeError::store(&path, e))?;
        let bytes = found.bytes().await.map_err(|e| LakeError::store(&path, e))?;
        let mut snapshot = Snapshot::default();
        snapshot.apply(version, &checkpoint::read(bytes).map_err(|e| LakeError::corrupt(&path, e))?);
        snapshot.checkpoint = Some(version);
        Ok(snapshot)
    }

    async fn write_checkpoint(&self, snapshot: &mut Snapshot) -> Result<(), LakeError> {
        let Some(version) = snapshot.version else { return Ok(()) };
        let old = now_ms().saturating_sub(REMOVALS_KEPT);
        snapshot.removed.retain(|_, at| *at >= old);
        let actions = snapshot.actions();
        let path = self.checkpoint_path(version);
        let bytes = checkpoint::write(&actions).map_err(|e| LakeError::corrupt(&path, e))?;
        self.store.put(&path, bytes.into()).await.map_err(|e| LakeError::store(&path, e))?;
        let path = self.last_checkpoint_path();
        let hint = serde_json::json!({ "version": version, "size": actions.len() }).to_string();
        self.store.put(&path, hint.into()).await.map_err(|e| LakeError::store(&path, e))?;
        snapshot.checkpoint = Some(version);
        Ok(())
    }
}

// === impl Snapshot ===

impl Snapshot {
    fn apply(&mut self, version: u64, actions: &[Action]) {
        for action in actions {
            if let Some(add) = &action.add {
                self.removed.remove(&add.path);
                self.files.insert(add.path.clone(), Arc::new(add.clone()));
            }
            if let Some(remove) = &action.remove {
                self.files.remove(&remove.path);
                self.removed.insert(remove.path.clone(), remove.deletion_timestamp.unwrap_or(0));
            }
            if let Some(txn) = &action.txn {
                self.txns.insert(txn.app_id.clone(), txn.clone());
            }
            if let Some(meta_data) = &action.meta_data {
                self.meta_data = Some(meta_data.clone());
            }
            if let Some(protocol) = &action.protocol {
                self.protocol = Some(protocol.clone());
            }
        }
        self.version = Some(version);
    }

    /// Whether a file of the log is not needed any more, since a later checkpoint says the same.
    pub(super) fn is_superseded(&self, name: &str) -> bool {
        let version = name.split('.').next().and_then(|version| version.parse::<u64>().ok());
        version.zip(self.checkpoint).is_some_and(|(version, checkpoint)| version < checkpoint)
    }

    /// Whether this is a table that we can read and write.
    fn check(&self) -> Result<(), LakeError> {
        let Some(protocol) = &self.protocol else {
            return if self.version.is_none() {
                Ok(())
            } else {
                Err(LakeError::Foreign("its log has no protocol".into()))
            };
        };
        if protocol.min_reader_version > 1 || protocol.min_writer_version > 2 {
            return Err(LakeError::Foreign(format!(
                "it needs a reader of version {} and a writer of version {}; another engine has upgraded it",
                protocol.min_reader_version, protocol.min_writer_version
            )));
        }
        let partitions = self.meta_data.as_ref().map(|meta_data| meta_data.partition_columns.as_slice());
        if partitions != Some(&[DATE.to_owned()][..]) {
            return Err(LakeError::Foreign(format!("it is not partitioned by `{DATE}`")));
        }
        Ok(())
    }

    /// The metadata to be committed: for a new table, or one that lacks a column.
    fn wanted_meta_data(&self) -> Option<MetaData> {
        let Some(present) = &self.meta_data else {
            return Some(MetaData {
                id: uuid::Uuid::now_v7().to_string(),
                format: Format { provider: "parquet".into(), options: BTreeMap::new() },
                schema_string: schema_string(&[]),
                partition_columns: vec![DATE.to_owned()],
                configuration: BTreeMap::new(),
                created_time: Some(now_ms()),
            });
        };
        let fields = fields_of(&present.schema_string);
        let lacks = COLUMNS.iter().any(|column| !fields.iter().any(|field| field["name"] == column.name));
        lacks.then(|| MetaData { schema_string: schema_string(&fields), ..present.clone() })
    }

    /// What a checkpoint says.
    fn actions(&self) -> Vec<Action> {
        let mut actions = vec![
            Action { protocol: self.protocol.clone(), ..Action::default() },
            Action { meta_data: self.meta_data.clone(), ..Action::default() },
        ];
        actions.extend(self.txns.values().map(|txn| Action { txn: Some(txn.clone()), ..Action::default() }));
        actions.extend(self.files.values().map(|add| Action { add: Some(Add::clone(add)), ..Action::default() }));
        actions.extend(self.removed.iter().map(|(path, at)| {
            let remove = Remove { path: path.clone(), deletion_timestamp: Some(*at), ..Remove::default() };
            Action { remove: Some(remove), ..Action::default() }
        }));
        actions
    }
}

fn actions(path: &Path, bytes: &Bytes) -> Result<Vec<Action>, LakeError> {
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|e| LakeError::corrupt(path, e))).collect()
}

fn lines(actions: &[Action]) -> Vec<u8> {
    let mut out = Vec::new();
    for action in actions {
        // Names and texts only: writing them to a Vec can't fail.
        _ = serde_json::to_writer(&mut out, action);
        out.push(b'\n');
    }
    out
}

fn protocol() -> Protocol {
    Protocol { min_reader_version: 1, min_writer_version: 2, ..Protocol::default() }
}

fn commit_info(operation: &str) -> Action {
    let engine = concat!("daybook/", env!("CARGO_PKG_VERSION"));
    let info = serde_json::json!({ "timestamp": now_ms(), "operation": operation, "engineInfo": engine });
    Action { commit_info: Some(info), ..Action::default() }
}

fn fields_of(schema_string: &str) -> Vec<serde_json::Value> {
    let mut schema: serde_json::Value = serde_json::from_str(schema_string).unwrap_or_default();
    match schema["fields"].take() {
        serde_json::Value::Array(fields) => fields,
        _ => Vec::new(),
    }
}

/// The schema as Delta writes it: the fields there are, and our columns that are not among them.
fn schema_string(present: &[serde_json::Value]) -> String {
    let field =
        |name: &str, kind: &str| serde_json::json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    let mut fields = present.to_vec();
    let ours = COLUMNS.iter().map(|column| (column.name, column.kind.delta())).chain([(DATE, "date")]);
    for (name, kind) in ours {
        if !fields.iter().any(|field| field["name"] == name) {
            fields.push(field(name, kind));
        }
    }
    serde_json::json!({ "type": "struct", "fields": fields }).to_string()
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
