//! Where a request really came from: the walk through forwarding headers, trusted hop by trusted hop.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ascii;
use crate::message::{Fields, Known};

/// The client's address.
///
/// Each proxy appends the address it saw, so the walk goes from right to left and ends at the first
/// address that is not itself a trusted proxy: everything to its left is only somebody's word.
/// `Forwarded` (RFC 7239) is read where there is no `X-Forwarded-For`. An entry that is no address
/// (`unknown`, an obfuscated `_name`, garbage) ends the walk at the hop that reported it.
pub(super) fn client(peer: Option<IpAddr>, fields: &Fields, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = peer.map(|ip| ip.to_canonical())?;
    if !is_trusted(peer, trusted) {
        return Some(peer);
    }
    let mut client = peer;
    if fields.known(Known::XForwardedFor).is_some() {
        for value in fields.all_known(Known::XForwardedFor).rev() {
            let Some(value) = ascii(value) else { return Some(client) };
            for entry in value.rsplit(',') {
                match step(node(entry.trim()), &mut client, trusted) {
                    Step::On => {}
                    Step::Stop => return Some(client),
                }
            }
        }
        return Some(client);
    }
    for value in fields.all_known(Known::Forwarded).rev() {
        let Some(value) = ascii(value) else { return Some(client) };
        for element in split_unquoted(value, ',').into_iter().rev() {
            match step(forwarded_for(element), &mut client, trusted) {
                Step::On => {}
                Step::Stop => return Some(client),
            }
        }
    }
    Some(client)
}

/// Whether `ip` is one of the trusted proxies.
pub(super) fn is_trusted(ip: IpAddr, trusted: &[IpNet]) -> bool {
    !trusted.is_empty() && trusted.iter().any(|net| net.contains(&ip.to_canonical()))
}

enum Step {
    On,
    Stop,
}

fn step(entry: Option<IpAddr>, client: &mut IpAddr, trusted: &[IpNet]) -> Step {
    match entry {
        Some(ip) => {
            *client = ip;
            if is_trusted(ip, trusted) { Step::On } else { Step::Stop }
        }
        None => Step::Stop,
    }
}

/// `192.0.2.1`, `192.0.2.1:4711`, `[2001:db8::1]`, `[2001:db8::1]:4711`, `2001:db8::1`.
fn node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, after) = rest.split_once(']')?;
        let port_or_nothing = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        return port_or_nothing.then(|| inner.parse().ok()).flatten().map(|ip: IpAddr| ip.to_canonical());
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let (host, port) = text.rsplit_once(':')?;
    is_port(port).then(|| host.parse().ok().map(IpAddr::V4)).flatten()
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit())
        || text.strip_prefix('_').is_some_and(|rest| !rest.is_empty())
}

/// The node of `for=` in one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    split_unquoted(element, ';').into_iter().find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("for") {
            return None;
        }
        let value = value.trim();
        match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
            Some(quoted) => node(&quoted.replace('\\', "")),
            None => node(value),
        }
    })
}

/// Splits outside double quotes (RFC 9110 section 5.6.4).
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn walk(peer: &str, name: &'static str, values: &[&str]) -> String {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a CIDR")).into_iter().collect();
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).expect("a header"));
        }
        client(peer.parse().ok(), &Fields::from_map(&headers), &trusted).map(|ip| ip.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_walk_ends_at_the_first_address_that_is_not_trusted() {
        for (peer, values, expected) in [
            ("203.0.113.9", vec!["1.2.3.4"], "203.0.113.9"),
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec!["6.6.6.6, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", vec!["6.6.6.6, 198.51.100.7", "10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", vec!["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", vec!["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", vec!["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", vec!["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec!["6.6.6.6, '); DROP"], "10.0.0.1"),
            ("10.0.0.1", vec![""], "10.0.0.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("::ffff:10.0.0.1", vec!["::ffff:198.51.100.7"], "198.51.100.7"),
        ] {
            assert_eq!(walk(peer, "x-forwarded-for", &values), expected, "{peer} {values:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (value, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            (r#"For="[2001:db8:cafe::17]:4711""#, "2001:db8:cafe::17"),
            ("for=6.6.6.6, for=198.51.100.7;proto=https;by=10.0.0.2, for=10.0.0.3", "198.51.100.7"),
            (r#"for=198.51.100.7;host="a,b;for=6.6.6.6", for="10.0.0.2:1""#, "198.51.100.7"),
            ("for=6.6.6.6, for=_hidden, for=10.0.0.2", "10.0.0.2"),
            ("for=unknown", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(walk("10.0.0.1", "forwarded", &[value]), expected, "{value}");
        }
    }
}
