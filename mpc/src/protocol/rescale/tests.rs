//! Truncated products against the plain rule: all shares of small rings, thresholds and random shares of large ones.

use super::*;
use crate::layout::{HighBits, Search};
use crate::primitive::bits::Planes;
use crate::program::testing::{ODD_LANES, opened, run, share};
use crate::spec::Part;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;

/// clamp(floor((M z + b) / 2^s), 0, top) for lo <= z <= hi.
#[derive(Clone, Copy, Debug)]
struct Rule {
    multiplier: i64,
    offset: i64,
    shift: u32,
    top: i64,
    domain: [i64; 2],
}

impl Rule {
    fn sum(self, z: i64) -> i128 {
        i128::from(self.multiplier) * i128::from(z) + i128::from(self.offset)
    }

    fn value(self, z: i64) -> i128 {
        (self.sum(z) >> self.shift).clamp(0, self.top.into())
    }

    /// By how much sums may fall and grow, looking at every z.
    fn room(self) -> [i128; 2] {
        let (mut above, mut below) = (i128::MAX >> 1, i128::MAX >> 1);
        for z in self.domain[0]..=self.domain[1] {
            for k in 1..=i128::from(self.top) {
                let distance = self.sum(z) - (k << self.shift);
                if distance >= 0 { above = above.min(distance) } else { below = below.min(-1 - distance) }
            }
        }
        [above, below]
    }

    /// The specification of S for a number of dropped bits, wide enough for every error, and for 2^(s-d) less where only a sign counts.
    fn spec(self, factor: Factor, offset: i128) -> Spec {
        let [least, most] = factor.errors();
        let [lo, hi] = self.domain.map(|z| self.sum(z) + offset);
        let ends = [(lo + least - (1 << self.shift)) >> factor.dropped, (hi + most) >> factor.dropped];
        let bits = (64 - self.top.leading_zeros()) as u8;
        let needed = ends.map(|end| 129 - (if end < 0 { !end } else { end }).leading_zeros());
        let shift = (self.shift - factor.dropped) as u8;
        let ring = (needed[0].max(needed[1]) as u8).max(shift + 2);
        Spec { ell: ring, shift, bits, guard: 0 }
    }
}

/// 2 z + r shared, as c and v of ell + 1 bits.
fn accumulator(ell: u32, c: u64, v: u64) -> i64 {
    (c.wrapping_add(v) << (63 - ell)).cast_signed() >> (64 - ell)
}

/// S as an integer, read from a ring of `ring` bits.
fn sum(factor: Factor, offset: i64, ring: u8, c: u64, v: u64) -> i64 {
    let ([guard, wrap, own], [other, k, w]) = (factor.client(c), factor.server(v, offset));
    let s = own.wrapping_add(other).wrapping_add(guard * k).wrapping_add(wrap.wrapping_mul(w));
    (s << (64 - ring)).cast_signed() >> (64 - ring)
}

/// Every pair of shares of the accumulators of a rule.
fn all_pairs(ell: u32, [lo, hi]: [i64; 2]) -> (Vec<u64>, Vec<u64>) {
    let all = (0..2_u64 << ell).flat_map(|c| (0..2_u64 << ell).map(move |v| (c, v)));
    all.filter(|&(c, v)| (lo..=hi).contains(&accumulator(ell, c, v))).unzip()
}

/// Runs the program of every layout and compares every lane with the rule.
fn check(rule: Rule, factor: Factor, form: Finish, c: &[u64], v: &[u64], seed: u64) {
    let [above, below] = rule.room();
    check_within(rule, factor, form, [above, below], c, v, seed, usize::MAX);
}

#[expect(clippy::too_many_arguments, reason = "a helper of two tests")]
fn check_within(
    rule: Rule,
    factor: Factor,
    form: Finish,
    [above, below]: [i128; 2],
    c: &[u64],
    v: &[u64],
    seed: u64,
    layouts: usize,
) {
    let offset = factor.offset(above, below).expect("room for the errors");
    let spec = rule.spec(factor, offset);
    check_factor(factor, spec.ell.into()).unwrap();
    let (lanes, ring, bits) = (c.len(), spec.width(), spec.effective_bits().unwrap());
    let lowered = if bits == 1 { 1 << rule.shift } else { 0 };
    let offset = rule.offset + i64::try_from(offset).unwrap() - lowered;
    let clip = Clip { top: rule.top as u8, spare: false };
    let client: Vec<[u64; 3]> = c.iter().map(|c| factor.client(*c)).collect();
    let server: Vec<[u64; 3]> = v.iter().map(|v| factor.server(*v, offset)).collect();
    let column = |rows: &[[u64; 3]], at: usize, width: usize| {
        Planes::from_lanes(&rows.iter().map(|row| row[at]).collect::<Vec<_>>(), width)
    };
    let xhat = Planes::random(lanes, form.ring(bits), &mut ChaCha20Rng::seed_from_u64(!seed));
    let mut inputs = vec![column(&client, 0, 1), column(&client, 1, 1), column(&client, 2, ring)];
    inputs.extend(form.uploads().then(|| xhat.clone()));
    inputs.extend((0..3).map(|at| column(&server, at, ring)));
    for choice in Search::new(0.73).rescale(spec, clip, form).unwrap().iter().take(layouts) {
        let program = Arc::new(program(spec, clip, &choice.layout, form).unwrap());
        assert_eq!(program.cost(1).flights(), choice.flights);
        let got = opened(form, &xhat, &run(&program, lanes, &inputs, seed));
        for (lane, y) in got.into_iter().enumerate() {
            let z = accumulator(factor.ell, c[lane], v[lane]);
            let want = rule.value(z) as u64 & (u64::MAX >> (64 - form.ring(bits)));
            assert_eq!(y, want, "{rule:?} {factor:?} {form:?} z = {z} c = {} v = {} seed {seed}", c[lane], v[lane]);
        }
    }
}

/// Small rules, with the most bits that may be dropped by the proof.
fn small() -> Vec<(Rule, Factor)> {
    let rules = [(37, 90, 8, 7), (11, 40, 6, 3), (53, -100, 9, 5), (29, 300, 9, 1), (64, 32, 8, 3), (200, 77, 7, 15)];
    let mut all = Vec::new();
    for (multiplier, offset, shift, top) in rules {
        let rule = Rule { multiplier, offset, shift, top, domain: [-14, 15] };
        let [above, below] = rule.room();
        let factor = |dropped| Factor { multiplier, ell: 6, dropped };
        let fits = (0..=shift).rev().map(factor).find(|factor| factor.offset(above, below).is_some());
        all.push((rule, fits.expect("nothing dropped fits always")));
    }
    all
}

#[test]
fn exact_for_all_shares_of_small_rings() {
    let mut dropped = 0;
    for (rule, factor) in small() {
        let (c, v) = all_pairs(factor.ell, rule.domain);
        for form in [Finish::Small, Finish::Share { ring: 9 }, Finish::Upload { ring: 7 }] {
            check(rule, factor, form, &c, &v, 3);
        }
        dropped += factor.dropped;
    }
    assert!(dropped >= 12, "{dropped} bits dropped in all: too little to show anything");
}

/// The errors of the proof are those that occur, up to two units (the two floors of one sum lose less than 2^(d+1) - 2 where its fraction
/// says so), and the proof refuses what some shares make wrong, whatever the offset.
#[test]
fn the_proof_is_right_and_nearly_tight() {
    let mut wrong = 0;
    for (rule, factor) in small() {
        let (c, v) = all_pairs(factor.ell, rule.domain);
        for dropped in 0..=rule.shift {
            let factor = Factor { dropped, ..factor };
            let [least, most] = factor.errors();
            let errors = |offset: i64| {
                let pairs = c.iter().zip(&v);
                pairs.map(move |(&c, &v)| {
                    let z = accumulator(factor.ell, c, v);
                    let s = i128::from(sum(factor, rule.offset + offset, 40, c, v));
                    (z, s, (s << dropped) - rule.sum(z) - i128::from(offset))
                })
            };
            let (lo, hi) = errors(0).fold((0, 0), |(lo, hi), (_, _, e)| (e.min(lo), e.max(hi)));
            assert!(least <= lo && hi <= most, "{factor:?}: {lo}..={hi} is not in {least}..={most}");
            assert!(most - least < 3 << dropped, "{factor:?}");
            let [above, below] = rule.room();
            let right = |offset: i64| {
                errors(offset).all(|(z, s, _)| (s >> (rule.shift - dropped)).clamp(0, rule.top.into()) == rule.value(z))
            };
            let reach = 1_i64 << (rule.shift + 2);
            let possible = (-reach..=reach).any(right);
            match factor.offset(above, below) {
                Some(offset) => assert!(right(offset as i64), "{rule:?} {factor:?}"),
                None => wrong += u32::from(!possible),
            }
            if possible && dropped > 0 {
                let less = Factor { dropped: dropped - 1, ..factor };
                assert!(less.offset(above, below).is_some(), "{rule:?}: {factor:?} is right, {less:?} not proved");
            }
        }
    }
    assert!(wrong >= 10, "{wrong} refusals that are needed");
}

/// Accumulators of 24 bits with a product of 50, at thresholds, ends and anywhere.
#[test]
fn exact_at_thresholds_of_long_products() {
    // A multiple of 2^22 / 2^38: the thresholds are far from all sums.
    let rule = Rule {
        multiplier: (1 << 25) + (1 << 22),
        offset: 77 << 30,
        shift: 38,
        top: 200,
        domain: [-(1 << 22), 5 << 19],
    };
    let least = |k: i64| {
        let z = (i128::from(k) << rule.shift) - i128::from(rule.offset) + i128::from(rule.multiplier) - 1;
        (z.div_euclid(rule.multiplier.into()) as i64).clamp(rule.domain[0], rule.domain[1])
    };
    let thresholds: Vec<i64> = (1..=rule.top).flat_map(|k| [least(k) - 1, least(k)]).collect();
    let distance = |z: i64| (rule.sum(z) & ((1 << rule.shift) - 1), (!rule.sum(z)) & ((1 << rule.shift) - 1));
    let above = thresholds.iter().filter(|z| rule.value(**z) > 0).map(|z| distance(*z).0).min().unwrap();
    let below =
        thresholds.iter().filter(|z| rule.sum(**z) < i128::from(rule.top) << rule.shift).map(|z| distance(*z).1);
    let room = [above, below.min().unwrap()];
    let fits =
        |dropped: &u32| Factor { multiplier: rule.multiplier, ell: 24, dropped: *dropped }.offset(room[0], room[1]);
    let dropped = (0..38).rev().find(|dropped| fits(dropped).is_some()).unwrap();
    assert!(dropped > 15, "{dropped} bits");
    let factor = Factor { multiplier: rule.multiplier, ell: 24, dropped };
    for (seed, lanes) in ODD_LANES.into_iter().chain([3000]).enumerate() {
        let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
        let span = (rule.domain[1] - rule.domain[0] + 1) as u64;
        let any = |rng: &mut ChaCha20Rng| rule.domain[0] + (rng.next_u64() % span) as i64;
        let chosen = rule.domain.iter().chain(&thresholds).copied();
        let mut z: Vec<i64> = chosen.take(lanes).collect();
        z.resize_with(lanes, || any(&mut rng));
        let x: Vec<u64> = z.iter().map(|z| (2 * z) as u64 + rng.next_u64() % 2).collect();
        let [c, v] = share(&x, 25, &mut rng);
        let form = Finish::Upload { ring: 20 };
        check_within(rule, factor, form, room, &c.to_lanes::<u64>(), &v.to_lanes::<u64>(), seed as u64, 2);
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let factor = Factor { multiplier: 77, ell: 20, dropped: 9 };
    assert!(check_factor(factor, 20).is_ok());
    for factor in [
        Factor { multiplier: 0, ..factor },
        Factor { multiplier: -1, ..factor },
        Factor { multiplier: 1 << 48, ..factor },
        Factor { ell: 1, ..factor },
        Factor { ell: 57, ..factor },
        Factor { dropped: 63, ..factor },
    ] {
        assert!(check_factor(factor, 20).is_err(), "{factor:?}");
    }
    assert!(check_factor(factor, 57).is_err() && check_factor(factor, 1).is_err());
    let digits = vec![Part::Digit(1); 4];
    let layout = Layout { low: digits.clone(), mid: digits, high: vec![1], high_bits: HighBits::Chain, joined: false };
    let spec = Spec { ell: 10, shift: 4, bits: 4, guard: 0 };
    let form = Finish::Share { ring: 9 };
    assert!(program(spec, Clip::default(), &layout, form).is_ok());
    let guarded = Spec { ell: 9, guard: 1, shift: 3, ..spec };
    assert!(program(guarded, Clip::default(), &layout, form).is_err());
    assert!(program(Spec { shift: 5, ..spec }, Clip::default(), &layout, form).is_err());
}
