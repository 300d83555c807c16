//! Tests of the whole with real parts, in one binary.
//!
//! | module | what |
//! | --- | --- |
//! | `check` | `daybook check`: what it says and how it exits |
//! | `walls` | which room may use which; how long files and functions may be |

mod check;
mod walls;
