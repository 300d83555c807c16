//! One client connection from its first byte to its close.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::capture::{Connection, RefusedHead};
use crate::config::ProxyProtocol;
use crate::forward::{Forwarder, Link, LocalExecutor, ResponseBody, Source, Stream, plain_response};
use crate::message::{Framing, RequestHead};
use crate::record::End;

use super::http1::{Client, Ended};
use super::{Worker, hangup, proxy_protocol, tls};

/// What an HTTP/2 connection begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much of an unread request is still taken after the response, and for how long: closing at once
/// would reset the connection and with it the response the client has not read yet (RFC 9112 section 9.6).
const LINGER_BYTES: usize = 1 << 20;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Serves one connection. Everything that goes wrong is either a record or not worth one.
pub(super) async fn serve(worker: Rc<Worker>, stream: Stream, peer: Option<SocketAddr>) {
    let opening = tokio::time::timeout(worker.limits.head_timeout.0, open(&worker, stream, peer));
    let opened = tokio::select! {
        biased;
        opened = opening => opened,
        // Who has sent nothing yet loses nothing, and holds nothing up.
        () = worker.watch.draining() => return,
    };
    match opened {
        Ok(Ok((stream, link))) => {
            let connection = Rc::clone(&link.connection);
            worker.capture.connected(&connection);
            if link.multiplexed {
                serve_http2(&worker, stream, link).await;
            } else {
                serve_http1(&worker, stream, link).await;
            }
            worker.capture.disconnected(&connection);
        }
        Ok(Err(error)) => tracing::debug!(listener = %worker.name, %error, "a connection did not get as far as HTTP"),
        Err(_) => tracing::debug!(listener = %worker.name, "a connection did not get as far as HTTP in time"),
    }
}

/// PROXY header, TLS, and which HTTP it is.
async fn open(worker: &Worker, stream: Stream, peer: Option<SocketAddr>) -> io::Result<(Stream, Rc<Link>)> {
    let mut peer = peer.map(|address| address.ip().to_canonical());
    let stream = match stream {
        Stream::Tcp(mut tcp) if worker.proxy_protocol == ProxyProtocol::Required => {
            if let Some(named) = proxy_protocol::read(&mut tcp).await? {
                peer = Some(named.to_canonical());
            }
            Stream::Tcp(tcp)
        }
        other => other,
    };
    let (stream, http2, tls_subject) = match (stream, &worker.tls) {
        (Stream::Tcp(tcp), Some(config)) => {
            let tls = TlsAcceptor::from(config.load_full()).accept(tcp).await?;
            let (_, session) = tls.get_ref();
            let http2 = session.alpn_protocol() == Some(b"h2");
            let subject = tls::subject(session);
            (Stream::Tls(Box::new(tls.into())), http2, subject)
        }
        (stream, _) => {
            let http2 = begins_with_preface(&stream).await?;
            (stream, http2, None)
        }
    };
    let connection = Connection {
        listener: worker.name.clone(),
        listener_index: worker.index,
        peer,
        tls_subject,
        tls: worker.tls.is_some(),
        trusted_proxies: worker.trusted_proxies.clone(),
        request_id_header: worker.request_id_header.clone(),
    };
    Ok((stream, Link::new(Rc::new(connection), http2, worker.limits.body_idle_timeout.0)))
}

/// Looks at the first bytes without taking them.
async fn begins_with_preface(stream: &Stream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let have = match stream {
            Stream::Tcp(tcp) => tcp.peek(&mut seen).await?,
            Stream::Unix(unix) => peek_unix(unix, &mut seen).await?,
            Stream::Tls(_) => return Ok(false),
        };
        if have == 0 || seen[..have] != PREFACE[..have] {
            return Ok(false);
        }
        if have == PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn peek_unix(unix: &tokio::net::UnixStream, into: &mut [u8]) -> io::Result<usize> {
    unix.async_io(tokio::io::Interest::READABLE, || {
        rustix::net::recv(unix, &mut *into, rustix::net::RecvFlags::PEEK).map(|(_, n)| n).map_err(io::Error::from)
    })
    .await
}

async fn serve_http2(worker: &Rc<Worker>, stream: Stream, link: Rc<Link>) {
    worker.watch.add_link(&link);
    let service = service_fn({
        let (forwarder, link) = (worker.forwarder.clone(), link.clone());
        move |request| answer_http2(forwarder.clone(), link.clone(), request)
    });
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .max_concurrent_streams(worker.limits.http2_streams)
        .max_header_list_size(u32::try_from(worker.limits.head_size.0).unwrap_or(u32::MAX))
        // A client that never sends a byte of its open streams is found by its silence.
        .timer(hyper_util::rt::TokioTimer::new())
        .keep_alive_interval(worker.limits.keep_alive_timeout.0)
        .keep_alive_timeout(worker.limits.head_timeout.0);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut told = false;
    let ended = poll_fn(|cx| {
        link.remember(cx.waker());
        if worker.watch.is_draining() && !std::mem::replace(&mut told, true) {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(listener = %worker.name, %error, "an HTTP/2 connection ended");
    }
}

async fn answer_http2(
    forwarder: Rc<Forwarder>,
    link: Rc<Link>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, NoTunnel> {
    let (parts, body) = request.into_parts();
    let head = Rc::new(RequestHead::from_parts(&parts));
    let (framing, source) = match body.size_hint().exact() {
        _ if body.is_end_stream() => (Framing::Empty, Source::Empty),
        Some(length) => (Framing::Length(length), Source::Http2(body)),
        None => (Framing::Chunked, Source::Http2(body)),
    };
    forwarder.handle(head, framing, source, &link).await.into_http2().ok_or(NoTunnel)
}

/// There are no upgrades in HTTP/2; hyper resets the stream.
#[derive(Debug, thiserror::Error)]
#[error("an upgrade can't be answered over HTTP/2")]
struct NoTunnel;

async fn serve_http1(worker: &Rc<Worker>, stream: Stream, link: Rc<Link>) {
    let client = Client::new(stream, link, worker);
    let ended = client.serve(worker).await;
    let Some(mut stream) = client.take_stream() else { return };
    match ended {
        Ended::Closed => close(stream).await,
        Ended::Unread => linger(stream).await,
        Ended::Aborted => stream.reset(),
        Ended::Tunnel(tunnel) => tunnel.run(stream).await,
        Ended::HalfClosed(body) => {
            let (end, reason) = match hangup::acknowledged(&stream).await {
                true => (End::Complete, None),
                false => (End::ClientClosed, Some("the client went away within the response")),
            };
            body.delivered(end, reason);
            close(stream).await;
        }
        Ended::Refused { refusal, request_line } => {
            let seen = refused_head(&request_line);
            worker.capture.refused(&client.link.connection, seen, refusal.status, refusal.reason);
            let _ = tokio::time::timeout(LINGER_TIME, stream.write_all(&plain_response(refusal))).await;
            linger(stream).await;
        }
    }
}

fn refused_head(line: &[u8]) -> RefusedHead {
    let mut parts = line.split(|b| *b == b' ');
    RefusedHead {
        method: parts.next().and_then(|method| Method::from_bytes(method).ok()),
        target: parts.next().filter(|target| !target.is_empty()).map(Bytes::copy_from_slice),
        version: match parts.next() {
            Some(b"HTTP/1.1") => Some(Version::HTTP_11),
            Some(b"HTTP/1.0") => Some(Version::HTTP_10),
            _ => None,
        },
        host: None,
    }
}

/// Closes in good order, unless the client reads nothing any more.
async fn close(mut stream: Stream) {
    let _ = tokio::time::timeout(LINGER_TIME, stream.shutdown()).await;
}

/// Says that nothing more will come, and reads on for a while so that the client can read what came.
async fn linger(mut stream: Stream) {
    let reading = async {
        stream.shutdown().await?;
        let mut buffer = vec![0; 8 * 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER_TIME, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_of_a_refused_request_line_as_can_be_read_is_recorded() {
        let seen = refused_head(b"GET /a?b HTTP/1.1");
        assert_eq!((seen.method, seen.target.as_deref()), (Some(Method::GET), Some(&b"/a?b"[..])));
        let seen = refused_head(b"\xff\xfe");
        assert_eq!((seen.method, seen.target, seen.version), (None, None, None));
    }
}
