//! What the process says about itself: its log, its metrics, and the admin address that serves them.
//!
//! - The log goes to stderr, in lines for people or JSON for collectors; stdout is for data. What is
//!   logged never contains a secret: settings that are secret print as `***`.
//! - Metrics have no globals: a [`Metrics`] is made once and handed down. What happens on every request
//!   is counted in a [`Worker`]'s own memory, which no other thread writes; a scrape adds the workers up.
//!   Rooms that count for themselves (journal, sinks) are asked at the scrape: [`Figures`].
//! - [`admin::serve`] answers `/live`, `/ready` and `/metrics`.
//!
//! Names are `daybook_<noun>_<unit>`, counters end in `_total` (OpenMetrics 1.0).

pub mod admin;
mod io;
mod log;
mod metrics;
mod worker;

pub use log::{LogError, LogFormat, init_logs};
pub use metrics::{Figures, JournalFigures, Metrics, SinkFigures};
pub use worker::{Kind, Worker};
