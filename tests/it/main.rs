//! Tests of the whole with real parts, in one binary.
//!
//! | module | what |
//! | --- | --- |
//! | `admin` | `/live`, `/ready` and `/metrics` after real traffic |
//! | `check` | `daybook check`: what it says and how it exits |
//! | `cli` | the command line: exit codes, help, `tail`, `demo`, signals |
//! | `crash` | `kill -9` under load in every mode, full disks, two processes in one folder |
//! | `delivery` | journal to a real Apache Kafka and to files |
//! | `django` | Django's admin, unmodified, behind Daybook: its records in Kafka are what happened |
//! | `lake` | the table holds what the journal says, for `daybook query` and for other engines, whatever happens |
//! | `outage` | Daybook replaced and killed while the broker is away: everything arrives |
//! | `proxy` | connections through the real binary: what a proxy must not change, lose or misreport |
//! | `secrets` | what must never be written is in no file and no log |
//! | `walls` | which room may use which; how long files and functions may be |
//!
//! `tests/run` prepares what they need (Kafka's jars, nginx, a Python environment) and runs them.

mod admin;
mod check;
mod cli;
mod crash;
#[cfg(feature = "kafka")]
mod delivery;
#[cfg(feature = "kafka")]
mod django;
#[cfg(feature = "lake")]
mod lake;
#[cfg(feature = "kafka")]
mod outage;
mod proxy;
mod secrets;
mod support;
mod walls;
