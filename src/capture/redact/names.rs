//! Which names stand for secrets.

/// Anywhere in a name, without its punctuation and case: `new_password1`, `csrfmiddlewaretoken`, `X-Api-Key`.
const PARTS: [&str; 26] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "credential",
    "cardnumber",
    "creditcard",
    "sessionid",
    "sessid",
    "authorization",
    "authcode",
    "onetimecode",
    "verificationcode",
    "securitycode",
    "recoverycode",
    "backupcode",
    "csrf",
    "xsrf",
    "bearer",
];

/// As a word of a name: `userPin`, `card[cvv]`, `pass2`.
const WORDS: [&str; 22] = [
    "pwd",
    "pass",
    "pw",
    "otp",
    "totp",
    "pin",
    "puk",
    "tan",
    "cvv",
    "cvc",
    "csc",
    "pan",
    "card",
    "sid",
    "auth",
    "jwt",
    "ssn",
    "sig",
    "signature",
    "passwort",
    "haslo",
    "mfa",
];

/// Query parameters that are secrets although their names don't say so: sessions in URLs, signed
/// URLs of AWS, Google and Azure (the list of OpenTelemetry's `url.query`), SAML, OpenID Connect, CAS.
const QUERY: [&str; 10] = [
    "awsaccesskeyid",
    "xamzsignature",
    "xamzcredential",
    "xgoogsignature",
    "xgoogcredential",
    "samlresponse",
    "samlrequest",
    "ticket",
    "jsessionid",
    "key",
];

/// Request and response headers whose values are secrets although their names don't say so.
const HEADERS: [&str; 11] = [
    "authorization",
    "proxyauthorization",
    "authentication",
    "cookie",
    "cookie2",
    "setcookie",
    "setcookie2",
    "xforwardedclientcert",
    "xauth",
    "xclientcert",
    "cfaccessjwtassertion",
];

/// Whether a field of a form, a JSON member, a header or a parameter of this name holds a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let mut letters = Letters::default();
    letters.read(name);
    let all = letters.all();
    PARTS.iter().any(|part| part.len() <= all.len() && memchr::memmem::find(all, part.as_bytes()).is_some())
        || words(name).any(|word| WORDS.iter().any(|w| word.eq_ignore_ascii_case(w)))
}

/// Whether a query parameter of this name holds a secret.
pub(super) fn is_secret_parameter(name: &str) -> bool {
    is_secret(name) || is_in(name, &QUERY)
}

/// Whether a header of this name holds a secret.
pub(super) fn is_secret_header(name: &str) -> bool {
    is_secret(name) || is_in(name, &HEADERS)
}

/// A name as the configured lists compare it: letters and digits only, in lower case.
pub(super) fn plain(name: &str) -> Box<[u8]> {
    let mut letters = Letters::default();
    letters.read(name);
    letters.all().into()
}

fn is_in(name: &str, list: &[&str]) -> bool {
    let mut letters = Letters::default();
    letters.read(name);
    list.iter().any(|entry| entry.as_bytes() == letters.all())
}

/// The letters and digits of a name in lower case, on the stack as long as it is of usual length.
struct Letters {
    short: [u8; 48],
    length: usize,
    long: Vec<u8>,
}

impl Default for Letters {
    fn default() -> Self {
        Self { short: [0; 48], length: 0, long: Vec::new() }
    }
}

impl Letters {
    fn read(&mut self, name: &str) {
        // Letters beyond ASCII count as they are, so that a configured `пароль` is found.
        let kept = name.bytes().filter(|b| b.is_ascii_alphanumeric() || !b.is_ascii()).map(|b| b.to_ascii_lowercase());
        if name.len() > self.short.len() {
            self.long = kept.collect();
            return;
        }
        for byte in kept {
            self.short[self.length] = byte;
            self.length += 1;
        }
    }

    fn all(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.length] } else { &self.long }
    }
}

/// The words of `user_pin`, `userPin`, `user[pin]`, `pin2`.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_alphabetic()).flat_map(Humps).filter(|word| !word.is_empty())
}

/// Splits `userPIN` and `userPin` before capitals that follow a small letter.
struct Humps<'a>(&'a str);

impl<'a> Iterator for Humps<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = self.0.as_bytes();
        let hump = (1..bytes.len()).find(|at| bytes[*at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase());
        let (word, rest) = self.0.split_at(hump.unwrap_or(bytes.len()));
        self.0 = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "password",
            "Password1",
            "user[password]",
            "new_password2",
            "passwd",
            "pwd",
            "csrfmiddlewaretoken",
            "api_key",
            "apiKey",
            "API-KEY",
            "X-Api-Key",
            "client_secret",
            "refresh_token",
            "otp",
            "userPin",
            "userPIN",
            "pin_2",
            "card[cvv]",
            "cardNumber",
            "card",
            "X-CSRFToken",
            "_csrf",
            "sid",
            "PHPSESSID",
            "sessionid",
            "Authorization",
            &format!("{}password", "x".repeat(60)),
        ] {
            assert!(is_secret(name), "{name} would be written");
        }
        for name in
            ["email", "name", "page", "spinner", "shopping", "author", "compass", "company", "q", "next", "", "code"]
        {
            assert!(!is_secret(name), "{name} is masked for nothing");
        }
        assert!(is_secret_parameter("X-Amz-Signature") && is_secret_parameter("sig") && !is_secret_parameter("page"));
        assert!(is_secret_header("Set-Cookie") && is_secret_header("cookie") && !is_secret_header("user-agent"));
    }
}
