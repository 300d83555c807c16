//! The people and programs of the demo: a panel's users at work, and scripts on the API.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::sample::PASSWORD;

/// Pause between two steps of one visitor.
const STEP: Duration = Duration::from_millis(120);

/// A visitor: an address it says it comes from, and what it calls itself.
struct Visitor {
    email: &'static str,
    ip: &'static str,
    agent: &'static str,
}

// Addresses of the documentation ranges (RFC 5737, RFC 3849), names of example.com (RFC 2606).
const PEOPLE: [Visitor; 3] = [
    Visitor { email: "ada@example.com", ip: "203.0.113.9", agent: "Firefox" },
    Visitor { email: "grace@example.com", ip: "198.51.100.23", agent: "Chromium" },
    Visitor { email: "linus@example.com", ip: "2001:db8::7", agent: "Safari" },
];

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Makes traffic until it is dropped.
pub(super) async fn make(address: SocketAddr) {
    let people = PEOPLE.iter().map(|person| tokio::spawn(repeat(move || day_in_the_panel(address, person))));
    let mut all: Vec<_> = people.collect();
    all.push(tokio::spawn(repeat(move || scripts(address))));
    all.push(tokio::spawn(repeat(move || a_burglar(address))));
    for task in all {
        let _ = task.await;
    }
}

async fn repeat<F: Future<Output = Result<(), Failed>>>(what: impl Fn() -> F) {
    loop {
        if let Err(error) = what().await {
            tracing::debug!(%error, "the demo's traffic");
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Signs in, looks around, refunds something, signs out.
async fn day_in_the_panel(address: SocketAddr, who: &'static Visitor) -> Result<(), Failed> {
    let mut browser = Browser::open(address, who).await?;
    browser.get("/login").await?;
    browser.post("/login", &[("email", who.email), ("password", PASSWORD)]).await?;
    for path in ["/orders", "/orders/1041", "/healthz", "/admin", "/reports/slow", "/no-such-page"] {
        browser.get(path).await?;
    }
    browser.post("/orders/1041/refund", &[("amount", "19.90"), ("card_number", "4111111111111111")]).await?;
    browser.post("/logout", &[]).await?;
    browser.get("/orders").await
}

async fn scripts(address: SocketAddr) -> Result<(), Failed> {
    let robot = Visitor { email: "", ip: "192.0.2.44", agent: "python-requests" };
    let mut client = Browser::open(address, &robot).await?;
    client.key = Some("demo_live_4f1c2a9b7e");
    client.get("/api/v1/orders").await?;
    client.post("/api/v1/orders", &[("sku", "A-1"), ("quantity", "2")]).await?;
    client.get("/api/v1/customers?page=2&api_key=demo_live_4f1c2a9b7e").await?;
    client.get("/api/v1/unknown").await?;
    client.key = None;
    client.get("/api/v1/orders").await
}

/// Guesses passwords.
async fn a_burglar(address: SocketAddr) -> Result<(), Failed> {
    let burglar = Visitor { email: "", ip: "192.0.2.200", agent: "curl" };
    let mut client = Browser::open(address, &burglar).await?;
    for password in ["123456", "password1", "letmein"] {
        client.post("/login", &[("email", "ada@example.com"), ("password", password)]).await?;
        tokio::time::sleep(STEP * 3).await;
    }
    Ok(())
}

/// One connection with the memory of one cookie.
struct Browser<'a> {
    sender: SendRequest<Full<Bytes>>,
    who: &'a Visitor,
    cookie: Option<String>,
    key: Option<&'static str>,
}

impl<'a> Browser<'a> {
    async fn open(address: SocketAddr, who: &'a Visitor) -> Result<Self, Failed> {
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, who, cookie: None, key: None })
    }

    async fn get(&mut self, path: &str) -> Result<(), Failed> {
        self.send(Method::GET, path, String::new()).await
    }

    async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Result<(), Failed> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.send(Method::POST, path, body).await
    }

    async fn send(&mut self, method: Method, path: &str, body: String) -> Result<(), Failed> {
        tokio::time::sleep(STEP).await;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "shop.example.com")
            .header(header::USER_AGENT, self.who.agent)
            .header("x-forwarded-for", self.who.ip);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        if let Some(key) = self.key {
            request = request.header("x-api-key", key);
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(body.into()))?).await?;
        if let Some(set) = response.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok()) {
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        response.into_body().collect().await?;
        Ok(())
    }
}
