//! Tests of the whole with real parts, in one binary.
//!
//! | module | what |
//! | --- | --- |
//! | `walls` | which room may use which; how long files and functions may be |

mod walls;
