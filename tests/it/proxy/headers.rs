//! Headers: what is kept as it is, what ends here, what the application is told of the client.

use crate::support::daybook::{Daybook, Setup};
use crate::support::message::Message;
use crate::support::origin::Origin;

fn sent(setup: impl FnOnce(Setup) -> Setup, request: &str) -> Message {
    let origin = Origin::answering("ok");
    let daybook = setup(Setup::new(&origin.url)).start();
    let mut client = daybook.connect();
    client.send(request);
    assert_eq!(client.response().status(), 200, "{request:?} is a good request");
    origin.requests().remove(0)
}

#[test]
fn names_keep_their_case_and_values_their_order_both_ways() {
    let origin = Origin::new(|visit| {
        while visit.request().is_some() {
            visit.send(
                "HTTP/1.1 299 Quite  Fine\r\nX-ODD-Case: Q\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nSet-Cookie: c=3\r\n\
                 Server: origin\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Empty:\r\nX-Latin: \u{e9}\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let daybook = Daybook::before(&origin.url);
    let response = daybook.connect().get(
        "/case?q=%7e&q=%2F//..",
        "X-ODD-Name: 1\r\nx-odd-name: 2\r\nX-Odd-Name:    3  \r\nX-Empty:\r\nUser-agent: t/1\r\nACCEPT: */*\r\n",
    );
    let request = origin.requests().remove(0);
    assert_eq!(request.line(), "GET /case?q=%7e&q=%2F//.. HTTP/1.1", "the target is not touched");
    assert_eq!(request.all("x-odd-name"), ["1", "2", "3"], "order of equal names");
    for line in ["Host: app.test", "X-ODD-Name: 1", "x-odd-name: 2", "X-Odd-Name: 3", "User-agent: t/1", "ACCEPT: */*"]
    {
        assert!(request.lines().contains(&line), "{line:?} in {:?}", request.head);
    }
    assert_eq!(response.line(), "HTTP/1.1 299 Quite  Fine", "the reason phrase is the application's");
    assert_eq!(response.all("set-cookie"), ["a=1", "b=2", "c=3"]);
    for line in ["X-ODD-Case: Q", "Set-Cookie: a=1", "set-cookie: b=2", "Set-Cookie: c=3", "Server: origin"] {
        assert!(response.lines().contains(&line), "{line:?} in {:?}", response.head);
    }
    assert_eq!(response.header("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"), "no date of our own");
    assert_eq!(response.header("x-latin"), Some("\u{e9}"));
    assert_eq!(response.lines().len(), 9, "nothing is added: {}", response.head);
}

#[test]
fn what_is_meant_for_one_connection_ends_there() {
    let request = sent(
        |setup| setup,
        "GET /hop HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Named, Content-Length, Host, Transfer-Encoding\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Named: secret\r\nTE: gzip, trailers\r\n\
         Upgrade: websocket\r\nX-Kept: yes\r\nContent-Length: 0\r\n\r\n",
    );
    for gone in ["connection", "keep-alive", "proxy-connection", "x-named", "upgrade"] {
        assert_eq!(request.all(gone), Vec::<&str>::new(), "{gone} ends here: {}", request.head);
    }
    assert_eq!((request.header("x-kept"), request.header("te")), (Some("yes"), Some("trailers")));
    assert_eq!((request.header("host"), request.header("content-length")), (Some("a"), Some("0")));

    let origin = Origin::new(|visit| {
        visit.request();
        visit.send(
            "HTTP/1.1 200 OK\r\nConnection: X-Named, close\r\nX-Named: a\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nok",
        );
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    let response = client.get("/hop", "");
    for gone in ["x-named", "keep-alive", "connection"] {
        assert_eq!(response.all(gone), Vec::<&str>::new(), "{gone}: {}", response.head);
    }
    assert_eq!(client.get("/again", "").status(), 200, "the client's connection outlives the application's");
}

#[test]
fn the_application_is_told_of_the_client_and_a_stranger_can_not_forge_it() {
    let forged = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n";
    let get = format!("GET / HTTP/1.1\r\nHost: shop.test\r\n{forged}\r\n");
    let request = sent(|setup| setup, &get);
    assert_eq!(request.header("host"), Some("shop.test"));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("shop.test"));
    assert!(request.header("x-request-id").is_some_and(|id| id.len() == 36), "an id is made: {}", request.head);

    let request = sent(|s| s.listener("trusted_proxies = [\"127.0.0.1\"]"), &get);
    assert_eq!(request.header("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"), "a trusted proxy's word is kept");
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("x-forwarded-host"), Some("evil"));

    let request = sent(|s| s.listener("forward.headers = \"off\""), &get);
    assert_eq!(request.header("x-forwarded-for"), Some("9.9.9.9"), "off means untouched");

    let get = "GET / HTTP/1.1\r\nHost: shop.test\r\nForwarded: for=9.9.9.9\r\n\r\n";
    let request = sent(|s| s.listener("forward.headers = \"forwarded\""), get);
    assert_eq!(request.header("forwarded"), Some("for=127.0.0.1;proto=http;host=\"shop.test\""));

    let request = sent(|s| s.listener("forward.host = \"upstream\""), get);
    assert!(request.header("host").is_some_and(|h| h.starts_with("127.0.0.1:")), "{}", request.head);
    assert_eq!(request.header("x-forwarded-host"), Some("shop.test"));
}

#[test]
fn a_request_id_is_kept_where_there_is_one() {
    let request = sent(|setup| setup, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine-1\r\n\r\n");
    assert_eq!(request.all("x-request-id"), ["mine-1"]);
    let request = sent(|s| s.listener("forward.request_id_header = \"X-Trace\""), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(request.header("x-trace").is_some() && request.header("x-request-id").is_none(), "{}", request.head);
}

#[test]
fn an_absolute_target_wins_over_host() {
    let request = sent(|setup| setup, "GET http://real.test:81/p?q HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!((request.line(), request.header("host")), ("GET /p?q HTTP/1.1", Some("real.test:81")));
    let request = sent(|setup| setup, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(request.line(), "OPTIONS * HTTP/1.1");
}

/// `X-Forwarded-For` as sent, and whose address the record says.
const WALKS: &[(&str, &str)] = &[
    ("", "127.0.0.1"),
    ("X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7"),
    ("X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.1.2.3\r\n", "203.0.113.7"),
    ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7"),
    ("X-Forwarded-For: 203.0.113.7, unknown\r\n", "127.0.0.1"),
    ("X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", "10.0.0.1"),
    ("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
];

#[test]
fn the_client_is_the_first_from_the_right_that_is_no_trusted_proxy() {
    let origin = Origin::answering("ok");
    let trusted = Setup::new(&origin.url).listener("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").start();
    let mut client = trusted.connect();
    for (case, (headers, expected)) in WALKS.iter().enumerate() {
        let path = format!("/{case}");
        client.get(&path, headers);
        let record = trusted.outcome(&path);
        assert_eq!(record["client"]["ip"], *expected, "{headers:?}: {record}");
        if *expected != "127.0.0.1" {
            assert_eq!(record["client"]["peer"], "127.0.0.1", "the peer is said as well: {record}");
        }
    }
    let stranger = Daybook::before(&origin.url);
    stranger.connect().get("/forged", "X-Forwarded-For: 203.0.113.7\r\n");
    assert_eq!(stranger.outcome("/forged")["client"]["ip"], "127.0.0.1", "nobody is trusted by default");
}
