//! Selectors: where in an exchange a value stands, as one string.

use http::header::HeaderName;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selector {
    /// `=literal`
    Literal(Box<str>),
    /// `request.header.NAME`
    RequestHeader(HeaderName),
    /// `request.query.NAME`
    RequestQuery(Box<str>),
    /// `request.form.NAME`: URL-encoded or multipart
    RequestForm(Box<str>),
    /// `request.json.POINTER`
    RequestJson(Box<str>),
    /// `request.cookie.NAME`
    RequestCookie(Box<str>),
    /// `request.basic.user`
    BasicUser,
    /// `request.method`
    Method,
    /// `request.path`
    RequestPath,
    /// `request.host`
    RequestHost,
    /// `response.header.NAME`
    ResponseHeader(HeaderName),
    /// `response.json.POINTER`
    ResponseJson(Box<str>),
    /// `response.cookie.NAME`
    ResponseCookie(Box<str>),
    /// `response.status`
    Status,
    /// `path.NAME`
    Path(Box<str>),
    /// `jwt.CLAIM`
    Jwt(Box<str>),
    /// `tls.subject`
    TlsSubject,
    /// `client.ip`
    ClientIp,
}

/// What may be written, for complaints.
const SHAPES: &str = "`request.header.NAME`, `request.query.NAME`, `request.form.NAME`, `request.json./POINTER`, \
    `request.cookie.NAME`, `request.basic.user`, `request.method`, `request.path`, `request.host`, \
    `response.header.NAME`, `response.json./POINTER`, `response.cookie.NAME`, `response.status`, `path.NAME`, \
    `jwt.CLAIM`, `tls.subject`, `client.ip` or `=literal`";

impl Selector {
    /// Compiles one, or says what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(literal) = text.strip_prefix('=') {
            return Ok(Self::Literal(literal.into()));
        }
        let (root, rest) = text.split_once('.').unwrap_or((text, ""));
        match (root, rest) {
            ("tls", "subject") => return Ok(Self::TlsSubject),
            ("client", "ip") => return Ok(Self::ClientIp),
            ("path", name) if !name.is_empty() => return Ok(Self::Path(name.into())),
            ("jwt", claim) if !claim.is_empty() => return Ok(Self::Jwt(claim.into())),
            ("request", "basic.user") => return Ok(Self::BasicUser),
            ("request", "method") => return Ok(Self::Method),
            ("request", "path") => return Ok(Self::RequestPath),
            ("request", "host") => return Ok(Self::RequestHost),
            ("response", "status") => return Ok(Self::Status),
            _ => {}
        }
        let (place, name) = rest.split_once('.').unwrap_or((rest, ""));
        if !matches!(root, "request" | "response") || place.is_empty() {
            return Err(format!("`{text}` is not a selector; write {SHAPES}"));
        }
        if name.is_empty() {
            return Err(format!("`{text}` needs a name at its end, like `{root}.{place}.{}`", example(place)));
        }
        match (root, place) {
            ("request", "header") => header(text, name).map(Self::RequestHeader),
            ("request", "query") => Ok(Self::RequestQuery(name.into())),
            ("request", "form") => Ok(Self::RequestForm(name.into())),
            ("request", "json") => pointer(text, name).map(Self::RequestJson),
            ("request", "cookie") => Ok(Self::RequestCookie(name.into())),
            ("response", "header") => header(text, name).map(Self::ResponseHeader),
            ("response", "json") => pointer(text, name).map(Self::ResponseJson),
            ("response", "cookie") => Ok(Self::ResponseCookie(name.into())),
            ("response", "query" | "form") => {
                Err(format!("`{text}`: a response has no {place}; did you mean `request.{place}.{name}`?"))
            }
            _ => Err(format!("`{text}` is not a selector; write {SHAPES}")),
        }
    }

    /// It stands in the response.
    pub(super) fn is_of_response(&self) -> bool {
        matches!(self, Self::ResponseHeader(_) | Self::ResponseJson(_) | Self::ResponseCookie(_) | Self::Status)
    }

    /// Where a client shows again what a response gave it here: a cookie as a cookie, a token in JSON as
    /// a bearer token.
    pub(super) fn shown_again(&self) -> Option<Self> {
        match self {
            Self::ResponseCookie(name) | Self::RequestCookie(name) => Some(Self::RequestCookie(name.clone())),
            Self::ResponseHeader(name) => Some(Self::RequestHeader(name.clone())),
            Self::ResponseJson(_) => Some(Self::RequestHeader(http::header::AUTHORIZATION)),
            _ => None,
        }
    }

    /// Its value is only known once the request's body has been read.
    pub(super) fn needs_request_body(&self) -> bool {
        matches!(self, Self::RequestForm(_) | Self::RequestJson(_))
    }

    /// Its value is only known once the response's body has been read.
    pub(super) fn needs_response_body(&self) -> bool {
        matches!(self, Self::ResponseJson(_))
    }
}

fn example(place: &str) -> &'static str {
    match place {
        "header" => "x-user",
        "json" => "/user/email",
        "cookie" => "sessionid",
        _ => "email",
    }
}

fn header(text: &str, name: &str) -> Result<HeaderName, String> {
    name.parse().map_err(|_| format!("`{text}`: `{name}` can't be a header's name"))
}

fn pointer(text: &str, pointer: &str) -> Result<Box<str>, String> {
    if pointer.starts_with('/') {
        return Ok(pointer.into());
    }
    let (front, _) = text.split_at(text.len() - pointer.len());
    Err(format!("`{text}`: a JSON pointer begins with `/`; write `{front}/{}`", pointer.replace('.', "/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read() {
        for text in [
            "=form",
            "=",
            "request.header.x-user",
            "request.query.page",
            "request.form.email",
            "request.json./a/b",
            "request.cookie.sid",
            "request.basic.user",
            "request.method",
            "request.path",
            "request.host",
            "response.header.location",
            "response.json./id",
            "response.cookie.sid",
            "response.status",
            "path.id",
            "jwt.sub",
            "jwt.https://example.com/email",
            "tls.subject",
            "client.ip",
        ] {
            assert!(Selector::parse(text).is_ok(), "{text} was refused");
        }
    }

    #[test]
    fn nonsense_is_answered_with_what_to_write() {
        for (wrong, teaches) in [
            ("header.x", "request.header.NAME"),
            ("request.header", "like `request.header.x-user`"),
            ("request.json.a.b", "write `request.json./a/b`"),
            ("response.form.email", "did you mean `request.form.email`"),
            ("request.header.a b", "can't be a header's name"),
            ("request.body", "needs a name"),
            ("email", "is not a selector"),
            ("", "is not a selector"),
        ] {
            let said = Selector::parse(wrong).expect_err(wrong);
            assert!(said.contains(teaches), "{wrong}: {said}");
        }
    }
}
