//! The machine words that carry the discretised torus: `u32` and `u64`, with arithmetic that wraps.

use std::fmt::Debug;

use zeroize::Zeroize;

use crate::crt::Residues;

/// Runs an expression for the word of a parameter set's torus: `with_word!(set, W => expression)`, in which `W` is `u32` or
/// `u64`. The one place where the word is chosen.
///
/// ```
/// use lowkey_he::{Ring, params, with_word};
///
/// for set in params::ALL {
///     with_word!(set, W => assert_eq!(Ring::<W>::shared(set).unwrap().degree(), set.degree));
/// }
/// ```
#[macro_export]
macro_rules! with_word {
    ($set:expr, $word:ident => $run:expr) => {
        match $set.torus_bits {
            32 => {
                type $word = u32;
                $run
            }
            64 => {
                type $word = u64;
                $run
            }
            bits => unreachable!("no parameter set lives on a torus of {bits} bits"),
        }
    };
}

/// A word of the discretised torus Z_q, q = 2^BITS. Implemented for `u32` and `u64` only.
///
/// The operations are those of the integers; the trait exists so that every set shares one text.
pub trait TorusWord: Residues + Copy + Default + Eq + Debug + Send + Sync + Zeroize + 'static {
    /// log2 q.
    const BITS: u32;

    /// Sum mod q.
    fn wrapping_add(self, other: Self) -> Self;
    /// Difference mod q.
    fn wrapping_sub(self, other: Self) -> Self;
    /// Product mod q.
    fn wrapping_mul(self, other: Self) -> Self;
    /// Opposite mod q.
    fn wrapping_neg(self) -> Self;
    /// Shift towards the top. `bits` is less than BITS.
    fn shl(self, bits: u32) -> Self;
    /// Shift towards the bottom, zeros enter at the top. `bits` is less than BITS.
    fn shr(self, bits: u32) -> Self;
    /// The residue of a signed integer mod q.
    fn from_i64(value: i64) -> Self;
    /// The residue of an unsigned integer mod q.
    fn from_u64(value: u64) -> Self;
    /// The representative in \[0, q).
    fn to_u64(self) -> u64;
    /// The representative in \[-q/2, q/2).
    fn to_i64(self) -> i64;
}

macro_rules! torus_word {
    ($word:ty, $signed:ty) => {
        impl TorusWord for $word {
            const BITS: u32 = <$word>::BITS;

            #[inline(always)]
            fn wrapping_add(self, other: Self) -> Self {
                <$word>::wrapping_add(self, other)
            }
            #[inline(always)]
            fn wrapping_sub(self, other: Self) -> Self {
                <$word>::wrapping_sub(self, other)
            }
            #[inline(always)]
            fn wrapping_mul(self, other: Self) -> Self {
                <$word>::wrapping_mul(self, other)
            }
            #[inline(always)]
            fn wrapping_neg(self) -> Self {
                <$word>::wrapping_neg(self)
            }
            #[inline(always)]
            fn shl(self, bits: u32) -> Self {
                self << bits
            }
            #[inline(always)]
            fn shr(self, bits: u32) -> Self {
                self >> bits
            }
            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                value as $word
            }
            #[inline(always)]
            fn from_u64(value: u64) -> Self {
                value as $word
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                u64::from(self)
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                i64::from(self as $signed)
            }
        }
    };
}

torus_word!(u32, i32);
torus_word!(u64, i64);
