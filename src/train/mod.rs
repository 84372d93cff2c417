//! Training on shares: fixed point with explicit coins, so that a plaintext twin repeats a run bit for bit.
//!
//! Softmax cross-entropy over dense layers with rectifiers, batches of 128, stochastic gradient descent with momentum 29/32 and a rate of
//! 2^-j. What is computed is defined in integers ([`twin`]); who holds a share of what is another matter.
//!
//! | module | what |
//! |---|---|
//! | [`format`](mod@format) | fractional bits of values, and the rings that their shares live in |
//! | [`batch`] | inputs and labels, checked |
//! | [`coins`] | where each rounding takes its coin from: replayed, or at random |
//! | [`held`] | shares of masters and momenta: dealt, kept, opened |
//! | [`plan`] | the programs of a step on shares, and what they cost |
//! | [`products`] | what a step asks of the lattice part |
//! | [`lattice`] | products by encryption under keys of a step |
//! | [`session`] | what both parties agree on before the first step |
//! | [`step`] | a step on shares |
//! | [`twin`] | the step in the clear, every range watched: the definition of right |
//!
//! `scripts/training/twin.py` is the same twin in Python, with the design's measurements of accuracy; `golden.py` there makes the cases
//! that both must agree on.

pub mod batch;
mod checkpoint;
pub mod coins;
mod cost;
mod export;
pub mod format;
pub mod held;
pub mod lattice;
mod matrix;
pub mod plan;
pub mod products;
mod run;
mod samples;
pub mod session;
mod start;
pub mod step;
mod terms;
pub mod twin;

pub use cost::{Cost, CostError};
pub use format::Net;
pub use run::{Part, Progress, Settings, Told, Trained, train};
pub use samples::{Samples, SamplesError, input};
pub use terms::{RATE, Terms, WeightsTo, Wish};
