//! The proxy as a client and an application meet it: raw sockets on both sides of the real binary.

mod bodies;
mod endings;
mod faults;
mod headers;
mod http2;
mod lifecycle;
mod limits;
mod reuse;
mod smuggling;
mod statuses;
mod streaming;
mod tls;
mod upgrades;
