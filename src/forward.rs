//! One request to the application and its response back, unchanged and at once.
//!
//! Constraints:
//! - Nothing is buffered: pieces go on as they come, in both directions, and back-pressure is the
//!   sockets' own.
//! - A request is sent once. Only one of which not a byte was sent goes to another connection.
//! - Every way an exchange can end is told to [`crate::capture::Exchange`] exactly once, and every
//!   response of our own comes from the one table in `fault`.
//! - Everything belongs to one worker thread: pools, links and exchanges are `Rc`, not locked.
//!
//! HTTP/1 is spoken by `http1` itself, HTTP/2 by hyper; both ends meet in heads and bodies that look alike.
//! What this room does not know: Kafka, rules, files.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, StatusCode, Version};
use rustls::ClientConfig;

use crate::capture::{Capture, Exchange};
use crate::config::{ForwardSettings, Mode, Upstream};
use crate::message::{Framing, Known, RequestHead, ResponseHead};

mod answer;
mod body;
mod fault;
mod headers;
mod http1;
mod http2;
mod io;
mod link;
mod stream;
mod tls;
mod tunnel;
mod upstream;

pub use answer::Answer;
pub use body::{BodyError, ClientBody, ResponseBody, Source};
pub use headers::{Terms, write_response, write_trailers};
pub use io::{Output, poll_read};
pub use link::{Link, plain_response};
pub use stream::Stream;
pub use tls::{TlsError, certificates, client_config, private_key, roots};
pub use tunnel::Tunnel;
pub use upstream::LocalExecutor;

use body::{RequestBody, Upload};
use fault::Fault;
use headers::Onward;
use http1::{Call, Lost};
use upstream::{Pool, Sender};

/// How long a request body waits for the application's `100 Continue` before it goes anyway: an
/// application that does not know `Expect` never says so (RFC 9110 section 10.1.1; curl waits as long).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// Forwards to one application, on one worker thread.
pub struct Forwarder {
    pool: Rc<Pool>,
    settings: Rc<ForwardSettings>,
    capture: Rc<Capture>,
    authority: String,
    upstream_tls: bool,
    request_id_header: http::HeaderName,
}

/// A request under way.
struct Passing<'a> {
    head: &'a RequestHead,
    exchange: &'a Exchange,
    link: &'a Rc<Link>,
    upload: Rc<Upload>,
    upgrade: Option<&'a [u8]>,
    framing: Framing,
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
    pub async fn handle(&self, head: Rc<RequestHead>, framing: Framing, body: Source, link: &Rc<Link>) -> Answer {
        let exchange = self.capture.begin(&link.connection, &head);
        let is_head = head.method == Method::HEAD;
        if let Some(fault) = self.admit(&head, &exchange).await {
            return self.own(fault, is_head, exchange, link).await;
        }
        let passing = Passing {
            head: &head,
            exchange: &exchange,
            link,
            upload: Rc::new(Upload::default()),
            // With a body, nobody could say where the tunnel begins: an ordinary request.
            upgrade: headers::upgrade_of(&head).filter(|_| framing == Framing::Empty),
            framing,
        };
        if framing == Framing::Empty {
            passing.upload.ended.set(Some(exchange.began()));
        } else if head.expects_continue() {
            passing.upload.close();
        }
        let request = RequestBody::new(body, exchange.clone(), Rc::clone(link), Rc::clone(&passing.upload));
        match self.pass(&passing, request).await {
            Ok(answer) => answer,
            Err(fault) => self.own(fault, is_head, exchange, link).await,
        }
    }

    /// Whether the request may go on at all: it is for an application, the journal takes records,
    /// and the intent is on disk where the rule wants it there first.
    async fn admit(&self, head: &RequestHead, exchange: &Exchange) -> Option<Fault> {
        // In HTTP/1 it was refused already; here too it would make us a tunnel to anywhere.
        if head.method == Method::CONNECT {
            return Some(Fault::ClientRefused { status: 405, reason: "CONNECT is not offered" });
        }
        if head.version == Version::HTTP_2 && contradicts_itself(head) {
            return Some(Fault::ClientRefused { status: 400, reason: "headers that contradict each other" });
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

    /// Sends the request and makes an answer of the response's head.
    async fn pass(&self, passing: &Passing<'_>, mut request: RequestBody) -> Result<Answer, Fault> {
        let mut connecting = Duration::ZERO;
        loop {
            let (sender, connect) = self.pool.checkout(passing.exchange.began()).await?;
            connecting += connect;
            passing.exchange.connected(connecting);
            match sender {
                Sender::Http2(sender) => return self.pass_http2(sender, passing, request).await,
                Sender::Http1(connection) => {
                    let reused = connection.is_reused();
                    let to_head = passing.head.method == Method::HEAD;
                    let mut call = Box::new(connection.call(request, passing.framing, to_head, |out| {
                        headers::write_request(out, passing.head, &self.onward(passing));
                    }));
                    match passing.for_head(&mut call, self.settings.response_timeout.0).await {
                        Ok((head, framing)) => return self.answer(head, framing, call, passing).await,
                        // Not a byte was sent, on a connection that had been kept: the next one will do.
                        Err(Waited::Lost(Lost::Unsent)) if reused => request = call.into_request(),
                        Err(lost) => return Err(passing.upload.fault.get().unwrap_or(lost.fault())),
                    }
                }
            }
        }
    }

    async fn answer(
        &self,
        head: ResponseHead,
        framing: Framing,
        call: Box<Call>,
        passing: &Passing<'_>,
    ) -> Result<Answer, Fault> {
        let (exchange, link) = (passing.exchange.clone(), Rc::clone(passing.link));
        let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if switching && passing.upgrade.is_none() {
            return Err(Fault::Garbage);
        }
        let head = passing.begun(head);
        if switching {
            let (upstream, early) = call.into_tunnel();
            return Ok(Answer::Tunnel(head, Tunnel { upstream, early, exchange }));
        }
        let idle = self.settings.read_idle_timeout.0;
        let mut body = ResponseBody::http1(call, Rc::clone(&self.pool), idle, exchange, link);
        if body.is_end() && !body.finish_empty().await {
            return Err(Fault::JournalFull);
        }
        Ok(Answer::Response { head, framing, body, close: false })
    }

    fn onward<'a>(&'a self, passing: &Passing<'a>) -> Onward<'a> {
        let connection = &passing.link.connection;
        Onward {
            settings: self.settings.headers,
            host: self.settings.host,
            authority: &self.authority,
            peer_text: passing.link.peer_text.as_deref(),
            peer: connection.peer,
            peer_trusted: passing.link.peer_trusted,
            client_tls: connection.tls,
            request_id: (&self.request_id_header, passing.exchange.request_id()),
            upgrade: passing.upgrade,
            framing: passing.framing,
        }
    }

    /// A response of our own; without a body where the client asked for the head only.
    async fn own(&self, fault: Fault, is_head: bool, exchange: Exchange, link: &Rc<Link>) -> Answer {
        let (status, end, reason) = fault.answer();
        exchange.own_response(status, end, reason);
        let text = fault::body(status, reason, exchange.request_id());
        let length = text.len().to_string();
        let lines: [(&[u8], &[u8]); 3] = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", length.as_bytes()),
            (self.request_id_header.as_str().as_bytes(), exchange.request_id().as_bytes()),
        ];
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let head = Rc::new(ResponseHead::new(status, &lines));
        let framing = if is_head { Framing::Empty } else { Framing::Length(text.len() as u64) };
        let text = if is_head { String::new() } else { text };
        let mut body = ResponseBody::own(text, exchange.clone(), Rc::clone(link));
        if is_head {
            // There is nothing better to answer than what is being answered.
            let _ = body.finish_empty().await;
        }
        Answer::Response { head, framing, body, close: matches!(fault, Fault::ClientRefused { .. }) }
    }
}

impl Passing<'_> {
    /// The response's head has come.
    fn begun(&self, head: ResponseHead) -> Rc<ResponseHead> {
        let head = Rc::new(head);
        self.exchange.response_head(&head);
        if is_event_stream(&head) {
            // It may go on for hours: that it began is worth a record of its own.
            self.exchange.response_started();
        }
        head
    }

    /// Sends the request and waits for the response's head.
    async fn for_head(&self, call: &mut Call, limit: Duration) -> Result<(ResponseHead, Framing), Waited> {
        // HTTP/1.0 knows no 1xx (RFC 9110 section 15.2), and hyper writes none in HTTP/2.
        let takes_informational = self.head.version == Version::HTTP_11;
        let inform = |head: &ResponseHead| {
            if head.status == StatusCode::CONTINUE {
                // The client is told when its body is asked for.
                self.upload.open();
            } else if takes_informational {
                self.link.inform(head.status.as_u16(), head.reason(), &head.fields);
            }
        };
        self.within(limit, |cx| call.poll_head(cx, inform)).await?.map_err(Waited::Lost)
    }

    /// Waits for the head that `poll` looks for, until `limit` after the request's end.
    async fn within<T>(&self, limit: Duration, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, Waited> {
        let first = if self.upload.is_closed() { CONTINUE_PATIENCE } else { limit };
        let mut timer = self.link.timer(self.exchange.began() + first);
        let outcome = poll_fn(|cx| {
            loop {
                if let Poll::Ready(head) = poll(cx) {
                    self.exchange.first_byte();
                    return Poll::Ready(Ok(head));
                }
                std::task::ready!(timer.as_mut().poll(cx));
                if self.is_late(timer.as_mut(), limit) {
                    return Poll::Ready(Err(Waited::TooLong));
                }
            }
        })
        .await;
        self.link.keep_timer(timer);
        outcome
    }

    /// The timer has rung: whether it is over, or the timer was set anew.
    fn is_late(&self, timer: Pin<&mut tokio::time::Sleep>, limit: Duration) -> bool {
        if self.upload.is_closed() {
            self.upload.open();
            timer.reset(tokio::time::Instant::now() + limit);
            return false;
        }
        // The time counts from the request's last byte: a slow upload is no slow answer.
        // One that the application has stopped taking is.
        let since = self.upload.ended.get().or(self.upload.stuck.get());
        let left = since.map_or(limit, |since| limit.saturating_sub(since.elapsed()));
        timer.reset(tokio::time::Instant::now() + left);
        left.is_zero()
    }
}

/// Why a wait for a head was in vain.
enum Waited {
    Lost(Lost),
    TooLong,
}

impl Waited {
    fn fault(&self) -> Fault {
        match self {
            Self::TooLong => Fault::ResponseTimeout,
            Self::Lost(Lost::Garbage(refusal)) => {
                tracing::debug!(reason = refusal.reason, "the application's answer was not HTTP");
                Fault::Garbage
            }
            Self::Lost(Lost::Closed | Lost::Unsent) => Fault::Reset,
        }
    }
}

/// What an HTTP/1 head is refused for when it is read, and hyper lets pass in HTTP/2: in HTTP/1 to the application
/// it would say where the message ends, or for whom it is, in more than one way.
fn contradicts_itself(head: &RequestHead) -> bool {
    let several = |known| head.fields.all_known(known).nth(1).is_some();
    several(Known::ContentLength) || several(Known::Host) || head.fields.known(Known::TransferEncoding).is_some()
}

/// Server-sent events (WHATWG HTML section 9.2).
fn is_event_stream(head: &ResponseHead) -> bool {
    head.fields.known(Known::ContentType).is_some_and(|value| value.starts_with(b"text/event-stream"))
}
