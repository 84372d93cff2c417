//! Of a sample of class y: whether its logit is the first of the largest ones, and the loss log(sum of exp z_k) - z_y.
//!
//! ```text
//! b_k, n      [k = y], and their sum: 0 for a sample that does not count                 of the samples' owner
//! u           = sum of b_k u_k                                   an OLE for each k
//! right       = for all k: u_k - u - [k < y or n = 0] >= 0       comparisons, and a tree of ANDs
//! loss        = 2^(6-f) u + n LOG[S]                             an OLE; extended
//! ```
//!
//! u_k = max z - z_k and `LOG[S]` are what [`super::softmax`] puts out. At least one u_k is zero, so a sample that does not count is not
//! right. The owner's numbers enter as choices of OLEs, and in its own share of the differences. Either party may be it.

use super::extend;
use super::softmax::{LOG_BITS, LOG_WIDTH, MAX_CLASSES};
use crate::gadget::carry::ands;
use crate::gadget::compare::top_bit;
use crate::gadget::convert::bit_to_ring;
use crate::party::Party;
use crate::program::{Bit, Builder, Program, Share, Time, Word};
use crate::spec::{LayoutError, Part, check_parts, check_size};
use serde::{Deserialize, Serialize};

/// Bits of the ring of sums of right samples.
pub const RIGHT_WIDTH: u8 = 32;
/// Bits of the ring of sums of losses.
pub const LOSS_WIDTH: u8 = 48;

/// Which logits are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// How many.
    pub classes: u8,
    /// Bits of the ring of their differences to the largest.
    pub width: u8,
    /// f: fractional bits of these.
    pub fraction: u8,
    /// Who knows the classes.
    pub owner: Party,
}

impl Spec {
    /// Bits that a comparison compares.
    #[must_use]
    pub fn compared(self) -> usize {
        usize::from(self.width) - 1
    }

    /// Bits by which a difference is moved to become a loss.
    fn shift(self) -> u8 {
        LOG_BITS - self.fraction
    }

    /// Checks the bounds, and with `chain` the digits of a comparison.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(self, chain: Option<&[Part]>) -> Result<(), LayoutError> {
        check_size("classes of a score", self.classes.into(), 2, MAX_CLASSES)?;
        check_size("fractional bits of scored logits", self.fraction.into(), 0, LOG_BITS.into())?;
        let most = LOSS_WIDTH - self.shift();
        check_size("the ring of scored logits", self.width.into(), 2, most.into())?;
        chain.map_or(Ok(()), |chain| check_parts("comparison", chain, self.compared()))
    }
}

/// The ideal version: whether the sample is right, and its loss in steps of 2^-6; `log` is LOG\[S\]. Without a class the sample does not
/// count.
///
/// # Panics
/// If the class is none of the logits'.
#[must_use]
pub fn ideal(spec: Spec, logits: &[i64], log: u64, class: Option<u8>) -> (bool, u64) {
    let Some(class) = class.map(usize::from) else { return (false, 0) };
    let largest = logits.iter().copied().max().expect("there are classes");
    let right = logits.iter().position(|z| *z == largest) == Some(class);
    (right, (((largest - logits[class]) << spec.shift()).cast_unsigned()) + log)
}

/// The program, one lane per sample. Inputs, for every class: the owner's b_k, a bit, and both shares of u_k, `width` bits; then both shares
/// of LOG\[S\], [`LOG_WIDTH`] bits; all at the start of the online stage. Outputs: both shares of right, [`RIGHT_WIDTH`] bits, and of the
/// loss, [`LOSS_WIDTH`] bits.
///
/// # Errors
/// [`LayoutError`] if something does not fit.
pub fn program(spec: Spec, chain: &[Part]) -> Result<Program, LayoutError> {
    spec.check(Some(chain))?;
    let mut b = Builder::new();
    record(&mut b, spec, chain);
    Ok(b.finish())
}

/// Records inputs, protocol and outputs; the specification has been checked.
pub(crate) fn record(b: &mut Builder, spec: Spec, chain: &[Part]) {
    let (mut classes, mut us) = (Vec::new(), Vec::new());
    for _ in 0..spec.classes {
        classes.push(b.input(spec.owner, 1, Time::START));
        us.push(b.input_share(spec.width.into(), Time::START, Time::START));
    }
    let log = b.input_share(LOG_WIDTH.into(), Time::START, Time::START);
    let counts = sum(b, &classes);
    let u = chosen(b, &classes, &us);
    let right = is_first(b, chain, &classes, &counts, &us, &u);
    let right = bit_to_ring(b, right, RIGHT_WIDTH.into());
    b.output_share(&right);
    let (width, moved) = (usize::from(LOSS_WIDTH), LOSS_WIDTH - spec.shift());
    let u = extend::record(b, extend::Spec { from: spec.width, to: moved, signed: false }, &u);
    let u = Share {
        client: b.shift_left(&u.client, spec.shift().into(), width),
        server: b.shift_left(&u.server, spec.shift().into(), width),
    };
    let log = chosen(b, &[counts], &[log]);
    let log = extend::record(b, extend::Spec { from: LOG_WIDTH, to: LOSS_WIDTH, signed: false }, &log);
    let loss = b.add_shares(&u, &log);
    b.output_share(&loss);
}

/// The sum of bits of which one at most is set.
fn sum(b: &mut Builder, bits: &[Word]) -> Word {
    bits[1..].iter().fold(bits[0].clone(), |sum, bit| b.xor(&sum, bit))
}

/// The one of the numbers whose bit is set; 0 if none is.
fn chosen(b: &mut Builder, bits: &[Word], numbers: &[Share]) -> Share {
    let width = numbers[0].client.width();
    let [client, server] = [Party::Client, Party::Server].map(|party| b.constant(party, 0, width));
    let mut sum = Share { client, server };
    for (bit, x) in bits.iter().zip(numbers) {
        let half = b.halves(bit)[0];
        let [own, other] = match half.party {
            Party::Client => [&x.client, &x.server],
            Party::Server => [&x.server, &x.client],
        };
        let (mine, theirs) = b.ole(half, other);
        let own = b.and_bit(own, half.plane, half.time);
        let mine = b.add(&mine, &own);
        let product = match half.party {
            Party::Client => Share { client: mine, server: theirs },
            Party::Server => Share { client: theirs, server: mine },
        };
        sum = b.add_shares(&sum, &product);
    }
    sum
}

/// Whether u is the first of the u_k that are zero, and the sample counts.
fn is_first(b: &mut Builder, chain: &[Part], classes: &[Word], counts: &Word, us: &[Share], u: &Share) -> Bit {
    let owner = counts.party;
    let one = b.constant(owner, 1, 1);
    let mut below = b.xor(counts, &one);
    let mut all = Vec::new();
    // [k < y] is the sum of b_j over j > k.
    for (class, u_k) in classes.iter().zip(us).rev() {
        let mut difference = b.sub_shares(u_k, u);
        let less = b.resize(&below, u.client.width());
        let own = match owner {
            Party::Client => &mut difference.client,
            Party::Server => &mut difference.server,
        };
        *own = b.sub(own, &less);
        let negative = top_bit(b, chain, &difference);
        all.push(b.flip(negative));
        below = b.xor(&below, class);
    }
    while all.len() > 1 {
        let pairs: Vec<Vec<Bit>> = all.chunks(2).map(<[Bit]>::to_vec).collect();
        all = pairs.iter().map(|pair| if let [x, y] = pair[..] { ands(b, x, &[y])[0] } else { pair[0] }).collect();
    }
    all[0]
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

    const NARROW: Spec = Spec { classes: 10, width: 13, fraction: 4, owner: Party::Client };
    const PARTIES: [Party; 2] = [Party::Client, Party::Server];

    type Sample = (Vec<i64>, u64, Option<u8>);

    fn check(spec: Spec, chain: &[Part], samples: &[Sample], seed: u64) {
        let program = Arc::new(program(spec, chain).unwrap());
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut inputs = Vec::new();
        for k in 0..spec.classes {
            let bits: Vec<u64> = samples.iter().map(|(_, _, class)| u64::from(*class == Some(k))).collect();
            inputs.push(Planes::from_lanes(&bits, 1));
            let us: Vec<u64> =
                samples.iter().map(|(z, ..)| (z.iter().max().unwrap() - z[usize::from(k)]).cast_unsigned()).collect();
            inputs.extend(share(&us, spec.width.into(), &mut rng));
        }
        let logs: Vec<u64> = samples.iter().map(|(_, log, _)| *log).collect();
        inputs.extend(share(&logs, LOG_WIDTH.into(), &mut rng));
        let outcome = run(&program, samples.len(), &inputs, seed);
        let [right, loss] = [0, 1].map(|i| open(&outcome.client[i], &outcome.server[i]));
        for (lane, (z, log, class)) in samples.iter().enumerate() {
            let got = (right[lane] == 1, loss[lane]);
            assert!(right[lane] < 2, "{}", right[lane]);
            assert_eq!(got, ideal(spec, z, *log, *class), "{spec:?} {z:?} of {class:?}, seed {seed}");
        }
    }

    /// With every chain: logits with many ties, of every class and of none, and the largest differences that fit.
    #[test]
    fn equals_the_ideal_version() {
        for (seed, choice) in (0..).zip(Search::new(0.73).score(NARROW).unwrap()) {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let mut samples: Vec<Sample> = Vec::new();
            for (i, spread) in [1, 2, 3, 40, 2048].into_iter().cycle().take(ODD_LANES[1] + 130).enumerate() {
                let z = (0..10).map(|_| (rng.next_u64() % (2 * spread)) as i64 - spread as i64).collect();
                samples.push((z, rng.next_u64() % 147, (i % 11 < 10).then_some((i % 11) as u8)));
            }
            for class in 0..10 {
                let far = |k| if k == 3 { 2047 } else { -2048 };
                samples.push(((0..10).map(far).collect(), 0, Some(class)));
                samples.push((vec![5; 10], 147, Some(class)));
            }
            for owner in PARTIES {
                check(Spec { owner, ..NARROW }, &choice.layout, &samples, seed);
            }
        }
    }

    /// Every pair and triple of small logits, of every class.
    #[test]
    fn the_first_of_equal_ones_is_right() {
        for (classes, owner) in [2_u8, 3].into_iter().flat_map(|classes| PARTIES.map(|owner| (classes, owner))) {
            let spec = Spec { classes, width: 4, fraction: 6, owner };
            let chain = &Search::new(0.73).score(spec).unwrap()[0].layout;
            let count = 7_i64.pow(classes.into());
            let all = (0..count).flat_map(|i| (0..=classes).map(move |class| (i, class)));
            let samples: Vec<Sample> = all
                .map(|(i, class)| {
                    let z = (0..classes).map(|k| i / 7_i64.pow(k.into()) % 7).collect();
                    (z, (i % 147).cast_unsigned(), (class < classes).then_some(class))
                })
                .collect();
            check(spec, chain, &samples, 1);
        }
    }

    /// Bits per sample, at 0.73 bits per random OT.
    #[test]
    fn costs_what_was_planned() {
        let choices = Search::new(0.73).score(NARROW).unwrap();
        let least = choices.last().unwrap();
        let [program, mirrored] = PARTIES.map(|owner| program(Spec { owner, ..NARROW }, &least.layout).unwrap());
        assert_eq!(program.cost(1).flights(), least.flights);
        assert!((program.tally().price(0.73) - least.price).abs() < 1e-6);
        let [cost, other] = [program, mirrored].map(|program| program.cost(128));
        assert_eq!((cost.total_bytes(), cost.demand.ots.total()), (other.total_bytes(), other.demand.ots.total()));
        assert!(least.price < 8.0 * 160.0, "{} bits in {} flights", least.price, least.flights);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let chain = &Search::new(0.73).score(NARROW).unwrap()[0].layout;
        assert!(program(NARROW, chain).is_ok());
        let wrong = [
            Spec { classes: 1, ..NARROW },
            Spec { classes: 11, ..NARROW },
            Spec { width: 12, ..NARROW },
            Spec { width: 47, ..NARROW },
            Spec { fraction: 7, ..NARROW },
        ];
        for spec in wrong {
            assert!(program(spec, chain).is_err(), "{spec:?}");
        }
    }
}
