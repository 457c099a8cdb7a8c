//! The program `hop`.
fn main() {}
