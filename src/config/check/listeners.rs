//! `[listener.NAME]`: addresses that must differ, TLS settings that belong together, limits that let requests through.

use std::net::SocketAddr;

use super::{Checker, is_name};
use crate::config::source::join;
use crate::config::{Address, Bytes, ClientTls, ForwardSettings, Limits, ListenerSettings, ServerTls, Span, Upstream};

/// RFC 9112 section 3 recommends to take request lines of 8000 octets at least.
const LEAST_HEAD: Bytes = Bytes::kib(8);

/// Longest name of a listener: it may become part of a topic's name.
const LONGEST_NAME: usize = 64;

pub(super) fn check(checker: &mut Checker<'_>) {
    let config = checker.config;
    if config.listener.is_empty() && !checker.settled("listener") && !gone(checker) {
        let message = "there is no listener, so nothing would be served; add `[listener.panel]` with `bind = \"127.0.0.1:8080\"` and `upstream = \"http://127.0.0.1:3000\"`";
        checker.error("listener", message);
    }
    for (name, listener) in &config.listener {
        let path = join("listener", name);
        if !is_name(name, LONGEST_NAME) {
            let message =
                format!("`{name}` is no listener's name; write up to {LONGEST_NAME} letters, digits, `.`, `_` and `-`");
            checker.error_at_key(&path, &message);
        }
        one(checker, &path, listener);
    }
    places(checker);
}

/// No two of all that listens may do so in one place.
fn places(checker: &mut Checker<'_>) {
    let config = checker.config;
    let listeners = config.listener.iter().map(|(name, one)| (join("listener", name), one.bind.clone()));
    let admin = config.admin.iter().map(|admin| ("admin".to_owned(), Address::Tcp(admin.bind)));
    let all: Vec<(String, Address)> = listeners.chain(admin).collect();
    for (index, (path, bind)) in all.iter().enumerate() {
        if let Some((other, address)) = all[..index].iter().find(|(_, other)| same_place(other, bind)) {
            let message = format!("[{other}] listens on {address} already; write another port");
            checker.error(&format!("{path}.bind"), &message);
        }
    }
}

/// Listeners were taken out because of what was wrong with them.
fn gone(checker: &Checker<'_>) -> bool {
    checker.removed.iter().any(|path| path.starts_with("listener."))
}

fn one(checker: &mut Checker<'_>, path: &str, listener: &ListenerSettings) {
    if let Some(tls) = &listener.tls {
        server_tls(checker, &format!("{path}.tls"), tls);
    }
    for (index, network) in listener.trusted_proxies.iter().enumerate() {
        if network.prefix_len() == 0 {
            let message = "everybody is trusted, so every client can claim any address; write the networks of your proxies, like `10.0.0.0/8`";
            checker.warn(&format!("{path}.trusted_proxies[{index}]"), message);
        }
    }
    limits(checker, &format!("{path}.limits"), &listener.limits);
    forward(checker, &format!("{path}.forward"), &listener.forward, &listener.upstream);
    if points_at(&listener.upstream, &listener.bind) {
        let message =
            format!("this listener would forward to itself ({}); write the application's address", listener.bind);
        checker.error(&format!("{path}.upstream"), &message);
    }
}

fn server_tls(checker: &mut Checker<'_>, path: &str, tls: &ServerTls) {
    checker.readable(&format!("{path}.cert"), &tls.cert);
    checker.readable(&format!("{path}.key"), &tls.key);
    for (index, more) in tls.more.iter().enumerate() {
        checker.readable(&format!("{path}.more[{index}].cert"), &more.cert);
        checker.readable(&format!("{path}.more[{index}].key"), &more.key);
    }
    let auth = format!("{path}.client_auth");
    match &tls.client_ca {
        Some(ca) => checker.readable(&format!("{path}.client_ca"), ca),
        None if checker.has(&auth) && !checker.settled(&format!("{path}.client_ca")) => {
            let message = "no authority is named whose client certificates are accepted; add `client_ca = \"….pem\"`";
            checker.error(&auth, message);
        }
        None => {}
    }
}

fn limits(checker: &mut Checker<'_>, path: &str, limits: &Limits) {
    checker.at_least(&format!("{path}.connections"), limits.connections, 1, "no client could connect");
    checker.at_least(&format!("{path}.headers"), limits.headers, 1, "every request has a header line");
    checker.at_least(&format!("{path}.http2_streams"), limits.http2_streams, 1, "no HTTP/2 request could be made");
    checker.at_least(
        &format!("{path}.head_size"),
        limits.head_size,
        LEAST_HEAD,
        "ordinary request heads would be refused",
    );
    for (key, value) in [
        ("head_timeout", limits.head_timeout),
        ("body_idle_timeout", limits.body_idle_timeout),
        ("write_idle_timeout", limits.write_idle_timeout),
        ("keep_alive_timeout", limits.keep_alive_timeout),
    ] {
        checker.at_least(&format!("{path}.{key}"), value, Span::millis(1), "every request would run into it");
    }
}

fn forward(checker: &mut Checker<'_>, path: &str, forward: &ForwardSettings, upstream: &Upstream) {
    for (key, value) in [("connect_timeout", forward.connect_timeout), ("response_timeout", forward.response_timeout)] {
        checker.at_least(&format!("{path}.{key}"), value, Span::millis(1), "every request would run into it");
    }
    if http::HeaderName::from_bytes(forward.request_id_header.as_bytes()).is_err() {
        let message = format!("`{}` is no header name; write one like `x-request-id`", forward.request_id_header);
        checker.error(&format!("{path}.request_id_header"), &message);
    }
    let tls_path = format!("{path}.tls");
    let ClientTls { ca, cert, key, server_name } = &forward.tls;
    let given = ca.is_some() || cert.is_some() || key.is_some() || server_name.is_some();
    if given && !matches!(upstream, Upstream::Tcp { tls: true, .. }) {
        let message =
            format!("`{upstream}` is spoken to without TLS; write `https://…` as the upstream or take this out");
        checker.error(&tls_path, &message);
    }
    for (name, file) in [("ca", ca), ("cert", cert), ("key", key)] {
        if let Some(file) = file {
            checker.readable(&format!("{tls_path}.{name}"), file);
        }
    }
    checker.both(&tls_path, ("cert", cert.is_some()), ("key", key.is_some()));
}

/// Whether two sockets can't be bound at once. Port 0 is a free port of the kernel's choice.
fn same_place(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Unix(a), Address::Unix(b)) => a == b,
        (Address::Tcp(a), Address::Tcp(b)) => {
            a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
        }
        _ => false,
    }
}

/// Whether `a` is a wildcard that takes `b`'s address too; `[::]` takes IPv4 as well (Linux, `bindv6only = 0`).
fn covers(a: &SocketAddr, b: &SocketAddr) -> bool {
    a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4())
}

fn points_at(upstream: &Upstream, bind: &Address) -> bool {
    match (upstream, bind) {
        (Upstream::Unix(to), Address::Unix(at)) => to == at,
        (Upstream::Tcp { host, port, .. }, Address::Tcp(at)) => {
            *port == at.port()
                && *port != 0
                && host.parse().map_or(host == "localhost" && at.ip().is_loopback(), |ip: std::net::IpAddr| {
                    ip == at.ip() || (ip.is_loopback() && at.ip().is_unspecified())
                })
        }
        _ => false,
    }
}
