//! What of the public numbers of protocols is valid.

use super::clip::Clip;
use super::error::LayoutError;
use super::finish::Finish;
use super::layout::{HighBits, Layout, MAX_TABLE};
use super::part::Part;
use super::requantise::{MAX_BITS, MAX_ELL, Spec};

/// Fails with [`LayoutError::Size`] unless `min <= found <= max`.
pub(crate) fn check_size(what: &'static str, found: usize, min: usize, max: usize) -> Result<(), LayoutError> {
    if (min..=max).contains(&found) { Ok(()) } else { Err(LayoutError::Size { what, min, max, found }) }
}

/// Fails with [`LayoutError::Ring`] unless values of `bits` bits fit the ring of `finish`.
pub(crate) fn check_ring(finish: Finish, bits: usize) -> Result<(), LayoutError> {
    let fits = finish == Finish::Small || (bits..=64).contains(&finish.ring(bits));
    if fits { Ok(()) } else { Err(LayoutError::Ring { bits, finish }) }
}

/// Fails unless the parts are gates that exist and cover exactly `expected` bits.
pub(crate) fn check_parts(what: &'static str, parts: &[Part], expected: usize) -> Result<(), LayoutError> {
    if let Some(part) = parts.iter().find(|part| !part.is_valid()) {
        return Err(LayoutError::Part { what, part: part.clone() });
    }
    let found = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.bits()));
    if found != expected {
        return Err(LayoutError::Cover { what, expected, found });
    }
    Ok(())
}

impl Spec {
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

impl Layout {
    /// Checks that the layout fits; call it on every layout that a peer or a file proposes.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(&self, spec: Spec, finish: Finish) -> Result<(), LayoutError> {
        self.check_clipped(spec, Clip::default(), finish)
    }

    /// [`Layout::check`] with a clip.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check_clipped(&self, spec: Spec, clip: Clip, finish: Finish) -> Result<(), LayoutError> {
        let (low, a, high) = spec.cuts()?;
        check_ring(finish, a)?;
        if a == 1 {
            check_parts("low", &self.low, spec.width() - 1)?;
            check_parts("kept", &self.mid, 0)?;
            self.check_high(0)?;
            self.check_joined(false, low, high, 1)?;
            return match self.high_bits {
                HighBits::Chain => Ok(()),
                high_bits => Err(LayoutError::HighBits { high_bits, high }),
            };
        }
        check_parts("low", &self.low, low)?;
        self.check_clamp(low, a, high, clip)
    }

    /// Checks the parts that clamp a number of `a` kept and `high` high bits, above `low` bits whose carry comes in.
    pub(crate) fn check_clamp(&self, low: usize, a: usize, high: usize, clip: Clip) -> Result<(), LayoutError> {
        check_clip(clip, a)?;
        check_parts("kept", &self.mid, a)?;
        let is_low = clip.is_low(a);
        let largest = clip.threshold(a, high).map_or((1 << a) - 1, |end| end - 1);
        self.check_joined(low > 0 && high > 1 && !is_low, low, high, largest)?;
        let fits = match self.high_bits {
            HighBits::Chain => return check_parts("high", &self.digits(), high - 1),
            HighBits::Table => {
                self.check_high(high - 1)?;
                high - self.high.iter().map(|m| usize::from(*m)).sum::<usize>() <= MAX_TABLE
            }
            HighBits::Skip => {
                self.check_high(0)?;
                high <= MAX_TABLE
            }
        };
        if fits && !is_low { Ok(()) } else { Err(LayoutError::HighBits { high_bits: self.high_bits, high }) }
    }

    fn check_joined(&self, can_join: bool, low: usize, high: usize, top: u64) -> Result<(), LayoutError> {
        if self.joined && !can_join { Err(LayoutError::Joined { low, high, top }) } else { Ok(()) }
    }

    /// Checks that the digits below the table exist and cover at most `most` bits.
    fn check_high(&self, most: usize) -> Result<(), LayoutError> {
        let parts = self.digits();
        let found = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.bits()));
        check_parts("high", &parts, found.min(most))
    }
}

/// Fails unless values of exactly `a` bits reach the top of the clip.
pub(crate) fn check_clip(clip: Clip, a: usize) -> Result<(), LayoutError> {
    let least = 1 << (a - 1);
    check_size("the top of a clip", clip.top.into(), least, u8::MAX.into())
}
