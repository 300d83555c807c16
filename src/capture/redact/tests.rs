//! Masking from its door.

use proptest::prelude::*;

use super::*;
use crate::config::RedactionSettings;

fn redactor() -> Redactor {
    let settings = RedactionSettings {
        json: vec!["/users/*/note".into(), "/top".into()],
        fields: vec!["PESEL".into()],
        unmasked_types: vec!["text/csv".into(), "image/png".into()],
        ..RedactionSettings::default()
    };
    let mut wrong = Vec::new();
    let redactor = Redactor::compile(&settings, &mut wrong);
    assert_eq!(wrong, []);
    redactor
}

fn body(kind: &str, body: &str, cut: bool) -> Result<String, String> {
    let masked = redactor().body(kind, body.as_bytes(), cut, Side::Request, &mut Report::default());
    masked.text.ok_or_else(|| masked.omitted.unwrap_or_default())
}

fn json(text: &str) -> Result<String, String> {
    body("application/json", text, false)
}

#[test]
fn json_keeps_its_bytes_save_for_secrets() {
    for (given, expected) in [
        (r#" {"b":1.50, "a" : [true,null] } "#, r#" {"b":1.50, "a" : [true,null] } "#),
        (r#"{"password":"x","a":1}"#, r#"{"password":"***","a":1}"#),
        (r#"{"password":{"a":["]}"]},"b":2}"#, r#"{"password":"***","b":2}"#),
        (r#"{"pin":1234,"has_pin":true,"otp":null}"#, r#"{"pin":"***","has_pin":true,"otp":null}"#),
        (
            r#"{"users":[{"note":"x"},{"note":[1]}],"top":7}"#,
            r#"{"users":[{"note":"***"},{"note":"***"}],"top":"***"}"#,
        ),
        (r#"{"pesel":"x","Pe-Sel":"y"}"#, r#"{"pesel":"***","Pe-Sel":"***"}"#),
        (r#"{"a":1,"a":{"token":"x"}}"#, r#"{"a":1,"a":{"token":"***"}}"#),
        (r#""https://a:b@c/""#, r#""https://***@c/""#),
        ("[]", "[]"),
        ("{}", "{}"),
        ("17", "17"),
    ] {
        assert_eq!(json(given).as_deref(), Ok(expected), "{given}");
    }
}

#[test]
fn what_is_no_json_is_dropped() {
    for wrong in [
        "",
        "{",
        "[1,]",
        "{\"a\"}",
        "{\"a\":1,}",
        "{'a':1}",
        "nul",
        "1 2",
        "{\"a\":\"\n\"}",
        "[1 2]",
        "{\"a\":tru}",
        "]",
    ] {
        assert!(json(wrong).is_err() || wrong.is_empty(), "{wrong} gave {:?}", json(wrong));
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(json(&deep), Err("its JSON is nested too deeply".to_owned()));
    let hidden = format!("{{\"password\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(json(&hidden).as_deref(), Ok("{\"password\":\"***\"}"), "what is masked need not be understood");
}

#[test]
fn a_json_body_that_was_cut_shows_whole_tokens_only() {
    let whole = r#"{"email":"a@b.pl","password":"SECRETSECRET","list":[12345,"abc"],"token":{"a":"SECRETSECRET"}}"#;
    for end in 1..whole.len() {
        let shown = body("application/json", &whole[..end], true).unwrap_or_default();
        assert!(!shown.contains("SEC") && !shown.contains("RET"), "cut at {end}: {shown}");
        let without_masks = shown.replace("\"***\"", "\"SECRETSECRET\"");
        assert!(whole.starts_with(&without_masks) || shown.ends_with("\"***\""), "cut at {end}: {shown}");
    }
}

#[test]
fn a_form_that_was_cut_shows_whole_fields_only() {
    assert_eq!(body("application/x-www-form-urlencoded", "a=b&passw", true).as_deref(), Ok("a=b"));
    assert_eq!(body("application/x-www-form-urlencoded", "a=b&c=d&password=SEC", true).as_deref(), Ok("a=b&c=d"));
}

#[test]
fn only_vouched_for_types_are_kept_unmasked() {
    assert_eq!(body("text/csv", "a;b", false).as_deref(), Ok("a;b"));
    assert!(body("text/plain", "a;b", false).is_err());
    let masked = redactor().body("image/png", b"\x89PNG", false, Side::Response, &mut Report::default());
    assert_eq!((masked.text.as_deref(), masked.base64), (Some("iVBORw=="), true));
}

#[test]
fn queries_keep_what_is_not_secret() {
    let mask = |query: &str| {
        let mut report = Report::default();
        let masked = redactor().query(query, &mut report).into_owned();
        let told: Vec<String> = report.into_entries().iter().map(ToString::to_string).collect();
        (masked, told.join(" "))
    };
    let plain = "a=b&c&=d&&e=%zz&q=what%3F&page=2&f=a+b";
    assert_eq!(mask(plain), (plain.to_owned(), String::new()));
    assert_eq!(mask("token=x&a=b"), ("token=***&a=b".to_owned(), "request.query.token".to_owned()));
    assert_eq!(mask("code=7"), ("code=7".to_owned(), String::new()), "a code without a state is a voucher");
    assert_eq!(mask("password="), ("password=".to_owned(), String::new()));
    let (masked, told) = mask("next=%2Fa%3Ftoken%3Dx&b=c");
    assert_eq!((masked.as_str(), told.as_str()), ("next=/a%3Ftoken%3D***&b=c", "request.query.next"));
}

fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(|s| serde_json::Value::String(s).to_string()),
        Just(r#""{\"token\":\"x\"}""#.to_owned()),
        Just(r#""https://x/?token=abc""#.to_owned()),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let key = prop::sample::select(vec!["a", "password", "name", "value", "note", "x\\u0041"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|all| format!("[{}]", all.join(" , "))),
            prop::collection::vec((key, inner), 0..5).prop_map(|all| {
                let members: Vec<String> = all.into_iter().map(|(k, v)| format!("\"{k}\" :{v}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn masking_json_twice_is_masking_it_once(text in json_text()) {
        let once = json(&text).map_err(TestCaseError::fail)?;
        prop_assert!(serde_json::from_str::<serde_json::Value>(&once).is_ok(), "{} became {}", text, once);
        prop_assert_eq!(json(&once), Ok(once.clone()), "of {}", text);
    }

    #[test]
    fn masking_a_query_twice_is_masking_it_once(
        query in "([a-z]{0,3}|token|pass|next|code|state|%[0-9a-f]{2}|[=&;?#+/:@{}\"]|https://){0,16}"
    ) {
        let once = redactor().query(&query, &mut Report::default()).into_owned();
        let twice = redactor().query(&once, &mut Report::default()).into_owned();
        prop_assert_eq!(&twice, &once, "of {}", query);
    }

    #[test]
    fn no_body_makes_masking_panic(kind in 0..5usize, bytes: Vec<u8>, cut: bool) {
        let kinds = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/csv", ""];
        let _ = redactor().body(kinds[kind], &bytes, cut, Side::Request, &mut Report::default());
    }

    #[test]
    fn whatever_looks_like_json_is_masked_without_panic(text in r#"[\[\]{}",:\\ua-b0-9 \n-]{0,60}"#, cut: bool) {
        if let Ok(masked) = body("application/json", &text, cut) && !cut {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{text} became {masked}");
        }
    }
}
