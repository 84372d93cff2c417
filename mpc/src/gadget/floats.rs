//! [v < t(S)], an XOR-shared bit: whether the sum v of a window, rounded value by value and sum by sum as floats are, lies below a threshold.
//!
//! With near as in [`crate::average`], T_k = m x_k and U_k = T_1 + .. + T_k, both shared by addition and known at the start:
//!
//! ```text
//! v_1 = near(T_1)       v_k = near(t_k), t_k = v_(k-1) + near(T_k)       [v_n - t(S) < 0]      modulo 2^L
//! ```
//!
//! U_k is within reach of t_k. Where no power of two lies within reach of any U_k, t_k drops as many bits as U_k. Else it drops as many as U_k - reach
//! or U_k + reach, and where these differ, 2^L divides the power of two between them: the top bit of t_k mod 2^L says on which side of that
//! t_k is. So all of these become bits at once, and what follows one from another is L bits wide, those of an error. t(S) is a public table,
//! read by one AND for each half of the index: rows times sums of columns.

use super::carry::{Pair, ands, carry};
use crate::party::Party;
use crate::program::{Bit, Builder, Share};
use crate::spec::floats::SIGNIFICAND;
use crate::spec::{Floats, Part};

/// Bits of a digit between those that are needed.
const MIDDLE: usize = 3;

/// The bit; `terms` are shares of m x_i in rings of [`Floats::term_bits`] at least, those of the sum's ring, and `index` of S less the
/// smallest.
pub(crate) fn below(b: &mut Builder, floats: &Floats, terms: &[Share], index: &Share) -> Bit {
    let width = floats.error_bits();
    let mut sum: Option<Share> = None;
    let mut v: Option<Vec<Bit>> = None;
    for term in terms {
        let narrow = resize(b, term, floats.term_bits());
        let [bits, above] = bits_of(b, &narrow, width);
        let dropped = beyond(b, &above);
        let x = near(b, &bits, &dropped);
        v = Some(match (&sum, v) {
            (Some(before), Some(v)) => {
                let total = b.add_shares(before, term);
                let exact = plus(b, &v, &x, None);
                let dropped = if floats.near_powers {
                    let [less, more] = [-floats.reach, floats.reach].map(|by| {
                        let by = b.constant(Party::Server, by as u64, total.server.width());
                        let moved = Share { client: total.client.clone(), server: b.add(&total.server, &by) };
                        let [_, above] = bits_of(b, &moved, 0);
                        beyond(b, &above)
                    });
                    choose(b, exact[width - 1], &more, &less)
                } else {
                    let [_, above] = bits_of(b, &total, 0);
                    beyond(b, &above)
                };
                sum = Some(total);
                near(b, &exact, &dropped)
            }
            _ => {
                sum = Some(term.clone());
                x
            }
        });
    }
    let v = v.expect("a window has values");
    let [index, _] = bits_of(b, index, index.server.width());
    let threshold = look_up(b, &index, &floats.thresholds(), width);
    // v - t = not (not v + t).
    let flipped: Vec<Bit> = v.iter().map(|bit| b.flip(*bit)).collect();
    let difference = plus(b, &flipped, &threshold, None);
    b.flip(difference[width - 1])
}

/// `one` where the bit is one, else `zero`.
fn choose(b: &mut Builder, bit: Bit, zero: &[Bit], one: &[Bit]) -> Vec<Bit> {
    let change: Vec<Bit> = zero.iter().zip(one).map(|(zero, one)| b.xor_bits(*zero, *one)).collect();
    let change = ands(b, bit, &change);
    zero.iter().zip(change).map(|(zero, change)| b.xor_bits(*zero, change)).collect()
}

fn resize(b: &Builder, x: &Share, width: usize) -> Share {
    Share { client: b.resize(&x.client, width), server: b.resize(&x.server, width) }
}

/// The bits of a number that is shared by addition: the lowest ones, and those from [`SIGNIFICAND`] on, between which carries go in digits.
fn bits_of(b: &mut Builder, x: &Share, low: usize) -> [Vec<Bit>; 2] {
    let pair = Pair::new(b, &x.server, &x.client);
    let (mut bits, mut above) = (Vec::new(), Vec::new());
    let (mut known, mut at) = (None, 0);
    while at < x.server.width() {
        let step = if at < low || at >= SIGNIFICAND { 1 } else { MIDDLE.min(SIGNIFICAND - at) };
        let of = if at < low { Some(&mut bits) } else { (at >= SIGNIFICAND).then_some(&mut above) };
        if let Some(list) = of {
            let own = pair.bit(b, at);
            list.push(known.map_or(own, |carry| b.xor_bits(own, carry)));
        }
        let end = at + step;
        if end < x.server.width() {
            known = carry(b, &[Part::Digit(step as u8)], &pair.slice(at..end), known);
        }
        at = end;
    }
    [bits, above]
}

/// Entry i is one where a float of z drops more than i bits, by the bits of z from [`SIGNIFICAND`] on.
fn beyond(b: &mut Builder, above: &[Bit]) -> Vec<Bit> {
    let Some((sign, rest)) = above.split_last() else { return Vec::new() };
    let mut dropped: Vec<Bit> = Vec::new();
    for bit in rest.iter().rev() {
        let bit = b.xor_bits(*bit, *sign);
        let any = match dropped.last() {
            None => bit,
            Some(&above) => {
                let both = ands(b, above, &[bit])[0];
                let either = b.xor_bits(above, bit);
                b.xor_bits(either, both)
            }
        };
        dropped.push(any);
    }
    dropped.reverse();
    dropped
}

/// The multiple of 2^r nearest to t, of two the even one: t + 2^(r-1) - 1 + (bit r of t), without its low r bits.
fn near(b: &mut Builder, t: &[Bit], dropped: &[Bit]) -> Vec<Bit> {
    let mut odd: Option<Bit> = None;
    for (i, more) in dropped.iter().enumerate() {
        let exactly = dropped.get(i + 1).map_or(*more, |next| b.xor_bits(*more, *next));
        let product = ands(b, exactly, &[t[i + 1]])[0];
        odd = Some(odd.map_or(product, |odd| b.xor_bits(odd, product)));
    }
    let raised = plus(b, t, dropped.get(1..).unwrap_or_default(), odd);
    let kept = raised.iter().enumerate().map(|(i, bit)| match dropped.get(i) {
        None => *bit,
        Some(dropped) => {
            let gone = ands(b, *dropped, &[*bit])[0];
            b.xor_bits(*bit, gone)
        }
    });
    kept.collect()
}

/// x + y + carry in the ring of x; y may be shorter.
fn plus(b: &mut Builder, x: &[Bit], y: &[Bit], mut carry: Option<Bit>) -> Vec<Bit> {
    let mut sum = Vec::new();
    for (i, &x_i) in x.iter().enumerate() {
        let (y_i, last) = (y.get(i).copied(), i + 1 == x.len());
        let mixed = y_i.map_or(x_i, |y| b.xor_bits(x_i, y));
        sum.push(carry.map_or(mixed, |carry| b.xor_bits(mixed, carry)));
        carry = match (y_i, carry) {
            _ if last => None,
            (None, None) => None,
            (Some(other), None) | (None, Some(other)) => Some(ands(b, x_i, &[other])[0]),
            // The carry if x and y differ, else x.
            (Some(_), Some(carry)) => {
                let apart = b.xor_bits(x_i, carry);
                let change = ands(b, mixed, &[apart])[0];
                Some(b.xor_bits(x_i, change))
            }
        };
    }
    sum
}

/// The entry at an index, modulo 2^width.
fn look_up(b: &mut Builder, index: &[Bit], entries: &[u64], width: usize) -> Vec<Bit> {
    let (low, high) = index.split_at(index.len() / 2);
    let [columns, rows] = [low, high].map(|bits| one_hot(b, bits));
    let zero = [Party::Server, Party::Client].map(|party| {
        let plane = b.constant(party, 0, 1);
        b.half(party, plane.planes[0], plane.time)
    });
    let mut found = vec![b.bit(zero[0], zero[1]); width];
    for (row, entries) in rows.iter().zip(entries.chunks(columns.len())) {
        let mut sums: Vec<(usize, Bit)> = Vec::new();
        for bit in 0..width {
            let chosen =
                columns.iter().zip(entries).filter(|(_, entry)| **entry >> bit & 1 == 1).map(|(column, _)| *column);
            let mut sum = None;
            for column in chosen {
                sum = Some(sum.map_or(column, |sum| b.xor_bits(sum, column)));
            }
            sums.extend(sum.map(|sum| (bit, sum)));
        }
        let factors: Vec<Bit> = sums.iter().map(|(_, sum)| *sum).collect();
        for ((bit, _), product) in sums.iter().zip(ands(b, *row, &factors)) {
            found[*bit] = b.xor_bits(found[*bit], product);
        }
    }
    found
}

/// A bit for each number of so many bits, one for that which they are.
fn one_hot(b: &mut Builder, bits: &[Bit]) -> Vec<Bit> {
    let (first, rest) = bits.split_first().expect("an index has two bits at least");
    let mut all = vec![b.flip(*first), *first];
    for bit in rest {
        let high = ands(b, *bit, &all);
        all = all.iter().zip(&high).map(|(any, high)| b.xor_bits(*any, *high)).collect();
        all.extend(high);
    }
    all
}
