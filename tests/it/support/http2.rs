//! HTTP/2 on both sides, by hyper: a client and an application.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

/// Frames given one by one; the body ends when the sender is dropped.
pub(crate) struct Frames(mpsc::UnboundedReceiver<Frame<Bytes>>);
pub(crate) type Feed = mpsc::UnboundedSender<Frame<Bytes>>;

/// An application that speaks HTTP/2 with prior knowledge, on a runtime of its own.
pub(crate) struct Http2Origin {
    pub(crate) url: String,
    connections: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

/// A body that is fed by the test.
pub(crate) fn frames() -> (Feed, Frames) {
    let (feed, receiver) = mpsc::unbounded_channel();
    (feed, Frames(receiver))
}

/// A body that is there already, with trailers or without.
pub(crate) fn whole(data: &[u8], trailers: Option<HeaderMap>) -> Frames {
    let (feed, body) = frames();
    if !data.is_empty() {
        feed.send(Frame::data(Bytes::copy_from_slice(data))).expect("the body is here");
    }
    if let Some(trailers) = trailers {
        feed.send(Frame::trailers(trailers)).expect("the body is here");
    }
    body
}

/// A connection with prior knowledge.
pub(crate) async fn connect(address: SocketAddr) -> SendRequest<Frames> {
    let stream = tokio::net::TcpStream::connect(address).await.expect("Daybook listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A request for `http://app.test` and `path`.
pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://app.test{path}"))
}

/// The whole response: head, data, trailers.
pub(crate) async fn collect(response: Response<Incoming>) -> (http::response::Parts, Bytes, Option<HeaderMap>) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("the whole body");
    let trailers = body.trailers().cloned();
    (parts, body.to_bytes(), trailers)
}

/// A runtime for a test's client.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

// === impl Http2Origin ===

impl Http2Origin {
    pub(crate) fn new<F>(handler: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Frames>> + Send + 'static,
    {
        let runtime = runtime();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let handler = handler.clone();
                let service = hyper::service::service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, connections, _runtime: runtime }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}
