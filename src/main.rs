//! The binary `daybook`.

use std::process::ExitCode;

/// Small bodies and short-lived buffers are what a proxy allocates. It serves librdkafka as well, instead of the C
/// library's allocator: a message is a dozen small blocks, and halved the Kafka threads' time that way.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daybook::cli::main()
}
