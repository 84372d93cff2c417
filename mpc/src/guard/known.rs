//! `[b]` from `[r]`, where one party knows b.
//!
//! ```text
//! client   e = b ^ r        --e-->   server   S ^ e (Delta ^ 1)        M ^ e
//! ```
//!
//! A bit of the server's is its own half of a zero: no message.

use super::bits::Bits;
use super::opened::Guard;
use super::packed;
use super::tag::{Tag, Word};
use crate::error::Result;
use crate::primitive::bits::Planes;
use crate::primitive::block::Delta;

/// At the client: makes random bits, which must be its own alone, those of `values`. Returns them and the message.
///
/// # Panics
/// If lanes or widths differ.
#[must_use]
pub fn correct(mut random: Bits, values: &Planes) -> (Bits, Vec<u8>) {
    assert_eq!((random.lanes(), random.width()), (values.lanes(), values.width()), "a random bit for every value");
    let message = correct_words(random.tags_mut(), packed::of_planes(values));
    (random, message)
}

/// [`correct`] of words, to these packed values.
pub(super) fn correct_words<W: Word>(random: &mut [W], values: Vec<u8>) -> Vec<u8> {
    let mut message = packed::halves(random);
    packed::for_each_word(random, &values, |word, value| *word = word.with_lsb(value));
    message.iter_mut().zip(values).for_each(|(e, value)| *e ^= value);
    message
}

/// At the server: its halves of the bits that the client corrected.
///
/// # Errors
/// [`crate::error::Error::Protocol`] if the message has another length, [`crate::error::Error::OtherSession`].
pub fn apply(guard: &Guard, mut random: Bits, message: &[u8]) -> Result<Bits> {
    guard.check(random.session())?;
    apply_words(guard.delta(), random.tags_mut(), message)?;
    Ok(random)
}

/// [`apply`] to words.
pub(super) fn apply_words<W: Word>(delta: &Delta, random: &mut [W], message: &[u8]) -> Result<()> {
    packed::check(message, random.len())?;
    let delta = W::of(delta.block()).with_lsb(0);
    packed::for_each_word(random, message, |word, e| *word = *word ^ (delta & W::splat(e)));
    Ok(())
}

/// Bits of the server's: `values` at the server, `None` at the client.
#[must_use]
pub fn of_server(lanes: usize, width: usize, values: Option<&Planes>) -> Bits {
    let mut bits = Bits::zero(lanes, width);
    if let Some(values) = values {
        assert_eq!((lanes, width), (values.lanes(), values.width()), "a bit for every value");
        packed::for_each_word(bits.tags_mut(), &packed::of_planes(values), |tag, bit| *tag = Tag::bit(bit));
    }
    bits
}

#[cfg(test)]
mod tests;
