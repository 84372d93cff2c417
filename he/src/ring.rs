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
//! **Multiples.** Of hints and of b*_0 the lowest r bits were rounded off. What is left of a word, as a signed number of BITS - r bits, has a
//! ternary product of magnitude at most N 2^(BITS-r-1). Where that is within the limit of two primes, two are enough on the
//! 64-bit torus too: [`Ring::forward_multiples`] leaves the third out, and [`Ring::inverse_into`] puts the zeros back.
//!
//! Polynomials in coefficient form are slices of N words, in ascending order of degree. No branch and no address
//! depends on coefficients.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};
use tfhe_ntt::prime32::Plan;
use zeroize::Zeroize;

use crate::crt::{Factor, Residues, reconstruct_multiples, reduce_multiples, reduce_small};
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
    /// Bound on the integer coefficients behind the residues, in units of [`Ring::most`].
    growth: u64,
    form: Form,
    word: PhantomData<W>,
}

/// What the residues of a polynomial are those of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The words, from 0 to q - 1, modulo every prime.
    Whole,
    /// The words without this many low bits, which are zeros, as signed numbers; modulo the first two primes of three.
    Multiples(u32),
}

/// A small signed polynomial in the transformed domain, with a bound on its 1-norm. One that meets nothing but
/// [multiples](Ring::forward_multiples) has residues of two primes.
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
        Self::most(Form::Whole)
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
        self.zero_as(Form::Whole)
    }

    /// The zero polynomial as the start of a sum of products of polynomials like this one.
    pub fn zero_like(&self, poly: &NttPoly<W>) -> NttPoly<W> {
        self.zero_as(poly.form)
    }

    fn zero_as(&self, form: Form) -> NttPoly<W> {
        NttPoly { residues: Lines::zero(self.degree() * Self::primes(form)), growth: 0, form, word: PhantomData }
    }

    /// Largest total 1-norm of the small factors of one exact sum of products with polynomials of a form.
    fn most(form: Form) -> u64 {
        match form {
            Form::Whole => (W::LIMIT / ((1u128 << W::BITS) - 1)) as u64,
            Form::Multiples(zeros) => (u32::LIMIT >> (W::BITS - zeros - 1)) as u64,
        }
    }

    /// Residues per coefficient of a polynomial whose `zeros` lowest bits are zeros, of whoever meets nothing but ternary factors: 2 or 3.
    pub fn primes_of_multiples(set: &ParameterSet, zeros: u32) -> usize {
        Self::primes(form_of::<W>(set.degree, zeros))
    }

    /// Residues per coefficient of a form.
    fn primes(form: Form) -> usize {
        match form {
            Form::Whole => W::PRIMES.len(),
            Form::Multiples(_) => u32::PRIMES.len(),
        }
    }

    /// The transform of a torus polynomial of N coefficients.
    pub fn forward(&self, torus: &[W]) -> NttPoly<W> {
        let mut out = self.zero();
        self.forward_into(torus, &mut out);
        out
    }

    /// The transform of N multiples of 2^zeros, for a product with one ternary polynomial: in two residues where these are enough.
    ///
    /// # Panics
    /// If there are not N, or `zeros` is not below the torus width.
    pub fn forward_multiples(&self, torus: &[W], zeros: u32) -> NttPoly<W> {
        let form = form_of::<W>(self.degree(), zeros);
        if form == Form::Whole {
            return self.forward(torus);
        }
        assert_eq!(torus.len(), self.degree());
        debug_assert!(torus.iter().all(|word| word.shr(zeros).shl(zeros) == *word), "multiples of 2^{zeros}");
        let mut out = self.zero_as(form);
        reduce_multiples(torus, |x| x.to_i64() >> zeros, out.residues.words_mut());
        self.transform(out.residues.words_mut());
        out.growth = 1;
        out
    }

    /// [`forward`](Self::forward) into an existing polynomial.
    ///
    /// # Panics
    /// If that is one of [multiples](Self::forward_multiples).
    pub fn forward_into(&self, torus: &[W], out: &mut NttPoly<W>) {
        assert_eq!((torus.len(), out.form), (self.degree(), Form::Whole));
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
        self.ternary_modulo(ternary, W::PRIMES.len())
    }

    /// [`forward_ternary`](Self::forward_ternary) for products with `poly` and its like: in as many residues.
    pub fn forward_ternary_for(&self, ternary: &[i8], poly: &NttPoly<W>) -> NttSmall<W> {
        self.ternary_modulo(ternary, Self::primes(poly.form))
    }

    fn ternary_modulo(&self, ternary: &[i8], primes: usize) -> NttSmall<W> {
        assert_eq!(ternary.len(), self.degree());
        let residues = Lines::zero(self.degree() * primes);
        let mut out = NttSmall { residues, norm1: 0, word: PhantomData };
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
    /// If the small factors of the accumulation exceed together what keeps it exact: [`max_norm1`](Self::max_norm1), and N where they meet
    /// [multiples](Self::forward_multiples). If `acc` and `torus` are not alike, or `small` has fewer residues than they.
    pub fn mul_acc(&self, acc: &mut NttPoly<W>, torus: &NttPoly<W>, small: &NttSmall<W>) {
        acc.growth = acc.growth.saturating_add(torus.growth.saturating_mul(small.norm1));
        assert!(acc.growth <= Self::most(acc.form), "small factors of total 1-norm {} in one sum", acc.growth);
        assert_eq!(acc.form, torus.form, "a sum of products of one form");
        assert!(small.residues.words().len() >= acc.residues.words().len(), "a residue for every prime");
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
        match poly.form {
            Form::Whole => W::reconstruct(poly.residues.words(), &self.inverse_degree, out),
            Form::Multiples(zeros) => {
                reconstruct_multiples(poly.residues.words(), &self.inverse_degree, |x| W::from_u64(x).shl(zeros), out);
            }
        }
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

/// How multiples of 2^zeros are transformed that meet one ternary polynomial.
fn form_of<W: TorusWord>(degree: usize, zeros: u32) -> Form {
    assert!(zeros < W::BITS, "{zeros} bits of {}", W::BITS);
    // Every prime is above 2^29.9, and a sum may have N terms of BITS - zeros - 1 bits and a sign.
    match W::PRIMES.len() > u32::PRIMES.len() && (degree as u128) << (W::BITS - zeros - 1) <= u32::LIMIT {
        true => Form::Multiples(zeros),
        false => Form::Whole,
    }
}

impl<W: TorusWord> NttSmall<W> {
    /// Forgets the residues that products with multiples of 2^zeros have no use for.
    pub(crate) fn shorten(&mut self, set: &ParameterSet, zeros: u32) {
        let words = set.degree * Ring::<W>::primes_of_multiples(set, zeros);
        self.residues.shorten(words);
    }

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

    /// Keeps the first words; the others are wiped.
    fn shorten(&mut self, words: usize) {
        self.words_mut()[words..].zeroize();
        self.0.truncate(words / 16);
        self.0.shrink_to_fit();
    }

    fn words(&self) -> &[u32] {
        bytemuck::cast_slice(&self.0)
    }

    fn words_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
