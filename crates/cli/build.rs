//! What the program is linked with.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The part of the compiler's library that panics need. As a shared one it is a file more to find, map and relocate
    // whenever the program starts: a fifth of a millisecond. rustc names the shared one too, and the linker leaves that
    // out, for nothing is missing any more.
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|there| there == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}
