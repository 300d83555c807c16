//! Requests' heads: what is taken, what is refused, and that reading in pieces changes nothing.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { size: 32 * 1024, lines: 128 };

fn read(text: &str) -> Result<(RequestHead, Framing, usize), Refusal> {
    Ok(RequestReader::default().read(text.as_bytes(), LIMITS)?.expect("a whole head"))
}

fn status_of(text: &str) -> Option<u16> {
    RequestReader::default().read(text.as_bytes(), LIMITS).err().map(|refusal| refusal.status)
}

#[test]
fn ordinary_requests_are_read() {
    for (text, framing) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Empty),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Empty),
        ("GET / HTTP/1.0\r\n\r\n", Framing::Empty),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\n", Framing::Length(3)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked),
        ("GET /a{b}|c\"d HTTP/1.1\r\nHost:\r\nX-Empty:\r\nX-Utf8: h\u{e9}\r\n\r\n", Framing::Empty),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Empty),
    ] {
        let (_, found, taken) = read(text).unwrap_or_else(|refusal| panic!("{text:?}: {refusal:?}"));
        assert_eq!((found, taken), (framing, text.len()), "{text:?}");
    }
}

#[test]
fn a_target_is_taken_apart() {
    let head = |target: &str| read(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).map(|(head, ..)| head);
    let seen = head("/a/b?c=d?e").expect("a path");
    assert_eq!((seen.path(), seen.query(), seen.authority(), seen.host()), ("/a/b", Some("c=d?e"), None, Some("a")));
    let seen = head("http://panel:81/x?y").expect("an absolute target");
    assert_eq!((seen.path(), seen.query(), seen.host()), ("/x", Some("y"), Some("panel:81")));
    assert_eq!(seen.origin_form(), b"/x?y");
    let seen = head("HTTPS://panel").expect("an authority alone");
    assert_eq!((seen.path(), seen.origin_form()), ("", &b""[..]));
    for wrong in ["a", "*", "ftp://a/", "http:///a", "/a#b", "/<a>"] {
        assert!(head(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_target_of_http_2_goes_on_as_it_was_asked_for() {
    for target in ["/a?x=1", "/a", "/?", "/adm?in"] {
        let (parts, ()) =
            http::Request::builder().uri(format!("http://h{target}")).body(()).expect("valid").into_parts();
        assert_eq!(RequestHead::from_parts(&parts).origin_form(), target.as_bytes(), "{target:?}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_go_on_and_are_told_of_without_loss() {
    let bytes = b"GET /caf\xe9?q=\xff HTTP/1.1\r\nHost: a\r\n\r\n";
    let (head, ..) = RequestReader::default().read(bytes, LIMITS).expect("legible").expect("whole");
    assert!(head.is_escaped());
    assert_eq!((head.path(), head.query()), ("/caf\\xE9", Some("q=\\xFF")));
    assert_eq!(head.origin_form(), b"/caf\xe9?q=\xff");
}

#[test]
fn what_two_servers_could_read_differently_is_refused() {
    let get = |rest: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}\r\n\r\n");
    for (text, status) in [
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (get("Host: b"), 400),
        (get("X : y"), 400),
        (get(": y"), 400),
        (get("X\r\n y"), 400),
        (get(" X: y"), 400),
        (get("X: a\rb"), 400),
        (get("X: a\0b"), 400),
        (get("X: a\x01b"), 400),
        (get("no colon"), 400),
        (get("Content-Length: 1\r\nContent-Length: 1"), 400),
        (get("Content-Length: 1, 1"), 400),
        (get("Content-Length: +1"), 400),
        (get("Content-Length: 0x1"), 400),
        (get("Content-Length:"), 400),
        (get("Content-Length: 18446744073709551616"), 400),
        (get("Content-Length: 3\r\nTransfer-Encoding: chunked"), 400),
        (get("Transfer-Encoding: chunked\r\nContent-Length: 3"), 400),
        (get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400),
        (get("Transfer-Encoding: gzip, chunked"), 501),
        (get("Transfer-Encoding: identity"), 501),
        (get("Transfer-Encoding: chunked\x0b"), 400),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
        (get(&format!("X: {}", "x".repeat(32 * 1024))), 431),
        (get(&"X: y\r\n".repeat(128)), 431),
    ] {
        assert_eq!(status_of(&text), Some(status), "{text:?}");
    }
}

proptest! {
    /// However the bytes are cut by reads, the verdict is the same.
    #[test]
    fn cuts_do_not_change_the_verdict(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("GET / HTTP/1.1\r\nHost: a\r\n"), Just("\r\n"), Just("X: \n"), Just("X: y\r\n"), Just("\0"),
                Just("Content-Length: 4\r\n"), Just("Transfer-Encoding: chunked\r\n"),
            ],
            1..8,
        ),
        cuts in proptest::collection::vec(1usize..40, 1..40),
    ) {
        let verdict = |read: Result<Option<(RequestHead, Framing, usize)>, Refusal>| {
            read.map(|whole| whole.map(|(_, framing, taken)| (framing, taken)))
        };
        let text = parts.concat();
        let whole = verdict(RequestReader::default().read(text.as_bytes(), LIMITS));
        let (mut reader, mut seen, mut have, mut cuts) = (RequestReader::default(), Ok(None), 0, cuts.into_iter().cycle());
        while have < text.len() && seen == Ok(None) {
            have = (have + cuts.next().expect("a cycle")).min(text.len());
            seen = verdict(reader.read(&text.as_bytes()[..have], LIMITS));
        }
        prop_assert_eq!(whole, seen);
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes: Vec<u8>) {
        let _ = RequestReader::default().read(&bytes, LIMITS);
    }
}
