//! What the lake costs: `cargo bench --bench lake -- [--records N] [--keep DIR]`.
//!
//! Writes N synthetic records of 30 days (seeded; Zipf-like users, paths and addresses, random ids and tokens) as a sink
//! does, in commits of 50 000, and compacts as the keeper does. Then asks what people ask. `benches/lake.py` runs the
//! same questions by DuckDB and ClickHouse over the same files.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook::lake::{By, Cancel, Condition, Field, Filter, Lake, Query, Records, Writer};

/// 2026-10-25 00:00:00 UTC.
const START: u64 = 1_792_886_400;
const DAYS: u64 = 30;
const COMMIT: u64 = 50_000;
const ROUNDS: usize = 5;

/// A multiplicative generator: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 11
    }

    /// 0 to `below`, small ones far more often.
    fn zipf(&mut self, below: u64) -> u64 {
        let unit = (self.roll() % 1_000_000 + 1) as f64 / 1_000_000.0;
        ((below as f64).powf(unit) as u64 - 1).min(below - 1)
    }
}

/// Appends a record as the journal has it.
fn record(dice: &mut Dice, seq: u64, micros: u64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let at = std::time::UNIX_EPOCH + Duration::from_micros(micros);
    let (a, b) = (dice.roll(), dice.roll());
    let millis = micros / 1000;
    let id = format!(
        "{:08x}-{:04x}-7{:03x}-a{:03x}-{:012x}",
        millis >> 16,
        millis & 0xffff,
        a & 0xfff,
        b & 0xfff,
        (a >> 12) & 0xffff_ffff_ffff
    );
    let user = dice.zipf(20_000);
    let ip = user.wrapping_mul(2_654_435_761);
    let kind = ["panel", "panel", "panel", "api", "api", "login"][(a % 6) as usize];
    let status = [200, 200, 200, 200, 200, 201, 302, 302, 400, 404, 403, 500][(b % 12) as usize];
    let (area, item) = (dice.zipf(300), dice.zipf(100_000));
    let method = ["GET", "GET", "GET", "POST"][(b % 4) as usize];
    let time = daybook::record::timestamp(at);
    let result = if status < 400 { "success" } else { "failure" };
    let city = ["Warsaw", "Kraków", "Berlin", "Paris", "Lyon"][(user % 5) as usize];
    let _ = write!(
        out,
        r#"{{"seq":{seq},"epoch":1,"instance":"panel-7c9f","schema":"daybook/1","id":"{id}","time":"{time}","stage":"response_complete","kind":"{kind}","rule":"{kind} rule","listener":"panel","method":"{method}","scheme":"https","host":"panel.example.com","path":"/area{area}/items/{item}","route":"/area{area}/items/{{id}}","http_version":"1.1","status":{status},"result":"{result}","end":"complete","duration_us":{},"timing":{{"connect_us":0,"first_byte_us":{}}},"request_bytes":{},"response_bytes":{},"client":{{"ip":"{}.{}.{}.{}","peer":"10.0.0.7","user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{}.0","geo":{{"country":"PL","city":"{city}","build":"2026-10-01"}}}},"user":{{"id":"{user}","email":"user{user}@example.com","source":"session"}}"#,
        500 + a % 20_000,
        400 + a % 15_000,
        b % 3000,
        a % 50_000,
        ip & 0xff,
        (ip >> 8) & 0xff,
        (ip >> 16) & 0xff,
        (ip >> 24) & 0xff,
        100 + user % 30,
    );
    if kind == "api" {
        let key = dice.zipf(500).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let _ = write!(out, r#","api_key":{{"hint":"…{:04x}","token":"{key:016x}{:016x}"}}"#, key & 0xffff, !key);
    }
    let session = (user * 1000 + micros / 3_600_000_000).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let _ = write!(out, r#","session":"{session:016x}{:016x}","request_id":"{id}"}}"#, !session);
}

fn fill(folder: &Path, records: u64) -> Arc<Lake> {
    let lake = Lake::open(folder).expect("a lake");
    let mut writer = Writer::new(Arc::clone(&lake));
    let (mut dice, mut line) = (Dice(7), Vec::new());
    let span = DAYS * 86_400_000_000;
    let (mut making, began) = (Duration::ZERO, cpu());
    for seq in 1..=records {
        line.clear();
        let make = Instant::now();
        record(&mut dice, seq, START * 1_000_000 + span / records * seq, &mut line);
        making += make.elapsed();
        writer.push(&line).expect("a record");
        if seq.is_multiple_of(COMMIT) || seq == records {
            writer.seal("panel-7c9f", &[(1, seq)]).expect("sealed");
        }
    }
    let wrote = cpu() - began - making;
    while lake.compact().expect("compacted") > 0 {}
    let compacted = cpu() - began - making - wrote;
    lake.vacuum(Duration::ZERO).expect("vacuumed");
    let bytes: u64 = walk(folder);
    let per = |spent: Duration| spent.as_secs_f64() * 1e6 / records as f64;
    println!("{records} records, {} bytes of JSON each", line.len());
    println!("| ingest | {:.2} CPU µs a record | {:.0} records/s a core |", per(wrote), 1e6 / per(wrote));
    println!("| compaction | {:.2} CPU µs a record |", per(compacted));
    println!("| on disk | {:.1} bytes a record |", bytes as f64 / records as f64);
    lake
}

fn ask(name: &str, mut question: impl FnMut() -> usize) {
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        found = black_box(question());
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!("| {name} | {:.1} ms | {found} |", times[ROUNDS / 2].as_secs_f64() * 1e3);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut records, mut keep) = (1_000_000, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--records" => records = arguments.next().and_then(|n| n.parse().ok()).expect("--records N"),
            "--keep" => keep = arguments.next().map(PathBuf::from),
            _ => {}
        }
    }
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = keep.unwrap_or_else(|| temporary.path().to_owned());
    let lake = match Lake::open(&folder).expect("a lake") {
        lake if lake.is_empty() => fill(&folder, records),
        lake => lake,
    };
    let cancel = Cancel::default();
    let end = ((START + DAYS * 86_400) * 1_000_000) as i64;
    let query = |conditions: &[&str], limit: usize| {
        let conditions = conditions.iter().map(|text| text.parse::<Condition>().expect(text)).collect();
        Query { filter: Filter { conditions, any: false }, limit, ..Query::default() }
    };
    let page = |query: &Query| lake.page(query, &cancel).expect("a page").rows.num_rows();
    let count = |query: &Query, by: &By| lake.count(query, by, &cancel).expect("counted").len();
    println!("| question | median of {ROUNDS} | rows |\n| --- | --- | --- |");
    ask("newest page (50)", || page(&query(&[], 50)));
    ask("one user, 50 newest", || page(&query(&["user.email=user17@example.com"], 50)));
    ask("a rare user, all", || page(&query(&["user.email=user19990@example.com"], 1000)));
    let rare = lake.page(&query(&["api_key.token?"], 1), &cancel).expect("a page").rows;
    let token = match Records::new(&rare).cell(0, daybook::lake::schema::index("api_key.token")) {
        Some(daybook::lake::Cell::Text(token)) => token.to_owned(),
        _ => String::new(),
    };
    let by_key = format!("api_key.token={token}");
    ask("an API key with status >= 500", || page(&query(&[&by_key, "status>=500"], 100)));
    ask("path contains, common", || page(&query(&["path~area1/"], 50)));
    ask("path contains, rare, full scan", || page(&query(&["path~items/99999"], 1000)));
    let middle = Query { to: Some(end - (DAYS as i64 * 43_200_000_000)), ..query(&[], 1) };
    let row = lake.page(&middle, &cancel).expect("a page").rows;
    let id = match Records::new(&row).cell(0, daybook::lake::schema::index("id")) {
        Some(daybook::lake::Cell::Text(id)) => id.to_owned(),
        _ => String::new(),
    };
    let by_id = format!("id={id}");
    ask("by id", || page(&query(&[&by_id], 1)));
    let hour = By { every: Some(3_600_000_000), fields: vec![Field::named("result").expect("a field")] };
    let last_day = Query { from: Some(end - 86_400_000_000), ..query(&[], 0) };
    ask("histogram of 24 h", || count(&last_day, &hour));
    ask("histogram of 30 days", || count(&query(&[], 0), &hour));
    let users = By { every: Some(86_400_000_000), fields: vec![Field::named("user.id").expect("a field")] };
    ask("distinct users a day", || count(&query(&[], 0), &users));
    ask("export of 100 000", || page(&query(&[], 100_000)));
    println!("\npeak memory: {} MiB", peak_kib() / 1024);
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    Duration::from_nanos(nanos)
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn walk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| match entry.file_type().expect("a type").is_dir() {
            true => walk(&entry.path()),
            false => entry.metadata().expect("metadata").len(),
        })
        .sum()
}
