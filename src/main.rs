//! The `lowkey` command.
fn main() {}
