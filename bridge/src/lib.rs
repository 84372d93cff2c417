//! Homomorphic linear layers on shares: packing, budget, ciphertext to shares and back.
//!
//! | module | what |
//! |---|---|
//! | [`linear`] | layers whose weights one party knows in the clear: packing, publication, both halves |
//! | [`product`] | products of two matrices that are both held in shares |
//! | [`parameters`] | the HE parameters of a layer and the widths that follow from them |
//! | [`convert`] | torus shares to ring shares: why a layer is exact |
//! | [`conv`] | integer convolutions modulo 2^16, 2^32, 2^64 |
//! | [`share`] | one party's words, with the ring in which both parties' add up |
//! | [`narrow`] | shares while they wait |
//! | [`error`] | what can go wrong |
//!
//! `linear` uses the others, and `product` its keys and budget; they do not know it, nor each other but for `convert`, which
//! reads `parameters`.
//!
//! # The layer
//!
//! z = sum_i W_i x_i, each activation held as x = xhat + m (the client's pad, the server's masked activation). Symbols are those
//! of [`lowkey_he`] and `docs/protocol.md`, with L = ell + 1; words are in `docs/words.md`.
//!
//! ```text
//!     offline   client   body_j = a_j s + e_j + scaling xhat     low bits only where the body defines the pad     -> server
//!                        b*_0   = a*_0 s + e*_0                                                                   -> server
//!                        c      = floor(-hint s / U)                                  ciphertext -> shares: no message
//!               server   v_off  = floor((sum_j w_oj body_j + b*_0 u_o + T) / U)
//!     online    client   d = x_c - xhat                                               shares -> ciphertext            -> server
//!               server   v = v_off + 2 W m,   m = x_s + d                             the plain integer convolution
//!     result    c + v = 2 z + r (mod 2^L),   0 <= r < 2
//! ```
//!
//! The *direct* schedule sends whole bodies of x_c when the share exists and does the same sums then: m is x_s.
//!
//! # References
//!
//! * \[HLHD22\] Huang, Lu, Hong, Ding. Cheetah: lean and fast secure two-party deep neural network inference. USENIX
//!   Security 2022.

// The tests' shared definitions name this crate from the outside.
#[cfg(test)]
extern crate self as lowkey_bridge;

pub mod conv;
pub mod convert;
pub mod error;
pub mod linear;
pub mod narrow;
pub mod parameters;
pub mod product;
pub mod share;

pub use error::BridgeError;
pub use linear::client::{ClientLinear, client_layer};
pub use linear::keys::{RerandomiserMasks, Secrets, ServerKeys, SetPlan};
pub use linear::layer::{Kept, LayerPlan, Schedule, TermPlan};
pub use linear::packing::{DoesNotFit, Packing};
pub use linear::publish::{Publisher, publish_layer};
pub use linear::server::{OfflineShare, ServerLinear};
pub use linear::{budget, keys};
pub use parameters::LayerParameters;
pub use share::{Ring, RingShare};
