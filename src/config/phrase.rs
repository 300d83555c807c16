//! serde's and the parser's messages in the words of somebody who writes a configuration.
//!
//! Every sentence here is "what is wrong; what to write instead".

use super::source::{is_secret, join};
use super::suggest;

/// A message of the TOML parser.
pub(super) fn syntax(message: &str) -> String {
    if message == "duplicate key" {
        return "this key stands here for the second time; keep one of the two".to_owned();
    }
    match message.split_once(", expected ") {
        Some(("string values must be quoted", _)) => {
            "not TOML: there is no value here, or a string without quotes; write it like `\"value\"`".to_owned()
        }
        Some(("unexpected key or value", _)) => "not TOML: one key to a line; begin a new line here".to_owned(),
        Some((wrong, "nothing")) => format!("not TOML: {wrong}; take it out"),
        Some((wrong, expected)) => format!("not TOML: {wrong}; write {expected}"),
        None => format!("not TOML: {message}"),
    }
}

/// The key that serde says is missing.
pub(super) fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// A path as a table's header would have it: without the places in lists.
fn header(path: &str) -> String {
    let steps: Vec<&str> = path.split('.').map(|step| step.split('[').next().unwrap_or(step)).collect();
    format!("[{}]", steps.join("."))
}

/// The key that an unknown one was probably meant to be.
pub(super) fn meant<'a>(message: &'a str, key: &str) -> Option<&'a str> {
    is_unknown_key(message).then(|| suggest::closest(key, expected(message)))?
}

/// A key is missing in `table`.
pub(super) fn lacks(field: &str, table: &str) -> String {
    let example = match field {
        "bind" if table == "admin" => "bind = \"127.0.0.1:9181\"",
        "bind" => "bind = \"127.0.0.1:8080\"",
        "upstream" => "upstream = \"http://127.0.0.1:3000\"",
        "cert" => "cert = \"/etc/daybook/tls/cert.pem\"",
        "key" => "key = \"/etc/daybook/tls/key.pem\"",
        "mechanism" => "mechanism = \"SCRAM-SHA-512\"",
        "username" => "username = \"daybook\"",
        "password" => "password = \"env:KAFKA_PASSWORD\"",
        other => return format!("{} has no `{other}`, and it needs one; add `{other} = …`", header(table)),
    };
    let table = header(table);
    format!("{table} has no `{field}`, and it needs one; add `{example}`")
}

/// serde met a key it does not know.
pub(super) fn is_unknown_key(message: &str) -> bool {
    message.starts_with("unknown field `")
}

/// A key of the whole configuration stands in a table.
pub(super) fn misplaced(table: &str, key: &str, found: Option<&str>) -> String {
    let table = header(table);
    let instead = match found {
        Some("table") => format!("write it as a table of its own, `[{key}]`"),
        _ => "move it up, above the first [table]".to_owned(),
    };
    format!("`{key}` is no key of {table}; {instead}")
}

/// There are several of what there is one of.
pub(super) fn no_list(table: &str, key: &str) -> String {
    let header = header(&join(table, key));
    match shape(table, key, "") {
        Some(instead) => format!("`{key}` is no list of tables; write {instead}"),
        None => format!("`{key}` is no list of tables; write `{header}`, once"),
    }
}

/// What serde says about `key` in `table`, or about its value; `found` is the type of what stands there.
pub(super) fn wrong(message: &str, table: &str, key: &str, found: Option<&str>) -> String {
    if is_unknown_key(message) {
        let place = if table.is_empty() { "at the top level".to_owned() } else { format!("in {}", header(table)) };
        return format!("unknown key `{key}` {place}; {}", suggest::sentence(key, &expected(message)));
    }
    if let Some(written) = message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected")) {
        return format!("`{key}` can't be `{}`; {}", written.0, suggest::sentence(written.0, &expected(message)));
    }
    if message.starts_with("invalid socket address") {
        return format!("`{key}` is not an address to listen on; write `127.0.0.1:9181` or `[::1]:9181`");
    }
    let Some((given, wanted)) = type_error(message) else { return message.to_owned() };
    // What is given may be a password without quotes.
    let given = match found {
        Some(found) if is_secret(key) || given.is_empty() => format!("{} {found}", article(found)),
        _ => given,
    };
    let wanted = shape(table, key, wanted).unwrap_or_else(|| in_words(wanted));
    format!("`{key}` is {given}; write {wanted}")
}

/// serde's "invalid type: X, expected Y" and its like: X in words ("" where it names none), and Y.
fn type_error(message: &str) -> Option<(String, &str)> {
    if message == "wanted string or table" {
        return Some((String::new(), "a string"));
    }
    let rest = ["invalid type: ", "invalid value: ", "invalid length "].iter().find_map(|p| message.strip_prefix(p))?;
    let (given, wanted) = rest.rsplit_once(", expected ")?;
    let given = match given.split_once(' ') {
        Some((kind @ ("string" | "integer" | "boolean"), value)) => {
            format!("the {kind} {}", value.replace('"', "`").replace("``", "`"))
        }
        Some(("floating", value)) => format!("the number {}", value.trim_start_matches("point ")),
        _ => String::new(),
    };
    Some((given, wanted))
}

/// How the tables are written that people most often write otherwise.
fn shape(table: &str, key: &str, wanted: &str) -> Option<&'static str> {
    match (table, key) {
        ("", "rule") => Some("`[[rule]]`, with two brackets on each side, above each rule"),
        ("", "listener") => Some("`[listener.panel]`: each listener has a name"),
        ("listener", _) if wanted.starts_with("struct ") => {
            Some("`[listener.panel]` above it: each listener has a name")
        }
        ("", "sink") => Some("`[sink.kafka]` or `[sink.file]`"),
        ("sink", "kafka" | "file") => Some("a table of its own, `[sink.kafka]` or `[sink.file]`"),
        _ => None,
    }
}

/// serde's name of a type, for somebody who writes TOML.
fn in_words(wanted: &str) -> &str {
    match wanted {
        "string" | "a string" | "a borrowed string" | "a character" | "path string" => "a string, in quotes",
        "a boolean" => "`true` or `false`",
        "u8" => "a whole number up to 255",
        "u16" => "a whole number up to 65535",
        "u32" | "u64" | "usize" => "a whole number, not negative",
        "a map" => "a table of names and values",
        "a sequence" => "a list, in brackets",
        other if other.starts_with("struct ") => "a table of keys and values",
        other => other,
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'i']) { "an" } else { "a" }
}

/// The words between backticks behind "expected".
pub(super) fn expected(message: &str) -> Vec<&str> {
    let list = message.rsplit_once("`, expected ").map_or("", |(_, list)| list);
    list.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_messages_become_sentences() {
        for (message, table, key, found, sentence) in [
            (
                "unknown field `bnd`, expected `bind` or `tls`",
                "listener.a",
                "bnd",
                None,
                "unknown key `bnd` in [listener.a]; did you mean `bind`?",
            ),
            (
                "unknown field `x`, expected one of `a1`, `b1`",
                "",
                "x",
                None,
                "unknown key `x` at the top level; write `a1` or `b1`",
            ),
            (
                "unknown variant `batched`, expected one of `batch`, `blocking`",
                "rule[0]",
                "mode",
                None,
                "`mode` can't be `batched`; did you mean `batch`?",
            ),
            (
                "invalid type: integer `3`, expected a string",
                "",
                "data",
                Some("integer"),
                "`data` is the integer `3`; write a string, in quotes",
            ),
            (
                "invalid type: integer `1234`, expected a string",
                "sink.kafka.sasl",
                "password",
                Some("integer"),
                "`password` is an integer; write a string, in quotes",
            ),
            (
                "invalid type: map, expected a sequence",
                "",
                "rule",
                Some("table"),
                "`rule` is a table; write `[[rule]]`, with two brackets on each side, above each rule",
            ),
            (
                "invalid value: integer `70000`, expected u16",
                "rule[0].success",
                "status",
                Some("integer"),
                "`status` is the integer `70000`; write a whole number up to 65535",
            ),
            (
                "wanted string or table",
                "rule[0]",
                "mode",
                Some("integer"),
                "`mode` is an integer; write a string, in quotes",
            ),
        ] {
            assert_eq!(wrong(message, table, key, found), sentence);
        }
    }
}
