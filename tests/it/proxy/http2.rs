//! HTTP/2 in front, and behind: streams, trailers, gRPC, and what HTTP/1 must not inherit from them.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::Frame;

use crate::support::daybook::{Daybook, Setup};
use crate::support::http2::{Http2Origin, collect, connect, frames, request, runtime, whole};
use crate::support::origin::Origin;

fn trailers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
}

fn before_http2(origin: &Http2Origin) -> Daybook {
    Setup::new(&origin.url).listener("forward.protocol = \"http2\"").start()
}

#[test]
fn many_streams_go_to_an_http_1_application() {
    let origin = Origin::new(|visit| {
        while let Some(request) = visit.request() {
            std::thread::sleep(Duration::from_millis(20));
            visit.ok(&format!("{} {}", request.line(), request.text()));
        }
    });
    let daybook = Daybook::before(&origin.url);
    runtime().block_on(async {
        let client = connect(daybook.address()).await;
        let streams = (0..40).map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let body = whole(format!("body {number}").as_bytes(), None);
                let request = request("POST", &format!("/{number}")).header("cookie", "a=1").header("cookie", "b=2");
                let response = client.send_request(request.body(body).expect("a request")).await.expect("a response");
                let (parts, body, _) = collect(response).await;
                assert_eq!(parts.status, 200);
                assert_eq!(body, format!("POST /{number} HTTP/1.1 body {number}"));
            })
        });
        for stream in streams.collect::<Vec<_>>() {
            stream.await.expect("each stream has its own answer");
        }
    });
    let records = daybook.records("the streams", 40, |r| r["http_version"] == "2");
    assert!(records.iter().all(|r| r["end"] == "complete" && r["host"] == "app.test"), "{records:#?}");
    let seen = origin.requests().remove(0);
    assert_eq!(seen.header("host"), Some("app.test"));
    assert_eq!(seen.header("cookie"), Some("a=1; b=2"), "HTTP/1 knows one Cookie (RFC 9113 section 8.2.3)");
}

#[test]
fn http_2_goes_to_an_http_2_application_on_one_connection() {
    let origin = Http2Origin::new(|request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("the body");
        let sum = body.trailers().and_then(|t| t.get("x-up")).cloned();
        let mut response = Response::new(whole(&body.to_bytes(), Some(trailers(&[("x-down", "2")]))));
        response.headers_mut().extend(sum.map(|sum| (http::HeaderName::from_static("x-seen"), sum)));
        let authority = parts.uri.authority().map(|a| a.to_string()).unwrap_or_default();
        response.headers_mut().insert("x-authority", authority.parse().expect("a value"));
        response
    });
    let daybook = before_http2(&origin);
    runtime().block_on(async {
        let mut client = connect(daybook.address()).await;
        for round in 0..5 {
            let body = whole(b"hello", Some(trailers(&[("x-up", "1")])));
            let request = request("POST", &format!("/{round}")).body(body).expect("a request");
            let (parts, body, down) = collect(client.send_request(request).await.expect("a response")).await;
            assert_eq!((parts.status.as_u16(), &body[..]), (200, &b"hello"[..]));
            assert_eq!(parts.headers["x-seen"], "1", "the request's trailers arrived");
            assert_eq!(parts.headers["x-authority"], "app.test");
            assert_eq!(down.expect("trailers")["x-down"], "2", "the response's trailers arrived");
        }
    });
    assert_eq!(origin.connections(), 1);
    assert_eq!(daybook.connect().get("/one", "").status(), 200, "HTTP/1.1 in front of HTTP/2");
    assert_eq!(daybook.end("/one"), "complete");
}

#[test]
fn frames_are_not_held_back() {
    let origin = Http2Origin::new(|request| async move {
        let (feed, body) = frames();
        let mut upload = request.into_body();
        tokio::spawn(async move {
            // Echoes each frame as it comes.
            while let Some(Ok(frame)) = upload.frame().await {
                if feed.send(frame).is_err() {
                    return;
                }
            }
        });
        Response::new(body)
    });
    let daybook = before_http2(&origin);
    runtime().block_on(async {
        let mut client = connect(daybook.address()).await;
        let (feed, body) = frames();
        let request = request("POST", "/both-ways").body(body).expect("a request");
        let mut response = client.send_request(request).await.expect("a head before the upload ends").into_body();
        for word in ["one", "two", "three"] {
            feed.send(Frame::data(word.into())).expect("the upload goes on");
            let frame = tokio::time::timeout(Duration::from_secs(10), response.frame()).await.expect("at once");
            assert_eq!(frame.and_then(Result::ok).and_then(|f| f.into_data().ok()).expect("data"), word);
        }
        drop(feed);
        let rest = response.collect().await.expect("the end").to_bytes();
        assert!(rest.is_empty(), "nothing more: {rest:?}");
    });
    let record = daybook.outcome("/both-ways");
    assert_eq!((record["end"].as_str(), record["request_bytes"].as_u64()), (Some("complete"), Some(11)), "{record}");
}

#[test]
fn a_stream_that_the_client_resets_is_recorded_as_such() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while visit.chunk(&[b'x'; 1000]) {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let daybook = Daybook::before(&origin.url);
    runtime().block_on(async {
        let mut client = connect(daybook.address()).await;
        let request = request("GET", "/reset").body(whole(b"", None)).expect("a request");
        let mut response = client.send_request(request).await.expect("a head").into_body();
        response.frame().await;
        drop(response);
        tokio::task::yield_now().await;
        assert_eq!(daybook.end("/reset"), "client_closed");
    });
}

#[test]
fn grpc_status_is_recorded_from_trailers_and_from_trailers_only() {
    let origin = Http2Origin::new(|request| async move {
        let only = request.uri().path() == "/grpc/trailers-only";
        let mut response = match only {
            true => Response::new(whole(b"", None)),
            false => {
                Response::new(whole(b"\0\0\0\0\x02hi", Some(trailers(&[("grpc-status", "7"), ("grpc-message", "no")]))))
            }
        };
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        if only {
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
        }
        response
    });
    let daybook = before_http2(&origin);
    runtime().block_on(async {
        let mut client = connect(daybook.address()).await;
        for (path, status) in [("/grpc/unary", "7"), ("/grpc/trailers-only", "12")] {
            let request = request("POST", path).header("te", "trailers").header("content-type", "application/grpc");
            let request = request.body(whole(b"\0\0\0\0\x02hi", None)).expect("a request");
            let (parts, _, trailers) = collect(client.send_request(request).await.expect("a response")).await;
            assert_eq!(parts.status, 200);
            let found = trailers.as_ref().unwrap_or(&parts.headers).get("grpc-status").cloned();
            assert_eq!(found.expect("a gRPC status"), status, "{path}");
        }
    });
    for (path, status) in [("/grpc/unary", 7), ("/grpc/trailers-only", 12)] {
        let record = daybook.outcome(path);
        assert_eq!((record["status"].as_u64(), record["grpc_status"].as_u64()), (Some(200), Some(status)), "{record}");
        assert_eq!(
            (record["end"].as_str(), record["result"].as_str()),
            (Some("complete"), Some("failure")),
            "{record}"
        );
    }
}

#[test]
fn connect_is_not_offered_over_http_2_either() {
    let origin = Origin::answering("never");
    let daybook = Daybook::before(&origin.url);
    runtime().block_on(async {
        let mut client = connect(daybook.address()).await;
        let request = http::Request::builder().method("CONNECT").uri("db.internal:5432").body(whole(b"", None));
        let response = client.send_request(request.expect("a request")).await.expect("a response");
        assert_eq!(response.status(), 405);
    });
    daybook.records("the refusal", 1, |r| r["end"] == "refused" && r["status"] == 405);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_query_over_http_2_reaches_the_application_and_the_record() {
    let origin = Origin::answering("seen");
    let daybook = Daybook::before(&origin.url);
    runtime().block_on(async {
        let mut client = connect(daybook.address()).await;
        let request = request("GET", "/adm?in").body(whole(b"", None)).expect("a request");
        assert_eq!(client.send_request(request).await.expect("a response").status(), 200);
    });
    assert_eq!(origin.requests()[0].line(), "GET /adm?in HTTP/1.1");
    assert_eq!(daybook.outcome("/adm")["query"], "in");
}

#[test]
fn own_answers_reach_http_2_clients() {
    let daybook = Daybook::before("unix:/no/such/socket");
    runtime().block_on(async {
        let mut client = connect(daybook.address()).await;
        for method in ["GET", "HEAD", "POST"] {
            let request = request(method, &format!("/{method}")).body(whole(b"", None)).expect("a request");
            let (parts, body, _) = collect(client.send_request(request).await.expect("a response")).await;
            assert_eq!(parts.status, 502, "{method}");
            assert_eq!(body.is_empty(), method == "HEAD", "{method}");
            assert_eq!(daybook.end(&format!("/{method}")), "upstream_unreachable");
        }
    });
}

#[test]
fn an_upload_that_stops_coming_is_refused_over_http_2_too() {
    let origin = Origin::answering("never");
    let daybook = Setup::new(&origin.url).listener("limits.body_idle_timeout = \"1s\"").start();
    runtime().block_on(async {
        let mut client = connect(daybook.address()).await;
        let (feed, body) = frames();
        feed.send(Frame::data("some".into())).expect("the body is here");
        let request = request("POST", "/stops").body(body).expect("a request");
        let response = tokio::time::timeout(Duration::from_secs(10), client.send_request(request)).await;
        assert_eq!(response.expect("in time").expect("an answer").status(), 408);
        drop(feed);
    });
    let record = daybook.outcome("/stops");
    assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("timeout"), Some(408)), "{record}");
}

#[test]
fn an_http_1_upload_that_stops_coming_is_refused_before_an_http_2_application_too() {
    let origin = Http2Origin::new(|request| async move {
        let _ = request.into_body().collect().await;
        Response::new(whole(b"never", None))
    });
    let setup = Setup::new(&origin.url).listener("forward.protocol = \"http2\"");
    let daybook = setup.listener("limits.body_idle_timeout = \"1s\"").start();
    let mut client = daybook.connect();
    client.send("POST /stops HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(client.response().status(), 408);
    assert_eq!(daybook.end("/stops"), "timeout");
}

#[test]
fn an_empty_response_of_an_http_2_application_ends_for_http_1_clients() {
    let origin = Http2Origin::new(|_| async { Response::new(whole(b"", None)) });
    let daybook = before_http2(&origin);
    let mut client = daybook.connect();
    for path in ["/one", "/two"] {
        let response = client.get(path, "");
        assert_eq!((response.status(), response.text().as_str(), response.whole), (200, "", true), "{}", response.head);
        assert_eq!(daybook.end(path), "complete");
    }
}
