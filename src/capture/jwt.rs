//! JSON Web Tokens (RFC 7519): whose request it is, by claims.

use std::path::Path;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, dangerous::insecure_decode_claims, decode, decode_header};
use serde_json::{Map, Value};

use super::plan::Complaint;
use super::selector::Selector;
use crate::config::JwtSettings;

/// Reads tokens, and believes them as far as they can be verified.
pub(super) struct Jwt {
    /// Where the token stands.
    pub(super) from: Selector,
    /// Claims that are the user's id, e-mail and name.
    pub(super) claims: [Box<str>; 3],
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    key: DecodingKey,
    /// Its algorithms follow from the key's own type, never from the token, so that a public key
    /// can't be passed off as an HMAC secret, and `none` is no algorithm at all.
    validation: Validation,
}

/// What a token says.
pub(super) struct Claims {
    pub(super) all: Map<String, Value>,
    /// Its signature, issuer, audience and time were checked.
    pub(super) verified: bool,
}

/// Longest token that is read.
const LONGEST: usize = 16 * 1024;

impl Jwt {
    pub(super) fn compile(settings: &JwtSettings, wrong: &mut Vec<Complaint>) -> Option<Self> {
        let mut complain = |key: &str, e: String| wrong.push((vec!["jwt".to_owned(), key.to_owned()], e));
        let from = Selector::parse(&settings.from).map_err(|e| complain("from", e)).ok();
        let mut keys = Vec::new();
        if let Some(secret) = &settings.secret {
            if secret.expose().len() < 16 {
                complain("secret", "the secret is shorter than 16 bytes, which anybody can guess".to_owned());
            }
            keys.push(Key::new(None, DecodingKey::from_secret(secret.expose().as_bytes()), settings));
        }
        if let Some(path) = &settings.jwks {
            match read_set(path, settings) {
                Ok(set) => keys.extend(set),
                Err(e) => complain("jwks", e),
            }
        }
        let claims = [&settings.id, &settings.email, &settings.name].map(|c| c.as_str().into());
        Some(Self { from: from?, claims, keys })
    }

    /// What the token says; nothing where keys are known and none of them verifies it.
    pub(super) fn read(&self, token: &str) -> Option<Claims> {
        if token.len() > LONGEST || token.matches('.').count() != 2 {
            return None;
        }
        if self.keys.is_empty() {
            return Some(Claims { all: insecure_decode_claims(token).ok()?, verified: false });
        }
        let header = decode_header(token).ok()?;
        let fits = |key: &&Key| header.kid.is_none() || key.id.is_none() || key.id == header.kid;
        let mut candidates =
            self.keys.iter().filter(fits).filter(|key| key.validation.algorithms.contains(&header.alg));
        let all = candidates.find_map(|key| decode(token, &key.key, &key.validation).ok())?.claims;
        Some(Claims { all, verified: true })
    }
}

impl Key {
    fn new(id: Option<String>, key: DecodingKey, settings: &JwtSettings) -> Self {
        let mut validation = Validation::new_for_family(key.family());
        validation.validate_nbf = true;
        validation.validate_aud = settings.audience.is_some();
        let mut required = vec!["exp"];
        if let Some(audience) = &settings.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        Self { id, key, validation }
    }
}

impl Claims {
    /// Whether what was believed once is still believed at `now`, seconds since 1970 (the leeway is the
    /// verification's own).
    pub(super) fn still_good(&self, now: u64) -> bool {
        const LEEWAY: u64 = 60;
        self.all.get("exp").and_then(Value::as_f64).is_none_or(|exp| exp + LEEWAY as f64 > now as f64)
    }

    /// A claim by its name, or by a JSON pointer (`/realm/user`).
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let Some(pointer) = name.strip_prefix('/') else { return self.all.get(name) };
        let (first, rest) =
            pointer.split_once('/').map_or((pointer, ""), |(first, _)| (first, &pointer[first.len()..]));
        self.all.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
    }
}

fn read_set(path: &Path, settings: &JwtSettings) -> Result<Vec<Key>, String> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|e| format!("the JWKS file {shown} can't be read: {e}"))?;
    let set: JwkSet =
        serde_json::from_slice(&text).map_err(|e| format!("{shown} is not a JWKS file (RFC 7517 section 5): {e}"))?;
    let usable = set.keys.iter().filter_map(|jwk| {
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Key::new(jwk.common.key_id.clone(), key, settings))
    });
    let usable: Vec<Key> = usable.collect();
    if usable.is_empty() { Err(format!("{shown} has no key that can verify a signature")) } else { Ok(usable) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn jwt(settings: JwtSettings) -> Jwt {
        let mut wrong = Vec::new();
        let jwt = Jwt::compile(&settings, &mut wrong).expect("compiles");
        assert_eq!(wrong, []);
        jwt
    }

    fn with_secret() -> JwtSettings {
        let secret: Secret = serde_json::from_value(json!(SECRET)).expect("a secret");
        JwtSettings { secret: Some(secret), ..JwtSettings::default() }
    }

    fn token(algorithm: Algorithm, claims: &Value, secret: &str) -> String {
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("encoded")
    }

    #[test]
    fn verified_tokens_are_believed_and_others_are_not() {
        let jwt = jwt(with_secret());
        let far = json!({ "sub": "17", "exp": 4_000_000_000u64, "realm": { "user": "a" } });
        let claims = jwt.read(&token(Algorithm::HS384, &far, SECRET)).expect("believed");
        assert!(claims.verified);
        assert_eq!(claims.get("sub"), Some(&json!("17")));
        assert_eq!(claims.get("/realm/user"), Some(&json!("a")));
        assert!(jwt.read(&token(Algorithm::HS256, &far, "another secret, also long")).is_none(), "wrong key");
        assert!(jwt.read(&token(Algorithm::HS256, &json!({ "sub": "17", "exp": 1 }), SECRET)).is_none(), "expired");
        assert!(jwt.read(&token(Algorithm::HS256, &json!({ "sub": "17" }), SECRET)).is_none(), "no end");
        use base64::Engine as _;
        let part = |v: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(v.to_string());
        let none = format!("{}.{}.", part(json!({ "alg": "none", "typ": "JWT" })), part(far.clone()));
        assert!(jwt.read(&none).is_none(), "`none` is no signature");
    }

    #[test]
    fn issuer_and_audience_are_required_when_configured() {
        let settings = JwtSettings { issuer: Some("me".into()), audience: Some("panel".into()), ..with_secret() };
        let jwt = jwt(settings);
        let read = |extra: Value| {
            let mut claims = json!({ "sub": "17", "exp": 4_000_000_000u64 });
            claims.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
            jwt.read(&token(Algorithm::HS256, &claims, SECRET)).is_some()
        };
        assert!(read(json!({ "iss": "me", "aud": ["panel", "api"] })));
        assert!(!read(json!({ "iss": "you", "aud": "panel" })));
        assert!(!read(json!({ "iss": "me" })));
        assert!(!read(json!({})));
    }

    #[test]
    fn a_public_key_is_no_hmac_secret() {
        let key = rcgen::KeyPair::generate().expect("a P-256 key");
        let raw = key.public_key_raw();
        use base64::Engine as _;
        let part = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k", "x": part(&raw[1..33]), "y": part(&raw[33..65]) }] });
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, jwk.to_string()).expect("written");
        let jwt = jwt(JwtSettings { jwks: Some(path), ..JwtSettings::default() });
        let claims = json!({ "sub": "17", "exp": 4_000_000_000u64 });
        let signing = EncodingKey::from_ec_der(key.serialized_der());
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("k".into());
        let signed = encode(&header, &claims, &signing).expect("encoded");
        assert!(jwt.read(&signed).is_some_and(|c| c.verified), "signed by the key in the set");
        for secret in [raw, jwk.to_string().as_bytes()] {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some("k".into());
            let forged = encode(&header, &claims, &EncodingKey::from_secret(secret)).expect("encoded");
            assert!(jwt.read(&forged).is_none(), "an HMAC under the public key was believed");
        }
    }

    #[test]
    fn without_keys_claims_are_only_claims() {
        let jwt = jwt(JwtSettings::default());
        let claims = jwt.read(&token(Algorithm::HS256, &json!({ "sub": "17" }), "any")).expect("read");
        assert!(!claims.verified);
        assert!(jwt.read("a.b").is_none());
        assert!(jwt.read("not.a.jwt").is_none());
    }
}
