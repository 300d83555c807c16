//! One request to the application and its response back, unchanged and at once.
//!
//! Constraints:
//! - Nothing is buffered: frames go on as they come, in both directions, and back-pressure is the
//!   sockets' own.
//! - A request is sent once. Only one of which not a byte was sent goes to another connection.
//! - Every way an exchange can end is told to [`crate::capture::Exchange`] exactly once, and every
//!   response of our own comes from the one table in `fault`.
//! - Everything belongs to one worker thread: pools, links and exchanges are `Rc`, not locked.
//!
//! What this room does not know: Kafka, rules, files.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use http::header::Entry;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use rustls::ClientConfig;

use crate::capture::{Capture, Exchange};
use crate::config::{ForwardSettings, Mode, Upstream};

mod body;
mod fault;
mod headers;
mod last_words;
mod link;
mod stream;
mod tls;
mod tunnel;
mod upstream;

pub use body::{BodyError, ResponseBody};
pub use link::{Link, Refusal, Upgrade, plain_response};
pub use stream::Stream;
pub use tls::{TlsError, certificates, client_config, private_key, roots};
pub use tunnel::Tunnel;
pub use upstream::LocalExecutor;

use body::{RequestBody, Upload};
use fault::Fault;
use headers::Onward;
use upstream::{Lease, Pool, Sender};

/// How long a request body waits for the application's `100 Continue` before it goes anyway: an
/// application that does not know `Expect` never says so (RFC 9110 section 10.1.1; curl waits as long).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// Forwards to one application, on one worker thread.
pub struct Forwarder {
    pool: Rc<Pool>,
    settings: Rc<ForwardSettings>,
    capture: Rc<Capture>,
    authority: HeaderValue,
    upstream_tls: bool,
    request_id_header: http::HeaderName,
}

/// Informational responses (1xx), handed from the upstream connection's task to the request's. hyper
/// wants the callback `Send`, hence the mutex; it is never contended.
#[derive(Default)]
struct Informational(Mutex<Arrivals>);

#[derive(Default)]
struct Arrivals {
    responses: Vec<(StatusCode, HeaderMap)>,
    waker: Option<Waker>,
}

impl Forwarder {
    /// Opens no connection yet. Errors say what is wrong with the settings.
    pub fn new(
        upstream: &Upstream,
        settings: &ForwardSettings,
        tls: Option<Arc<ClientConfig>>,
        capture: Rc<Capture>,
    ) -> Result<Rc<Self>, String> {
        let settings = Rc::new(settings.clone());
        let request_id_header = settings
            .request_id_header
            .to_ascii_lowercase()
            .parse()
            .map_err(|_| format!("`{}` can't be a header's name", settings.request_id_header))?;
        Ok(Rc::new(Self {
            pool: Rc::new(Pool::new(upstream.clone(), Rc::clone(&settings), tls)?),
            authority: Pool::authority(upstream),
            upstream_tls: matches!(upstream, Upstream::Tcp { tls: true, .. }),
            settings,
            capture,
            request_id_header,
        }))
    }

    /// Gives up kept connections that were idle for too long. Called now and then.
    pub fn reap(&self) {
        self.pool.reap();
    }

    /// Answers one request.
    pub async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        link: Rc<Link>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        link.in_flight.set(true);
        let (mut parts, body) = request.into_parts();
        let client_version = parts.version;
        let is_head = parts.method == http::Method::HEAD;
        let exchange = self.capture.begin(&link.connection, &parts);
        if let Some(fault) = self.admit(&parts, &exchange).await {
            return Ok(self.own(fault, is_head, &exchange, &link).await);
        }
        // With a body, nobody could say where the tunnel begins: an ordinary request.
        let upgrade = headers::upgrade_of(&parts).filter(|_| hyper::body::Body::is_end_stream(&body));
        let wants_tunnel = upgrade.is_some();
        let expects =
            parts.headers.get(header::EXPECT).is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        headers::onward(&mut parts, upgrade, &self.onward_to(&link));
        self.name_request(&mut parts.headers, &exchange);

        let upload = Rc::new(Upload::default());
        if expects {
            upload.close();
        }
        let informational = Arc::new(Informational::default());
        let body = RequestBody::new(body, exchange.clone(), Rc::clone(&link), Rc::clone(&upload));
        let mut request = Request::from_parts(parts, body);
        hyper::ext::on_informational(&mut request, {
            let informational = Arc::clone(&informational);
            move |response| informational.push(response.status(), response.headers())
        });
        let waiting = Waiting {
            link: &link,
            upload: &upload,
            informational: &informational,
            limit: self.settings.response_timeout.0,
            takes_informational: client_version == Version::HTTP_11,
        };
        let answered = self.send(request, wants_tunnel, &exchange, waiting).await;
        let (response, lease, upgraded) = match answered {
            Ok(answered) => answered,
            Err(fault) => return Ok(self.own(fault, is_head, &exchange, &link).await),
        };
        let (mut parts, incoming) = response.into_parts();
        let accepted = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        if accepted && !wants_tunnel {
            return Ok(self.own(Fault::Garbage, is_head, &exchange, &link).await);
        }
        exchange.response_head(&parts);
        if is_event_stream(&parts.headers) {
            // It may go on for hours: that it began is worth a record of its own.
            exchange.response_started();
        }
        headers::back(&mut parts, client_version);
        if let (true, Some(upstream)) = (accepted, upgraded) {
            link.upgrade.set(Some(Upgrade::Accepted));
            *link.tunnel.borrow_mut() = Some(Tunnel { upstream, exchange: exchange.clone() });
            let body = ResponseBody::tunnel(exchange, link);
            return Ok(Response::from_parts(parts, body));
        }
        link.upgrade.set(Some(Upgrade::Declined));
        let mut body = ResponseBody::upstream(
            incoming,
            lease,
            self.settings.read_idle_timeout.0,
            exchange.clone(),
            Rc::clone(&link),
        );
        if hyper::body::Body::is_end_stream(&body) && !body.finish_empty().await {
            return Ok(self.own(Fault::JournalFull, is_head, &exchange, &link).await);
        }
        Ok(Response::from_parts(parts, body))
    }

    /// Whether the request may go on at all: it is for an application, the journal takes records,
    /// and the intent is on disk where the rule wants it there first.
    async fn admit(&self, head: &http::request::Parts, exchange: &Exchange) -> Option<Fault> {
        // In HTTP/1 the scanner has refused it already; here too it would make us a tunnel to anywhere.
        if head.method == http::Method::CONNECT {
            return Some(Fault::ClientRefused { status: 405, reason: "CONNECT is not offered" });
        }
        if exchange.admits().is_err() {
            return Some(Fault::JournalFull);
        }
        if exchange.mode() == Mode::BlockingStrict
            && let Some(intent) = exchange.intent()
            && intent.await.is_err()
        {
            return Some(Fault::JournalFull);
        }
        None
    }

    fn onward_to<'a>(&'a self, link: &'a Link) -> Onward<'a> {
        let connection = &link.connection;
        Onward {
            settings: self.settings.headers,
            host: self.settings.host,
            protocol: self.settings.protocol,
            authority: &self.authority,
            upstream_tls: self.upstream_tls,
            peer_text: link.peer_text.as_ref(),
            peer: connection.peer,
            peer_trusted: link.peer_trusted,
            client_tls: connection.tls,
        }
    }

    fn name_request(&self, headers: &mut HeaderMap, exchange: &Exchange) {
        if let Entry::Vacant(entry) = headers.entry(&self.request_id_header)
            && let Ok(id) = HeaderValue::from_str(exchange.request_id())
        {
            entry.insert(id);
        }
    }

    /// Sends the request and waits for the response's head.
    async fn send(
        &self,
        mut request: Request<RequestBody>,
        wants_tunnel: bool,
        exchange: &Exchange,
        waiting: Waiting<'_>,
    ) -> Result<(Response<Incoming>, Lease, Option<tokio::sync::oneshot::Receiver<upstream::Upgraded>>), Fault> {
        let mut connecting = Duration::ZERO;
        loop {
            let (mut sender, connect) = self.pool.checkout().await?;
            connecting += connect;
            exchange.connected(connecting);
            let upgraded = wants_tunnel.then(|| sender.expect_upgrade()).flatten();
            match waiting.for_response(&mut sender, request).await {
                Ok(response) => {
                    exchange.first_byte();
                    return Ok((response, Lease::new(&self.pool, sender, waiting.upload), upgraded));
                }
                // Not a byte was sent, on a connection that had been kept: the next one will do.
                Err(Lost::Unsent(unsent)) if connect.is_zero() => request = *unsent,
                Err(Lost::Unsent(_)) => return Err(waiting.upload.fault.get().unwrap_or(Fault::Reset)),
                Err(Lost::Failed(error)) => {
                    tracing::debug!(%error, "no answer from the application");
                    let ours = if error.is_parse() { Fault::Garbage } else { Fault::Reset };
                    return Err(waiting.upload.fault.get().unwrap_or(ours));
                }
                Err(Lost::TimedOut) => return Err(Fault::ResponseTimeout),
            }
        }
    }

    /// A response of our own; without a body where the client asked for the head only.
    async fn own(&self, fault: Fault, is_head: bool, exchange: &Exchange, link: &Rc<Link>) -> Response<ResponseBody> {
        link.upgrade.set(Some(Upgrade::Declined));
        let (status, end, reason) = fault.answer();
        exchange.own_response(status, end, reason);
        let text = if is_head { String::new() } else { fault::body(status, reason, exchange.request_id()) };
        let mut body = ResponseBody::own(text, exchange.clone(), Rc::clone(link));
        if is_head {
            // There is nothing better to answer than what is being answered.
            let _ = body.finish_empty().await;
        }
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        self.name_request(headers, exchange);
        if matches!(fault, Fault::ClientRefused { .. }) && !link.multiplexed {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        *response.version_mut() = if link.multiplexed { Version::HTTP_2 } else { Version::HTTP_11 };
        response
    }
}

/// Server-sent events (WHATWG HTML section 9.2).
fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// What a request waits with.
struct Waiting<'a> {
    link: &'a Rc<Link>,
    upload: &'a Rc<Upload>,
    informational: &'a Informational,
    /// From the end of the request to the response's head.
    limit: Duration,
    /// HTTP/1.0 knows no 1xx (RFC 9110 section 15.2), and hyper writes none in HTTP/2.
    takes_informational: bool,
}

/// Why there is no response.
enum Lost {
    /// Not a byte of the request was sent.
    Unsent(Box<Request<RequestBody>>),
    Failed(hyper::Error),
    TimedOut,
}

impl Waiting<'_> {
    async fn for_response(
        &self,
        sender: &mut Sender,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Lost> {
        let mut response = pin!(sender.send(request));
        let first = if self.upload.is_closed() { CONTINUE_PATIENCE } else { self.limit };
        let mut timer = pin!(tokio::time::sleep(first));
        poll_fn(|cx| {
            if let Poll::Ready(answered) = response.as_mut().poll(cx) {
                self.pass_informational(None);
                return Poll::Ready(answered.map_err(|failed| match failed.unsent {
                    Some(unsent) => Lost::Unsent(Box::new(unsent)),
                    None => Lost::Failed(failed.error),
                }));
            }
            self.pass_informational(Some(cx.waker()));
            while timer.as_mut().poll(cx).is_ready() {
                if self.upload.is_closed() {
                    self.upload.open();
                    timer.as_mut().reset(tokio::time::Instant::now() + self.limit);
                    continue;
                }
                // The time counts from the request's last byte: a slow upload is no slow answer.
                let left = match self.upload.ended.get() {
                    None => self.limit,
                    Some(ended) => self.limit.saturating_sub(ended.elapsed()),
                };
                if left.is_zero() {
                    return Poll::Ready(Err(Lost::TimedOut));
                }
                timer.as_mut().reset(tokio::time::Instant::now() + left);
            }
            Poll::Pending
        })
        .await
    }

    /// Passes 1xx responses on; a `100 Continue` opens the client's body, and hyper then writes one itself.
    fn pass_informational(&self, waker: Option<&Waker>) {
        let Ok(mut inner) = self.informational.0.lock() else { return };
        inner.waker = waker.cloned();
        for (status, mut headers) in inner.responses.drain(..) {
            if status == StatusCode::CONTINUE {
                self.upload.open();
            } else if self.takes_informational {
                headers.remove(header::CONNECTION);
                self.link.inform(status.as_u16(), status.canonical_reason().unwrap_or("Informational"), &headers);
            }
        }
    }
}

impl Informational {
    fn push(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let Ok(mut inner) = self.0.lock() else { return };
        inner.responses.push((status, headers.clone()));
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }
}
