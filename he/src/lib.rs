//! GLWE with static public masks, published hints and split bodies: the lattice half of a private linear layer.
//!
//! One server holds small-integer weights w, one client an input x. This crate gives them polynomials, masks, secrets,
//! bodies, hints, noise and parameters; it knows neither networks nor connections. How inputs are packed into
//! polynomials and who sends what is the business of its callers. Everything is exact integer arithmetic; floats occur
//! in the noise formula only.
//!
//! # Notation
//!
//! That of `docs/protocol.md`, also inside the modules; plain words in the API, which `docs/words.md` explains.
//!
//! | symbol | meaning | where |
//! |---|---|---|
//! | q, N | 2^32 or 2^64, machine words that wrap; degree of Z_q\[X\]/(X^N+1) | [`params`], [`word`], [`torus`] |
//! | ell | bits of an accumulator: a layer's results are integers modulo 2^ell | the caller's choice |
//! | scaling = q / 2^ell | what a message is multiplied by | |
//! | g | guard bits below a result: 1 everywhere | [`noise::allowed`] |
//! | U = q / 2^(ell + g) | the unit of ring shares; scaling = 2^g U | [`torus::floor_share`] |
//! | w, \|w\|^2, \|w\|_1 | the weights that meet in one output, their squared norm and 1-norm | [`Norms`] |
//! | sigma^2 | variance of the noise of a body or a hint | [`ParameterSet::sigma2`] |
//! | a * b | negacyclic product, exact | [`ring`]; single coefficients: [`window`] |
//! | a_j, a*_0 | public masks of input ciphertext j, and of the rerandomiser | [`mask`] |
//! | s | the client's uniform ternary secret, fresh per inference | [`secret`] |
//! | t_j = a_j s + e_j, b*_0 = a*_0 s + e*_0 | bodies | [`Secret::body`] |
//! | w_oj, sum_j w_oj a_j | the weights of output o as polynomials, applied to the masks | [`evaluate`] |
//! | hint_o = sum_j w_oj a_j + a*_0 u_o + e_o | published once per output ciphertext o | [`hint::publish`] |
//! | u_o | the server's rerandomiser, uniform ternary | [`Rerandomiser`] |
//! | delta_o | e_o and the rounding error of the hint | [`Draw`] |
//! | share_o = -hint_o s, B_o = sum_j w_oj b_j + b*_0 u_o | phase shares: B_o + share_o = scaling (W x)_o + noise | [`Secret::phase_share`], [`Rerandomiser::apply`] |
//! | floor(x / U) | from torus share to ring share | [`torus::floor_share`] |
//! | rb, r0, rh | bits rounded off the bodies, b*_0 and the hint | [`Rounding`], [`pack`] |
//! | V, kappa | variance of a result's noise, and the deviations of it that are allowed for: kappa sqrt(V) + ... <= U/2 | [`noise`] |
//! | sigma: X -> X^g | automorphisms, and the keys that lead from sigma(s) back to s | [`switch`] |
//!
//! *phase* is b - a s, *parameters* are those of the lattice, *weights* those of the network.
//!
//! # Example
//!
//! One output of a layer with one input ciphertext, whole bodies (the direct schedule):
//!
//! ```
//! use lowkey_he::{EpochSeed, Evaluator, Mask, MaskId, Ring, Secret, params, publish};
//! use rand::SeedableRng;
//!
//! # fn main() -> Result<(), lowkey_he::HeError> {
//! let ring = Ring::<u32>::shared(&params::T32N2048)?;
//! let epoch = EpochSeed([7; 32]);
//! let mask = Mask::expand(ring, &epoch, MaskId { layer: 0, ciphertext: 0 });
//! let mask0 = Mask::expand(ring, &epoch, MaskId::RERANDOMISER);
//!
//! // Setup. The server's weights: 3 + 2 X. It publishes the hint once.
//! let mut server_rng = rand_chacha::ChaCha20Rng::from_seed([1; 32]);
//! let evaluated = Evaluator::new(ring).evaluate([(&mask, &[(0, 3), (1, 2)][..])])?;
//! let (hint, rerandomiser) = publish(&[evaluated], &mask0, &mut server_rng, 8, |_| true)?.remove(0);
//!
//! // The client encrypts 5 + 4 X, scaled to the top 8 bits, and keeps its share of the phase.
//! let mut client_rng = rand_chacha::ChaCha20Rng::from_seed([2; 32]);
//! let mut secret = Secret::generate(ring, &mut client_rng);
//! let b0 = secret.body(&mask0, &mut client_rng)?;
//! let mut body = secret.body(&mask, &mut client_rng)?;
//! body[0] = body[0].wrapping_add(5 << 24);
//! body[1] = body[1].wrapping_add(4 << 24);
//! let share = secret.phase_share(&hint.ntt());
//!
//! // The server evaluates. The two shares add up to the product, up to noise in the low bits.
//! let weights: Vec<i64> = [3, 2].into_iter().chain([0; 2046]).collect();
//! let mut sum = ring.zero();
//! ring.mul_acc(&mut sum, &ring.forward(&body), &ring.forward_small(&weights)?);
//! rerandomiser.apply_acc(&ring.forward(&b0), &mut sum);
//! let server = ring.inverse(&sum);
//! let result = |i: usize| server[i].wrapping_add(share[i]).wrapping_add(1 << 23) >> 24;
//! assert_eq!([result(0), result(1), result(2)], [15, 22, 8]);
//! # Ok(())
//! # }
//! ```
//!
//! # What `tfhe` gives and what is written here
//!
//! From `tfhe`: the distribution and the security curves that describe the [`params`], the csprng that expands the
//! [`mask`]s, the number-theoretic transforms under the [`ring`]. Its stock decryption is the oracle of the tests: a
//! `GlweCiphertext` built from our mask and body decrypts under our secret to our phase.
//!
//! `core_crypto` has no ternary secrets, no evaluation of mask and body apart from each other, no product of a GLWE
//! ciphertext with an arbitrary polynomial, no secret seeds of 256 bits, and multiplies polynomials by Karatsuba in
//! encryption and decryption. These are written here.
//!
//! # Rules
//!
//! A secret encrypts under a mask once ([`Secret::body`] refuses the second time). u_o belongs to one publication
//! ([`hint::publication_rng`]). Secrets and rerandomisers are not copied, print redacted and are wiped on drop. A peer
//! names a [`ParameterSet`] by number. Randomness is always an argument. No branch and no address depends on a secret,
//! except on the positions that rejection sampling skips, which are independent of it.
//!
//! # References
//!
//! * \[APS15\] Albrecht, Player, Scott. On the concrete hardness of learning with errors. J. Math. Cryptology 9(3), and its
//!   estimator (`malb/lattice-estimator`).
//! * \[HLHD22\] Huang, Lu, Hong, Ding. Cheetah: lean and fast secure two-party deep neural network inference. USENIX
//!   Security 2022. Coefficient packing, for which products by polynomials are needed.
//! * \[LPR10\] Lyubashevsky, Peikert, Regev. On ideal lattices and learning with errors over rings. EUROCRYPT 2010. RLWE
//!   and its encryption, whose encryption of zero rerandomises the hint.
//! * \[SimplePIR\] Henzinger, Hong, Corrigan-Gibbs, Meiklejohn, Vaikuntanathan. One server for the price of two: simple and
//!   fast single-server private information retrieval. USENIX Security 2023. Static masks and a hint for every query.

pub mod context;
mod crt;
pub mod error;
pub mod evaluate;
pub mod hint;
pub mod mask;
mod names;
pub mod noise;
pub mod pack;
pub mod params;
pub mod ring;
mod sample;
pub mod secret;
mod simd;
pub mod switch;
pub mod taps;
pub mod torus;
pub mod window;
pub mod word;

pub use context::{OutputContext, Widths};
pub use error::HeError;
pub use evaluate::{Evaluator, WeightPolynomial};
pub use hint::{Draw, Hint, Published, Rerandomiser, publication_rng, publish};
pub use mask::{EpochSeed, Mask, MaskId, MaskTransform};
pub use noise::{Cross, Drawn, NoiseTerms, Norms};
pub use params::ParameterSet;
pub use ring::{NttPoly, NttSmall, Ring};
pub use secret::Secret;
pub use switch::{Gadget, Switch};
pub use taps::Tapped;
pub use torus::{Rounding, floor_share, round_all, round_to};
pub use window::Window;
pub use word::TorusWord;
