//! Nothing to do: Cargo.toml says what this crate is for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
