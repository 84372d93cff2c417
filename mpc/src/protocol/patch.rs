//! y_i = t_i if t_1 + .. + t_n > 0, else 0, with t_i = floor(z_i / 2^s): one sign for the n pixels of a patch, after [GJA23].
//!
//! c_i + v_i = 2^g z_i + r_i mod 2^(ell+g), 0 <= r_i < 2^g, as linear layers leave it, and |t_i| < 2^(k-1) for every input: the ring has
//! one bit more, ell >= s + k + 1. Without a gate y = t, an *identity*. What is made counts from the least value, y + 2^(k-1) - 1, of k bits.
//!
//! ```text
//! t_i       the low s + g bits carry, as in [`requantise`](crate::requantise); the carry goes into Z_{2^(k+1)}
//! gate      sum of t_i - 1 >= 0, in a ring of k + log2 n bits: each t_i is extended to it first, where that is wider than k + 1 bits
//! y_i       gate t_i by two OLEs of k + 1 bits, then raised, extended and uploaded as any activation
//! ```
//!
//! |t_i| < 2^(k-1), so t_i + 2^(k-1) has a zero top bit modulo 2^(k+1) and is extended by the OR of two top bits; the sum less one is at
//! least -n (2^(k-1) - 1) - 1 >= -2^(k + log2 n - 1). A patch at a border has fewer pixels: the others are given as 0 by both parties, and
//! nobody reads what becomes of them.
//!
//! *What travels.* Corrections and messages of OTs alone, and each y_i less the client's pad, as from a requantisation; the gate stays
//! XOR-shared. Nothing is opened, no share is sent, and each pad is used for one y_i: the proof is that of the gadgets, one after the other.
//! The shares are of floors that no r_i moves, since the carry is exact, so no noise of a ciphertext decides anything.
//!
//! ```text
//! offline   client    corrections of the low bits of c_i         -> server
//! online    both      the carries, the sum's sign, the products
//!           client    y_c - xhat of each pixel                   -> server
//! ```
//!
//! [GJA23]: crate#references

use serde::{Deserialize, Serialize};

use crate::gadget::carry::{Pair, carry};
use crate::gadget::compare::top_bit;
use crate::gadget::convert::bit_to_ring;
use crate::gadget::extend::{extend_signed, finish};
use crate::gadget::select::multiply_bit;
use crate::party::Party;
use crate::program::{Builder, Program, Share, Time};
use crate::spec::{Finish, LayoutError, MAX_ELL, Part, check_parts, check_ring, check_size};

/// Widest value, in bits.
pub const MAX_BITS: usize = 24;
/// Most pixels of a patch.
pub const MAX_PIXELS: usize = 1024;

/// Which accumulators become which values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// ell: bits of the accumulator z, sign included.
    pub ell: u8,
    /// s: the bits dropped.
    pub shift: u8,
    /// g: guard bits below the accumulator, 0 or 1.
    pub guard: u8,
    /// k: |t| < 2^(k-1).
    pub bits: u8,
    /// n: pixels of a patch.
    pub pixels: u16,
    /// False for an identity, which has one pixel.
    pub gated: bool,
}

/// The digits of a patch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chains {
    /// Of the low bits of a pixel.
    pub low: Vec<Part>,
    /// Of the bits below the sign of the sum; none without a gate.
    pub gate: Vec<Part>,
}

impl Spec {
    /// Bits that only carry.
    #[must_use]
    pub fn low(self) -> usize {
        usize::from(self.shift) + usize::from(self.guard)
    }

    /// Bits of a share of an accumulator.
    #[must_use]
    pub fn width(self) -> usize {
        usize::from(self.ell) + usize::from(self.guard)
    }

    /// Bits of the ring in which a patch is summed up.
    #[must_use]
    pub fn sum_bits(self) -> usize {
        usize::from(self.bits) + usize::from(self.pixels.max(1)).next_power_of_two().trailing_zeros() as usize
    }

    /// Bits below the sign of that sum, which the gate's chain covers.
    #[must_use]
    pub fn compared(self) -> usize {
        if self.gated { self.sum_bits() - 1 } else { 0 }
    }

    /// Checks the numbers and the ring.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(self, form: Finish) -> Result<(), LayoutError> {
        let (shift, bits) = (usize::from(self.shift), usize::from(self.bits));
        check_size("bits of a value of a block", bits, 2, MAX_BITS)?;
        check_size("guard bits of an accumulator", self.guard.into(), 0, 1)?;
        check_size("pixels of a patch", self.pixels.into(), 1, if self.gated { MAX_PIXELS } else { 1 })?;
        check_size("bits of an accumulator that a block reads", self.ell.into(), shift + bits + 1, MAX_ELL.into())?;
        check_ring(form, bits)
    }
}

impl Chains {
    fn check(&self, spec: Spec) -> Result<(), LayoutError> {
        check_parts("low", &self.low, spec.low())?;
        check_parts("gate", &self.gate, spec.compared())
    }
}

/// The ideal version: y + 2^(k-1) - 1 of each pixel, from the accumulators of a patch.
#[must_use]
pub fn ideal(spec: Spec, patch: &[i64]) -> Vec<u64> {
    let values: Vec<i64> = patch.iter().map(|z| z >> spec.shift).collect();
    let kept = !spec.gated || values.iter().sum::<i64>() > 0;
    let counted = |t: &i64| if kept { *t } else { 0 } + least(spec).cast_signed();
    values.iter().map(|t| counted(t).cast_unsigned()).collect()
}

/// 2^(k-1) - 1.
fn least(spec: Spec) -> u64 {
    (1 << (spec.bits - 1)) - 1
}

/// The program, one lane per patch. Inputs: the client's c of each pixel (ell + g bits, offline), with [`Finish::Upload`] its xhat of each
/// (ring bits, offline), the server's v of each. Outputs: the client's and the server's share of each pixel, or the server's m of each.
///
/// # Errors
/// [`LayoutError`] if the specification has no such layer, or the digits do not fit it.
pub fn program(spec: Spec, chains: &Chains, form: Finish) -> Result<Program, LayoutError> {
    spec.check(form)?;
    chains.check(spec)?;
    let mut b = Builder::new();
    record(&mut b, spec, spec.pixels.into(), chains, form);
    Ok(b.finish())
}

/// Records inputs, protocol and outputs of `pixels` pixels; the specification has been checked.
pub(crate) fn record(b: &mut Builder, spec: Spec, pixels: usize, chains: &Chains, form: Finish) {
    let ring = usize::from(spec.bits) + 1;
    let client: Vec<_> = (0..pixels).map(|_| b.input(Party::Client, spec.width(), Time::OFFLINE)).collect();
    let pads: Vec<_> = (0..pixels)
        .map(|_| form.uploads().then(|| b.input(Party::Client, form.ring(spec.bits.into()), Time::OFFLINE)))
        .collect();
    let server: Vec<_> = (0..pixels).map(|_| b.input(Party::Server, spec.width(), Time::START)).collect();
    let mut values = Vec::with_capacity(pixels);
    for (c, v) in client.iter().zip(&server) {
        let pair = Pair::new(b, v, c);
        let low = carry(b, &chains.low, &pair.slice(0..spec.low()), None);
        let mut t = Share { client: b.slice(c, spec.low(), ring), server: b.slice(v, spec.low(), ring) };
        if let Some(low) = low {
            let low = bit_to_ring(b, low, ring);
            t = b.add_shares(&t, &low);
        }
        values.push(t);
    }
    if spec.gated {
        let sum = sum(b, spec, &values);
        let negative = top_bit(b, &chains.gate, &sum);
        let gate = b.flip(negative);
        for t in &mut values {
            *t = multiply_bit(b, gate, t);
        }
    }
    for (mut y, pad) in values.into_iter().zip(pads) {
        let up = b.constant(Party::Server, least(spec), ring);
        y.server = b.add(&y.server, &up);
        finish(b, &y, form, pad.as_ref());
    }
}

/// The sum of all values less one, in its ring.
fn sum(b: &mut Builder, spec: Spec, values: &[Share]) -> Share {
    let width = spec.sum_bits();
    let mut sum: Option<Share> = None;
    for t in values {
        let t = if width > t.server.width() {
            extend_signed(b, t, width)
        } else {
            Share { client: b.resize(&t.client, width), server: b.resize(&t.server, width) }
        };
        sum = Some(match sum {
            None => t,
            Some(sum) => b.add_shares(&sum, &t),
        });
    }
    let mut sum = sum.expect("a patch has pixels");
    let one = b.constant(Party::Server, 1, width);
    sum.server = b.sub(&sum.server, &one);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Search;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, open, run, share};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    fn spec(shift: u8, bits: u8, pixels: u16) -> Spec {
        Spec { ell: shift + bits + 1, shift, guard: 1, bits, pixels, gated: true }
    }

    /// Runs patches of z, whose noise is that of their position, and compares every pixel.
    fn check(spec: Spec, chains: &Chains, form: Finish, patches: &[Vec<i64>], seed: u64) {
        let (lanes, mut rng) = (patches.len(), ChaCha20Rng::seed_from_u64(seed));
        let program = Arc::new(program(spec, chains, form).unwrap());
        let [mut client, mut server, mut pads] = [(); 3].map(|()| Vec::new());
        for pixel in 0..usize::from(spec.pixels) {
            let noise = |lane: usize| if spec.guard == 0 { 0 } else { (lane + pixel) as u64 % 2 };
            let noisy = |(lane, patch): (usize, &Vec<i64>)| (patch[pixel] << spec.guard) as u64 + noise(lane);
            let sums: Vec<u64> = patches.iter().enumerate().map(noisy).collect();
            let [c, v] = share(&sums, spec.width(), &mut rng);
            client.push(c);
            server.push(v);
            pads.push(Planes::random(lanes, form.ring(spec.bits.into()), &mut rng));
        }
        let own = if form.uploads() { pads.clone() } else { vec![] };
        let outcome = run(&program, lanes, &[client, own, server].concat(), seed);
        for (pixel, pad) in pads.iter().enumerate() {
            let got = open(if form.uploads() { pad } else { &outcome.client[pixel] }, &outcome.server[pixel]);
            for (patch, y) in patches.iter().zip(got) {
                assert_eq!(y, ideal(spec, patch)[pixel], "{spec:?} {form:?} {patch:?} seed {seed}");
            }
        }
    }

    fn found(spec: Spec, form: Finish) -> Vec<Chains> {
        Search::new(0.73).patch(spec, form).unwrap().into_iter().map(|choice| choice.layout).collect()
    }

    /// Every pair of sums that fits, and every single one.
    #[test]
    fn every_patch_of_small_rings() {
        for (shift, bits, guard) in [(2, 3, 1), (0, 4, 1), (1, 2, 0), (0, 3, 0)] {
            let reach = (1_i64 << (bits - 1)) - 1;
            let all: Vec<i64> = (-reach << shift..(reach + 1) << shift).collect();
            let one: Vec<Vec<i64>> = all.iter().map(|&z| vec![z]).collect();
            let two: Vec<Vec<i64>> = all.iter().flat_map(|&x| all.iter().map(move |&y| vec![x, y])).collect();
            for (pixels, patches) in [(1, &one), (2, &two)] {
                for gated in [true, false].into_iter().filter(|gated| *gated || pixels == 1) {
                    let spec = Spec { gated, guard, ..spec(shift, bits, pixels) };
                    for form in [Finish::Small, Finish::Share { ring: 9 }, Finish::Upload { ring: 12 }] {
                        for chains in found(spec, form) {
                            check(spec, &chains, form, patches, 5);
                        }
                    }
                }
            }
        }
    }

    /// Patches whose sums are at the ends of their ring, near 0, and anywhere.
    #[test]
    fn patches_of_all_sizes() {
        for (seed, (shift, bits, pixels)) in
            [(3, 7, 1), (6, 7, 2), (5, 5, 3), (6, 7, 4), (2, 4, 9), (4, 9, 16), (1, 3, 64)].into_iter().enumerate()
        {
            let spec = Spec { ell: shift + bits + 1 + seed as u8 % 2, ..spec(shift, bits, pixels) };
            let reach = (1_i64 << (bits - 1)) - 1;
            let form = [Finish::Upload { ring: 14 }, Finish::Share { ring: 17 }, Finish::Small][seed % 3];
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            let mut value = |reach: i64| {
                let z = (rng.next_u64() % ((2 * reach as u64 + 1) << shift)) as i64;
                z - (reach << shift)
            };
            let mut patches: Vec<Vec<i64>> =
                [-reach << shift, ((reach + 1) << shift) - 1, 0, 1 << shift, -1].map(|z| vec![z; pixels.into()]).into();
            patches.extend((0..60).map(|i| (0..pixels).map(|_| value(if i % 2 == 0 { 1 } else { reach })).collect()));
            for chains in [found(spec, form).swap_remove(0), found(spec, form).pop().unwrap()] {
                check(spec, &chains, form, &patches, seed as u64);
            }
        }
    }

    #[test]
    fn every_number_of_lanes() {
        let (spec, form) = (spec(4, 5, 2), Finish::Upload { ring: 11 });
        let chains = found(spec, form).swap_remove(0);
        for lanes in ODD_LANES {
            let patches: Vec<Vec<i64>> = (0..lanes as i64).map(|i| vec![i % 200 - 100, 37 - i % 80]).collect();
            check(spec, &chains, form, &patches, lanes as u64);
        }
    }

    /// What a search says of digits is what their program costs.
    #[test]
    fn predictions_are_measured() {
        for (spec, form) in [
            (spec(6, 7, 4), Finish::Upload { ring: 13 }),
            (spec(3, 5, 1), Finish::Small),
            (Spec { gated: false, ..spec(6, 7, 1) }, Finish::Upload { ring: 13 }),
            (spec(2, 4, 16), Finish::Share { ring: 12 }),
        ] {
            for choice in Search::new(1.37).patch(spec, form).unwrap() {
                let program = program(spec, &choice.layout, form).unwrap();
                assert_eq!(program.cost(1).flights(), choice.flights, "{spec:?}");
                let measured = program.tally().price(1.37);
                assert!((measured - choice.price).abs() < 1e-6, "{spec:?}: {measured}, not {}", choice.price);
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (good, form) = (spec(4, 5, 4), Finish::Upload { ring: 11 });
        let chains = found(good, form).swap_remove(0);
        assert!(program(good, &chains, form).is_ok());
        for bad in [
            Spec { ell: good.ell - 1, ..good },
            Spec { bits: 1, ..good },
            Spec { bits: 25, ..good },
            Spec { guard: 2, ..good },
            Spec { pixels: 0, ..good },
            Spec { pixels: 1025, ..good },
            Spec { gated: false, ..good },
            Spec { ell: 57, ..good },
        ] {
            assert!(program(bad, &chains, form).is_err(), "{bad:?}");
            assert!(Search::new(0.73).patch(bad, form).is_err(), "{bad:?}");
        }
        assert!(program(good, &chains, Finish::Share { ring: 4 }).is_err());
        assert!(program(good, &Chains { gate: vec![], ..chains.clone() }, form).is_err());
        assert!(program(good, &Chains { low: vec![], ..chains }, form).is_err());
    }
}
