//! Checkpoints: all actions that still count, as one Parquet file (PROTOCOL.md, "Checkpoints", classic, one part).

use std::sync::{Arc, LazyLock};

use arrow_json::{LineDelimitedWriter, ReaderBuilder};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::Action;

/// What can go wrong with one.
type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// The actions as a Parquet file.
pub(super) fn write(actions: &[Action]) -> Result<Vec<u8>, Wrong> {
    let mut decoder = ReaderBuilder::new(Arc::clone(&SCHEMA)).with_batch_size(actions.len().max(1)).build_decoder()?;
    decoder.serialize(actions)?;
    let batch = decoder.flush()?.ok_or("no actions")?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// The actions of a Parquet file, whoever wrote it; columns that we do not know are left out.
pub(super) fn read(file: Bytes) -> Result<Vec<Action>, Wrong> {
    let mut actions = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
        let batch = batch?;
        let ours: Vec<usize> =
            (0..batch.num_columns()).filter(|at| SCHEMA.index_of(batch.schema().field(*at).name()).is_ok()).collect();
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&batch.project(&ours)?)?;
        writer.finish()?;
        for line in writer.into_inner().split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            actions.push(serde_json::from_slice(line)?);
        }
    }
    Ok(actions)
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let flag = |name: &str| Field::new(name, DataType::Boolean, true);
    let map = |name: &str| {
        let entries =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
        let entries = Field::new("key_value", DataType::Struct(entries), false);
        Field::new(name, DataType::Map(Arc::new(entries), false), true)
    };
    let list = |name: &str| Field::new_list(name, Field::new("element", DataType::Utf8, true), true);
    let action = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(fields.into()), true);
    let format = Field::new("format", DataType::Struct(vec![text("provider"), map("options")].into()), true);
    Arc::new(Schema::new(vec![
        action("txn", vec![text("appId"), long("version"), long("lastUpdated")]),
        action(
            "add",
            vec![
                text("path"),
                map("partitionValues"),
                long("size"),
                long("modificationTime"),
                flag("dataChange"),
                text("stats"),
            ],
        ),
        action("remove", vec![text("path"), long("deletionTimestamp"), flag("dataChange")]),
        action(
            "metaData",
            vec![
                text("id"),
                format,
                text("schemaString"),
                list("partitionColumns"),
                map("configuration"),
                long("createdTime"),
            ],
        ),
        action(
            "protocol",
            vec![int("minReaderVersion"), int("minWriterVersion"), list("readerFeatures"), list("writerFeatures")],
        ),
    ]))
});
