//! TLS on both sides: names, protocols, client certificates, and certificates that change.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use crate::support::daybook::{Daybook, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;

/// An authority and the files it wrote.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).expect("written");
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// Writes `{file}.pem` and `{file}.key` for a DNS name, by renaming, as careful tools do.
    fn sign(&self, file: &str, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        for (ending, text) in [("key", key.serialize_pem()), ("pem", certificate.pem())] {
            let new = self.dir.join("new");
            std::fs::write(&new, text).expect("written");
            std::fs::rename(new, self.dir.join(format!("{file}.{ending}"))).expect("renamed");
        }
    }
}

/// One listener with certificates for `a.test` and, by name, `b.test`.
fn listening(origin: &Origin, more: impl FnOnce(Setup) -> Setup) -> (Daybook, Authority) {
    let setup = Setup::new(&origin.url);
    let authority = Authority::new(setup.dir(), "ca");
    authority.sign("a", "a.test");
    authority.sign("b", "b.test");
    let dir = setup.dir().display().to_string();
    let setup = setup
        .listener(&format!("tls.cert = \"{dir}/a.pem\"\ntls.key = \"{dir}/a.key\""))
        .listener(&format!("tls.more = [{{ cert = \"{dir}/b.pem\", key = \"{dir}/b.key\" }}]"));
    (more(setup).start(), authority)
}

/// What curl says: the body, then the HTTP version and status it saw; or its error.
fn curl(daybook: &Daybook, name: &str, path: &str, args: &[&str]) -> Result<String, String> {
    let port = daybook.address().port();
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--resolve", &format!("{name}:{port}:127.0.0.1")])
        .args(["-w", " %{http_version} %{response_code}", "--cacert"])
        .arg(daybook.dir().join("ca.pem"))
        .args(args)
        .arg(format!("https://{name}:{port}{path}"))
        .output()
        .expect("curl runs");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn alpn_chooses_the_protocol_and_sni_the_certificate() {
    let origin = Origin::answering("ok");
    let (daybook, _) = listening(&origin, |setup| setup);
    for (name, path, flag, version, recorded) in [
        ("a.test", "/a2", "--http2", "2", "2"),
        ("a.test", "/a1", "--http1.1", "1.1", "1.1"),
        ("b.test", "/b2", "--http2", "2", "2"),
        ("b.test", "/b1", "--http1.1", "1.1", "1.1"),
    ] {
        assert_eq!(curl(&daybook, name, path, &[flag]), Ok(format!("ok {version} 200")), "{name} {flag}");
        let record = daybook.outcome(path);
        assert_eq!((record["http_version"].as_str(), record["scheme"].as_str()), (Some(recorded), Some("https")));
        assert_eq!(record["end"], "complete", "{record}");
    }
    assert!(curl(&daybook, "c.test", "/c", &[]).is_err(), "no certificate names c.test");
    assert_eq!(origin.requests()[0].header("x-forwarded-proto"), Some("https"));
    // Plain HTTP on a TLS port is no exchange.
    let mut plain = daybook.connect();
    plain.send("GET /plain HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!plain.rest().contains("HTTP/1.1 200"));
}

#[test]
fn large_bodies_pass_through_tls() {
    let origin = Origin::new(|visit| {
        while let Some(request) = visit.request() {
            visit.ok(&"x".repeat(request.body.len()));
        }
    });
    let (daybook, _) = listening(&origin, |setup| setup);
    let file = daybook.dir().join("large");
    std::fs::write(&file, vec![b'x'; 3_000_000]).expect("written");
    let upload = format!("@{}", file.display());
    for flag in ["--http2", "--http1.1"] {
        let answer = curl(&daybook, "a.test", &format!("/{flag}"), &[flag, "--data-binary", &upload]).expect("200");
        assert_eq!(answer.bytes().filter(|b| *b == b'x').count(), 3_000_000, "{flag}");
        let record = daybook.outcome(&format!("/{flag}"));
        assert_eq!((record["request_bytes"].as_u64(), record["end"].as_str()), (Some(3_000_000), Some("complete")));
    }
}

#[test]
fn client_certificates_are_demanded_or_welcome() {
    let origin = Origin::answering("ok");
    for (auth, without) in [("required", false), ("optional", true)] {
        let (daybook, authority) = listening(&origin, |setup| {
            let ca = setup.dir().join("ca.pem").display().to_string();
            setup.listener(&format!("tls.client_ca = \"{ca}\"\ntls.client_auth = \"{auth}\""))
        });
        authority.sign("me", "alice");
        Authority::new(daybook.dir(), "other").sign("stranger", "mallory");
        let path = |file: &str| daybook.dir().join(file).display().to_string();
        let with = |who: &str| {
            curl(
                &daybook,
                "a.test",
                "/with",
                &["--cert", &path(&format!("{who}.pem")), "--key", &path(&format!("{who}.key"))],
            )
        };
        assert_eq!(with("me"), Ok("ok 2 200".to_owned()), "{auth}");
        let record = daybook.outcome("/with");
        assert!(record["user"].to_string().contains("alice"), "the subject names the user: {record}");
        assert!(with("stranger").is_err(), "{auth}: a certificate of somebody else's is refused");
        assert_eq!(curl(&daybook, "a.test", "/without", &[]).is_ok(), without, "{auth}");
    }
}

#[test]
fn certificates_change_without_a_restart() {
    let origin = Origin::answering("ok");
    let (daybook, _) = listening(&origin, |setup| setup);
    assert_eq!(curl(&daybook, "a.test", "/1", &[]), Ok("ok 2 200".to_owned()));
    let begin_log = daybook.log().len();
    // Replaced files are noticed…
    let renewed = Authority::new(daybook.dir(), "ca");
    renewed.sign("a", "a.test");
    eventually("the new certificate is served", Duration::from_secs(15), || curl(&daybook, "a.test", "/2", &[]).ok());
    // … and a signal does not wait for that. A file that can't be used changes nothing.
    std::fs::write(daybook.dir().join("b.pem"), "nonsense").expect("written");
    daybook.signal(Signal::HUP);
    eventually("the log complains", Duration::from_secs(10), || {
        daybook.log()[begin_log..].contains("b.pem").then_some(())
    });
    assert!(curl(&daybook, "a.test", "/3", &[]).is_ok(), "the old ones stay in force");
    renewed.sign("b", "b.test");
    daybook.signal(Signal::HUP);
    eventually("the second is served", Duration::from_secs(15), || curl(&daybook, "b.test", "/4", &[]).ok());
}

#[test]
fn the_application_is_verified() {
    let setup = Setup::new("http://unused");
    let (right, wrong) = (Authority::new(setup.dir(), "ca"), Authority::new(setup.dir(), "wrong"));
    right.sign("app", "localhost");
    drop(wrong);
    let file = |name: &str| setup.dir().join(name);
    let chain = daybook::forward::certificates(&file("app.pem")).expect("a certificate");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, daybook::forward::private_key(&file("app.key")).expect("a key"))
        .expect("a certificate and its key");
    let origin = Origin::tls(Arc::new(config), |visit| visit.answer_all("by TLS"));
    for (ca, name, status) in
        [("ca.pem", "localhost", 200), ("wrong.pem", "localhost", 502), ("ca.pem", "other.test", 502)]
    {
        let daybook = Setup::new(&origin.url)
            .listener(&format!("forward.tls.ca = \"{}\"\nforward.tls.server_name = \"{name}\"", file(ca).display()))
            .start();
        let response = daybook.connect().get("/tls", "");
        assert_eq!(response.status(), status, "{ca} {name}: {}", response.text());
        let end = if status == 200 { "complete" } else { "upstream_unreachable" };
        assert_eq!(daybook.end("/tls"), end);
    }
}

#[test]
fn a_client_that_does_not_read_is_given_up_behind_tls_too() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        while visit.send([b'x'; 100_000]) {}
    });
    let (daybook, _) = listening(&origin, |setup| setup.listener("limits.write_idle_timeout = \"1s\""));
    let roots = daybook::forward::roots(&daybook.dir().join("ca.pem")).expect("an authority");
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = "a.test".try_into().expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let socket = std::net::TcpStream::connect(daybook.address()).expect("Daybook listens");
    let mut client = rustls::StreamOwned::new(session, socket);
    client.write_all(b"GET /stalled HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    let record = daybook.outcome("/stalled");
    assert_eq!(record["end"], "timeout", "{record}");
    assert_eq!(record["reason"], "the client stopped reading", "{record}");
}
