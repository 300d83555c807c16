//! `/live`, `/ready` and `/metrics`, for probes and Prometheus.
//!
//! | path | answer |
//! | --- | --- |
//! | `/live` | 200 as long as the process answers at all |
//! | `/ready` | 200 when traffic can be served, else 503 and why not |
//! | `/metrics` | all metrics, OpenMetrics 1.0 text |
//!
//! Everything else is 404, other methods than GET and HEAD are 405. One request a connection, a bounded
//! number of connections, a bounded time for each: a stuck probe must not cost the proxy anything.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::io::Socket;

/// What the admin address tells; app implements it over the rooms it wired.
pub trait Probe: Send + Sync + 'static {
    /// Whether traffic can be served: listeners are bound and the journal accepts.
    ///
    /// # Errors
    /// Why not, in a few words.
    fn ready(&self) -> Result<(), String>;

    /// All metrics as text.
    fn metrics(&self) -> String;
}

/// Connections at once; more wait in the backlog. A probe and two scrapers need three.
const CONNECTIONS: usize = 32;
/// Longest time of one connection. A scrape's answer is some ten kilobytes.
const TIME: Duration = Duration::from_secs(10);
/// Smallest read buffer that hyper takes.
const HEAD: usize = 8192;
/// Pause after a failed accept, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `stop` is done; connections being answered then may finish.
pub async fn serve(listener: TcpListener, probe: Arc<dyn Probe>, stop: impl Future<Output = ()>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = accept(&listener, &free) => accepted,
        };
        match accepted {
            Ok((socket, permit)) => {
                let probe = Arc::clone(&probe);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let response = answer(&request, probe.as_ref());
                        async { Ok::<_, Infallible>(response) }
                    });
                    let connection = http1::Builder::new()
                        .keep_alive(false)
                        .max_buf_size(HEAD)
                        .serve_connection(Socket(socket), service);
                    if let Ok(Err(e)) = tokio::time::timeout(TIME, connection).await {
                        tracing::debug!(error = %e, "an admin connection broke");
                    }
                    drop(permit);
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "the admin address can't accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(free).acquire_owned().await.map_err(io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    Ok((socket, permit))
}

fn answer(request: &Request<Incoming>, probe: &dyn Probe) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/live" | "/ready" | "/metrics") {
        return text(StatusCode::NOT_FOUND, TEXT, "here are /live, /ready and /metrics\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => text(StatusCode::OK, OPEN_METRICS, probe.metrics()),
        "/ready" => match probe.ready() {
            Ok(()) => text(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
        },
        _ => text(StatusCode::OK, TEXT, "live\n".to_owned()),
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[derive(Default)]
    struct Fake(AtomicBool);

    impl Probe for Fake {
        fn ready(&self) -> Result<(), String> {
            self.0.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "the journal is full".to_owned())
        }
        fn metrics(&self) -> String {
            "# EOF\n".to_owned()
        }
    }

    async fn ask(to: std::net::SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(to).await.expect("connects");
        socket.write_all(format!("{request} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("answered and closed");
        answer
    }

    #[tokio::test]
    async fn probes_are_answered_over_http() {
        let probe = Arc::new(Fake::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let to = listener.local_addr().expect("bound");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let as_probe: Arc<dyn Probe> = probe.clone();
        let server = tokio::spawn(serve(listener, as_probe, async { stopped.await.unwrap_or(()) }));

        assert!(ask(to, "GET /live").await.starts_with("HTTP/1.1 200"));
        let waiting = ask(to, "GET /ready").await;
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.ends_with("not ready: the journal is full\n"),
            "{waiting}"
        );
        probe.0.store(true, Ordering::Relaxed);
        assert!(ask(to, "GET /ready?verbose").await.starts_with("HTTP/1.1 200"));
        let metrics = ask(to, "GET /metrics").await;
        assert!(metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"), "{metrics}");
        assert!(ask(to, "HEAD /metrics").await.ends_with("\r\n\r\n"), "HEAD has no body");
        let refused = ask(to, "POST /ready").await;
        assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD"), "{refused}");
        assert!(ask(to, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(ask(to, "nonsense").await.starts_with("HTTP/1.1 400"));

        stop.send(()).expect("still serving");
        server.await.expect("stops by itself");
        assert!(TcpStream::connect(to).await.is_err(), "nothing listens any more");
    }
}
