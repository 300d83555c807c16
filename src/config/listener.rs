//! `[listener.NAME]`: where clients connect, what stands behind, and the limits between.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::units::{Bytes, Span};

/// One address that fronts one application.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSettings {
    /// Where clients connect: `"IP:PORT"` or `"unix:/path/to.sock"`.
    pub bind: Address,
    /// The application behind: `"http://HOST:PORT"`, `"https://HOST:PORT"` or `"unix:/path/to.sock"`.
    pub upstream: Upstream,
    /// Speak TLS to clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Whether connections begin with a PROXY protocol header (v1 or v2).
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Peers whose `X-Forwarded-For` or `Forwarded` is believed, as addresses or CIDR.
    #[serde(default, deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Limits on what clients may do.
    #[serde(default)]
    pub limits: Limits,
    /// How requests go on to the application.
    #[serde(default)]
    pub forward: ForwardSettings,
}

/// A place to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `IP:PORT`.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// A place to forward to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// `http://` or `https://` and an authority; names are resolved at every new connection.
    Tcp {
        /// Originate TLS (`https://`).
        tls: bool,
        /// Host name or IP address, without brackets.
        host: String,
        /// Port; 80 or 443 when the URL names none.
        port: u16,
    },
    /// `unix:/path`, plain HTTP over a Unix socket.
    Unix(PathBuf),
}

/// Whether a PROXY protocol header stands before the first byte of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// Never; such a header is refused as a malformed request.
    #[default]
    Off,
    /// Always; a connection without one is closed.
    Required,
}

/// TLS towards clients.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// Certificate chain (PEM).
    pub cert: PathBuf,
    /// Private key (PEM).
    pub key: PathBuf,
    /// More certificates, chosen by the name the client asks for (SNI).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Certificate>,
    /// Authorities (PEM) whose client certificates are accepted; their subject names the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether a client must present a certificate.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Certificate chain (PEM).
    pub cert: PathBuf,
    /// Private key (PEM).
    pub key: PathBuf,
}

/// Whether a client must present a certificate, where `client_ca` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// No certificate, no connection.
    #[default]
    Required,
    /// A certificate is verified when there is one.
    Optional,
}

/// Limits on what clients may do. Each protects the application or this process.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections open at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// Size of a request head; a larger one is refused with 431.
    pub head_size: Bytes,
    /// Number of header lines in a request; more are refused with 431.
    pub headers: usize,
    /// From the first byte of a head to its last; slower is refused with 408.
    pub head_timeout: Span,
    /// Longest silence within a request body; longer is refused with 408.
    pub body_idle_timeout: Span,
    /// Longest time a response may wait for a client that does not read.
    pub write_idle_timeout: Span,
    /// Longest silence between two requests on one connection.
    pub keep_alive_timeout: Span,
    /// Streams open at once on one HTTP/2 connection.
    pub http2_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_size: Bytes::kib(32),
            headers: 128,
            head_timeout: Span::secs(10),
            body_idle_timeout: Span::secs(60),
            write_idle_timeout: Span::secs(60),
            keep_alive_timeout: Span::secs(75),
            http2_streams: 128,
        }
    }
}

/// How requests go on to the application.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardSettings {
    /// The protocol spoken to the application.
    pub protocol: UpstreamProtocol,
    /// The `Host` the application sees.
    pub host: HostHeader,
    /// Which forwarding headers the application sees.
    pub headers: ForwardingHeaders,
    /// Header that carries a request's id, made up where the client sent none.
    pub request_id_header: String,
    /// Time to open a connection to the application, TLS included; longer is 504.
    pub connect_timeout: Span,
    /// Time from the end of the request to the response's head; longer is 504.
    pub response_timeout: Span,
    /// Longest silence within a response body; `"0s"` (the default) waits for ever, as long polls and event streams need.
    pub read_idle_timeout: Span,
    /// Idle connections kept to the application, for each worker.
    pub idle_connections: usize,
    /// How long an idle connection is kept. Less than the application's own keep-alive time, so that
    /// a request never meets a connection that is just being closed.
    pub idle_timeout: Span,
    /// TLS towards the application (for `https://`).
    pub tls: ClientTls,
}

impl Default for ForwardSettings {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Http1,
            host: HostHeader::Preserve,
            headers: ForwardingHeaders::XForwarded,
            request_id_header: "x-request-id".to_owned(),
            connect_timeout: Span::secs(5),
            response_timeout: Span::secs(300),
            read_idle_timeout: Span::secs(0),
            idle_connections: 256,
            idle_timeout: Span::secs(4),
            tls: ClientTls::default(),
        }
    }
}

/// The protocol spoken to the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1 with keep-alive.
    #[default]
    Http1,
    /// HTTP/2, by ALPN over TLS and with prior knowledge without.
    Http2,
}

/// The `Host` the application sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostHeader {
    /// What the client sent: the application makes its links from it.
    #[default]
    Preserve,
    /// The upstream's own name.
    Upstream,
}

/// Which forwarding headers the application sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardingHeaders {
    /// `X-Forwarded-For`, `-Proto` and `-Host`: the peer's address appended to what a trusted proxy
    /// sent, and in place of what anybody else sent.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239), likewise.
    Forwarded,
    /// Nothing is added or changed.
    Off,
}

/// TLS towards the application.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTls {
    /// Authorities (PEM) that may sign the application's certificate; the machine's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Certificate (PEM) presented to the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name to ask for and to verify, where it is not the upstream's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// Networks, and single addresses as networks of one. Element by element, so that a complaint points at the right one.
fn networks<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    struct Network(IpNet);
    impl std::str::FromStr for Network {
        type Err = String;
        fn from_str(text: &str) -> Result<Self, String> {
            let one = || text.parse::<std::net::IpAddr>().map(IpNet::from);
            text.parse().or_else(|_| one()).map(Self).map_err(|_| {
                format!("`{text}` is neither an address nor a network; write `10.0.0.0/8`, `192.0.2.7` or `fd00::/8`")
            })
        }
    }
    impl<'de> Deserialize<'de> for Network {
        fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            // By a visitor: in a list, an error made after the string is read would point at the whole list.
            struct V;
            impl serde::de::Visitor<'_> for V {
                type Value = Network;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a string like `10.0.0.0/8` or `192.0.2.7`")
                }
                fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Network, E> {
                    text.parse().map_err(E::custom)
                }
            }
            d.deserialize_str(V)
        }
    }
    Ok(Vec::<Network>::deserialize(deserializer)?.into_iter().map(|network| network.0).collect())
}

// === impl ListenerSettings ===

impl ListenerSettings {
    /// A listener with the defaults for everything else.
    pub fn new(bind: Address, upstream: Upstream) -> Self {
        Self {
            bind,
            upstream,
            tls: None,
            proxy_protocol: ProxyProtocol::default(),
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
            forward: ForwardSettings::default(),
        }
    }
}

// === impl Address ===

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("`unix:` needs a path, like `unix:/run/daybook.sock`".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("`{text}` is not an address to listen on; write `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/daybook.sock`")
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

// === impl Upstream ===

impl std::str::FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|p| !p.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let wrong = || {
            format!(
                "`{text}` is not an upstream; write `http://127.0.0.1:3000`, `https://app.internal` or `unix:/run/app.sock`"
            )
        };
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(format!("`{text}`: an upstream is an address only; paths are forwarded as they come"));
        }
        let authority: http::uri::Authority = rest.parse().map_err(|_| wrong())?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let explicit = rest.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = match authority.port_u16() {
            Some(port) => port,
            None if explicit => return Err(wrong()),
            None if tls => 443,
            None => 80,
        };
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self::Tcp { tls, host, port })
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { tls, host, port } => {
                let scheme = if *tls { "https" } else { "http" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

super::serde_by_text!(Address, Upstream);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read_with_their_default_ports() {
        let read = |text: &str| text.parse::<Upstream>().map(|u| u.to_string());
        assert_eq!(read("http://app"), Ok("http://app:80".to_owned()));
        assert_eq!(read("https://app/"), Ok("https://app:443".to_owned()));
        assert_eq!(read("http://[::1]:3000"), Ok("http://[::1]:3000".to_owned()));
        assert_eq!(read("unix:/run/app.sock"), Ok("unix:/run/app.sock".to_owned()));
        for wrong in ["app:80", "http://", "ftp://x", "http://a:b", "http://a/path", "unix:", "http://a:99999"] {
            assert!(read(wrong).is_err(), "{wrong} was taken");
        }
    }
}
