//! `multipart/form-data` (RFC 7578): text fields are kept and masked, files are not kept.

use super::{MASK, Place, Redactor, Report};

/// One part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::capture) struct Part<'b> {
    /// The field's name.
    pub(in crate::capture) name: String,
    /// The file's name, where it is a file.
    pub(in crate::capture) file: Option<String>,
    /// What it holds.
    pub(in crate::capture) value: &'b [u8],
}

/// The parts that are whole; `None` when the body is not what its type says.
///
/// `cut` says that only the beginning is given; the part it was cut in is left out.
pub(in crate::capture) fn parts<'b>(content_type: &str, body: &'b [u8], cut: bool) -> Option<Vec<Part<'b>>> {
    let boundary = parameter(content_type, "boundary")?;
    if boundary.is_empty() || boundary.len() > 70 {
        return None;
    }
    let first = format!("--{boundary}");
    let next = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(first.as_bytes())?;
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        let Some(part) = rest.strip_prefix(b"\r\n") else { return (cut && rest.len() < 2).then_some(parts) };
        let Some(end) = memchr::memmem::find(part, next.as_bytes()) else { return cut.then_some(parts) };
        parts.push(read(&part[..end])?);
        rest = &part[end + next.len()..];
    }
}

/// The form as it was, values of secret fields masked, files replaced by their size.
pub(super) fn mask(redactor: &Redactor, parts: &[Part<'_>], cut: bool, report: &mut Report) -> String {
    let mut out = String::new();
    for part in parts {
        let name = part.name.replace(['"', '\r', '\n'], "_");
        out.push_str(&format!("--form\r\ncontent-disposition: form-data; name=\"{name}\""));
        if let Some(file) = &part.file {
            let file = redactor.scrub(file, 0).unwrap_or_else(|| file.clone()).replace(['"', '\r', '\n'], "_");
            out.push_str(&format!("; filename=\"{file}\"\r\n\r\n[{} bytes]\r\n", part.value.len()));
            report.add(Place::Field, &part.name);
            continue;
        }
        let text = std::str::from_utf8(part.value).ok().filter(|_| !redactor.is_secret(&part.name, Place::Field));
        let masked = text.map(|t| redactor.scrub(t, 0));
        if !matches!(masked, Some(None)) {
            report.add(Place::Field, &part.name);
        }
        let value =
            masked.map_or_else(|| MASK.to_owned(), |m| m.unwrap_or_else(|| text.unwrap_or_default().to_owned()));
        out.push_str(&format!("\r\n\r\n{value}\r\n"));
    }
    if !cut {
        out.push_str("--form--\r\n");
    }
    out
}

fn read(part: &[u8]) -> Option<Part<'_>> {
    let (head, value) = match memchr::memmem::find(part, b"\r\n\r\n") {
        Some(at) => (&part[..at], &part[at + 4..]),
        None => return None,
    };
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let file = parameter(disposition, "filename").or_else(|| parameter(disposition, "filename*"));
    Some(Part { name: parameter(disposition, "name")?, file, value })
}

/// A parameter of a header's value, quoted or not (RFC 9110 section 5.6.6).
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = end_of_quoted(quoted)?;
                (quoted[..end].replace("\\\"", "\""), &quoted[end + 1..])
            }
            None => {
                let (value, _) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), &after[value.len()..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = tail.split_once(';')?.1;
    }
}

/// Where the closing quote stands. Browsers escape quotes as `%22`, others as `\"`.
fn end_of_quoted(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|at| bytes[*at] == b'"' && (*at == 0 || bytes[at - 1] != b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; charset=utf-8; boundary=\"x y\"";
    const BODY: &str = "--x y\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\na@b.pl\r\n\
        --x y\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a;b.txt\"\r\nContent-Type: text/plain\r\n\r\nabc\r\n--x y--\r\n";

    #[test]
    fn forms_are_taken_apart() {
        let parts = parts(TYPE, BODY.as_bytes(), false).expect("a form");
        let listed: Vec<_> = parts.iter().map(|p| (p.name.as_str(), p.file.as_deref(), p.value)).collect();
        assert_eq!(listed, [("email", None, b"a@b.pl".as_slice()), ("f", Some("a;b.txt"), b"abc".as_slice())]);
    }

    #[test]
    fn a_form_that_was_cut_anywhere_gives_only_whole_parts() {
        for end in 0..BODY.len() {
            let body = &BODY.as_bytes()[..end];
            for part in parts(TYPE, body, true).unwrap_or_default() {
                assert!([b"a@b.pl".as_slice(), b"abc"].contains(&part.value), "cut at {end}: {part:?}");
            }
            let whole = parts(TYPE, body, false);
            assert!(whole.is_none() || end >= BODY.len() - 2, "a cut form was taken for a whole one at {end}");
        }
    }
}
