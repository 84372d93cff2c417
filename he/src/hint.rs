//! hint_o = sum_j w_oj * a_j + a*_0 * u_o + e_o, rounded: what the server publishes once per output ciphertext.
//!
//! a*_0 u_o + e_o is an RLWE sample under the secret u_o with the key-independent half a*_0 reused, the
//! re-randomisation of [LPR10]: it hides the evaluated masks, hence the weights. The server keeps u_o and corrects for it
//! with the client's b*_0 = a*_0 s + e*_0 (`docs/protocol.md`, section 1).
//!
//! (u_o, e_o) belongs to exactly one (weights, packing, masks, parameters): SECURITY.md, rule 5. Take fresh randomness
//! per publication, or [`publication_rng`] with a digest of all of these, so that recomputing gives the same bytes;
//! [`OutputContext`](crate::context::OutputContext) makes that digest from what is evaluated.
//!
//! [LPR10]: crate#references

use std::fmt;

use rand::{CryptoRng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::error::HeError;
use crate::mask::{Mask, MaskId};
use crate::noise::{Cross, Drawn};
use crate::pack;
use crate::ring::{NttPoly, NttSmall, Ring};
use crate::sample;
use crate::torus::round_to;
use crate::window::Window;
use crate::word::TorusWord;

/// Draws of (u_o, e_o) before [`publish`] gives up. A layer planned with any margin passes the first.
pub const MAX_TRIES: u32 = 64;

/// A published hint: N torus coefficients, multiples of 2^rh. Public.
#[derive(Debug, Clone)]
pub struct Hint<W: TorusWord> {
    ring: &'static Ring<W>,
    rh: u32,
    coefficients: Vec<W>,
}

/// The server's u_o. Not printed, zeroized on drop.
pub struct Rerandomiser<W: TorusWord> {
    ring: &'static Ring<W>,
    coefficients: Vec<i8>,
    /// Kept, or made for each product.
    ntt: Option<NttSmall<W>>,
}

/// What everybody gets, and what the server keeps.
pub type Published<W> = (Hint<W>, Rerandomiser<W>);

/// One draw of (u_o, e_o) with what would be published, for the noise check. Not printed, zeroized on drop.
pub struct Draw<W: TorusWord> {
    hint: Hint<W>,
    rerandomiser: Rerandomiser<W>,
    /// delta_o = e_o + rounding error.
    error: Zeroizing<Vec<f64>>,
}

/// Publishes the hints of one output, rounded to multiples of 2^rh: one per branch that meets in the output (one, where
/// it is not a sum). The branches may be under one secret, so that their errors are not independent: they are drawn
/// together and judged together.
///
/// `evaluated` has sum_j w_oj * a_j of every branch (N coefficients, see [`Evaluator`](crate::evaluate::Evaluator)),
/// `mask0` is a*_0. `check` decides by the noise formula whether the output is exact; if not, u_o and e_o of all branches
/// are drawn again.
///
/// # Errors
/// [`HeError::NotRerandomiser`] if `mask0` is another mask, [`HeError::Rounding`] if rh is not below the torus width,
/// [`HeError::NoiseCheck`] after [`MAX_TRIES`] failed checks.
pub fn publish<W, R, C>(
    evaluated: &[Vec<W>],
    mask0: &Mask<W>,
    rng: &mut R,
    rh: u32,
    mut check: C,
) -> Result<Vec<Published<W>>, HeError>
where
    W: TorusWord,
    R: CryptoRng,
    C: FnMut(&[Draw<W>]) -> bool,
{
    if mask0.id() != MaskId::RERANDOMISER {
        return Err(HeError::NotRerandomiser(mask0.id()));
    }
    check_rounding::<W>(rh)?;
    for _ in 0..MAX_TRIES {
        let draws: Vec<Draw<W>> = evaluated.iter().map(|evaluated| Draw::new(evaluated, mask0, rng, rh)).collect();
        if check(&draws) {
            return Ok(draws.into_iter().map(|draw| (draw.hint, draw.rerandomiser)).collect());
        }
    }
    Err(HeError::NoiseCheck { tries: MAX_TRIES })
}

impl<W: TorusWord> Draw<W> {
    fn new<R: CryptoRng>(evaluated: &[W], mask0: &Mask<W>, rng: &mut R, rh: u32) -> Self {
        let ring = mask0.ring();
        assert_eq!(evaluated.len(), ring.degree());
        let rerandomiser = Rerandomiser::generate(ring, rng);
        // Exact, then noisy: x becomes e_o - x in place, so the product enters with the opposite sign.
        let mut exact = rerandomiser.apply(mask0.ntt());
        for (word, evaluated) in exact.iter_mut().zip(evaluated) {
            *word = word.wrapping_add(*evaluated);
        }
        let mut coefficients: Vec<W> = exact.iter().map(|word| word.wrapping_neg()).collect();
        sample::noise_minus(rng, ring.set().noise_bound, &mut coefficients);
        let mut error = Zeroizing::new(Vec::with_capacity(coefficients.len()));
        for (word, exact) in coefficients.iter_mut().zip(exact.iter()) {
            *word = round_to(*word, rh);
            error.push(word.wrapping_sub(*exact).to_i64() as f64);
        }
        Self { hint: Hint { ring, rh, coefficients }, rerandomiser, error }
    }

    /// |u_o|^2 and |delta_o|^2.
    pub fn drawn(&self) -> Drawn {
        Drawn {
            rerandomiser_norm2: self.rerandomiser.norm2(),
            hint_error_norm2: self.error.iter().map(|x| x * x).sum(),
        }
    }

    /// 2 <X^shift u, u'> and 2 <X^shift delta, delta'>, for -N < shift < N: what this branch and `other` share in a pair
    /// of coefficients, that of `other` being `shift` above ours, where the same e*_0 and s meet both.
    ///
    /// Coefficient k of a product u * E is sum_i E_i v(k - i), v being u continued to all integers by v(j + N) = -v(j).
    /// So the product for coefficients k and k + shift is sum_j v(j) v'(j + shift) over any N consecutive j.
    pub fn cross(&self, other: &Self, shift: isize) -> Cross {
        let (u, v) = (&self.rerandomiser.coefficients, &other.rerandomiser.coefficients);
        let signs = |u: &[i8], v: &[i8]| u.iter().zip(v).map(|(u, v)| i32::from(u * v)).sum::<i32>().into();
        let errors = |d: &[f64], e: &[f64]| d.iter().zip(e).map(|(d, e)| d * e).sum();
        Cross {
            rerandomisers: 2.0 * negacyclic(u, v, shift, signs),
            hint_errors: 2.0 * negacyclic(&self.error, &other.error, shift, errors),
        }
    }
}

/// sum_j v(j) w(j + shift), both continued by v(j + N) = -v(j).
fn negacyclic<T>(v: &[T], w: &[T], shift: isize, product: impl Fn(&[T], &[T]) -> f64) -> f64 {
    let by = shift.unsigned_abs();
    let (v, w) = if shift < 0 { (w, v) } else { (v, w) };
    let (low, high) = v.split_at(v.len() - by);
    product(low, &w[by..]) - product(high, &w[..by])
}

impl<W: TorusWord> fmt::Debug for Draw<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draw({}, [redacted])", self.hint.ring.set().name)
    }
}

/// The generator for one output's (u_o, e_o), as a function of a secret key of the server and everything that the
/// publication depends on (SECURITY.md, rule 5).
///
/// `context_digest` must cover weights, packing, masks (epoch seed) and parameters
/// ([`OutputContext`](crate::context::OutputContext)); then recomputing gives the same bytes and a changed model gives
/// independent randomness. The seed is SHA-256(label | key | digest | layer | output)
/// with the 32-byte label and the key filling the first block: a keyed compression function on inputs of one length.
pub fn publication_rng(server_key: &[u8; 32], context_digest: &[u8; 32], layer: u32, output: u32) -> ChaCha20Rng {
    let hash = Sha256::new()
        .chain_update(b"lowkey-he/hint-publication/v1\0\0\0")
        .chain_update(server_key)
        .chain_update(context_digest)
        .chain_update(layer.to_le_bytes())
        .chain_update(output.to_le_bytes());
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(hash.finalize().into());
    ChaCha20Rng::from_seed(*seed)
}

impl<W: TorusWord> Hint<W> {
    /// The ring it lives in.
    pub fn ring(&self) -> &'static Ring<W> {
        self.ring
    }

    /// Its N coefficients.
    pub fn coefficients(&self) -> &[W] {
        &self.coefficients
    }

    /// Its transform, for [`Secret::phase_share`](crate::secret::Secret::phase_share).
    pub fn ntt(&self) -> NttPoly<W> {
        self.ring.forward_multiples(&self.coefficients, self.rh)
    }

    /// Its window, for [`Secret::phase_share_at`](crate::secret::Secret::phase_share_at).
    pub fn window(&self) -> Window<W> {
        Window::new(&self.coefficients)
    }

    /// Length of the encoding: BITS - rh bits per coefficient. `rh` is below BITS.
    pub fn byte_len(ring: &Ring<W>, rh: u32) -> usize {
        pack::packed_len(ring.degree(), W::BITS - rh)
    }

    /// The coefficients without the rh low bits, packed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let short: Vec<W> = self.coefficients.iter().map(|word| word.shr(self.rh)).collect();
        let mut bytes = vec![];
        pack::append(&mut bytes, &short, W::BITS - self.rh);
        bytes
    }

    /// The inverse of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`HeError::Rounding`] if rh is not below the torus width, [`HeError::Length`] unless there are exactly
    /// [`byte_len`](Self::byte_len) bytes.
    pub fn from_bytes(ring: &'static Ring<W>, rh: u32, bytes: &[u8]) -> Result<Self, HeError> {
        check_rounding::<W>(rh)?;
        let mut coefficients: Vec<W> = pack::read(bytes, ring.degree(), W::BITS - rh)?;
        for word in &mut coefficients {
            *word = word.shl(rh);
        }
        Ok(Self { ring, rh, coefficients })
    }
}

impl<W: TorusWord> Rerandomiser<W> {
    fn generate<R: CryptoRng>(ring: &'static Ring<W>, rng: &mut R) -> Self {
        let mut coefficients = vec![0; ring.degree()];
        sample::ternary(rng, &mut coefficients);
        let ntt = ring.forward_ternary(&coefficients);
        Self { ring, coefficients, ntt: Some(ntt) }
    }

    /// Drops the transform, all but one byte of a coefficient, which every product makes again from now on.
    pub fn compact(&mut self) {
        if let Some(mut ntt) = self.ntt.take() {
            ntt.zeroize();
        }
    }

    /// Drops the residues of the transform that products with a b*_0 have no use for whose `r0` lowest bits are zeros.
    pub fn shorten(&mut self, r0: u32) {
        if let Some(ntt) = &mut self.ntt {
            ntt.shorten(self.ring.set(), r0);
        }
    }

    /// |u_o|^2, which is also |u_o|_1.
    pub fn norm2(&self) -> f64 {
        self.coefficients.iter().map(|&u| u32::from(u.unsigned_abs())).sum::<u32>().into()
    }

    /// b*_0 * u_o, all N coefficients.
    pub fn apply(&self, b0: &NttPoly<W>) -> Zeroizing<Vec<W>> {
        let mut product = Zeroizing::new(self.ring.zero_like(b0));
        let mut out = Zeroizing::new(vec![W::default(); self.ring.degree()]);
        self.apply_acc(b0, &mut product);
        self.ring.inverse_into(&mut product, &mut out);
        out
    }

    /// acc += b*_0 * u_o, in the transformed domain, where the products with the weights are summed.
    pub fn apply_acc(&self, b0: &NttPoly<W>, acc: &mut NttPoly<W>) {
        match &self.ntt {
            Some(ntt) => self.ring.mul_acc(acc, b0, ntt),
            None => self.ring.mul_acc(acc, b0, &Zeroizing::new(self.ring.forward_ternary_for(&self.coefficients, b0))),
        }
    }

    /// The coefficients at `positions` of b*_0 * u_o, by inner products.
    ///
    /// # Panics
    /// If a position is not below N.
    pub fn apply_at(&self, b0: &Window<W>, positions: &[usize]) -> Zeroizing<Vec<W>> {
        Zeroizing::new(b0.product_at(&self.coefficients, positions))
    }
}

impl<W: TorusWord> Drop for Rerandomiser<W> {
    fn drop(&mut self) {
        self.coefficients.zeroize();
        self.compact();
    }
}

impl<W: TorusWord> fmt::Debug for Rerandomiser<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rerandomiser({}, [redacted])", self.ring.set().name)
    }
}

fn check_rounding<W: TorusWord>(bits: u32) -> Result<(), HeError> {
    match bits < W::BITS {
        true => Ok(()),
        false => Err(HeError::Rounding { bits, torus_bits: W::BITS }),
    }
}
