//! A linear layer whose weights one party knows, applied to an activation that is held in shares.
//!
//! | module | what | from, to |
//! |---|---|---|
//! | [`packing`] | which coefficient carries which element, weight and output (\[HLHD22\], section 3.1) | shape, N -> bodies, weight polynomials |
//! | [`budget`] | does it fit, and how much is rounded off | norms -> [`Rounding`](lowkey_he::Rounding) |
//! | [`layer`] | what both parties know of a layer: its terms, their tiles, what travels | packing -> [`LayerPlan`](layer::LayerPlan) |
//! | [`publish`] | hint_o = sum_j w_oj a_j + a*_0 u_o + e_o, once per model | weights -> hint, server's half |
//! | `meetings` | which draws of a publication meet in one output | plan -> [`Cross`](lowkey_he::Cross) |
//! | [`keys`] | per inference: secrets at the client, b*_0 at the server | |
//! | [`by_set`] | values over both words in one map | |
//! | [`client`] | bodies, and c = floor(-hint s / U) | pads or shares -> messages, share |
//! | [`server`] | v_off, and the online convolution | messages, masked activation -> share |
//!
//! \[HLHD22\]: [crate](crate#references).

pub mod budget;
pub mod by_set;
pub mod client;
pub mod keys;
pub mod layer;
mod meetings;
#[cfg(test)]
mod noise_tests;
pub mod packing;
pub mod publish;
pub mod server;
