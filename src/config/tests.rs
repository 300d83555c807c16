//! Full texts of complaints about bad files, and what holds for all texts.

use std::path::Path;

use proptest::prelude::*;

use super::{Complaints, Config, Loaded};

/// Enough of a configuration to be used.
const GOOD: &str = "[listener.panel]\nbind = \"127.0.0.1:8080\"\nupstream = \"http://127.0.0.1:3000\"\n[sink.file]\n";

fn parse(text: &str) -> Result<Loaded, Complaints> {
    Config::parse(text, "daybook.toml")
}

/// The full text of what is wrong with `text`; of what is doubtful, where nothing is wrong.
fn complaints(text: &str) -> String {
    match parse(text) {
        Ok(loaded) => loaded.warnings.to_string(),
        Err(complaints) => complaints.to_string(),
    }
}

/// The full text of what is wrong with [`GOOD`] and `more`.
fn with(more: &str) -> String {
    complaints(&format!("{GOOD}{more}"))
}

/// One snapshot for each case, named after it.
macro_rules! snapshots {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), $text);
        }
    )*};
}

snapshots! {
    an_empty_file_has_no_listener: complaints("");
    an_unknown_key_at_the_top_names_the_one_that_was_meant: with("[jurnal]\nsync = \"os\"\n");
    an_unknown_key_far_from_all_others_lists_them: with("[journal]\ncolour = \"green\"\n");
    unknown_keys_at_every_level_come_at_once: complaints(
        "date = \"x\"\n\n[listener.panel]\nbind = \"127.0.0.1:8080\"\nupstrem = \"http://127.0.0.1:3000\"\n\
         tls = { cert = \"c.pem\", keys = \"k.pem\" }\n[listener.panel.limits]\nconections = 5\n\n[[rule]]\nname = \"a\"\n\
         match = { methods = [\"POST\"] }\n",
    );
    wrong_types_say_what_was_written_and_what_to_write: with(
        "[journal]\nlinger = 10\nmax_size = true\n\n[defaults]\nbody_size = -1\nkind = 3\nsession = [\"request.cookie.sid\", 7]\n\n\
         [identity]\nbasic = \"yes\"\nsessions = \"many\"\n\n[[rule]]\nname = \"a\"\nsuccess = { status = [200, \"302\", 70000] }\nmode = 1\n",
    );
    units_are_named: with("[journal]\nmax_size = \"1 gigabyte\"\nlinger = \"soon\"\nkeep = \"24\"\n");
    a_bad_address_is_shown_with_good_ones: complaints(
        "[listener.panel]\nbind = \"localhost:8080\"\nupstream = \"127.0.0.1:3000\"\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.0/33\"]\n\
         [admin]\nbind = \"9181\"\n[sink.file]\n",
    );
    a_missing_key_points_at_its_table: complaints("[listener.panel]\nbind = \"127.0.0.1:8080\"\n[sink.file]\n");
    several_missing_keys_come_at_once: complaints(
        "[listener.panel]\n[listener.api]\nbind = \"127.0.0.1:8081\"\ntls = { cert = \"a.pem\" }\n[sink.kafka.sasl]\nmechanism = \"PLAIN\"\n",
    );
    a_syntax_error_says_what_was_expected: complaints("[listener.panel\nbind = \"127.0.0.1:8080\"\nupstream = http://127.0.0.1:3000\n");
    an_open_string_is_one_complaint: complaints("[listener.panel]\nbind = \"127.0.0.1:8080\nupstream = \"http://127.0.0.1:3000\"\n");
    syntax_and_unknown_keys_come_at_once: complaints("data = \n[listener.panel]\nbnd = \"127.0.0.1:8080\"\n");
    a_key_written_twice: complaints("[listener.panel]\nbind = \"127.0.0.1:8080\"\nupstream = \"http://a\"\nbind = \"127.0.0.1:8081\"\n[sink.file]\n[listener.panel]\n");
    two_listeners_in_one_place: with(
        "[listener.api]\nbind = \"0.0.0.0:8080\"\nupstream = \"http://127.0.0.1:3001\"\n[admin]\nbind = \"127.0.0.1:8080\"\n",
    );
    a_listener_in_front_of_itself: complaints("[listener.a]\nbind = \"0.0.0.0:80\"\nupstream = \"http://127.0.0.1\"\n[sink.file]\n");
    tls_settings_that_need_each_other: complaints(
        "[listener.panel]\nbind = \"127.0.0.1:8080\"\nupstream = \"http://127.0.0.1:3000\"\n\
         tls = { cert = \"c.pem\", key = \"k.pem\", client_auth = \"optional\" }\nforward = { tls = { cert = \"c.pem\" } }\n[sink.file]\n",
    );
    limits_that_let_nothing_through: with(
        "[listener.panel.limits]\nconnections = 0\nhead_size = 100\nhead_timeout = \"0s\"\n[listener.panel.forward]\nrequest_id_header = \"x id\"\n",
    );
    rules_that_can_not_be_meant: with(
        "[[rule]]\nname = \"login\"\nkind = \"Login\"\nmatch = { listener = \"panle\", method = [\"POST\", \"get\"], path = \"/login\" }\n\
         success = { status = [200, 999] }\nuser = { mail = \"request.form.email\" }\n\n[[rule]]\nname = \"login\"\nkind = \"loss\"\n\n[[rule]]\nmode = \"batched\"\n",
    );
    a_rule_that_never_gets_a_turn_is_a_warning: with("[[rule]]\nname = \"all\"\n[[rule]]\nname = \"login\"\nmatch = { path = \"/login\" }\n");
    kafka_names_and_templates: with(
        "[sink.kafka]\nbrokers = \"kafka:9092,other\"\ntopic = \"daybook records.{knd}\"\nkey = \"{user}{\"\ntopics = [\"ok\", \"..\", \"a/b\"]\ncompression = \"zst\"\nmax_message = \"16MiB\"\n",
    );
    kafka_passwords_are_neither_sent_nor_shown_in_plain: with(
        "[sink.kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"u\"\npassword = \"hunter2\"\n",
    );
    a_password_in_the_wrong_place_is_not_shown: with("[sink.kafka]\npasswrd = \"hunter2\"\nsasl = { mechanism = \"PLAIN\", username = \"u\", password = 12345 }\n");
    two_writers_of_one_file: complaints(
        "data = \"/d\"\n[listener.a]\nbind = \"127.0.0.1:1\"\nupstream = \"http://a\"\n[sink.file]\npath = \"/d/./dead-letter.ndjson\"\n[sink.kafka]\n",
    );
    a_word_that_begins_like_a_known_one: with("[[rule]]\nname = \"a\"\nmode = \"batched\"\n");
    a_key_of_the_whole_in_a_table: with("workers = 4\nadmin = { bind = \"127.0.0.1:9181\" }\n");
    names_and_numbers_that_are_none: complaints(
        "workers = 40000\n[listener.\"my panel\"]\nbind = \"127.0.0.1:8080\"\nupstream = \"http://a\"\n[sink.file]\npath = \"\"\n",
    );
    tables_in_another_shape: complaints(
        "[listener]\nbind = \"127.0.0.1:8080\"\nupstream = \"http://a\"\n[rule]\nname = \"a\"\n[sink]\nfile = \"-\"\n",
    );
    lists_of_listeners: complaints("[[listener]]\nname = \"panel\"\n[[sink]]\ntype = \"kafka\"\n");
    doubtful_things_are_warnings: complaints(
        "[listener.panel]\nbind = \"127.0.0.1:8080\"\nupstream = \"http://127.0.0.1:3000\"\ntrusted_proxies = [\"0.0.0.0/0\"]\n[admin]\nbind = \"0.0.0.0:9181\"\n[identity.jwt]\nid = \"sub\"\n",
    );
    an_instance_and_a_journal_out_of_bounds: format!(
        "{}\n{}",
        complaints(&format!("instance = \"panel 1\"\ndata = \"\"\n{GOOD}")),
        with("[journal]\nmax_size = \"64MiB\"\n"),
    );
    an_unset_variable_is_pointed_at: with("[identity.jwt]\nsecret = \"env:DAYBOOK_TEST_IS_NOT_SET\"\n");
    tabs_wide_letters_and_windows_line_ends_stay_aligned: complaints(
        "\u{feff}data = \"żółw\"\r\n[listener.panel]\r\n\tbind = \"127.0.0.1:8080\"\r\n\tupstream = \"http://żółw/\", bnd = 1\r\n\tlimitz = { a = 1 }\r\n",
    );
}

#[test]
fn a_later_complaint_points_at_its_key() {
    let loaded = parse(&format!(
        "{GOOD}[[rule]]\nname = \"a\"\nuser = {{ email = \"request.form\" }}\n[rule.attributes]\nsource = \"=form\"\n"
    ))
    .expect("a good configuration");
    let all = loaded.complaints([
        ("rule[0].attributes.source", "`=form` is too short; write `=a form`"),
        ("rule[0].user.email", "`request.form` names no field; write `request.form.email`"),
        ("rule[0].session", "nothing to learn from"),
        ("geoip.city", "no such file"),
    ]);
    insta::assert_snapshot!(all);
}

#[test]
fn a_file_that_can_not_be_read_is_a_complaint() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |name: &str| {
        let path = folder.path().join(name);
        let text = Config::load(&path).expect_err("must be refused").to_string();
        text.replace(&folder.path().display().to_string(), "/etc/daybook")
    };
    std::fs::write(folder.path().join("latin1.toml"), b"\xef\xbb\xbfdata = \"x\"\n# \xe9t\xe9\n").expect("written");
    std::fs::write(folder.path().join("huge.toml"), vec![b'#'; super::MAX_FILE as usize + 1]).expect("written");
    std::fs::write(
        folder.path().join("certs.toml"),
        format!("[geoip]\ncity = \"/nowhere/city.mmdb\"\n{GOOD}[sink.kafka.tls]\nca = \"/\"\n"),
    )
    .expect("written");
    let all: Vec<String> = ["missing.toml", "latin1.toml", "huge.toml", "certs.toml", ""].map(load).to_vec();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn complaints_are_bounded() {
    let text: String = (0..500).map(|n| format!("key{n} = 1\n")).collect();
    let all = parse(&text).expect_err("nothing of this is known");
    assert_eq!(all.iter().len(), 101, "100 complaints and a word about the rest");
    assert!(all.to_string().len() < 100_000, "the text is bounded as well");
}

#[test]
fn a_good_file_reads_as_it_is_written() {
    let loaded = parse(GOOD).expect("a good configuration");
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.path, Path::new("daybook.toml"));
    assert_eq!(loaded.config.listener["panel"].upstream.to_string(), "http://127.0.0.1:3000");
}

#[test]
fn single_addresses_are_networks_of_one() {
    let text = GOOD.replace("[sink.file]", "trusted_proxies = [\"10.0.0.7\", \"fd00::/8\"]");
    let config = parse(&text).expect("a good configuration").config;
    let networks: Vec<String> = config.listener["panel"].trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.7/32", "fd00::/8"]);
}

/// Pieces of configurations, so that random texts get deep into the checks.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "[listener.panel]\n",
        "[[rule]]\n",
        "[sink.kafka]\n",
        "[sink.file]\n",
        "[rule.match]\n",
        "[listener]\n",
        "[admin]\n",
        "bind = \"127.0.0.1:1\"\n",
        "upstream = \"http://a\"\n",
        "upstream",
        " = ",
        "\"",
        "'''",
        "{",
        "}",
        "[",
        "]",
        ",",
        ".",
        "tls = { cert = \"a\" }\n",
        "name = \"a\"\n",
        "name",
        "mode = \"batch\"\n",
        "path = [1, \"a\"]\n",
        "rule = [1]\n",
        "match = { path = \"/**\" }\n",
        "a.b.c = 1\n",
        "listener.panel.bind = 1\n",
        "listener = 3\n",
        "sasl = {}\n",
        "\r\n",
        "\t",
        "\u{feff}",
        "ż",
        "😀",
        "\0",
        "# c\n",
        "1979-05-27\n",
        "0x",
        "-",
        "inf\n",
        "topic = \"{kind}\"\n",
    ];
    prop_oneof![4 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

proptest! {
    #[test]
    fn no_text_panics_and_every_complaint_lies_within_it(pieces in prop::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        let Err(all) = parse(&text) else { return Ok(()) };
        prop_assert!(!all.is_empty() && !all.to_string().is_empty());
        let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(&text).split('\n').collect();
        for place in all.iter().filter_map(super::Complaint::place) {
            let line = lines.get(place.line - 1);
            prop_assert!(line.is_some_and(|l| place.column <= l.chars().count() + 1), "{place} is not in {text:?}");
        }
    }
}
