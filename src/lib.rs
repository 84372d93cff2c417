//! Private inference for low-bit neural networks.
//!
//! A server holds the weights of a small-integer network, a client an image; the client gets exactly what the plaintext
//! integer network would have answered, the server learns nothing of the image, the client nothing of the weights beyond the
//! answer.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> lowkey::Result<()> {
//! use lowkey::{Client, Model, Server};
//!
//! let model = Model::open("digits")?; // a .lowkey, ONNX or TFLite file, or the name of a bundled network
//! let image = model.demo().expect("digits come with it").inputs.get(0).expect("360 of them");
//! let expected = model.answer(&image)?;
//!
//! let server = Server::builder(model).bind("127.0.0.1:0").await?;
//! let running = tokio::spawn(server.clone().run());
//!
//! let mut client = Client::connect(server.address().expect("bound")).await?;
//! let answer = client.infer(&image).await?;
//! assert_eq!((answer.class, answer.logits), (expected.class, expected.logits));
//!
//! client.close().await?;
//! server.shutdown().await;
//! running.await.expect("no panic")
//! # }
//! ```
//!
//! | to begin with | what |
//! |---|---|
//! | [`Model`] | a network from a file |
//! | [`Server`], [`Client`] | the two parties, on threads of their own; [`blocking`] has them without `async` |
//! | [`Values`], [`Answer`] | what goes in, what comes out |
//! | [`Error`], [`Fault`] | what can go wrong, and whose fault it is |
//!
//! | beneath | what |
//! |---|---|
//! | [`plan`] | everything public that both parties agree on, derived from architecture and choices |
//! | [`planner`] | chooses for a network, from its weights |
//! | [`cost`] | what an inference will send, frame by frame |
//! | [`publication`] | a published model: the public package and the two private halves |
//! | [`client`], [`server`] | the two parties' sessions, on whatever thread polls them |
//! | [`session`] | the messages that open and steer a session |
//! | [`share`] | a party's words, with the ring that they add up in |
//! | [`report`] | time, bytes and flights of each stage |
//! | [`parameters`] | every parameter set, and what each known attack on it costs |
//! | [`optimise`] | cheaper networks within a budget of bytes |
//! | [`policy`] | what a server allows its clients |
//! | [`guard`] | audits of prepared slots, and the identities that answer for them |
//! | [`readiness`] | whether a server takes clients |
//! | [`watch`] | what a server tells of itself |
//! | [`net`], [`store`] | connections, and what is kept on disk |
//! | [`shape`] | a slower link, for benchmarks |
//! | [`train`] | training on shares, in fixed point with explicit coins: a step, and its twin in the clear |
//! | [`models`] | networks in the clear: files, import, inputs |
//!
//! Words are in `docs/words.md`. The flow of one inference: `offline/` (before the input is known), then `online.rs` (the layer loop), each
//! with both roles.
//!
//! Features: `cli`, on unless switched off, is the `lowkey` command and what it alone needs. `deterministic` lets tests give the
//! randomness of a session; with it there is no privacy, and no release has it.

// In a browser there are no servers, and what they alone use is not used.
#![cfg_attr(target_arch = "wasm32", allow(dead_code))]

// The command names the library as everyone else does.
#[cfg(feature = "cli")]
extern crate self as lowkey;

mod abort;
mod admission;
pub mod answer;
mod api;
mod boxed;
#[cfg(not(target_arch = "wasm32"))]
mod catalogue;
#[cfg(feature = "cli")]
mod cli;
pub mod client;
mod coins;
pub mod cost;
pub mod error;
pub mod guard;
pub mod net;
mod node;
mod offline;
mod online;
#[cfg(not(target_arch = "wasm32"))]
pub mod optimise;
pub mod parameters;
pub mod plan;
pub mod planner;
pub mod policy;
pub mod publication;
mod randomness;
#[cfg(not(target_arch = "wasm32"))]
pub mod readiness;
pub mod report;
mod scope;
#[cfg(not(target_arch = "wasm32"))]
pub mod server;
pub mod session;
#[cfg(not(target_arch = "wasm32"))]
pub mod shape;
pub mod share;
mod slot;
pub mod store;
mod threads;
pub mod train;
#[cfg(not(target_arch = "wasm32"))]
mod visit;
pub mod watch;

#[cfg(not(target_arch = "wasm32"))]
pub use admission::Attendance;
pub use answer::Output;
pub use api::{Answer, Async, Blocking, Calibrated, Client, ClientBuilder, Model, Report, Values};
#[cfg(not(target_arch = "wasm32"))]
pub use api::{Server, ServerBuilder, blocking};
pub use client::Inference;
pub use coins::Coins;
pub use error::{Error, Fault, Result};
pub use lowkey_bridge::Schedule;
pub use lowkey_models as models;
pub use lowkey_models::data::Inputs;
pub use lowkey_models::{Architecture, Network, Tensor};
pub use lowkey_mpc::channel::Limits;
pub use lowkey_mpc::party::Party;
pub use net::{Stream, Trust};
pub use plan::{Link, Plan, Reveal};
pub use publication::{ClientModel, Package, ServerModel};
#[cfg(not(target_arch = "wasm32"))]
pub use readiness::Readiness;
pub use session::Offer;
pub use slot::ClientSlot;
pub use store::{Digest, Store};

/// The `lowkey` command, for what ships it: its arguments and screens are its interface, and these functions are none.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod command {
    pub use crate::cli::{plan_json, run};
}

/// The library code of the README and of the book is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct Page;
