//! TLS towards clients: certificates by name, client certificates, and their subject.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::{ClientAuth, ServerTls};
use crate::forward::{TlsError, certificates, private_key, roots};

/// The certificate for the name a client asks for; the first one for all other names.
#[derive(Debug)]
struct ByName {
    default: Arc<CertifiedKey>,
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let parent = || name.split_once('.').and_then(|(_, parent)| self.names.get(&format!("*.{parent}")));
            self.names.get(&name).or_else(parent)
        });
        Some(Arc::clone(found.unwrap_or(&self.default)))
    }
}

/// Reads certificates and keys. Called again on reload; connections keep what they began with.
pub fn server_config(settings: &ServerTls) -> Result<Arc<ServerConfig>, TlsError> {
    let default = certified(&settings.cert, &settings.key)?;
    let mut names = HashMap::new();
    for more in &settings.more {
        let key = certified(&more.cert, &more.key)?;
        for name in names_of(&key) {
            names.insert(name, Arc::clone(&key));
        }
    }
    // The first certificate wins for the names it has itself.
    for name in names_of(&default) {
        names.insert(name, Arc::clone(&default));
    }
    // TLS 1.2 and 1.3 with rustls' own suites: all of them forward secret and authenticated.
    let builder = ServerConfig::builder();
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots: Arc<RootCertStore> = Arc::new(roots(path)?);
            let verifier = WebPkiClientVerifier::builder(roots);
            let verifier = match settings.client_auth {
                ClientAuth::Required => verifier,
                ClientAuth::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|source| TlsError::Verifier { path: path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName { default, names }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certified(cert: &std::path::Path, key: &std::path::Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let unusable = |source| TlsError::Unusable { path: cert.to_owned(), source };
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private_key(key)?).map_err(unusable)?;
    let certified = CertifiedKey::new(certificates(cert)?, signer);
    match certified.keys_match() {
        // `Unknown`: a key that can't tell its public half; the handshake will.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(error) => Err(unusable(error)),
    }
}

fn names_of(key: &CertifiedKey) -> Vec<String> {
    let Some(Ok((_, certificate))) = key.cert.first().map(|der| X509Certificate::from_der(der)) else {
        return Vec::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// The subject of a verified client certificate, as `CN=…,O=…`.
pub(super) fn subject(connection: &rustls::ServerConnection) -> Option<Rc<str>> {
    let der = connection.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.subject().to_string().into())
}
