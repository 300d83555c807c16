//! JSON with its secrets masked: one pass over the text, everything else byte for byte as it was.
//!
//! Not by a tree of values, which would lose the order and repetition of members and the digits of
//! numbers, and could not read the beginning of a document that was cut off.

use super::{MASK, Place, Redactor, Report};

/// Levels of nesting that are followed; deeper documents are refused.
const DEPTH: usize = 64;

/// Why a text can't be masked as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not JSON.
    Malformed,
    /// It is nested too deeply.
    TooDeep,
    /// It ends too early (and was not cut by us).
    Cut,
}

/// Whether a string seems to hold a JSON object or a list of something structured.
pub(super) fn looks_like(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with('{') || text.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['{', '[', '"']))
}

/// The document with secrets masked. `cut` says that only its beginning is given: the result then ends
/// at the last token that is whole.
pub(super) fn mask(
    redactor: &Redactor,
    text: &str,
    cut: bool,
    depth: usize,
    base: &'static str,
    report: &mut Report,
) -> Result<String, Unreadable> {
    let mut masker = Masker {
        redactor,
        text,
        at: 0,
        out: String::with_capacity(text.len()),
        stack: Vec::new(),
        depth,
        base,
        report,
    };
    match masker.document() {
        Err(Unreadable::Cut) if cut => Ok(masker.out),
        Err(e) => Err(e),
        Ok(()) => Ok(masker.out),
    }
}

struct Masker<'a, 'r> {
    redactor: &'a Redactor,
    text: &'a str,
    at: usize,
    out: String,
    stack: Vec<Frame>,
    depth: usize,
    base: &'static str,
    report: &'r mut Report,
}

/// An object or array that is open.
struct Frame {
    object: bool,
    /// Name of the current member, or index of the current element.
    key: String,
    index: usize,
    /// A member `name` said that the member `value` is a secret.
    names_secret: bool,
}

impl Masker<'_, '_> {
    fn document(&mut self) -> Result<(), Unreadable> {
        self.space();
        self.value()?;
        while !self.stack.is_empty() {
            self.after_value()?;
        }
        self.space();
        if self.at < self.text.len() { Err(Unreadable::Malformed) } else { Ok(()) }
    }

    /// A value stands here; containers are only opened.
    fn value(&mut self) -> Result<(), Unreadable> {
        let secret = self.is_secret_here();
        match self.peek()? {
            b'{' | b'[' if secret => {
                self.skip_container()?;
                self.masked();
            }
            b'{' => self.open(true)?,
            b'[' => self.open(false)?,
            b'"' => {
                let token = self.string()?;
                if secret {
                    self.masked();
                } else {
                    self.text_value(token);
                }
            }
            _ => {
                let literal = self.literal()?;
                // `true`, `false` and `null` say that there is a secret, not which.
                if secret && !matches!(literal, "true" | "false" | "null") {
                    self.masked();
                } else {
                    self.out.push_str(literal);
                }
            }
        }
        Ok(())
    }

    /// What follows a value, or the opening of a container: up to the next value, or the container's end.
    fn after_value(&mut self) -> Result<(), Unreadable> {
        self.space();
        let Some(frame) = self.stack.last() else { return Ok(()) };
        let (object, first) = (frame.object, frame.index == 0);
        let close = if object { b'}' } else { b']' };
        let byte = self.peek()?;
        if byte == close {
            self.emit(1);
            self.stack.pop();
            return Ok(());
        }
        if !first {
            if byte != b',' {
                return Err(Unreadable::Malformed);
            }
            self.emit(1);
            self.space();
        }
        if object {
            self.member()?;
        }
        if let Some(frame) = self.stack.last_mut() {
            frame.index += 1;
            if !object {
                frame.key = (frame.index - 1).to_string();
            }
        }
        self.value()
    }

    /// `"name":`
    fn member(&mut self) -> Result<(), Unreadable> {
        if self.peek()? != b'"' {
            return Err(Unreadable::Malformed);
        }
        let token = self.string()?;
        let name: String = serde_json::from_str(token).map_err(|_| Unreadable::Malformed)?;
        let before = self.out.len();
        self.out.push_str(token);
        self.space();
        let colon = self.peek();
        if colon == Err(Unreadable::Cut) {
            // Not even the name is whole without its colon.
            self.out.truncate(before);
        }
        if colon? != b':' {
            return Err(Unreadable::Malformed);
        }
        self.emit(1);
        self.space();
        if let Some(frame) = self.stack.last_mut() {
            frame.key = name;
        }
        Ok(())
    }

    fn open(&mut self, object: bool) -> Result<(), Unreadable> {
        if self.stack.len() >= DEPTH {
            return Err(Unreadable::TooDeep);
        }
        self.emit(1);
        self.stack.push(Frame { object, key: String::new(), index: 0, names_secret: false });
        Ok(())
    }

    fn is_secret_here(&self) -> bool {
        let Some(frame) = self.stack.last() else { return self.redactor.is_secret_pointer(std::iter::empty()) };
        frame.object && self.redactor.is_secret(&frame.key, Place::Field)
            || frame.names_secret && frame.key.eq_ignore_ascii_case("value")
            || self.redactor.is_secret_pointer(self.stack.iter().map(|f| f.key.as_str()))
    }

    fn masked(&mut self) {
        self.out.push('"');
        self.out.push_str(MASK);
        self.out.push('"');
        self.tell();
    }

    fn tell(&mut self) {
        let mut pointer = String::new();
        for frame in &self.stack {
            pointer.push('/');
            pointer.push_str(&frame.key.replace('~', "~0").replace('/', "~1"));
        }
        self.report.add_path(self.base, &pointer);
    }

    /// A string that is not secret by its name; it may hold secrets all the same.
    fn text_value(&mut self, token: &str) {
        let Ok(text) = serde_json::from_str::<String>(token) else {
            // `string` only checked where it ends: an escape that means nothing is masked.
            return self.masked();
        };
        if let Some(frame) = self.stack.last_mut()
            && matches!(frame.key.as_str(), "name" | "key" | "field")
            && self.redactor.is_secret(&text, Place::Field)
        {
            frame.names_secret = true;
        }
        match self.redactor.scrub(&text, self.depth + 1) {
            Some(masked) => {
                self.out.push_str(&serde_json::Value::String(masked).to_string());
                self.tell();
            }
            None => self.out.push_str(token),
        }
    }

    fn peek(&self) -> Result<u8, Unreadable> {
        self.text.as_bytes().get(self.at).copied().ok_or(Unreadable::Cut)
    }

    fn emit(&mut self, bytes: usize) {
        self.out.push_str(&self.text[self.at..self.at + bytes]);
        self.at += bytes;
    }

    fn space(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.emit(length);
    }
}

impl<'a> Masker<'a, '_> {
    /// The string token here, quotes included.
    fn string(&mut self) -> Result<&'a str, Unreadable> {
        let text: &'a str = self.text;
        let bytes = text.as_bytes();
        let (start, mut at) = (self.at, self.at + 1);
        loop {
            match bytes.get(at) {
                None => return Err(Unreadable::Cut),
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                Some(..0x20) => return Err(Unreadable::Malformed),
                Some(_) => at += 1,
            }
        }
        self.at = at + 1;
        Ok(&text[start..=at])
    }

    /// The number, `true`, `false` or `null` here.
    fn literal(&mut self) -> Result<&'a str, Unreadable> {
        let text: &'a str = self.text;
        let rest = &text[self.at..];
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
        let length = rest.bytes().take_while(is_part).count();
        let literal = &rest[..length];
        if length == rest.len() && !self.stack.is_empty() {
            return Err(Unreadable::Cut);
        }
        let known =
            matches!(literal, "true" | "false" | "null") || serde_json::from_str::<serde_json::Number>(literal).is_ok();
        if !known {
            return Err(Unreadable::Malformed);
        }
        self.at += length;
        Ok(literal)
    }

    /// Passes over an object or array without writing it, whatever is in it.
    fn skip_container(&mut self) -> Result<(), Unreadable> {
        let mut open = 0usize;
        loop {
            match self.peek()? {
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                b'"' => {
                    self.string()?;
                    continue;
                }
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Ok(());
            }
        }
    }
}
