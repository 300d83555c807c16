//! Daybook: one durable audit record for every HTTP exchange.
//!
//! ```text
//! client ⇄ listen ⇄ forward ⇄ the app            bytes on the wire are never changed or held up
//!                     │ tap (a copy)
//!                  capture        rules · identity · redaction · GeoIP  →  Record
//!                     │
//!                  journal        seq · group commit                   ═ survives a crash
//!                     ║
//!                  deliver        kafka | file: each a cursor over the journal
//! ```
//!
//! `ARCHITECTURE.md` is the map.

pub mod app;
pub mod capture;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod forward;
pub mod journal;
#[cfg(feature = "lake")]
pub mod lake;
pub mod listen;
pub mod message;
pub mod record;
pub mod telemetry;
