//! Private inference for low-bit neural networks.
//!
//! A server holds the weights of a small-integer network, a client an image; the client gets exactly what the plaintext
//! integer network would have answered, the server learns nothing of the image, the client nothing of the weights beyond the
//! answer.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | everything public that both parties agree on, derived from architecture and choices |
//! | [`publication`] | a published model: the public package and the two private halves |
//! | [`client`], [`server`] | the two parties' sessions |
//! | [`session`] | the messages that open and steer a session |
//! | [`report`] | time, bytes and flights of each stage |
//! | [`parameters`] | every parameter set, and what each known attack on it costs |
//! | [`policy`] | what a server allows its clients |
//! | [`net`], [`store`] | connections, and what is kept on disk |
//! | [`shape`] | a slower link, for benchmarks |
//!
//! The flow of one inference: `offline.rs` (before the input is known), then `online.rs` (the layer loop), each with both roles.

pub mod answer;
pub mod client;
pub mod error;
mod layers;
pub mod net;
mod offline;
mod online;
pub mod parameters;
pub mod plan;
pub mod policy;
pub mod publication;
pub mod report;
pub mod server;
pub mod session;
pub mod shape;
mod slot;
pub mod store;

pub use answer::Output;
pub use client::{Client, Inference};
pub use error::{Error, Fault, Result};
pub use lowkey_bridge::Schedule;
pub use plan::{Link, Plan, Reveal};
pub use publication::{ClientModel, Package, ServerModel};
pub use slot::ClientSlot;
