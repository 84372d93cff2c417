//! The library as one links it: a model from a file, a server for it, a client that asks it.
//!
//! The rest of the crate computes on whatever thread polls it, and takes what it needs as arguments; here are the threads, the
//! defaults, the folders.

mod answer;
#[cfg(not(target_arch = "wasm32"))]
pub mod blocking;
mod client;
mod model;
#[cfg(not(target_arch = "wasm32"))]
mod publisher;
mod quantise;
#[cfg(not(target_arch = "wasm32"))]
mod server;
#[cfg(not(target_arch = "wasm32"))]
mod server_builder;
mod values;

pub use answer::{Answer, Report};
pub use client::{Client, ClientBuilder};
pub use model::Model;
pub use quantise::Calibrated;
#[cfg(not(target_arch = "wasm32"))]
pub use server::Server;
#[cfg(not(target_arch = "wasm32"))]
pub use server_builder::ServerBuilder;
pub use values::Values;

/// The twin whose methods are `async`.
#[derive(Clone, Copy, Debug)]
pub enum Async {}

/// The twin whose methods block the thread that calls them.
#[derive(Clone, Copy, Debug)]
pub enum Blocking {}
