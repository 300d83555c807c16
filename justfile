# The same commands as `.ci/run` and `tests/run`, by name.

# What CI runs.
ci:
    bash .ci/run

# All tests; `just test NAME` runs those with NAME.
test *ARGS:
    tests/run {{ ARGS }}

# Format and lints only.
lint:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked --all-targets --no-default-features -- -D warnings

# Traffic, capture and records on this terminal.
demo:
    cargo run --release -- demo
