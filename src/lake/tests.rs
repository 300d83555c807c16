//! The lake against a plain filter over the same records, whatever was sealed, compacted or only in memory.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::record::{Attributes, Record, Value};

const INSTANCE: &str = "panel-1";
/// 2026-11-24 23:59:50 UTC: records of the next seconds lie in two days.
const START: u64 = 1_795_564_790;

/// A record as a journal has it.
fn record(seq: u64, second: u64, variant: u64) -> Vec<u8> {
    let at = std::time::UNIX_EPOCH + std::time::Duration::new(START + second, (variant % 1000) as u32 * 1000);
    let mut attributes = Attributes::default();
    if variant.is_multiple_of(3) {
        attributes.push("source", Value::Text(["form", "google", "say \"hi\""][variant as usize / 3 % 3].into()));
        attributes.push("count", Value::Number((variant % 10).into()));
    }
    let mut record = Record::own("panel", attributes);
    record.time = crate::record::timestamp(at).into();
    record.seq = Some(seq);
    record.epoch = Some(1);
    record.instance = Some(INSTANCE.into());
    record.kind = ["panel", "login", "api"][variant as usize % 3].into();
    record.path =
        Some(format!("/orders/{}{}", variant % 7, ["", "/ITEMS", "?<script>\u{202e}\n"][variant as usize % 3]).into());
    record.status = (!variant.is_multiple_of(5)).then_some(200 + (variant % 4) as u16 * 100);
    record.duration_us = Some(variant * 17);
    if variant.is_multiple_of(2) {
        let email = format!("user{}@example.com", variant % 11);
        record.user = Some(crate::record::User { email: Some(email.into()), ..Default::default() });
        record.client =
            Some(crate::record::Client { ip: Some([10, 0, 0, (variant % 5) as u8].into()), ..Default::default() });
    }
    if variant.is_multiple_of(4) {
        record.request = Some(crate::record::Message { body: Some("{\"a\":[1, 2]}".into()), ..Default::default() });
        record.redacted = vec!["request.header.cookie".into()];
    }
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

fn at_path<'j>(record: &'j Json, path: &str) -> &'j Json {
    path.split('.').fold(record, |value, name| &value[name])
}

/// What `condition` means, said again in the plainest way.
fn holds(record: &Json, condition: &Condition) -> bool {
    let value = at_path(record, &condition.field.to_string());
    let text = match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let number = value.as_i64();
    let fits = text.is_some_and(|text| match &condition.test {
        Test::Present => true,
        Test::In(values) => values.contains(&text),
        Test::Contains(part) => text.to_lowercase().contains(&part.to_lowercase()),
        Test::Prefix(prefix) => text.starts_with(prefix),
        Test::Range { from, to } => {
            number.is_some_and(|n| from.is_none_or(|from| n >= from) && to.is_none_or(|to| n <= to))
        }
    });
    fits != condition.negated
}

fn some_filter() -> impl Strategy<Value = Filter> {
    let conditions = prop::sample::select(vec![
        "kind=login",
        "kind!=(login,api)",
        "status>=300",
        "status<300",
        "status?",
        "status!?",
        "status=(200,500)",
        "path~items",
        "path^=/orders/3",
        "path!~script",
        "user.email=user4@example.com",
        "user.email=nobody@example.com",
        "client.ip=10.0.0.2",
        "attributes.source=form",
        "attributes.source=say \"hi\"",
        "attributes.count>5",
        "duration_us<=500",
        "redacted?",
    ]);
    let conditions = prop::collection::vec(conditions.prop_map(|text| text.parse().expect(text)), 0..4);
    (conditions, any::<bool>()).prop_map(|(conditions, any)| Filter { conditions, any })
}

/// Counts by five seconds, kind, status and an attribute.
fn by() -> By {
    let fields = ["kind", "status", "attributes.source"].map(|path| Field::named(path).expect(path));
    By { every: Some(5_000_000), fields: fields.into() }
}

fn counted(lake: &Lake, query: &Query) -> Vec<Count> {
    let counts = lake.count(query, &by(), &Cancel::default()).expect("counted");
    let all = lake.count(query, &By::default(), &Cancel::default()).expect("counted");
    let total: u64 = counts.iter().map(|count| count.records).sum();
    assert_eq!(all.iter().map(|count| count.records).sum::<u64>(), total, "the parts are the whole");
    counts
}

fn plainly_counted(lines: &[String]) -> Vec<Count> {
    let mut counts = std::collections::BTreeMap::new();
    for line in lines {
        let json: Json = serde_json::from_str(line).expect("JSON");
        let time = row::parse_time(json["time"].as_str().expect("a time")).expect("a time") / 5_000_000 * 5_000_000;
        let by = by();
        let values = by.fields.iter().map(|field| match at_path(&json, &field.to_string()) {
            Json::Null => None,
            Json::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        });
        *counts.entry((Some(time), values.collect::<Vec<_>>())).or_insert(0) += 1;
    }
    counts.into_iter().map(|((time, values), records)| Count { time, values, records }).collect()
}

/// What is done with the lake between records.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u64, u64),
    Show,
    Seal,
    Compact,
    Reopen,
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0u64..20, 0u64..1000).prop_map(|(second, variant)| Step::Push(second, variant)),
        2 => Just(Step::Show),
        3 => Just(Step::Seal),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

/// Lines of all pages of a query.
fn pages(lake: &Lake, query: &Query) -> Vec<String> {
    let mut query = query.clone();
    let mut lines = Vec::new();
    loop {
        let page = lake.page(&query, &Cancel::default()).expect("a page");
        let records = Records::new(&page.rows);
        for row in 0..page.rows.num_rows() {
            let mut line = Vec::new();
            records.write(row, &mut line);
            lines.push(String::from_utf8(line).expect("JSON is UTF-8"));
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return lines,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_query_finds_what_a_plain_filter_finds(
        steps in prop::collection::vec(some_step(), 1..120),
        filter in some_filter(),
        range in (prop::option::of(0u64..20), prop::option::of(0u64..20)),
        limit in 1usize..9,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut lake = Lake::open(folder.path()).expect("a lake");
        let mut writer = Writer::new(Arc::clone(&lake));
        let mut all: Vec<Vec<u8>> = Vec::new();
        for step in steps {
            match step {
                Step::Push(second, variant) => {
                    let bytes = record(all.len() as u64 + 1, second, variant);
                    writer.push(&bytes).expect("a record");
                    all.push(bytes);
                }
                Step::Show => writer.show(),
                Step::Seal => writer.seal(INSTANCE, &[(1, all.len() as u64)]).or_else(|e| match e {
                    // Nothing came since the last one.
                    LakeError::Contended => Ok(()),
                    other => Err(other),
                }).expect("sealed"),
                Step::Compact => _ = lake.compact().expect("compacted"),
                Step::Reopen => {
                    // As after a crash: what was not committed is taken from the journal again.
                    lake = Lake::open(folder.path()).expect("reopened");
                    writer = Writer::new(Arc::clone(&lake));
                    let reached = lake.reached(INSTANCE).map_or(0, |(_, seq)| seq as usize);
                    all[reached..].iter().for_each(|bytes| writer.push(bytes).expect("a record"));
                }
            }
        }
        writer.show();
        let micros = |second: u64| ((START + second) * 1_000_000) as i64;
        let query = Query { from: range.0.map(micros), to: range.1.map(micros), filter, after: None, limit };
        let mut expected: Vec<(i64, u64, String)> = all.iter().filter_map(|bytes| {
            let json: Json = serde_json::from_slice(bytes).expect("JSON");
            let time = row::parse_time(json["time"].as_str()?)?;
            let in_time = query.from.is_none_or(|from| time >= from) && query.to.is_none_or(|to| time < to);
            let mut each = query.filter.conditions.iter().map(|condition| holds(&json, condition));
            let fits = query.filter.conditions.is_empty() || if query.filter.any { each.any(|x| x) } else { each.all(|x| x) };
            (in_time && fits).then(|| (time, json["seq"].as_u64().expect("seq"), String::from_utf8(bytes.clone()).expect("UTF-8")))
        }).collect();
        expected.sort_by_key(|(time, seq, _)| std::cmp::Reverse((*time, *seq)));
        let expected: Vec<String> = expected.into_iter().map(|(_, _, line)| line).collect();
        prop_assert_eq!(pages(&lake, &query), expected.clone(), "{:?}", query);
        prop_assert_eq!(counted(&lake, &query), plainly_counted(&expected), "{:?}", query);
    }
}

#[test]
fn ten_small_files_become_one_and_the_old_ones_are_deleted_when_nobody_reads_them_any_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = Lake::open(folder.path()).expect("a lake");
    let mut writer = Writer::new(Arc::clone(&lake));
    for seq in 1..=30 {
        writer.push(&record(seq, seq % 10, seq)).expect("a record");
        if seq.is_multiple_of(3) {
            writer.seal(INSTANCE, &[(1, seq)]).expect("sealed");
        }
    }
    let before = pages(&lake, &Query { limit: 100, ..Query::default() });
    let files = lake.view().snapshot.files.len();
    assert_eq!(lake.compact().expect("compacted"), 10, "ten files of a size become one");
    assert_eq!(lake.view().snapshot.files.len(), files - 9);
    assert_eq!(pages(&lake, &Query { limit: 100, ..Query::default() }), before, "the records are the same, in order");
    let on_disk = || walk(folder.path()).into_iter().filter(|name| name.ends_with(".parquet")).count();
    assert_eq!(lake.vacuum(std::time::Duration::from_secs(60)).expect("vacuumed"), 0, "not yet: others may read them");
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(lake.vacuum(std::time::Duration::ZERO).expect("vacuumed"), 10);
    assert_eq!(on_disk(), files - 9, "only the table's files are left");
    assert_eq!(pages(&Lake::open(folder.path()).expect("a lake"), &Query { limit: 100, ..Query::default() }), before);
}

#[test]
fn an_id_is_found_by_the_time_within_it_and_any_other_text_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = Lake::open(folder.path()).expect("a lake");
    let mut writer = Writer::new(Arc::clone(&lake));
    let mut ids = vec!["not-a-uuid".to_owned(), "6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned()];
    for seq in 1..=3 {
        let mut own = Record::own("panel", Attributes::default());
        (own.seq, own.epoch, own.instance) = (Some(seq), Some(1), Some("i".into()));
        match ids.get(seq as usize - 1) {
            Some(id) => own.id = id.clone().into(),
            None => ids.push(own.id.to_string()),
        }
        let mut bytes = Vec::new();
        own.encode(&mut bytes);
        writer.push(&bytes).expect("a record");
    }
    writer.seal("i", &[(1, 3)]).expect("sealed");
    for id in ids {
        let filter = Filter { conditions: vec![format!("id={id}").parse().expect("a condition")], any: false };
        assert_eq!(pages(&lake, &Query { filter, limit: 5, ..Query::default() }).len(), 1, "{id} is found");
    }
}

#[test]
fn days_older_than_keep_are_taken_out_and_zero_keeps_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = Lake::open(folder.path()).expect("a lake");
    let mut writer = Writer::new(Arc::clone(&lake));
    let long_ago = br#"{"seq":1,"epoch":1,"instance":"i","schema":"daybook/1","id":"x","time":"2020-02-29T10:00:00.000000Z","stage":"response_complete","kind":"panel"}"#;
    writer.push(long_ago).expect("a record");
    let mut today = Record::own("panel", Attributes::default());
    (today.seq, today.epoch, today.instance) = (Some(2), Some(1), Some("i".into()));
    let mut bytes = Vec::new();
    today.encode(&mut bytes);
    writer.push(&bytes).expect("a record");
    writer.seal("i", &[(1, 2)]).expect("sealed");
    assert_eq!(lake.retain(std::time::Duration::ZERO).expect("kept"), 0);
    assert_eq!(lake.retain(std::time::Duration::from_secs(30 * 86_400)).expect("kept"), 1);
    assert_eq!(lake.len(), (1, 0), "today's record stays");
}

#[test]
fn what_is_no_record_is_refused_and_leaves_the_rows_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = Lake::open(folder.path()).expect("a lake");
    let mut writer = Writer::new(Arc::clone(&lake));
    let good = record(1, 1, 12);
    writer.push(&good).expect("a record");
    let twice = String::from_utf8(record(2, 1, 1)).expect("UTF-8").replacen("\"seq\":2", "\"seq\":2,\"seq\":3", 1);
    for bad in ["", "[]", "{}", "null", "{\"time\":5}", "{\"time\":\"yesterday\"}", twice.as_str(), "{\"time\":"] {
        writer.push(bad.as_bytes()).expect_err(bad);
    }
    writer.show();
    assert_eq!(pages(&lake, &Query { limit: 10, ..Query::default() }), [String::from_utf8(good).expect("UTF-8")]);
}

#[test]
fn members_of_a_newer_version_are_kept_under_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = Lake::open(folder.path()).expect("a lake");
    let mut writer = Writer::new(Arc::clone(&lake));
    let mut newer: Json = serde_json::from_slice(&record(1, 1, 2)).expect("JSON");
    newer["colour"] = json!({"r": 1});
    newer["client"]["asn"] = json!(64500);
    writer.push(newer.to_string().as_bytes()).expect("a record");
    writer.seal(INSTANCE, &[(1, 1)]).expect("sealed");
    let found: Json = serde_json::from_str(&pages(&lake, &Query { limit: 1, ..Query::default() })[0]).expect("JSON");
    assert_eq!(found["other"], json!({"colour": {"r": 1}, "client.asn": 64500}));
    assert_eq!(found["user"], newer["user"], "what is known stands where it was");
}

/// Names of all files below a folder.
fn walk(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .flat_map(|entry| match entry.file_type().expect("a type").is_dir() {
            true => walk(&entry.path()),
            false => vec![entry.path().display().to_string()],
        })
        .collect()
}
