//! Bit planes: the values of many lanes, bit by bit, so that one word operation serves 64 lanes.

use rand::CryptoRng;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::primitive::vectorise::vectorised;

/// Lanes per word of a plane.
pub const WORD_LANES: usize = u64::BITS as usize;

/// `width` bit planes of `lanes` bits each: bit `i` of lane `l` is bit `l % 64` of word `l / 64` of plane `i`.
///
/// Planes follow one another, each padded to whole words; the padding bits carry no meaning and are zero on
/// the wire. Most planes are shares, so they are zeroized on drop and print redacted.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct Planes {
    lanes: usize,
    width: usize,
    words: Vec<u64>,
}

/// A machine word that holds the value of one lane.
pub trait LaneWord: Copy + Default {
    /// Its width in bits.
    const BITS: usize;
    /// The value, zero-extended.
    fn widen(self) -> u64;
    /// The low bits of `value`.
    fn narrow(value: u64) -> Self;
}

macro_rules! lane_word {
    ($($word:ty),*) => {$(
        impl LaneWord for $word {
            const BITS: usize = <$word>::BITS as usize;
            #[inline(always)]
            fn widen(self) -> u64 {
                u64::from(self)
            }
            #[inline(always)]
            fn narrow(value: u64) -> Self {
                value as $word
            }
        }
    )*};
}
lane_word!(u8, u16, u32, u64);

impl Planes {
    /// All lanes zero.
    #[must_use]
    pub fn zero(lanes: usize, width: usize) -> Self {
        let words = vec![0; width * lanes.div_ceil(WORD_LANES)];
        Self { lanes, width, words }
    }

    /// Uniform lanes.
    #[must_use]
    pub fn random<R: CryptoRng + ?Sized>(lanes: usize, width: usize, rng: &mut R) -> Self {
        let mut planes = Self::zero(lanes, width);
        planes.words.iter_mut().for_each(|word| *word = rng.next_u64());
        planes
    }

    /// The low `width` bits of every value, one value per lane.
    ///
    /// # Panics
    /// If `width` exceeds the width of `T`.
    #[must_use]
    pub fn from_lanes<T: LaneWord>(values: &[T], width: usize) -> Self {
        assert!(width <= T::BITS, "a lane of {} bits has no {width} bits", T::BITS);
        let mut planes = Self::zero(values.len(), width);
        slice_bits(values, width, &mut planes.words);
        planes
    }

    /// The value of every lane, zero-extended: the inverse of [`Planes::from_lanes`].
    ///
    /// # Panics
    /// If the width exceeds that of `T`.
    #[must_use]
    pub fn to_lanes<T: LaneWord>(&self) -> Vec<T> {
        assert!(self.width <= T::BITS, "{} bits do not fit a lane of {}", self.width, T::BITS);
        let mut values = vec![T::default(); self.lanes];
        join_bits(&self.words, self.width, &mut values);
        values
    }

    /// Number of lanes.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Bits per lane.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Words per plane.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.lanes.div_ceil(WORD_LANES)
    }

    /// The words of plane `i`.
    ///
    /// # Panics
    /// If there is no such plane.
    #[must_use]
    pub fn plane(&self, i: usize) -> &[u64] {
        let stride = self.stride();
        &self.words[i * stride..][..stride]
    }

    /// The words of plane `i`, to be written.
    ///
    /// # Panics
    /// If there is no such plane.
    pub fn plane_mut(&mut self, i: usize) -> &mut [u64] {
        let stride = self.stride();
        &mut self.words[i * stride..][..stride]
    }
}

vectorised! {
    /// Fills the planes of the low `width` bits of `values`.
    fn slice_bits<T: LaneWord>(values: &[T], width: usize, words: &mut [u64]) {
        let (stride, mut rows) = (values.len().div_ceil(WORD_LANES), [0; WORD_LANES]);
        for (w, chunk) in values.chunks(WORD_LANES).enumerate() {
            rows[chunk.len()..].fill(0);
            for (row, value) in rows.iter_mut().zip(chunk) {
                *row = value.widen();
            }
            gather(&mut rows, width);
            for (i, row) in rows[..width].iter().enumerate() {
                words[i * stride + w] = *row;
            }
        }
        rows.zeroize();
    }
}

vectorised! {
    /// The inverse of [`slice_bits`].
    fn join_bits<T: LaneWord>(words: &[u64], width: usize, values: &mut [T]) {
        let (stride, mut rows) = (values.len().div_ceil(WORD_LANES), [0; WORD_LANES]);
        for (w, chunk) in values.chunks_mut(WORD_LANES).enumerate() {
            for (i, row) in rows[..width].iter_mut().enumerate() {
                *row = words[i * stride + w];
            }
            scatter(&mut rows, width);
            for (value, row) in chunk.iter_mut().zip(&rows) {
                *value = T::narrow(*row);
            }
        }
        rows.zeroize();
    }
}

impl fmt::Debug for Planes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lanes, width, .. } = self;
        write!(f, "Planes({width} bits x {lanes} lanes, ..)")
    }
}

/// Every other group of `step` bits, starting with the lowest.
const fn low_groups(step: usize) -> u64 {
    u64::MAX / ((1 << step) + 1)
}

/// Transposes the low `width` columns of a 64 x 64 bit matrix: bit `l` of the new row `i < width` is bit `i` of
/// the old row `l`. Rows from `width` on are left undefined.
///
/// The recursive block transposition [War12], except that blocks which hold no wanted column are dropped as early as
/// possible.
///
/// [War12]: crate#references
#[inline(always)]
pub(crate) fn gather(rows: &mut [u64; WORD_LANES], width: usize) {
    let mut step = WORD_LANES / 2;
    let mut height = WORD_LANES;
    while step > 0 {
        let low = low_groups(step);
        if width <= step {
            for k in 0..step {
                rows[k] = (rows[k] & low) | (rows[k + step] & low) << step;
            }
            height = step;
        } else {
            swap_blocks(&mut rows[..height], step, low);
        }
        step /= 2;
    }
}

/// The inverse of [`gather`]: bit `i < width` of the new row `l` is bit `l` of the old row `i`, other bits are zero.
#[inline(always)]
pub(crate) fn scatter(rows: &mut [u64; WORD_LANES], width: usize) {
    let mut height = width.next_power_of_two();
    rows[width..].fill(0);
    let mut step = 1;
    while step < WORD_LANES {
        let low = low_groups(step);
        if step < height {
            swap_blocks(&mut rows[..height], step, low);
        } else {
            for k in 0..step {
                rows[k + step] = rows[k] >> step & low;
                rows[k] &= low;
            }
            height = 2 * step;
        }
        step *= 2;
    }
}

/// Transposes every 2 x 2 matrix of blocks of `step` x `step` bits.
#[inline(always)]
fn swap_blocks(rows: &mut [u64], step: usize, low: u64) {
    for pair in rows.chunks_exact_mut(2 * step) {
        let (upper, lower) = pair.split_at_mut(step);
        for (a, b) in upper.iter_mut().zip(lower) {
            let t = (*a >> step ^ *b) & low;
            *a ^= t << step;
            *b ^= t;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn gather_transposes_every_width() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let matrix: [u64; 64] = std::array::from_fn(|_| rng.next_u64());
        for width in 0..=64 {
            let mut rows = matrix;
            gather(&mut rows, width);
            for (i, row) in rows[..width].iter().enumerate() {
                for (l, lane) in matrix.iter().enumerate() {
                    assert_eq!(row >> l & 1, lane >> i & 1, "width {width}, bit {i} of lane {l}");
                }
            }
            let kept = u64::MAX.checked_shr(64 - width as u32).unwrap_or(0);
            scatter(&mut rows, width);
            assert_eq!(rows, matrix.map(|lane| lane & kept), "width {width}");
        }
    }

    #[test]
    fn planes_are_bit_sliced() {
        let planes = Planes::from_lanes(&[0b01_u8, 0b10, 0b11], 2);
        assert_eq!((planes.plane(0), planes.plane(1)), (&[0b101][..], &[0b110][..]));
        assert_eq!(format!("{planes:?}"), "Planes(2 bits x 3 lanes, ..)");
    }

    proptest! {
        #[test]
        fn lanes_round_trip(values in prop::collection::vec(any::<u64>(), 0..300), width in 0_usize..=64) {
            let kept = u64::MAX.checked_shr(64 - width as u32).unwrap_or(0);
            let planes = Planes::from_lanes(&values, width);
            prop_assert_eq!((planes.lanes(), planes.width()), (values.len(), width));
            let want: Vec<u64> = values.iter().map(|value| value & kept).collect();
            prop_assert_eq!(planes.to_lanes::<u64>(), want);
            if width <= 16 {
                let narrow: Vec<u16> = values.iter().map(|value| *value as u16).collect();
                let again = Planes::from_lanes(&narrow, width);
                prop_assert_eq!(&again.words, &planes.words);
            }
        }
    }
}
