//! The sample app of the demo: a shop's panel and API, which knows nothing of Daybook.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The password of everybody in the demo.
pub(super) const PASSWORD: &str = "correct horse battery staple";

/// Largest body the sample app reads.
const MAX_BODY: usize = 64 * 1024;

type Answer = Response<Full<Bytes>>;

/// Who is signed in, by session.
#[derive(Default)]
struct Shop {
    sessions: Mutex<HashMap<String, String>>,
}

/// Serves on a free port of this machine until the runtime ends.
pub(super) async fn serve() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let shop = Arc::new(Shop::default());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let shop = Arc::clone(&shop);
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(Arc::clone(&shop), request));
                // A client that goes away is its own affair.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

async fn answer(shop: Arc<Shop>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let form: HashMap<String, String> = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => form_urlencoded::parse(&body.to_bytes()).into_owned().collect(),
        Err(_) => return Ok(text(StatusCode::PAYLOAD_TOO_LARGE, "too large")),
    };
    let path = head.uri.path();
    let answer = if path.starts_with("/api/") {
        api(&head.method, path, head.headers.get("x-api-key"))
    } else {
        shop.panel(&head, path, &form)
    };
    // Work takes time, and some of it more than other.
    tokio::time::sleep(Duration::from_millis(path.len() as u64 % 7)).await;
    Ok(answer)
}

impl Shop {
    fn panel(&self, head: &http::request::Parts, path: &str, form: &HashMap<String, String>) -> Answer {
        let session = cookie(head);
        let mut sessions = self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match (&head.method, path) {
            (_, "/healthz") => text(StatusCode::OK, "ok"),
            (&Method::POST, "/login") => match (form.get("email"), form.get("password")) {
                (Some(email), Some(password)) if password == PASSWORD => {
                    let id = uuid::Uuid::now_v7().to_string();
                    sessions.insert(id.clone(), email.clone());
                    let mut answer = redirect("/orders");
                    if let Ok(cookie) = HeaderValue::from_str(&format!("sid={id}; HttpOnly; Path=/")) {
                        answer.headers_mut().insert(header::SET_COOKIE, cookie);
                    }
                    answer
                }
                _ => redirect("/login?error=1"),
            },
            (_, "/login") => text(StatusCode::OK, "<form method=post>e-mail, password</form>"),
            (&Method::POST, "/logout") => {
                session.map(|id| sessions.remove(&id));
                redirect("/login")
            }
            _ if session.is_none_or(|id| !sessions.contains_key(&id)) => redirect("/login"),
            (&Method::GET, "/orders") => text(StatusCode::OK, "<h1>Orders</h1>"),
            (&Method::GET, "/reports/slow") => text(StatusCode::INTERNAL_SERVER_ERROR, "the database is tired"),
            (&Method::GET, "/admin") => text(StatusCode::FORBIDDEN, "not you"),
            (&Method::POST, path) if path.ends_with("/refund") => redirect("/orders"),
            (_, path) if path.starts_with("/orders/") => text(StatusCode::OK, "<h1>Order</h1>"),
            _ => text(StatusCode::NOT_FOUND, "no such page"),
        }
    }
}

fn api(method: &Method, path: &str, key: Option<&HeaderValue>) -> Answer {
    let json = |status, body: &'static str| {
        let mut answer = text(status, body);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    };
    if !key.is_some_and(|key| key.as_bytes().starts_with(b"demo_")) {
        return json(StatusCode::UNAUTHORIZED, r#"{"error":"no such key"}"#);
    }
    match (method, path) {
        (&Method::GET, "/api/v1/orders") => json(StatusCode::OK, r#"{"orders":[{"id":1041},{"id":1042}]}"#),
        (&Method::POST, "/api/v1/orders") => json(StatusCode::CREATED, r#"{"id":1043}"#),
        (&Method::GET, "/api/v1/customers") => json(StatusCode::OK, r#"{"customers":[]}"#),
        _ => json(StatusCode::NOT_FOUND, r#"{"error":"not found"}"#),
    }
}

fn cookie(head: &http::request::Parts) -> Option<String> {
    let cookies = head.headers.get(header::COOKIE)?.to_str().ok()?;
    cookies.split("; ").find_map(|pair| pair.strip_prefix("sid=")).map(str::to_owned)
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = status;
    answer
}

fn redirect(to: &'static str) -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    answer
}
