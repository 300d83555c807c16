//! `[identity]`, `[redaction]` and `[geoip]`: who, what must never be written, and where from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Secret, Span};

/// How the user behind a request is found.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// JWT in the `Authorization` header (or elsewhere): which claims name the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSettings>,
    /// Believe the user name of basic authentication when the response was a success.
    pub basic: bool,
    /// Sessions learnt from logins that are remembered; the oldest unused is forgotten first.
    pub sessions: usize,
    /// How long an unused session is remembered.
    pub session_idle: Span,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self { jwt: None, basic: true, sessions: 100_000, session_idle: Span::secs(14 * 86_400) }
    }
}

/// JWT (RFC 7519) claims as identity.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtSettings {
    /// Where the token stands; `Bearer ` is stripped.
    pub from: String,
    /// Keys that verify it: a JWKS file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<PathBuf>,
    /// A shared secret that verifies it (HS256, HS384, HS512).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Required issuer (`iss`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Required audience (`aud`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The claim that is the user's id.
    pub id: String,
    /// The claim that is the user's e-mail.
    pub email: String,
    /// The claim that is the user's name.
    pub name: String,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            from: "request.header.authorization".to_owned(),
            jwks: None,
            secret: None,
            issuer: None,
            audience: None,
            id: "sub".to_owned(),
            email: "email".to_owned(),
            name: "name".to_owned(),
        }
    }
}

/// What is masked before anything is written. These lists add to the built-in ones, which can't be switched off.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedactionSettings {
    /// File with the key of the HMAC tokens; `{data}/token.key` by default, made on first run (mode 0600).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// More header names (request and response).
    pub headers: Vec<String>,
    /// More query parameters.
    pub query: Vec<String>,
    /// More names of form fields and JSON members, at any depth.
    pub fields: Vec<String>,
    /// JSON pointers (RFC 6901; `*` stands for any member or index).
    pub json: Vec<String>,
    /// Media types, like `text/plain`, whose bodies are kept where the level asks for them although no
    /// fields can be masked in them. Bodies of other types than JSON and forms are dropped otherwise.
    pub unmasked_types: Vec<String>,
}

/// Where clients are, by a MaxMind-format database.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeoipSettings {
    /// A city database (`.mmdb`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<PathBuf>,
}
