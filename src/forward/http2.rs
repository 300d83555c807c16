//! HTTP/2 to the application, by hyper.

use std::pin::pin;
use std::rc::Rc;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};
use hyper::client::conn::http2::SendRequest;

use crate::message::{Framing, Known, ResponseHead};

use super::body::{RequestBody, ResponseBody};
use super::fault::Fault;
use super::{Answer, Forwarder, Passing, headers};

impl Forwarder {
    /// Sends the request and makes an answer of the response's head.
    pub(super) async fn pass_http2(
        &self,
        mut sender: SendRequest<RequestBody>,
        passing: &Passing<'_>,
        body: RequestBody,
    ) -> Result<Answer, Fault> {
        let mut request = Request::new(body);
        let to = self.onward(passing);
        let mut lines = HeaderMap::with_capacity(passing.head.fields.len() + 4);
        headers::onward(&mut lines, passing.head, &to, false);
        // Frames say it all.
        lines.remove(http::header::TRANSFER_ENCODING);
        // There are no upgrades in HTTP/2.
        lines.remove(http::header::CONNECTION);
        lines.remove(http::header::UPGRADE);
        *request.headers_mut() = lines;
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = passing.head.method.clone();
        *request.uri_mut() = uri(headers::host_for(passing.head, &to), passing.head.origin_form(), self.upstream_tls)
            .ok_or(Fault::ClientRefused { status: 400, reason: "a target that HTTP/2 can't carry" })?;
        // Whether the application wants the body can't be asked here: the client is told to send it.
        passing.upload.open();
        let mut sent = pin!(sender.try_send_request(request));
        let response = match passing.within(self.settings.response_timeout.0, |cx| sent.as_mut().poll(cx)).await {
            Ok(Ok(response)) => response,
            Ok(Err(failed)) => {
                tracing::debug!(error = %failed.error(), "no answer from the application");
                return Err(passing.upload.fault.get().unwrap_or(Fault::Reset));
            }
            Err(waited) => return Err(waited.fault()),
        };
        let (parts, incoming) = response.into_parts();
        let head = passing.begun(ResponseHead::from_parts(&parts));
        let (idle, exchange) = (self.settings.read_idle_timeout.0, passing.exchange.clone());
        let mut body = ResponseBody::http2(incoming, idle, exchange, Rc::clone(passing.link));
        let length = head.fields.known(Known::ContentLength).is_some();
        let framing = match head.framing(passing.head.method == Method::HEAD) {
            Ok(Framing::Close) if body.is_end() && !length => Framing::Length(0),
            Ok(framing) => framing,
            Err(_) => return Err(Fault::Garbage),
        };
        // An HTTP/1 client's connection does not ask for a body that can't be there.
        let empty = body.is_end() || framing == Framing::Empty && !passing.link.multiplexed;
        if empty && !body.finish_empty().await {
            return Err(Fault::JournalFull);
        }
        Ok(Answer::Response { head, framing, body, close: false })
    }
}

fn uri(host: &[u8], target: &[u8], tls: bool) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Authority::try_from(host).ok();
    parts.path_and_query = Some(PathAndQuery::try_from(if target.is_empty() { b"/" } else { target }).ok()?);
    Uri::from_parts(parts).ok()
}
