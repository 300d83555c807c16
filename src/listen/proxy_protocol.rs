//! The PROXY protocol header (v1 and v2) that a load balancer puts before a connection's first byte.
//!
//! Specification: haproxy.org, `proxy-protocol.txt`. The header is peeked at first and then read to
//! its exact length, so that what follows is untouched.

use std::io;
use std::net::IpAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longest header taken: v1 has 107 bytes at most; v2 with certificates in its TLVs can be longer.
const MAX: usize = 4096;

/// Reads the header. The address is that of the real peer, `None` for a balancer's own health check.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut buffer = vec![0; MAX];
    let mut seen = 0;
    loop {
        let have = stream.peek(&mut buffer).await?;
        if have == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let parsed = HeaderResult::parse(&buffer[..have]);
        if parsed.is_complete() {
            let (address, length) = parts(parsed)?;
            stream.read_exact(&mut buffer[..length]).await?;
            return Ok(address);
        }
        if have == MAX {
            return Err(invalid());
        }
        // A peek returns at once while bytes are there: give the rest of the header time to come.
        if have == seen {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        seen = have;
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY protocol header")
}

fn parts(parsed: HeaderResult<'_>) -> io::Result<(Option<IpAddr>, usize)> {
    match parsed {
        HeaderResult::V1(Ok(header)) => {
            let address = match header.addresses {
                v1::Addresses::Tcp4(ip) => Some(ip.source_address.into()),
                v1::Addresses::Tcp6(ip) => Some(ip.source_address.into()),
                v1::Addresses::Unknown => None,
            };
            Ok((address, header.header.len()))
        }
        HeaderResult::V2(Ok(header)) => {
            let address = match (header.command, header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => Some(ip.source_address.into()),
                (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => Some(ip.source_address.into()),
                _ => None,
            };
            Ok((address, header.len()))
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn read_back(pieces: &[&[u8]]) -> (io::Result<Option<IpAddr>>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|p| p.to_vec()).collect();
        let client = tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("listening");
            for piece in pieces {
                stream.write_all(&piece).await.expect("open");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        let (mut server, _) = listener.accept().await.expect("a client");
        let address = read(&mut server).await;
        let mut rest = Vec::new();
        if address.is_ok() {
            server.read_to_end(&mut rest).await.expect("open");
        }
        client.await.expect("no panic");
        (address, rest)
    }

    #[tokio::test]
    async fn a_v1_header_in_pieces_names_the_peer_and_leaves_the_rest() {
        let (address, rest) = read_back(&[b"PROXY TCP4 203.0.113.9 ", b"10.0.0.1 5 80\r\nGET /"]).await;
        assert_eq!(address.expect("well-formed"), Some(IpAddr::from([203, 0, 113, 9])));
        assert_eq!(rest, b"GET /");
    }

    #[tokio::test]
    async fn a_v2_header_names_the_peer() {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend_from_slice(&[203, 0, 113, 9, 10, 0, 0, 1, 0, 5, 0, 80]);
        header.extend_from_slice(b"GET /");
        let (address, rest) = read_back(&[&header]).await;
        assert_eq!(address.expect("well-formed"), Some(IpAddr::from([203, 0, 113, 9])));
        assert_eq!(rest, b"GET /");
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        assert!(read_back(&[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]).await.0.is_err());
    }
}
