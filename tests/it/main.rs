//! Tests of the whole with real parts, in one binary.
//!
//! | module | what |
//! | --- | --- |
//! | `admin` | a real process: ready, counted, drained |
//! | `check` | `daybook check`: what it says and how it exits |
//! | `delivery` | journal to a real Apache Kafka and to files |
//! | `killed` | the binary under load, `kill -9`, a closed stdout |
//! | `walls` | which room may use which; how long files and functions may be |
//!
//! `tests/run` prepares what they need (Kafka's jars, nginx, a Python environment) and runs them.

mod admin;
mod check;
#[cfg(feature = "kafka")]
mod delivery;
#[cfg(feature = "kafka")]
mod killed;
#[cfg(feature = "kafka")]
mod support;
mod walls;
