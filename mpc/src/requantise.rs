//! y = clamp(floor(z / 2^s), 0, 2^a - 1), where c + v = 2^g z + r mod 2^(ell+g), 0 <= r < 2^g, -2^(ell-1) <= z < 2^(ell-1).
//!
//! The client holds c, known offline, the server v, with the bias in it. ReLU, requantisation and clip in one
//! step, exact for every r. The bits of the accumulator, from the lowest: s + g *low* ones that only carry, a *kept*
//! ones, h = ell - s - a *high* ones, of which the top one is the sign. With D = 2^a - 1,
//!
//! ```text
//! y = w D + u (C + V + k_low - 2^a k_mid - D)         mod 2^(a+1)
//! ```
//!
//! C and V are the private kept digits, k_low and k_mid the carries into and out of them, w = not negative,
//! u = in range. 2^a k_mid is local modulo 2^(a+1).
//!
//! ```text
//! offline   client    corrections of its bits of c                -> server
//! online    both      k_low, k_mid, u, w: a carry chain and a gate on the high digit, as the layout says
//!           both      k_low and w into the ring, u times the sum: four OLEs of a+1 bits
//!           both      extend to the next ring: one OLE of ring-a-1 bits
//!           client    d = y_c - xhat                              -> server
//! ```
//!
//! For a = 1 the server has added -2^s more, so that y is the complement of one sign bit.

use crate::carry::{Pair, ands, carry, gate, generate_propagate, step};
use crate::compare::words;
use crate::convert::bit_to_ring;
use crate::extend::{Finish, finish, finish_in_ring};
use crate::layout::{Layout, LayoutError, Top};
use crate::party::Party;
use crate::program::{Bit, Builder, Gate, Program, Share, Time, Word};
use crate::select::multiply_bit;
use serde::{Deserialize, Serialize};

/// Widest accumulator ring, in bits.
pub const MAX_ELL: u8 = 48;
/// Widest activation, in bits.
pub const MAX_BITS: u8 = 8;

/// Which accumulators become which activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// ell: bits of the accumulator z, sign included.
    pub ell: u8,
    /// s: the bits dropped.
    pub shift: u8,
    /// a: bits of the activation.
    pub bits: u8,
    /// g: guard bits below the accumulator, 0 or 1.
    pub guard: u8,
}

impl Spec {
    /// L = ell + g: bits of the shares c and v.
    #[must_use]
    pub fn width(self) -> usize {
        usize::from(self.ell) + usize::from(self.guard)
    }

    /// min(a, ell - 1 - s): the bits that y can have. Where this is less than a, no value is clipped.
    ///
    /// # Errors
    /// [`LayoutError::Spec`] if a field is out of bounds, or if y is constant because nothing is left after
    /// the shift.
    pub fn effective_bits(self) -> Result<usize, LayoutError> {
        let valid = (2..=MAX_ELL).contains(&self.ell) && (1..=MAX_BITS).contains(&self.bits) && self.guard <= 1;
        let left = self.ell.saturating_sub(1).saturating_sub(self.shift);
        if !valid || left == 0 {
            return Err(LayoutError::Spec(self));
        }
        Ok(usize::from(self.bits.min(left)))
    }

    /// True if the server must add -2^s to its bias: only the sign is evaluated then.
    ///
    /// # Errors
    /// As [`Spec::effective_bits`].
    pub fn is_sign(self) -> Result<bool, LayoutError> {
        Ok(self.effective_bits()? == 1)
    }

    /// The bits below and in the kept digit, and the number of high bits: (s + g, a, h).
    pub(crate) fn cuts(self) -> Result<(usize, usize, usize), LayoutError> {
        let a = self.effective_bits()?;
        let low = usize::from(self.shift) + usize::from(self.guard);
        Ok((low, a, self.width() - low - a))
    }
}

/// The ideal version: y from the accumulator itself, bias included (and, for a = 1, without the -2^s).
#[must_use]
pub fn ideal(spec: Spec, z: i64) -> u64 {
    let top = (1_i64 << spec.bits) - 1;
    (z >> spec.shift).clamp(0, top) as u64
}

/// The program. Inputs: the client's c (L bits, offline), with [`Finish::Upload`] the client's xhat (ring bits,
/// offline), the server's v (L bits, online). Outputs: the client's and the server's share, or the server's m.
///
/// # Errors
/// [`LayoutError`] if the specification has no such layer, the layout does not fit it, or the ring is smaller
/// than y.
pub fn program(spec: Spec, layout: &Layout, finish: Finish) -> Result<Program, LayoutError> {
    program_at(spec, layout, finish, Time::OFFLINE, Time::START)
}

/// [`program`], where the client knows c at one time and the server v at another.
///
/// # Errors
/// As [`program`].
pub fn program_at(spec: Spec, layout: &Layout, finish: Finish, c: Time, v: Time) -> Result<Program, LayoutError> {
    layout.check(spec, finish)?;
    let mut b = Builder::new();
    record(&mut b, spec, layout, finish, c, v)?;
    Ok(b.finish())
}

/// Records inputs, protocol and outputs; the layout has been checked.
pub(crate) fn record(
    b: &mut Builder,
    spec: Spec,
    layout: &Layout,
    form: Finish,
    c_time: Time,
    v_time: Time,
) -> Result<(), LayoutError> {
    let (_, a, _) = spec.cuts()?;
    let c = b.input(Party::Client, spec.width(), c_time);
    let xhat = form.uploads().then(|| b.input(Party::Client, form.ring(a), Time::OFFLINE));
    let v = b.input(Party::Server, spec.width(), v_time);
    if a == 1 {
        let y = not_negative(b, layout, &c, &v);
        match form {
            Finish::Small => {
                let words = words(b, y);
                b.output_share(&words);
            }
            Finish::Share { ring } | Finish::Upload { ring } => {
                let y = bit_to_ring(b, y, usize::from(ring));
                finish_in_ring(b, &y, xhat.as_ref());
            }
        }
    } else {
        let y = clamped(b, spec, layout, &c, &v)?;
        finish(b, &y, form, xhat.as_ref());
    }
    Ok(())
}

/// The complement of the sign of c + v.
fn not_negative(b: &mut Builder, layout: &Layout, c: &Word, v: &Word) -> Bit {
    let top = c.width() - 1;
    let pair = Pair::new(b, v, c);
    let k = carry(b, &layout.low, &pair.slice(0..top), None).expect("an accumulator has bits below its sign");
    let local = pair.bit(b, top);
    let sign = b.xor_bits(k, local);
    b.flip(sign)
}

/// What the bits above the kept digit say.
struct High {
    /// k_mid, the carry out of the kept digit.
    carry: Bit,
    /// u: 0 <= y < 2^a without clipping.
    in_range: Bit,
    /// w: not negative.
    not_negative: Bit,
}

/// Shares of y modulo 2^(a+1), a > 1.
fn clamped(b: &mut Builder, spec: Spec, layout: &Layout, c: &Word, v: &Word) -> Result<Share, LayoutError> {
    let (lo, a, h) = spec.cuts()?;
    let (hi, k) = (lo + a, a + 1);
    let pair = Pair::new(b, v, c);
    let k_low = carry(b, &layout.low, &pair.slice(0..lo), None);
    let (kept, top) = (pair.slice(lo..hi), pair.slice(hi..pair.server.len()));
    let high = match layout.top {
        Top::Skip => skip(b, layout, &kept, &top, k_low),
        Top::Table => {
            let carry = middle_carry(b, layout, &kept, k_low);
            table(b, layout, &top, carry)
        }
        Top::Chain => {
            let carry = middle_carry(b, layout, &kept, k_low);
            chain(b, &top, carry)
        }
    };
    let digit = |b: &mut Builder, word: &Word| {
        let kept = b.slice(word, lo, a);
        b.resize(&kept, k)
    };
    let mut sum = Share { client: digit(b, c), server: digit(b, v) };
    if let Some(k_low) = k_low {
        let k_low = bit_to_ring(b, k_low, k);
        sum = b.add_shares(&sum, &k_low);
    }
    let clip = (h > 1).then(|| bit_to_ring(b, high.not_negative, k));
    let wrapped = middle_in_ring(b, high.carry, k);
    sum = b.sub_shares(&sum, &wrapped);
    if clip.is_some() {
        let largest = b.constant(Party::Client, (1 << a) - 1, k);
        sum.client = b.sub(&sum.client, &largest);
    }
    let y = multiply_bit(b, high.in_range, &sum);
    Ok(match clip {
        None => y,
        Some(w) => {
            let shifted = Share { client: b.shift_left(&w.client, a, k), server: b.shift_left(&w.server, a, k) };
            let clip = b.sub_shares(&shifted, &w);
            b.add_shares(&clip, &y)
        }
    })
}

fn middle_carry(b: &mut Builder, layout: &Layout, kept: &Pair, k_low: Option<Bit>) -> Bit {
    carry(b, &layout.mid, kept, k_low).expect("an activation has bits")
}

/// 2^a k_mid modulo 2^(a+1): only the parity of the carry counts, so its halves are its shares.
fn middle_in_ring(b: &mut Builder, carry: Bit, k: usize) -> Share {
    let (s, c) = carry.both();
    let [client, server] = [c, s].map(|half| b.word_of(half.party, half.plane, half.time));
    Share { client: b.shift_left(&client, k - 1, k), server: b.shift_left(&server, k - 1, k) }
}

/// Digits with zero tests, then one gate over the bits that are left.
fn table(b: &mut Builder, layout: &Layout, top: &Pair, carry: Bit) -> High {
    let (mut k, mut at, mut zero) = (carry, 0, None);
    for m in layout.high.iter().map(|m| usize::from(*m)) {
        let outputs = gate(b, Gate::Zero(m), &top.slice(at..at + m), Some(k));
        (k, at) = (outputs[0], at + m);
        zero = Some(match zero {
            None => outputs[1],
            Some(zero) => ands(b, outputs[1], &[zero])[0],
        });
    }
    let rest = top.slice(at..top.server.len());
    let (in_range, not_negative) = if rest.server.len() == 1 {
        let local = rest.bit(b, 0);
        let sign = b.xor_bits(local, k);
        let not_negative = b.flip(sign);
        (not_negative, not_negative)
    } else {
        let outputs = gate(b, Gate::Top(rest.server.len()), &rest, Some(k));
        (outputs[0], outputs[1])
    };
    let in_range = zero.map_or(in_range, |zero| ands(b, in_range, &[zero])[0]);
    High { carry, in_range, not_negative }
}

/// The chain goes on to the sign; in range is the AND of the complemented high bits.
fn chain(b: &mut Builder, top: &Pair, carry: Bit) -> High {
    let h = top.server.len();
    let (mut k, mut zeros) = (carry, Vec::new());
    for i in 0..h {
        let local = top.bit(b, i);
        let sum = b.xor_bits(local, k);
        zeros.push(b.flip(sum));
        if i + 1 < h {
            k = step(b, k, top.server[i], top.client[i]);
        }
    }
    let not_negative = zeros.pop().expect("there is a sign bit");
    let in_range = zeros.into_iter().fold(not_negative, |u, zero| ands(b, u, &[zero])[0]);
    High { carry, in_range, not_negative }
}

/// Everything above the low carry is computed beside it, for both values of that carry, and joined by ANDs.
fn skip(b: &mut Builder, layout: &Layout, kept: &Pair, top: &Pair, k_low: Option<Bit>) -> High {
    let widths: Vec<u8> = layout.mid.iter().flat_map(|part| part.widths()).collect();
    let [generate, propagate] = generate_propagate(b, &widths, kept);
    let h = top.server.len();
    if h == 1 {
        let through = k_low.map(|k| ands(b, k, &[propagate])[0]);
        let carry = through.map_or(generate, |through| b.xor_bits(generate, through));
        let local = top.bit(b, 0);
        let sign = b.xor_bits(local, carry);
        let not_negative = b.flip(sign);
        return High { carry, in_range: not_negative, not_negative };
    }
    let outputs = gate(b, Gate::Top0(h), top, None);
    let u = ands(b, outputs[2], &[generate, propagate]);
    let w = ands(b, outputs[3], &[generate, propagate]);
    let mut in_range = b.xor_bits(outputs[0], u[0]);
    let mut not_negative = b.xor_bits(outputs[1], w[0]);
    let mut carry = generate;
    if let Some(k_low) = k_low {
        let through = ands(b, k_low, &[u[1], w[1], propagate]);
        in_range = b.xor_bits(in_range, through[0]);
        not_negative = b.xor_bits(not_negative, through[1]);
        carry = b.xor_bits(carry, through[2]);
    }
    High { carry, in_range, not_negative }
}

#[cfg(test)]
mod tests;
