//! The binary `daybook`.

use std::process::ExitCode;

/// Small bodies and short-lived buffers are what a proxy allocates.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daybook::cli::main()
}
