//! What is never written.
