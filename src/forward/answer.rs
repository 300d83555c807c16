//! What a request is answered with, for HTTP/1 and for HTTP/2 clients.

use std::rc::Rc;

use http::{Response, Version};

use crate::message::{Framing, ResponseHead};

use super::body::ResponseBody;
use super::headers;
use super::tunnel::Tunnel;

/// The answer to one request.
pub enum Answer {
    /// A response.
    Response {
        /// Its head, as the application sent it or we made it.
        head: Rc<ResponseHead>,
        /// How its body is framed there.
        framing: Framing,
        /// Its body.
        body: ResponseBody,
        /// No request may follow on this connection.
        close: bool,
    },
    /// A 101 to an upgrade over HTTP/1: once its head is out, the connection is a tunnel.
    Tunnel(Rc<ResponseHead>, Tunnel),
}

impl Answer {
    /// The same for hyper's HTTP/2. There are no upgrades in HTTP/2, so there is no tunnel.
    pub fn into_http2(self) -> Option<Response<ResponseBody>> {
        let Self::Response { head, body, .. } = self else { return None };
        let mut response = Response::new(body);
        *response.version_mut() = Version::HTTP_2;
        *response.status_mut() = head.status;
        *response.headers_mut() = headers::back(&head);
        Some(response)
    }
}
