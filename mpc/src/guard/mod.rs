//! Two-party computation against an arbitrary client: authenticated bits, triples, circuits. The server is semi-honest.
//!
//! Claim and proof are in `docs/guard.md`. The server is the only sender of oblivious transfers; of them the *correlation* is used,
//! which makes a key the authentication of a choice bit under the server's Delta.
//!
//! | step | file | what |
//! |---|---|---|
//! | bits | `bits.rs` | [`Bits`]: \[b\] as a tag of each party; sums, constants; `tag.rs`: the half of a key or MAC that is kept |
//! | | `known.rs` | bits that one party knows, authenticated |
//! | | `opened.rs` | [`Guard`]: the role of a party, and the running hash of all that was opened |
//! | | `packed.rs` | bits on the wire |
//! | triples | `batch.rs` | [`Batch`]: how many, in which buckets, and how likely a wrong one survives |
//! | | `triples.rs` | [`make_of`] in three flights; `order.rs`: the order of a batch, public, drawn after e; `kept.rs`: [`Triples`] until they are used |
//! | circuits | `builder.rs`, `circuit.rs` | [`Builder`], [`Circuit`]: recorded once for both roles, with its cost |
//! | | `cost.rs`, `flights.rs` | [`cost`] of batches and circuits without running them; [`Flights`] of several |
//! | | `gadgets.rs`, `circuits.rs` | arithmetic; [`circuits`]: the nonlinear layers |
//! | | `prepare.rs`, `early.rs`, `prove.rs` | [`offline_all`]: what the client knows, and products that it proves |
//! | | `run.rs` | [`online`]: layer by layer |

mod batch;
mod bits;
mod builder;
mod circuit;
pub mod circuits;
mod cost;
mod early;
mod flights;
mod gadgets;
mod kept;
mod known;
mod opened;
mod order;
mod packed;
mod prepare;
mod prove;
mod run;
mod tag;
#[cfg(test)]
pub(crate) mod testing;
mod triples;

pub use batch::{Batch, MAX_BUCKET, MIN_BUCKET, least_error_bits};
pub use bits::Bits;
pub use builder::Builder;
pub use circuit::{Circuit, Destination, Origin, Port, Wire};
pub use cost::{amortised_bytes, cost, ots_at_once, triples};
pub use flights::Flights;
pub use gadgets::Carry;
pub use kept::Triples;
pub use known::{apply, correct, of_server};
pub use opened::{DIGEST_BYTES, Guard};
pub use prepare::{PreparedCircuit, offline_all};
pub use prove::{CHALLENGE_BYTES, PROOF_BYTES};
pub use run::{Outputs, online};
pub use triples::{Workspace, make_of};
