//! y = clamp(t, 0, top) modulo 2^(a+1), where t = c + v + k mod 2^(a+h), read as signed, and top < 2^a.
//!
//! c is a word of the client, v one of the server, k an XOR-shared carry: what is left of a number when the low bits are
//! gone. The lowest a bits are *kept*, h >= 1 are *high*, the top one of which is the sign. With w = (t >= 0),
//! o = (t > top) and u = w xor o, which says that nothing is clipped,
//!
//! ```text
//! y = u (C + V + k - 2^a m) + o top                  mod 2^(a+1)
//! ```
//!
//! C and V are the kept digits of c and v, and m the carry out of them; 2^a m is local modulo 2^(a+1). If h = 1 and
//! top = 2^a - 1, nothing exceeds top, and o = 0.
//!
//! *Both bits from signs.* w is the complement of the sign of t, and o' that of t - top - 1, which differs from t by a
//! public constant: below the lowest one of top + 1 both have the same carries, and at that bit the server's bits
//! are v_i and its complement, so that one step of the chain serves both ([`HighBits::Chain`]). o' = o, except where t - top - 1
//! wraps: t is then among the lowest top + 1 numbers, w = 0 and o' = 1. If no number lies there ([`Clip::spare`])
//! o = o', else o = w AND o'.
//!
//! *Joined.* If top = 2^a - 1, with j = u (1 - k) xor o: an in-range t without carry, or a clipped one,
//!
//! ```text
//! y = u (C + V + 1 - 2^a m) - j + 2^a o              mod 2^(a+1)
//! ```
//!
//! 2^a o is local. One bit is converted instead of two, for one AND and one flight more.

use crate::gadget::carry::{Pair, ands, carry, fork_gate, fork_step, gate, generate_propagate};
use crate::gadget::convert::bit_to_ring;
use crate::gadget::select::multiply_bit;
use crate::party::Party;
use crate::program::{Bit, Builder, Gate, Share, Word};
pub use crate::spec::Clip;
use crate::spec::{HighBits, Layout, Part};

/// A clamp to be recorded: t = c + v + carry.
pub(crate) struct Clamp<'a> {
    pub client: &'a Word,
    pub server: &'a Word,
    pub carry: Option<Bit>,
    /// a: bits kept.
    pub kept: usize,
    pub clip: Clip,
}

/// What the bits of t say.
struct High {
    /// m, the carry out of the kept digit.
    carry: Bit,
    /// w: not negative.
    not_negative: Bit,
    /// o: above the top, unless nothing is.
    over: Option<Bit>,
    /// u: neither negative nor above the top.
    in_range: Bit,
}

/// Shares of y modulo 2^(a+1), a > 1; the layout has been checked.
pub(crate) fn clamp(b: &mut Builder, clamp: &Clamp<'_>, layout: &Layout) -> Share {
    let (a, k) = (clamp.kept, clamp.kept + 1);
    let pair = Pair::new(b, clamp.server, clamp.client);
    let high = match layout.high_bits {
        HighBits::Chain => chain(b, clamp, layout, &pair),
        HighBits::Table => table(b, clamp, layout, &pair),
        HighBits::Skip => skip(b, clamp, layout, &pair),
    };
    let digit = |b: &mut Builder, word: &Word| {
        let kept = b.slice(word, 0, a);
        b.resize(&kept, k)
    };
    let mut sum = Share { client: digit(b, clamp.client), server: digit(b, clamp.server) };
    let wrapped = parity(b, high.carry, a);
    sum = b.sub_shares(&sum, &wrapped);
    match (layout.joined, clamp.carry, high.over) {
        (true, Some(carry), Some(over)) => {
            let one = b.constant(Party::Client, 1, k);
            sum.client = b.add(&sum.client, &one);
            let y = multiply_bit(b, high.in_range, &sum);
            let not_carry = b.flip(carry);
            let unrounded = ands(b, high.in_range, &[not_carry])[0];
            let join = b.xor_bits(unrounded, over);
            let join = bit_to_ring(b, join, k);
            let y = b.sub_shares(&y, &join);
            let clipped = parity(b, over, a);
            b.add_shares(&y, &clipped)
        }
        (_, carry, over) => {
            if let Some(carry) = carry {
                let carry = bit_to_ring(b, carry, k);
                sum = b.add_shares(&sum, &carry);
            }
            let Some(over) = over else { return multiply_bit(b, high.in_range, &sum) };
            let top = clamp.clip.threshold(a, pair.server.len() - a).expect("something is clipped") - 1;
            // Of o and w, convert that which has an OT already: u x + o top = u (x - top) + w top.
            let has_wire = |b: &Builder, bit: Bit| b.is_open(bit.both().0) || b.is_open(bit.both().1);
            let clipped = if has_wire(b, high.not_negative) && !has_wire(b, over) {
                let less = b.constant(Party::Client, top, k);
                sum.client = b.sub(&sum.client, &less);
                high.not_negative
            } else {
                over
            };
            let y = multiply_bit(b, high.in_range, &sum);
            let clipped = bit_to_ring(b, clipped, k);
            let [client, server] = [clipped.client, clipped.server].map(|share| b.mul_constant(&share, top));
            b.add_shares(&y, &Share { client, server })
        }
    }
}

/// 2^a bit modulo 2^(a+1): only the parity counts, so the halves of the bit are shares of it.
fn parity(b: &Builder, bit: Bit, a: usize) -> Share {
    let (s, c) = bit.both();
    let [client, server] = [c, s].map(|half| {
        let word = b.word_of(half.party, half.plane, half.time);
        b.shift_left(&word, a, a + 1)
    });
    Share { client, server }
}

/// The carries of two numbers that have the same bits up to some place.
#[derive(Clone, Copy)]
enum Carries {
    Same(Option<Bit>),
    /// That of t, and that of t - top - 1.
    Two([Bit; 2]),
}

/// The chain goes on to the sign, for t and for t - top - 1.
fn chain(b: &mut Builder, clamp: &Clamp<'_>, layout: &Layout, pair: &Pair) -> High {
    let (a, n) = (clamp.kept, pair.server.len());
    let threshold = clamp.clip.threshold(a, n - a);
    let second = threshold.map(|end| {
        let end = b.constant(Party::Server, end, n);
        let less = b.sub(clamp.server, &end);
        Pair { server: b.halves(&less), client: pair.client.clone() }
    });
    let fork = threshold.map_or(n, |end| end.trailing_zeros() as usize);
    let (mut carries, mut at, mut middle) = (Carries::Same(clamp.carry), 0, None);
    let high = layout.high.iter().map(|m| Part::Digit(*m));
    for part in layout.mid.iter().cloned().chain(high) {
        let range = at..at + part.bits();
        at = range.end;
        let digit = pair.slice(range.clone());
        carries = match (carries, &second) {
            (Carries::Same(known), Some(second)) if at > fork => {
                Carries::Two(fork_part(b, &part, &digit, &second.slice(range), known))
            }
            (Carries::Same(known), _) => Carries::Same(carry(b, &[part], &digit, known)),
            (Carries::Two([first, other]), second) => {
                let second = second.as_ref().expect("carries fork towards a second number").slice(range);
                let mut next = |pair: &Pair, known| carry(b, std::slice::from_ref(&part), pair, Some(known));
                let both = [next(&digit, first), next(&second, other)];
                Carries::Two(both.map(|carry| carry.expect("a chain has a carry")))
            }
        };
        if at == a {
            middle = match carries {
                Carries::Same(carry) => carry,
                Carries::Two([carry, _]) => Some(carry),
            };
        }
    }
    let carry = middle.expect("an activation has bits");
    match (carries, second) {
        (Carries::Two([first, other]), Some(second)) => {
            let (not_negative, over) = (not_sign(b, pair, first), not_sign(b, &second, other));
            let over = if clamp.clip.spare {
                over
            } else if n - a == 2 && fork == a {
                // The bit below the sign says the same, and is the sum of wires that have their OTs.
                let local = pair.bit(b, a);
                let below = b.xor_bits(local, carry);
                ands(b, not_negative, &[below])[0]
            } else {
                ands(b, not_negative, &[over])[0]
            };
            let in_range = b.xor_bits(not_negative, over);
            High { carry, not_negative, over: Some(over), in_range }
        }
        (Carries::Same(last), _) => {
            let in_range = not_sign(b, pair, last.expect("an activation has bits"));
            High { carry, not_negative: in_range, over: None, in_range }
        }
        (Carries::Two(_), None) => unreachable!("carries fork towards a second number"),
    }
}

/// The part of the chain at which the carries of both numbers part.
fn fork_part(b: &mut Builder, part: &Part, first: &Pair, second: &Pair, known: Option<Bit>) -> [Bit; 2] {
    match part {
        Part::Digit(1) => fork_step(b, known, first.server[0], first.client[0]),
        Part::Digit(m) => fork_gate(b, usize::from(*m), first, second, known),
        Part::Block(_) => [first, second].map(|pair| {
            let carry = carry(b, std::slice::from_ref(part), pair, known);
            carry.expect("a block has bits")
        }),
    }
}

/// Completes what one of the gates has found.
fn with_over(b: &mut Builder, carry: Bit, in_range: Bit, not_negative: Bit, h: usize) -> High {
    let over = (h > 1).then(|| b.xor_bits(in_range, not_negative));
    High { carry, not_negative, over, in_range }
}

/// Digits with zero tests, then one gate over the bits that are left.
fn table(b: &mut Builder, clamp: &Clamp<'_>, layout: &Layout, pair: &Pair) -> High {
    let (a, n) = (clamp.kept, pair.server.len());
    let middle = carry(b, &layout.mid, &pair.slice(0..a), clamp.carry).expect("an activation has bits");
    let top = pair.slice(a..n);
    let (mut k, mut at, mut zero) = (middle, 0, None);
    for m in layout.high.iter().map(|m| usize::from(*m)) {
        let outputs = gate(b, Gate::Zero(m), &top.slice(at..at + m), Some(k));
        (k, at) = (outputs[0], at + m);
        zero = Some(match zero {
            None => outputs[1],
            Some(zero) => ands(b, outputs[1], &[zero])[0],
        });
    }
    let rest = top.slice(at..n - a);
    let (in_range, not_negative) = if rest.server.len() == 1 {
        let not_negative = not_sign(b, &rest, k);
        (not_negative, not_negative)
    } else {
        let outputs = gate(b, Gate::Top(rest.server.len()), &rest, Some(k));
        (outputs[0], outputs[1])
    };
    let in_range = zero.map_or(in_range, |zero| ands(b, in_range, &[zero])[0]);
    with_over(b, middle, in_range, not_negative, n - a)
}

/// Everything is computed beside the carry that comes in, for both its values, and joined by ANDs.
fn skip(b: &mut Builder, clamp: &Clamp<'_>, layout: &Layout, pair: &Pair) -> High {
    let (a, h) = (clamp.kept, pair.server.len() - clamp.kept);
    let widths: Vec<u8> = layout.mid.iter().flat_map(Part::widths).collect();
    let [generate, propagate] = generate_propagate(b, &widths, &pair.slice(0..a));
    let top = pair.slice(a..a + h);
    if h == 1 {
        let through = clamp.carry.map(|k| ands(b, k, &[propagate])[0]);
        let carry = through.map_or(generate, |through| b.xor_bits(generate, through));
        let not_negative = not_sign(b, &top, carry);
        return with_over(b, carry, not_negative, not_negative, h);
    }
    let outputs = gate(b, Gate::Top0(h), &top, None);
    let u = ands(b, outputs[2], &[generate, propagate]);
    let w = ands(b, outputs[3], &[generate, propagate]);
    let mut in_range = b.xor_bits(outputs[0], u[0]);
    let mut not_negative = b.xor_bits(outputs[1], w[0]);
    let mut carry = generate;
    if let Some(k) = clamp.carry {
        let through = ands(b, k, &[u[1], w[1], propagate]);
        in_range = b.xor_bits(in_range, through[0]);
        not_negative = b.xor_bits(not_negative, through[1]);
        carry = b.xor_bits(carry, through[2]);
    }
    with_over(b, carry, in_range, not_negative, h)
}

/// The complement of the top bit of c + v + carry, for the last bit of a pair.
fn not_sign(b: &mut Builder, pair: &Pair, carry: Bit) -> Bit {
    let local = pair.bit(b, pair.server.len() - 1);
    let sign = b.xor_bits(local, carry);
    b.flip(sign)
}
