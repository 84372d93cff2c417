//! c = a * b in Z_q\[X\]/(X^N+1), exactly, for a torus polynomial a and a small signed polynomial b.
//!
//! Both factors are lifted to the integers (a to \[0, q), b to its signed values), multiplied modulo two (q = 2^32) or
//! three (q = 2^64) primes by the negacyclic number-theoretic transforms of `tfhe-ntt`, and the signed result is
//! reconstructed and reduced mod q.
//!
//! **Exactness.** A coefficient of sum_j a_j * b_j is an integer of magnitude at most (q-1) * sum_j |b_j|_1. It comes
//! back exactly while that is at most the limit L of `crt.rs`, so the sum of the 1-norms of all small factors of one
//! accumulation must not exceed [`Ring::max_norm1`] = floor(L / (q-1)): 2^26.97 for q = 2^32, 2^24.96 for q = 2^64. An
//! [`NttPoly`] carries the sum of the norms that went into it. [`Ring::forward_small`] refuses a factor beyond the limit
//! with an error, [`Ring::mul_acc`] asserts the limit for the sum: check [`NttSmall::norm1`] of weights that nothing
//! else has bounded. Ternary factors count N, whatever their values.
//!
//! Polynomials in coefficient form are slices of N words, in ascending order of degree. No branch and no address
//! depends on coefficients.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};
use tfhe_ntt::prime32::Plan;
use zeroize::Zeroize;

use crate::crt::{Factor, reduce_small};
use crate::error::HeError;
use crate::params::ParameterSet;
use crate::simd::vectorize;
use crate::window::Window;
use crate::word::TorusWord;

/// The ring of one parameter set over its word, with transform tables. Built once per process, see [`Ring::shared`].
#[derive(Debug)]
pub struct Ring<W: TorusWord> {
    set: &'static ParameterSet,
    plans: Vec<Plan>,
    inverse_degree: Vec<Factor>,
    word: PhantomData<W>,
}

/// The rings that have been built, by parameter set, each over the word of its set.
static RINGS: [OnceLock<Box<dyn Any + Send + Sync>>; 4] = [const { OnceLock::new() }; 4];

/// A torus polynomial, or a sum of products, in the transformed domain: N residues per prime, contiguous, 64-byte
/// aligned.
#[derive(Clone, PartialEq, Eq)]
pub struct NttPoly<W: TorusWord> {
    residues: Lines,
    /// Bound on the integer coefficients behind the residues, in units of q - 1.
    growth: u64,
    word: PhantomData<W>,
}

/// A small signed polynomial in the transformed domain, with a bound on its 1-norm.
#[derive(Clone, PartialEq, Eq)]
pub struct NttSmall<W: TorusWord> {
    residues: Lines,
    norm1: u64,
    word: PhantomData<W>,
}

impl<W: TorusWord> Ring<W> {
    /// The ring of a parameter set, built on first use.
    ///
    /// # Errors
    /// [`HeError::TorusWidth`] if the set lives on the other word.
    pub fn shared(set: &'static ParameterSet) -> Result<&'static Self, HeError> {
        if set.torus_bits != W::BITS {
            return Err(HeError::TorusWidth { set: set.name, expected: set.torus_bits, found: W::BITS });
        }
        let ring = RINGS[usize::from(set.id) - 1].get_or_init(|| Box::new(Self::new(set)));
        Ok(ring.downcast_ref().expect("a set lives on one word"))
    }

    fn new(set: &'static ParameterSet) -> Self {
        let plan = |&p: &u32| Plan::try_new(set.degree, p).expect("the primes have roots of unity of order 2^16");
        Self {
            set,
            plans: W::PRIMES.iter().map(plan).collect(),
            inverse_degree: W::PRIMES.iter().map(|&p| Factor::inverse(set.degree as u64, p)).collect(),
            word: PhantomData,
        }
    }

    /// The parameter set.
    pub fn set(&self) -> &'static ParameterSet {
        self.set
    }

    /// The degree N.
    pub fn degree(&self) -> usize {
        self.set.degree
    }

    /// Largest total 1-norm of the small factors of one exact sum of products.
    pub fn max_norm1(&self) -> u64 {
        (W::LIMIT / ((1u128 << W::BITS) - 1)) as u64
    }

    /// An error unless `set` is this ring's.
    pub(crate) fn expect_set(&self, set: &'static ParameterSet) -> Result<(), HeError> {
        match set == self.set {
            true => Ok(()),
            false => Err(HeError::ParameterSet { expected: self.set.name, found: set.name }),
        }
    }

    /// The zero polynomial: the start of an accumulation.
    pub fn zero(&self) -> NttPoly<W> {
        NttPoly { residues: Lines::zero(self.degree() * W::PRIMES.len()), growth: 0, word: PhantomData }
    }

    /// The transform of a torus polynomial of N coefficients.
    pub fn forward(&self, torus: &[W]) -> NttPoly<W> {
        let mut out = self.zero();
        self.forward_into(torus, &mut out);
        out
    }

    /// [`forward`](Self::forward) into an existing polynomial.
    pub fn forward_into(&self, torus: &[W], out: &mut NttPoly<W>) {
        assert_eq!(torus.len(), self.degree());
        W::reduce(torus, out.residues.words_mut());
        self.transform(out.residues.words_mut());
        out.growth = 1;
    }

    /// The transform of a small signed polynomial of N coefficients.
    ///
    /// # Errors
    /// [`HeError::SmallNorm`] if its 1-norm exceeds [`max_norm1`](Self::max_norm1).
    pub fn forward_small(&self, small: &[i64]) -> Result<NttSmall<W>, HeError> {
        let mut out = self.zero_small();
        self.forward_small_into(small, &mut out)?;
        Ok(out)
    }

    /// [`forward_small`](Self::forward_small) into an existing polynomial, which an error leaves as it was.
    pub fn forward_small_into(&self, small: &[i64], out: &mut NttSmall<W>) -> Result<(), HeError> {
        assert_eq!(small.len(), self.degree());
        let norm1 = small.iter().fold(0u64, |sum, x| sum.saturating_add(x.unsigned_abs()));
        if norm1 > self.max_norm1() {
            return Err(HeError::SmallNorm { norm1, limit: self.max_norm1() });
        }
        self.small_into(small, norm1, out);
        Ok(())
    }

    /// The transform of a polynomial with coefficients -1, 0 and 1. Its norm counts as N.
    pub fn forward_ternary(&self, ternary: &[i8]) -> NttSmall<W> {
        assert_eq!(ternary.len(), self.degree());
        let mut out = self.zero_small();
        self.small_into(ternary, self.degree() as u64, &mut out);
        out
    }

    fn small_into<S: Copy + Into<i64>>(&self, small: &[S], norm1: u64, out: &mut NttSmall<W>) {
        let residues = out.residues.words_mut();
        for (residues, &p) in residues.chunks_exact_mut(self.degree()).zip(W::PRIMES) {
            vectorize(
                #[inline(always)]
                || {
                    for (r, &x) in residues.iter_mut().zip(small) {
                        *r = reduce_small(x.into(), p);
                    }
                },
            );
        }
        self.transform(residues);
        out.norm1 = norm1;
    }

    /// A small polynomial to be filled by [`forward_small_into`](Self::forward_small_into); zero until then.
    pub fn zero_small(&self) -> NttSmall<W> {
        NttSmall { residues: Lines::zero(self.degree() * W::PRIMES.len()), norm1: 0, word: PhantomData }
    }

    fn transform(&self, residues: &mut [u32]) {
        for (plan, residues) in self.plans.iter().zip(residues.chunks_exact_mut(self.degree())) {
            plan.fwd(residues);
        }
    }

    /// acc += torus * small.
    ///
    /// # Panics
    /// If the small factors of the accumulation exceed [`max_norm1`](Self::max_norm1) together.
    pub fn mul_acc(&self, acc: &mut NttPoly<W>, torus: &NttPoly<W>, small: &NttSmall<W>) {
        acc.growth = acc.growth.saturating_add(torus.growth.saturating_mul(small.norm1));
        assert!(acc.growth <= self.max_norm1(), "small factors of total 1-norm {} in one sum", acc.growth);
        let n = self.degree();
        let runs = acc.residues.words_mut().chunks_exact_mut(n);
        let factors = torus.residues.words().chunks_exact(n).zip(small.residues.words().chunks_exact(n));
        for ((plan, acc), (torus, small)) in self.plans.iter().zip(runs).zip(factors) {
            plan.mul_accumulate(acc, torus, small);
        }
    }

    /// The N coefficients of a transformed polynomial, normalised: the inverse of [`forward`](Self::forward), and the
    /// exact negacyclic product after [`mul_acc`](Self::mul_acc).
    pub fn inverse(&self, poly: &NttPoly<W>) -> Vec<W> {
        let mut out = vec![W::default(); self.degree()];
        self.inverse_into(&mut poly.clone(), &mut out);
        out
    }

    /// [`inverse`](Self::inverse) into `out` (N words). The content of `poly` is used up: it is zero afterwards.
    pub fn inverse_into(&self, poly: &mut NttPoly<W>, out: &mut [W]) {
        assert_eq!(out.len(), self.degree());
        for (plan, residues) in self.plans.iter().zip(poly.residues.words_mut().chunks_exact_mut(self.degree())) {
            plan.inv(residues);
        }
        W::reconstruct(poly.residues.words(), &self.inverse_degree, out);
        poly.clear();
    }

    /// The coefficients at `positions` of the negacyclic product of `torus` and `small` (N coefficients each), by inner
    /// products. To use the same `torus` repeatedly, build its [`Window`] once.
    ///
    /// # Panics
    /// If a position is not below N.
    pub fn product_at(&self, torus: &[W], small: &[i8], positions: &[usize]) -> Vec<W> {
        assert_eq!(torus.len(), self.degree());
        Window::new(torus).product_at(small, positions)
    }
}

impl<W: TorusWord> NttPoly<W> {
    /// Makes it the zero polynomial.
    pub fn clear(&mut self) {
        self.residues.words_mut().fill(0);
        self.growth = 0;
    }
}

impl<W: TorusWord> NttSmall<W> {
    /// An upper bound on the sum of the magnitudes of the coefficients (N for ternary polynomials).
    pub fn norm1(&self) -> u64 {
        self.norm1
    }
}

impl<W: TorusWord> Zeroize for NttPoly<W> {
    fn zeroize(&mut self) {
        self.residues.words_mut().zeroize();
        self.growth = 0;
    }
}

impl<W: TorusWord> Zeroize for NttSmall<W> {
    fn zeroize(&mut self) {
        self.residues.words_mut().zeroize();
        self.norm1 = 0;
    }
}

/// The residues may be those of a product with a secret.
impl<W: TorusWord> std::fmt::Debug for NttPoly<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NttPoly([redacted])")
    }
}

/// Small polynomials are secrets, rerandomisers or weights.
impl<W: TorusWord> std::fmt::Debug for NttSmall<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NttSmall([redacted])")
    }
}

/// One cache line: the unit of allocation, so that vectors do not straddle lines.
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// A 64-byte aligned array of words.
#[derive(Clone, PartialEq, Eq)]
struct Lines(Vec<Line>);

impl Lines {
    fn zero(words: usize) -> Self {
        Self(vec![Line::zeroed(); words / 16])
    }

    fn words(&self) -> &[u32] {
        bytemuck::cast_slice(&self.0)
    }

    fn words_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
