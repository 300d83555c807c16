//! Linker options of the binary.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let env = std::env::var("CARGO_CFG_TARGET_ENV").unwrap_or_default();
    if os == "linux" && env == "gnu" {
        // 20 000 addresses that the loader adjusts take 10 KiB in this form instead of half a MiB, all of which
        // it reads at every start. Needs glibc 2.36; linkers that do not know it (binutils before 2.38) say so
        // and go on without.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
