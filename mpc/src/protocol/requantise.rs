//! y = clamp(floor(z / 2^s), 0, top), where c + v = 2^g z + r mod 2^(ell+g), 0 <= r < 2^g, -2^(ell-1) <= z < 2^(ell-1).
//!
//! The client holds c, known offline, the server v, with the bias in it. ReLU, requantisation and clip in one
//! step, exact for every r. The lowest s + g bits of the accumulator only carry; the others are clamped ([`crate::clamp`]):
//! a *kept* ones, and h = ell - s - a *high* ones. top is 2^a - 1 unless [`Clip`] says less.
//!
//! ```text
//! offline   client    corrections of its bits of c                -> server
//! online    both      k, the carry out of the low bits: a chain, as the layout says
//!           both      shares of y modulo 2^(a+1)
//!           both      extend to the next ring: one OLE of ring-a-1 bits
//!           client    d = y_c - xhat                              -> server
//! ```
//!
//! For a = 1 the server has added -2^s more, so that y is the complement of one sign bit.

use crate::gadget::carry::{Pair, carry};
use crate::gadget::clamp::{Clamp, clamp};
use crate::gadget::compare::words;
use crate::gadget::convert::bit_to_ring;
use crate::gadget::extend::{finish, finish_in_ring};
use crate::party::Party;
use crate::program::{Bit, Builder, Program, Time, Word};
pub use crate::spec::{Clip, MAX_BITS, MAX_ELL, Spec};
use crate::spec::{Finish, Layout, LayoutError};

/// The ideal version: y from the accumulator itself, bias included (and, for a = 1, without the -2^s).
#[must_use]
pub fn ideal(spec: Spec, z: i64) -> u64 {
    let top = (1_i64 << spec.bits) - 1;
    (z >> spec.shift).clamp(0, top) as u64
}

/// [`ideal`] with a clip.
#[must_use]
pub fn ideal_clipped(spec: Spec, clip: Clip, z: i64) -> u64 {
    ideal(spec, z).min(clip.top.into())
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
    program_clipped(spec, Clip::default(), layout, finish, c, v)
}

/// [`program_at`] with a clip.
///
/// # Errors
/// As [`program`], and [`LayoutError::Size`] if the clip's top is below 2^(a-1).
pub fn program_clipped(
    spec: Spec,
    clip: Clip,
    layout: &Layout,
    finish: Finish,
    c: Time,
    v: Time,
) -> Result<Program, LayoutError> {
    layout.check_clipped(spec, clip, finish)?;
    let mut b = Builder::new();
    record(&mut b, spec, clip, layout, finish, c, v)?;
    Ok(b.finish())
}

/// Records inputs, protocol and outputs; the layout has been checked.
pub(crate) fn record(
    b: &mut Builder,
    spec: Spec,
    clip: Clip,
    layout: &Layout,
    form: Finish,
    c_time: Time,
    v_time: Time,
) -> Result<(), LayoutError> {
    let (_, a, _) = spec.cuts()?;
    let c = b.input(Party::Client, spec.width(), c_time);
    let xhat = form.uploads().then(|| b.input(Party::Client, form.ring(a), Time::OFFLINE));
    let v = b.input(Party::Server, spec.width(), v_time);
    record_words(b, spec, clip, layout, form, [&c, &v], xhat.as_ref())
}

/// Records protocol and outputs, from words of L bits of the client and the server.
pub(crate) fn record_words(
    b: &mut Builder,
    spec: Spec,
    clip: Clip,
    layout: &Layout,
    form: Finish,
    [c, v]: [&Word; 2],
    xhat: Option<&Word>,
) -> Result<(), LayoutError> {
    let (low, a, h) = spec.cuts()?;
    if a == 1 {
        let y = not_negative(b, layout, c, v);
        match form {
            Finish::Small => {
                let words = words(b, y);
                b.output_share(&words);
            }
            Finish::Share { ring } | Finish::Upload { ring } => {
                let y = bit_to_ring(b, y, usize::from(ring));
                finish_in_ring(b, &y, xhat);
            }
        }
        return Ok(());
    }
    let carry = low_carry(b, layout, low, c, v);
    let (client, server) = (b.slice(c, low, a + h), b.slice(v, low, a + h));
    let y = clamp(b, &Clamp { client: &client, server: &server, carry, kept: a, clip }, layout);
    finish(b, &y, form, xhat);
    Ok(())
}

/// The carry out of the lowest bits, if there are any.
pub(crate) fn low_carry(b: &mut Builder, layout: &Layout, low: usize, c: &Word, v: &Word) -> Option<Bit> {
    let (server, client) = (b.slice(v, 0, low), b.slice(c, 0, low));
    let pair = Pair::new(b, &server, &client);
    carry(b, &layout.low, &pair, None)
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

#[cfg(test)]
mod tests;
