//! The sources of a layer's noise, to be silenced one at a time: for the noise tests of this crate and of `lowkey-bridge`.
//!
//! Six sources have equal weight: the noise of bodies, of b*_0 and of the hint, and the roundings of the same. Without u_o two
//! of them vanish.

use std::convert::Infallible;

use lowkey_he::{ParameterSet, Rounding};
use rand::{Rng, TryCryptoRng, TryRng};

/// A source of noise that a run can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    BodyNoise,
    BodyRounding,
    RerandomiserNoise,
    RerandomiserRounding,
    HintNoise,
    HintRounding,
    Rerandomiser,
}

/// One parameter set with all sources but one, or with all.
#[derive(Debug, Clone, Copy)]
pub struct Sources {
    pub set: &'static ParameterSet,
    pub without: Option<Source>,
}

impl Sources {
    /// Equal shares of the variance for every source: 4^(b+1)/12 = sigma^2, if |w|^2 = |u|^2 = 2N/3.
    pub fn full_rounding(&self) -> Rounding {
        Rounding::all(self.set.noise_bound + 1)
    }

    /// What is rounded off in this run.
    pub fn rounding(&self) -> Rounding {
        let full = self.full_rounding();
        let kept = |source, bits| if self.without == Some(source) { 0 } else { bits };
        Rounding {
            body: kept(Source::BodyRounding, full.body),
            b0: kept(Source::RerandomiserRounding, full.b0),
            hint: kept(Source::HintRounding, full.hint),
        }
    }

    /// The generator that `source` draws from.
    pub fn generator<R>(&self, source: Source, rng: R) -> Silenced<R> {
        let noise = (self.without == Some(source)).then_some(self.set.noise_bound);
        let ternary = source == Source::HintNoise && self.without == Some(Source::Rerandomiser);
        Silenced { rng, noise, ternary }
    }

    /// The variance to be expected, in units of the formula's for all noise.
    fn expected(&self) -> f64 {
        match self.without {
            None => 1.0,
            Some(Source::Rerandomiser) => 1.0 - 1.0 / 3.0,
            Some(_) => 1.0 - 1.0 / 6.0,
        }
    }
}

/// A generator whose bytes make noise samples zero (the word 2^(b+1)), or ternary ones (2-bit values 1).
///
/// The samplers draw ternary bytes by 1024 and noise by other lengths. If that changes, the runs with a silenced source
/// stop deviating and fail.
#[derive(Clone)]
pub struct Silenced<R> {
    pub rng: R,
    pub noise: Option<u32>,
    pub ternary: bool,
}

impl<R: Rng> TryRng for Silenced<R> {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.rng.next_u32())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.rng.next_u64())
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        match (bytes.len() == 1024, self.ternary, self.noise) {
            (true, true, _) => bytes.fill(0x55),
            (false, _, Some(bound)) => {
                let word = (1u32 << (bound + 1)).to_le_bytes();
                let width = if bound + 2 <= 16 { 2 } else { 4 };
                bytes.chunks_exact_mut(width).for_each(|out| out.copy_from_slice(&word[..width]));
            }
            _ => self.rng.fill_bytes(bytes),
        }
        Ok(())
    }
}

impl<R: Rng> TryCryptoRng for Silenced<R> {}

/// The errors of a run, each against the variance that the formula gives for all noise.
#[derive(Debug, Default)]
pub struct Measured {
    squares: f64,
    sum: f64,
    samples: usize,
}

impl Measured {
    pub fn add(&mut self, error: i64, variance: f64) {
        let deviation = error as f64 / variance.sqrt();
        self.squares += deviation * deviation;
        self.sum += deviation;
        self.samples += 1;
    }

    /// Asserts that the variance is what the sources of `of` make; and, of all of them, that the mean is small beside it.
    pub fn check(&self, of: Sources, what: &str) {
        let samples = self.samples as f64;
        let (variance, mean) = (self.squares / samples, self.sum / samples);
        let run =
            format!("{} without {:?}, {what}: {variance:.4} of V over {samples} samples", of.set.name, of.without);
        println!("{run}");
        assert!((variance - of.expected()).abs() < 0.05, "{run}");
        assert!(of.without.is_some() || mean.abs() < 0.05, "{run}: mean {mean} deviations");
    }
}
