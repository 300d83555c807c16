//! Looks for secrets in everything that Daybook wrote.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::daybook::Daybook;

/// Panics when one of `planted` stands in any file of Daybook's folder or in its log: as it is, percent-encoded,
/// in hex, or within something base64-encoded. Its configuration file is the only one that is not looked at.
pub(crate) fn assert_nowhere(daybook: &Daybook, planted: &[String]) {
    let mut written = vec![(PathBuf::from("the log"), daybook.log().into_bytes())];
    collect(daybook.dir(), &mut written);
    let journal = written.iter().any(|(name, bytes)| name.extension().is_some_and(|e| e == "seg") && !bytes.is_empty());
    assert!(journal, "there is something to look at: {:?}", written.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for secret in planted {
        assert!(secret.len() >= 8, "{secret:?} is found anywhere");
        for form in forms(secret) {
            for (name, bytes) in &written {
                if let Some(at) = find(bytes, form.as_bytes()) {
                    let around = &bytes[at.saturating_sub(200)..(at + form.len() + 60).min(bytes.len())];
                    panic!("{secret:?} stands in {} as {form:?}:\n{}", name.display(), String::from_utf8_lossy(around));
                }
            }
        }
    }
}

/// How a secret may be written.
fn forms(secret: &str) -> Vec<String> {
    let percent = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_owned(), percent.clone(), percent.to_ascii_lowercase(), hex];
    // In the middle of something, it is at one of three places within its group of three bytes; the characters at
    // both ends then depend on the neighbours.
    for (lead, cut) in [(0, 0), (1, 2), (2, 3)] {
        let padded = [&vec![0; lead], secret.as_bytes()].concat();
        let whole = padded.len() / 3 * 3;
        forms.extend([STANDARD, URL_SAFE].map(|engine| engine.encode(&padded[..whole])[cut..].to_owned()));
    }
    forms
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

fn collect(folder: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_none_or(|extension| extension != "toml" && extension != "mmdb") {
            let bytes = std::fs::read(&path).expect("readable");
            into.push((path, bytes));
        }
    }
}
