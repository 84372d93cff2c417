//! The party whose operand stays in the clear: fresh hints, and v = floor((sum_j w_j body_j + b*_0 u + T) / U).
//!
//! Every call draws u and e_o of every hint anew and evaluates another B: a hint is used once, unlike those of a published
//! network.

use std::ops::Range;

use lowkey_he::hint::{Draw, publish};
use lowkey_he::mask::Mask;
use lowkey_he::noise::{self, Cross, Norms};
use lowkey_he::pack;
use lowkey_he::ring::{NttPoly, Ring};
use lowkey_he::taps::Tapped;
use rand::{CryptoRng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;
use zeroize::{Zeroize, Zeroizing};

use super::budget;
use super::choice::Clear;
use super::keys::PeerKeys;
use super::merge::{CiphertextHalves, turn_down};
use super::packing::Sizes;
use super::plan::CrossPlan;
use crate::convert;
use crate::error::BridgeError;
use crate::linear::keys::RerandomiserMasks;
use crate::share::RingShare;

/// The evaluator's half of a product.
pub struct Evaluated {
    /// For the owner: [`CrossPlan::hints_len`] bytes.
    pub hints: Vec<u8>,
    /// v of every element of A B: p x r words above a guard bit, row-major.
    pub share: RingShare,
}

impl std::fmt::Debug for Evaluated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evaluated({} bytes, [redacted])", self.hints.len())
    }
}

/// What is public of a step: the masks of the bodies, a*_0, and the owner's b*_0.
#[derive(Clone, Copy)]
pub struct Public<'a> {
    /// [`CrossPlan::masks`].
    pub masks: &'a [Mask<u64>],
    /// a*_0 of every set.
    pub mask0: &'a RerandomiserMasks,
    /// The owner's.
    pub keys: &'a PeerKeys,
}

/// Multiplies the encrypted A by `b`, k x r words modulo 2^ell, row-major.
///
/// # Errors
/// When `bodies` do not have the length of the plan. When `b` exceeds the magnitude of the plan, or its norms what the
/// noise has room for (a share that is not uniform); when the keys are those of another plan: our bug.
///
/// # Panics
/// If `b` or the masks do not have the sizes of the plan.
pub fn evaluate<R: CryptoRng>(
    plan: &CrossPlan,
    public: Public<'_>,
    b: &[u64],
    bodies: &[u8],
    rng: &mut R,
) -> Result<Evaluated, BridgeError> {
    let (hints, phases) = phases(plan, public, b, bodies, rng)?;
    let share = RingShare::new(convert::server_share(plan.parameters(), &phases), plan.parameters().ring());
    Ok(Evaluated { hints, share })
}

/// The hints, and sum_j w_j body_j + b*_0 u at every output.
pub(super) fn phases<R: CryptoRng>(
    plan: &CrossPlan,
    public: Public<'_>,
    b: &[u64],
    bodies: &[u8],
    rng: &mut R,
) -> Result<(Vec<u8>, Zeroizing<Vec<u64>>), BridgeError> {
    assert_eq!(b.len(), plan.sizes().clear(), "the clear operand has the sizes of the plan");
    assert_eq!(public.masks.len(), plan.count().polynomials, "the masks are those of the plan");
    let ring = Ring::<u64>::shared(plan.parameters().set)?;
    let factors = Factors::new(plan, ring, public.masks, &read_bodies(plan, bodies)?);
    let digits: Vec<Zeroizing<Vec<i64>>> = (0..plan.digits().count).map(|d| plan.digits().take(b, d)).collect();
    if let Clear::Known { magnitude } = plan.clear() {
        let largest = digits[0].iter().fold(0, |largest, x| x.unsigned_abs().max(largest));
        if largest > u64::from(magnitude) {
            return Err(BridgeError::Magnitude { magnitude });
        }
    }
    let product = Product { plan, ring, public, factors, digits };

    let seeds: Vec<Zeroizing<[u8; 32]>> = (0..plan.hint_blocks()).map(|_| Zeroizing::new(seed(rng))).collect();
    let column = |(l, seed): (usize, &Zeroizing<[u8; 32]>)| product.column(l, &mut ChaCha20Rng::from_seed(**seed));
    let outputs: Vec<Vec<Output>> = seeds.par_iter().enumerate().map(column).collect::<Result<_, _>>()?;

    let mut hints = Vec::with_capacity(plan.hints_len());
    let mut phases = Zeroizing::new(vec![0; plan.sizes().outputs()]);
    for i in 0..plan.packing().blocks().rows {
        for (l, outputs) in outputs.iter().enumerate() {
            hints.extend_from_slice(&outputs[i].hint);
            for (x, row) in plan.packing().rows(i).enumerate() {
                for (y, column) in plan.hint_columns(l).enumerate() {
                    phases[row * plan.sizes().columns + column] = outputs[i].phases[plan.output_at(x, y)];
                }
            }
        }
    }
    Ok((hints, phases))
}

fn seed<R: CryptoRng>(rng: &mut R) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

/// The bodies; coefficients that no output reads are zero.
fn read_bodies(plan: &CrossPlan, bytes: &[u8]) -> Result<Vec<Vec<u64>>, BridgeError> {
    let (parameters, count) = (plan.parameters(), plan.count());
    if bytes.len() != plan.bodies_len() {
        return Err(BridgeError::Length { what: "the bodies", expected: plan.bodies_len(), found: bytes.len() });
    }
    let words: Vec<u64> = pack::read(bytes, count.bodies, parameters.full_width())?;
    let mut rest = &words[..];
    let mut bodies = Vec::with_capacity(count.polynomials);
    let Sizes { rows, inner, .. } = plan.packing().blocks();
    for i in 0..rows {
        for _ in 0..plan.digits().count {
            for j in 0..inner {
                let used = plan.packing().body_coefficients(i, j);
                let (own, after) = rest.split_at(used.len());
                rest = after;
                let mut body = vec![0; parameters.set.degree];
                used.iter().zip(own).for_each(|(&at, word)| body[at] = word << parameters.rounding.body);
                bodies.push(body);
            }
        }
    }
    Ok(bodies)
}

/// Up to so many coefficients of a clear polynomial are multiplied one by one; sizes alone decide.
const FEW_TAPS: usize = 48;

/// Masks and bodies in the form in which they meet the clear polynomials.
enum Factors<'a> {
    /// Products by transforms.
    Transformed { masks: &'a [Mask<u64>], bodies: Vec<NttPoly<u64>> },
    /// Products by few coefficients.
    Tapped(Vec<[Tapped<u64>; 2]>),
}

impl<'a> Factors<'a> {
    fn new(plan: &CrossPlan, ring: &Ring<u64>, masks: &'a [Mask<u64>], bodies: &[Vec<u64>]) -> Self {
        let reach = taps(plan) - 1;
        if reach < FEW_TAPS {
            let tapped = |(mask, body): (&Mask<u64>, &Vec<u64>)| {
                [Tapped::new(mask.coefficients(), reach), Tapped::new(body, reach)]
            };
            Self::Tapped(masks.par_iter().zip(bodies).map(tapped).collect())
        } else {
            Self::Transformed { masks, bodies: bodies.par_iter().map(|body| ring.forward(body)).collect() }
        }
    }
}

/// k' r': the clear polynomials have no coefficients above.
fn taps(plan: &CrossPlan) -> usize {
    plan.packing().block().inner * plan.packing().block().columns
}

/// One product in evaluation.
struct Product<'a> {
    plan: &'a CrossPlan,
    ring: &'static Ring<u64>,
    public: Public<'a>,
    factors: Factors<'a>,
    /// By digit, k x r.
    digits: Vec<Zeroizing<Vec<i64>>>,
}

/// What one block of A B becomes.
struct Output {
    hint: Vec<u8>,
    phases: Zeroizing<Vec<u64>>,
}

impl Product<'_> {
    /// All blocks of rows, for the columns of one hint.
    fn column<R: CryptoRng>(&self, l: usize, rng: &mut R) -> Result<Vec<Output>, BridgeError> {
        let parameters = self.plan.parameters();
        let mask0 = self.public.mask0.get::<u64>(parameters.set)?;
        let b0 = &self.public.keys.b0.get::<u64>(parameters.set)?[0].ntt;
        let norms = self.norms(l);
        let fits = |draws: &[Draw<u64>]| {
            let (drawn, merge) = (draws[0].drawn(), self.plan.choice().merge);
            let terms = budget::terms(parameters.set, norms, drawn, parameters.rounding, merge);
            noise::margin_bits(parameters.set, parameters.ell, &terms, Cross::NONE) >= 0.0
        };
        let finish = |[mut mask, mut body]: CiphertextHalves| {
            let evaluated = Zeroizing::new(vec![std::mem::take(&mut *mask)]);
            let published = publish(&evaluated, mask0, rng, parameters.rounding.hint, fits)?;
            let (hint, rerandomiser) = &published[0];
            let blind = rerandomiser.apply(b0);
            body.iter_mut().zip(blind.iter()).for_each(|(word, blind)| *word = word.wrapping_add(*blind));
            Ok(Output { hint: hint.to_bytes(), phases: body })
        };
        self.answers(l)?.into_iter().map(finish).collect()
    }

    /// Both halves of the answer with the columns of one hint, for all blocks of rows.
    fn answers(&self, l: usize) -> Result<Vec<CiphertextHalves>, BridgeError> {
        let (plan, merge) = (self.plan, self.plan.choice().merge);
        if merge == 0 {
            return self.sums(l);
        }
        let mut of_rows = vec![Vec::new(); plan.packing().blocks().rows];
        for column in plan.hint_columns(l) {
            for (all, mut sums) in of_rows.iter_mut().zip(self.sums(column)?) {
                sums.iter_mut().for_each(|half| turn_down(half, (1 << merge) - 1));
                all.push(sums);
            }
        }
        of_rows.into_iter().map(|all| self.public.keys.merge.merge(plan.parameters().set, merge, all)).collect()
    }

    /// sum_j w_j a_j and sum_j w_j body_j of one block of columns, for all blocks of rows.
    fn sums(&self, l: usize) -> Result<Vec<CiphertextHalves>, BridgeError> {
        let zero = || [(); 2].map(|()| Zeroizing::new(vec![0; self.ring.degree()]));
        let mut sums: Vec<CiphertextHalves> = (0..self.plan.packing().blocks().rows).map(|_| zero()).collect();
        match &self.factors {
            Factors::Transformed { masks, bodies } => self.transformed(l, masks, bodies, &mut sums)?,
            Factors::Tapped(factors) => self.tapped(l, factors, &mut sums),
        }
        Ok(sums)
    }

    /// [`sums`](Self::sums) by few coefficients.
    fn tapped(&self, l: usize, factors: &[[Tapped<u64>; 2]], sums: &mut [CiphertextHalves]) {
        let mut clear = Zeroizing::new(vec![0; taps(self.plan)]);
        for digit in 0..self.plan.digits().count {
            for j in 0..self.plan.packing().blocks().inner {
                self.clear_polynomial(digit, j, l, &mut clear);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let factors = &factors[self.plan.polynomial(i, digit, j)];
                    factors.iter().zip(sums).for_each(|(factor, sum)| factor.mul_acc(&clear, sum));
                }
            }
        }
    }

    /// [`sums`](Self::sums) by transforms.
    fn transformed(
        &self,
        l: usize,
        masks: &[Mask<u64>],
        bodies: &[NttPoly<u64>],
        sums: &mut [CiphertextHalves],
    ) -> Result<(), BridgeError> {
        let Sizes { rows, inner, .. } = self.plan.packing().blocks();
        let limbs = Limbs::of(self.plan, self.ring.max_norm1());
        let mut clear = Zeroizing::new(vec![0; self.ring.degree()]);
        let mut limb = Zeroizing::new(vec![0; self.ring.degree()]);
        let mut small = Zeroizing::new(self.ring.zero_small());
        let mut part = Zeroizing::new(vec![0u64; self.ring.degree()]);
        for place in 0..limbs.count {
            let mut products: Vec<[Zeroizing<NttPoly<u64>>; 2]> =
                (0..rows).map(|_| [(); 2].map(|()| Zeroizing::new(self.ring.zero()))).collect();
            let mut flush = |products: &mut Vec<[Zeroizing<NttPoly<u64>>; 2]>| {
                for (product, sum) in products.iter_mut().flatten().zip(sums.iter_mut().flatten()) {
                    self.ring.inverse_into(product, &mut part);
                    sum.iter_mut().zip(part.iter()).for_each(|(sum, part)| {
                        *sum = sum.wrapping_add(part << (limbs.bits * place));
                    });
                }
            };
            let mut held = 0;
            for digit in 0..self.plan.digits().count {
                for j in 0..inner {
                    if held == limbs.together {
                        flush(&mut products);
                        held = 0;
                    }
                    self.clear_polynomial(digit, j, l, &mut clear);
                    limbs.take(&clear, place, &mut limb);
                    self.ring.forward_small_into(&limb, &mut small)?;
                    for (i, [mask, body]) in products.iter_mut().enumerate() {
                        let at = self.plan.polynomial(i, digit, j);
                        self.ring.mul_acc(mask, masks[at].ntt(), &small);
                        self.ring.mul_acc(body, &bodies[at], &small);
                    }
                    held += 1;
                }
            }
            flush(&mut products);
        }
        Ok(())
    }

    /// One digit of block (`j`, `l`) of B.
    fn clear_polynomial(&self, digit: u32, j: usize, l: usize, out: &mut [i64]) {
        let packing = self.plan.packing();
        out.fill(0);
        for (x, k) in packing.inner(j).enumerate() {
            for (y, column) in packing.columns(l).enumerate() {
                out[packing.clear_at(x, y)] = self.digits[digit as usize][k * self.plan.sizes().columns + column];
            }
        }
    }

    /// The norms of all that meets in one output of a hint: of a block of columns, or the largest of single ones that are merged.
    fn norms(&self, l: usize) -> Norms {
        let row = self.plan.sizes().columns;
        let of = |columns: Range<usize>| {
            let rows = self.digits.iter().flat_map(|digits| digits.chunks_exact(row));
            rows.flat_map(|row| &row[columns.clone()]).fold(Norms::default(), |norms, &x| {
                let x = x as f64;
                Norms { norm2: norms.norm2 + x * x, norm1: norms.norm1 + x.abs() }
            })
        };
        let columns = self.plan.hint_columns(l);
        match self.plan.choice().merge {
            0 => of(columns),
            _ => columns.map(|column| of(column..column + 1)).fold(Norms::default(), Norms::max),
        }
    }
}

impl Drop for Product<'_> {
    fn drop(&mut self) {
        self.digits.iter_mut().for_each(|digits| digits.zeroize());
    }
}

/// Digits cut again, into signed limbs small enough that sums of products are exact in the ring. Sizes alone decide.
struct Limbs {
    count: u32,
    bits: u32,
    /// Polynomials that fit in one sum.
    together: usize,
}

impl Limbs {
    fn of(plan: &CrossPlan, max_norm1: u64) -> Self {
        let bits = match plan.clear() {
            Clear::Share => plan.digits().bits(),
            Clear::Known { magnitude } => 33 - magnitude.leading_zeros(),
        };
        let block = plan.packing().block();
        let taps = (block.inner * block.columns) as u64;
        let of = |count: u32| {
            let bits = bits.div_ceil(count);
            Self { count, bits, together: (max_norm1 / (taps << (bits.max(1) - 1))) as usize }
        };
        // At least four, so that transforms back are few beside the products; limbs of one bit always are.
        (1..=bits.max(1)).map(of).find(|limbs| limbs.together >= 4).expect("a polynomial of bits fits")
    }

    /// Limb `place` of each value.
    fn take(&self, values: &[i64], place: u32, out: &mut [i64]) {
        if self.count == 1 {
            return out.copy_from_slice(values);
        }
        let last = place + 1 == self.count;
        let half = 1i64 << (self.bits - 1);
        // Half a limb in every place but the last makes these positive: the carries of the balanced form.
        let offset: i64 = (0..self.count - 1).map(|place| half << (self.bits * place)).sum();
        for (out, value) in out.iter_mut().zip(values) {
            let high = (value + offset) >> (self.bits * place);
            *out = if last { high } else { (high & (2 * half - 1)) - half };
        }
    }
}
