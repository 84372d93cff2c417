//! A product of two matrices that are both held in shares: c + v = 2 A B + r (mod 2^(ell + 1)), 0 <= r < 2, per cross term.
//!
//! (A_c + A_s)(B_c + B_s) has two terms that each party computes alone and two in which they meet. A term A B in which one
//! party, the *owner*, has A (p x k) and the other, the *evaluator*, has B (k x r), everything modulo 2^ell:
//!
//! ```text
//!     owner                                             evaluator
//!     s fresh ternary, once per step
//!     b*_0   = a*_0 s + e*_0           ------------->
//!     body_j = a_j s + e_j + scaling 2^(b d) A_j  -->   w_j: the digits of B, as polynomials
//!                                                       u, e_o fresh for every hint
//!                                      <-------------   hint = sum_j w_j a_j + a*_0 u + e_o
//!     c = floor(-hint s / U)                            v = floor((sum_j w_j body_j + b*_0 u + T) / U)
//! ```
//!
//! The masks are seeds, the body half of the answer is the evaluator's share: nothing evaluated travels but its mask half,
//! which the re-randomiser hides. `docs/product.md` has the claim, what is used twice, the sizes and the guard bits.
//!
//! | module | what | from, to |
//! |---|---|---|
//! | [`packing`] | which coefficient carries which element | sizes, N -> blocks |
//! | `digits` | the clear operand as small signed numbers | shares -> digits |
//! | [`choice`], [`deviations`] | what can be chosen, how much there is to do by it; how far uniform digits go | |
//! | [`budget`] | does it fit, how is it cut, what is rounded off | sizes, ell -> [`Choice`] |
//! | [`plan`] | what both know of a cross term, and its bytes | choice -> [`CrossPlan`] |
//! | [`keys`] | per step: secrets at the owner, what leads back and b*_0 at the evaluator | |
//! | [`owner`] | bodies, and c | A, hints -> message, share |
//! | [`evaluator`] | hints, and v | B, bodies -> message, share |
//! | [`merge`] | many answers in one, by automorphisms | ciphertexts -> ciphertext |
//! | [`whole`] | what both know of a whole product: both cross terms, which operand is encrypted | choices -> [`ProductPlan`] |
//! | [`product`] | both cross terms and the local ones: what each party does when | shares -> messages, share |
//! | [`shares`] | local products, guard bits joined, centred or split off | words -> words |
//!
//! \[HLHD22\]: [crate](crate#references). \[CDKS21\]: Chen, Dai, Kim, Song. Efficient homomorphic conversion between (ring) LWE
//! ciphertexts. ACNS 2021.

pub mod budget;
pub mod choice;
pub mod deviations;
mod digits;
pub mod evaluator;
pub mod keys;
pub mod merge;
pub mod owner;
pub mod packing;
pub mod plan;
#[allow(clippy::module_inception)]
pub mod product;
pub mod shares;
#[cfg(test)]
mod tests;
pub mod whole;

pub use choice::{Choice, Clear};
pub use evaluator::{Evaluated, Public, evaluate};
pub use keys::{KeyPlan, PeerKeys};
pub use owner::{encrypt, share};
pub use packing::{Packing, Sizes};
pub use plan::{CrossPlan, PlanError};
pub use product::{Answered, Begun, Terms};
pub use shares::{centre, join, local_product, split_guard, transpose};
pub use whole::{Answers, Party, ProductPlan, Side};
