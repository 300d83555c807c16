//! Lines of an HTTP/1 head: what a token is, what a header line looks like. Pure, without a copy.

use super::Refusal;

/// Whether these bytes are a token (RFC 9110 section 5.6.2), as names of headers and methods are.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().fold(true, |good, b| good & TOKEN[usize::from(*b)])
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"!#$%&'*+-.^_`|~";
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// Where one header line has its colon, and its value without white space around: positions in the line.
pub(super) fn header_line(line: &[u8]) -> Result<(usize, std::ops::Range<usize>), Refusal> {
    // RFC 9112 section 5.2: a server rejects obsolete line folding.
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::bad("obsolete line folding"));
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        return Err(Refusal::bad("header line without a colon"));
    };
    if !is_token(&line[..colon]) {
        // White space before the colon lands here too (RFC 9112 section 5.1).
        return Err(Refusal::bad("malformed header name"));
    }
    let value = trimmed(line, colon + 1);
    // No early exit, so that the compiler takes many bytes at a time.
    if line[value.clone()].iter().fold(false, |bad, b| bad | ((*b < 0x20) & (*b != b'\t')) | (*b == 0x7f)) {
        return Err(Refusal::bad("control character in a header value"));
    }
    Ok((colon, value))
}

/// The part of `line` from `from` on without spaces and tabs at its ends.
fn trimmed(line: &[u8], from: usize) -> std::ops::Range<usize> {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    let start = line[from..].iter().position(|b| !is_space(b)).map_or(line.len(), |skip| from + skip);
    let end = line[start..].iter().rposition(|b| !is_space(b)).map_or(start, |last| start + last + 1);
    start..end
}

/// A line's end: the line without its CRLF.
pub(super) fn strip_crlf(line: &[u8]) -> Result<&[u8], Refusal> {
    let Some(line) = line.strip_suffix(b"\r\n") else { return Err(Refusal::bad("bare LF")) };
    if memchr::memchr2(b'\r', 0, line).is_some() {
        return Err(Refusal::bad("bare CR or NUL"));
    }
    Ok(line)
}

/// `1*DIGIT`, nothing else: no sign, no space, no overflow.
pub(super) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Members of a comma-separated list, without white space around.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}
