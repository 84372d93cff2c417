//! Training on shares: fixed point with explicit coins, so that a plaintext twin repeats a run bit for bit.
//!
//! Softmax cross-entropy over dense layers and convolutions with rectifiers and max pools, batches of 128, stochastic gradient descent with
//! momentum 29/32 and a rate of 2^-j. What is computed is defined in integers (`twin`); who holds a share of what is another matter.
//!
//! ```no_run
//! # async fn own(stream: impl lowkey::Stream + 'static, net: lowkey::train::Net) -> lowkey::Result<()> {
//! use lowkey::train::{Contribution, Settings, Wish, train};
//!
//! let wish = Wish::new(net);
//! let trained = train(stream, Contribution::Model(None), Settings::new(wish)).await?;
//! let network = trained.network.expect("the weights go to the server");
//! lowkey::Model::from(network).write("trained.lowkey")
//! # }
//! ```
//!
//! | to begin with | what |
//! |---|---|
//! | [`train()`] | a party's part in a training, over any stream |
//! | [`Met`] | a data owner that has said what it asks for, of all who come to the model owner's door |
//! | [`Contribution`], [`Samples`], [`Pictures`], [`input`] | what it has: samples, or first weights |
//! | [`Settings`], [`Wish`], [`Terms`], [`Counts`] | what it asks for, and what both agreed on; how many samples each has |
//! | [`Receivers`], [`Score`] | who gets the weights, and who is told how the network does |
//! | [`rehearse`], [`rehearse_head`] | the same in the clear, by one party alone |
//! | [`Cost`], [`FeatureCost`] | what a step sends; what the features of a head do |
//!
//! | beneath | what |
//! |---|---|
//! | `format` | fractional bits of values, and the rings that their shares live in |
//! | `batch`, `samples` | inputs and labels, checked |
//! | `matrix`, `maps` | products of one party; patches of a convolution, windows of a pool |
//! | `coins` | where each rounding takes its coin from: replayed, or at random |
//! | `backbone`, `features` | a network whose last layer is trained anew; shares of what that reads, by private inference |
//! | `start`, `export` | first weights; trained ones as a network that is served |
//! | `held`, `checkpoint` | shares of masters and momenta: dealt, kept, opened; their file |
//! | `plan`, `cost` | the programs of a step on shares, and what they cost |
//! | `products`, `lattice` | what a step asks of the lattice part; products by encryption under keys of a step |
//! | `terms`, `session` | what both parties agree on before the first step |
//! | `settings`, `kept` | what a party brings, asks for and is told; checkpoints and networks that it goes on from |
//! | `step`, `batches`, `counts` | a step on shares, and which samples of whom it is of |
//! | `score` | how many samples were right, and their loss: shared sums, and their opening |
//! | `run`, `training` | a party under way; the whole session |
//! | `error` | why a step fails, whose fault that is |
//! | `twin` | the step in the clear, every range watched: the definition of right |
//!
//! `scripts/training/twin.py` is the same twin in Python, with the design's measurements of accuracy; `golden.py` there makes the cases
//! that both must agree on.

#![deny(clippy::wildcard_enum_match_arm)]

mod backbone;
mod batch;
mod batches;
mod checkpoint;
mod coins;
mod cost;
mod counts;
mod error;
mod export;
mod features;
mod format;
mod held;
mod kept;
mod lattice;
mod maps;
mod matrix;
mod meeting;
mod plan;
mod products;
mod rehearsal;
mod run;
mod samples;
mod score;
mod session;
mod settings;
mod start;
mod step;
mod terms;
mod training;
mod twin;

pub use cost::{Cost, CostError};
pub use counts::Counts;
pub use features::FeatureCost;
pub use format::{FormatError, Net};
pub use kept::check_target;
pub use meeting::{HELLO, Met};
pub use rehearsal::{Rehearsal, rehearse, rehearse_head};
pub use samples::{Pictures, Reader, Samples, SamplesError, input};
pub use score::Score;
pub use settings::{Contribution, Progress, Settings, Told, ToldOfFeatures, Trained};
pub use terms::{RATE, Receivers, Terms, Wish};
pub use training::train;
#[cfg(feature = "deterministic")]
pub use training::train_seeded;
