//! `daybook check` as it is used: exit codes, stdout for data, stderr for people.

use std::path::Path;
use std::process::{Command, Output};

fn check(file: &Path) -> Output {
    let daybook = env!("CARGO_BIN_EXE_daybook");
    let output = Command::new(daybook).args(["check", "--config"]).arg(file).env_remove("DAYBOOK_LOG").output();
    output.expect("daybook runs")
}

#[test]
fn samples_are_fine() {
    for name in ["minimal.toml", "full.toml", "presets/django-admin.toml"] {
        let output = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name));
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {told}");
        assert!(output.stdout.is_empty(), "stdout is for data");
        assert!(told.contains(&format!("{name}: fine: 1 listener, ")), "{told}");
        assert!(name == "full.toml" || told.lines().count() == 1, "only a file without sinks is doubtful: {told}");
    }
}

#[test]
fn a_bad_file_is_told_all_at_once_and_exits_78() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("daybook.toml");
    let text = "[listener.panel]\nbind = \"127.0.0.1:8080\"\nupstrem = \"http://127.0.0.1:3000\"\n\n[journal]\nlinger = 10\n\n\
                [sink.kafka]\ntopic = \"{knd}\"\n";
    std::fs::write(&file, text).expect("written");
    let output = check(&file);
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(78), "EX_CONFIG (sysexits.h); told: {told}");
    assert!(output.stdout.is_empty(), "stdout is for data");
    insta::assert_snapshot!(told.replace(&folder.path().display().to_string(), "/etc/daybook"));
}

#[test]
fn a_selector_that_is_none_is_pointed_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("daybook.toml");
    let text = "[listener.panel]\nbind = \"127.0.0.1:8080\"\nupstream = \"http://127.0.0.1:3000\"\n[sink.file]\n\n[[rule]]\nname = \"login\"\n\
                match = { path = [\"/login\", \"no slash\"] }\n[rule.user]\nemail = \"request.body.email\"\n";
    std::fs::write(&file, text).expect("written");
    let output = check(&file);
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(78), "EX_CONFIG (sysexits.h); told: {told}");
    for place in ["daybook.toml:8:", "daybook.toml:10:9: "] {
        assert!(told.contains(place), "{place} is not in:\n{told}");
    }
}
