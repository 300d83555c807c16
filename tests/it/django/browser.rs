//! A browser, as far as Django's admin needs one: cookies, forms and their CSRF tokens.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::support::client::Client;

/// Keeps cookies, follows nothing.
pub(super) struct Browser {
    address: SocketAddr,
    ip: &'static str,
    cookies: BTreeMap<String, String>,
    /// Of the page that was seen last.
    csrf: String,
    /// Every secret this browser ever held: session keys and CSRF tokens.
    pub(super) secrets: Vec<String>,
}

/// An exchange as the browser saw it.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) sent: usize,
    pub(super) received: usize,
    pub(super) ip: &'static str,
    pub(super) host: String,
    pub(super) page: String,
}

pub(super) const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) Test/1.0";

impl Browser {
    /// One at this address of the internet.
    pub(super) fn new(address: SocketAddr, ip: &'static str) -> Self {
        Self { address, ip, cookies: BTreeMap::new(), csrf: String::new(), secrets: Vec::new() }
    }

    pub(super) fn get(&mut self, target: &str) -> Done {
        self.send("GET", target, "")
    }

    /// Sends the form of the page seen last.
    pub(super) fn post(&mut self, target: &str, fields: &[(&str, &str)]) -> Done {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("csrfmiddlewaretoken", &self.csrf).extend_pairs(fields);
        let body = form.finish();
        self.send("POST", target, &body)
    }

    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    /// As somebody would who kept a copy of an old cookie.
    pub(super) fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    fn send(&mut self, method: &'static str, target: &str, body: &str) -> Done {
        let (host, ip) = (self.address.to_string(), self.ip);
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {AGENT}\r\n");
        head += &format!("X-Forwarded-For: {ip}\r\n");
        if !self.cookies.is_empty() {
            let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            head += &format!("Cookie: {}\r\n", pairs.join("; "));
        }
        if method == "POST" {
            head += "Content-Type: application/x-www-form-urlencoded\r\n";
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut client = Client::connect(self.address);
        client.send(format!("{head}\r\n{body}"));
        let response = client.response();
        assert!(response.whole, "{method} {target} was answered as a whole");
        response.all("set-cookie").into_iter().for_each(|line| self.keep(line));
        let page = response.text();
        if let Some(csrf) = page.split("name=\"csrfmiddlewaretoken\" value=\"").nth(1).and_then(|t| t.split('"').next())
        {
            self.csrf = csrf.to_owned();
            self.secrets.push(self.csrf.clone());
        }
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q.to_owned())));
        Done {
            method,
            path: path.to_owned(),
            query,
            status: response.status(),
            location: response.header("location").map(str::to_owned),
            sent: body.len(),
            received: response.body.len(),
            ip,
            host,
            page,
        }
    }

    fn keep(&mut self, line: &str) {
        let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
        let (name, value) = pair.split_once('=').expect("a cookie has a name");
        let value = value.trim_matches('"');
        if value.is_empty() || attributes.to_ascii_lowercase().contains("max-age=0") {
            self.cookies.remove(name);
        } else {
            self.secrets.push(value.to_owned());
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}
