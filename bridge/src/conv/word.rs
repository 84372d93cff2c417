//! Machine words as signed 16-bit limbs, and the sums that their products are gathered in.
//!
//! A word x of 16 m bits is x = sum over i < m of x_i 2^(16 i) mod 2^(16 m), each limb x_i a signed 16-bit integer
//! ([`Limbs::limb`]). Limbs meet 16-bit weights in 32-bit accumulators; the accumulators of limb i enter the result
//! multiplied by 2^(16 i) ([`Sum::fold`]).

/// A word that the convolution is computed in: `u16`, `u32` or `u64`.
///
/// Arithmetic wraps modulo 2^BITS.
pub trait Word: Limbs {}

impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

/// What the kernels need of a word. In a private module, so that no other type can be a [`Word`].
pub trait Limbs: Copy + Default + Eq + std::fmt::Debug + Send + Sync + 'static {
    /// Width of the word.
    const BITS: u32;
    /// Signed 16-bit limbs in a word.
    const LIMBS: usize;
    /// Accumulator at least as wide as the word, or 32 bits if that is more.
    type Sum: Sum;

    /// Limb `i` of the word, as the bits of a signed 16-bit integer.
    fn limb(self, i: usize) -> u16;
    /// The accumulator's low bits.
    fn truncate(sum: Self::Sum) -> Self;
    /// Sum modulo 2^BITS.
    fn plus(self, other: Self) -> Self;
}

/// An accumulator of one output.
pub trait Sum: Copy + Default + Send + Sync + 'static {
    /// self + value * 2^place, wrapping.
    fn fold(self, value: i32, place: u32) -> Self;
    /// The same memory as 32-bit integers, if that is what the accumulators are.
    fn as_narrow(sums: &mut [Self]) -> Option<&mut [i32]>;
}

impl Sum for i32 {
    #[inline(always)]
    fn fold(self, value: i32, place: u32) -> Self {
        self.wrapping_add(value << place)
    }

    #[inline(always)]
    fn as_narrow(sums: &mut [Self]) -> Option<&mut [i32]> {
        Some(sums)
    }
}

impl Sum for i64 {
    #[inline(always)]
    fn fold(self, value: i32, place: u32) -> Self {
        self.wrapping_add(i64::from(value) << place)
    }

    #[inline(always)]
    fn as_narrow(_: &mut [Self]) -> Option<&mut [i32]> {
        None
    }
}

macro_rules! limbs {
    ($word:ty, $sum:ty, $carry:expr) => {
        impl Limbs for $word {
            const BITS: u32 = <$word>::BITS;
            const LIMBS: usize = <$word>::BITS as usize / 16;
            type Sum = $sum;

            // Adding 2^15 below each limb but the last carries into the next limb what the signed limb owes it. The
            // limb itself is then too large by 2^15, which as a change modulo 2^16 is a change of its top bit.
            #[inline(always)]
            fn limb(self, i: usize) -> u16 {
                if Self::LIMBS == 1 {
                    return self as u16;
                }
                let carried = self.wrapping_add($carry);
                let top = if i + 1 < Self::LIMBS { 0x8000 } else { 0 };
                (carried >> (16 * i)) as u16 ^ top
            }

            #[inline(always)]
            fn truncate(sum: $sum) -> Self {
                sum as Self
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
        }
    };
}

limbs!(u16, i32, 0);
limbs!(u32, i32, 0x8000);
limbs!(u64, i64, 0x8000_8000_8000);

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of_limbs<W: Limbs>(x: W) -> i128 {
        (0..W::LIMBS).map(|i| i128::from(x.limb(i) as i16) << (16 * i)).sum()
    }

    #[test]
    fn limbs_add_up_to_the_word() {
        for x in 0..=u16::MAX {
            assert_eq!(sum_of_limbs(x) as u16, x);
        }
        let edges = [0u64, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1_0000, 0x7fff_8000, 0x8000_8000, 0xffff_8000];
        for low in edges {
            for high in edges {
                let x = low.wrapping_add(high << 32);
                assert_eq!(sum_of_limbs(x as u32) as u32, x as u32, "{x:#x}");
                assert_eq!(sum_of_limbs(x) as u64, x, "{x:#x}");
            }
        }
    }
}
