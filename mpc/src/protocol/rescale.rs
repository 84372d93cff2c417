//! y = clamp(floor((M z + b) / 2^s), 0, top) by multiplying, truncating locally and adding, for a public M and b of the server.
//!
//! c + v = 2 z + r mod 2^(ell+1), 0 <= r < 2 and -2^(ell-2) <= z < 2^(ell-2), as linear layers leave it. With c' = c >> 1,
//! v' = (v >> 1) + 2^(ell-2) mod 2^ell, k = c_0 v_0 and Z = z + 2^(ell-2), which has a zero top bit,
//!
//! ```text
//! c' + v' + k = Z + 2^ell w          w = alpha OR beta, the top bits of c' and v'
//! ```
//!
//! as integers: two clear top bits add up to less than 2^ell, and with one of them set Z would have a top bit but for the wrap. So of
//! M z + b only the highest bits need to be shared, a number S modulo 2^R that counts units of 2^d, d <= s bits being dropped:
//!
//! ```text
//! S = floor(M c' / 2^d) + floor((M (v' - 2^(ell-2)) + B) / 2^d) + k K - w W        K = round(M / 2^d), W = round(2^ell M / 2^d)
//! y = clamp(S >> (s - d), 0, top)
//! ```
//!
//! *Error.* Each floor loses 0..=2^d - 1 units of 2^-s, k adds 2^d K - M and w takes 2^d W - 2^ell M. So 2^d S - (M z + B) lies in an
//! interval of integers that is known from M, d and ell ([`Factor::errors`]), and is shorter than 3.0 2^d, of 2^(d+1) where K and W are whole.
//! y is right for all z of a channel if (M z + b) mod 2^s is never so close to a threshold that this can cross it: with `above` and
//! `below` the least distances to thresholds within the clip, B exists iff above + below is at least the length ([`Factor::offset`]).
//! Only s - d instead of s bits below the result enter the carry chain.
//!
//! ```text
//! offline   client    corrections of c_0, alpha                                  -> server
//! online    server    k K and (1 - beta) alpha W by two OLEs of R bits           -> client
//!           both      requantise S with the shift s - d (no guard bit)
//! ```
//!
//! What is multiplied and floored are each party's own numbers; nothing travels but the messages of OTs. K and W follow from the public M, and
//! enter in the server's numbers, as B does.

use crate::party::Party;
use crate::program::{Builder, Program, Time};
use crate::protocol::requantise::record_words;
use crate::spec::{Clip, Finish, Layout, LayoutError, MAX_ELL, Spec, check_size};

/// Widest M, in bits.
pub const MAX_MULTIPLIER_BITS: u32 = 48;
/// When the client knows its share of S.
pub(crate) const CLIENT: Time = Time::Online(1);
/// Most bits that a party drops.
pub const MAX_DROPPED: u32 = 62;

/// A public multiplier, of accumulators of `ell` bits, whose products lose `dropped` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// M, from 1 to 2^[`MAX_MULTIPLIER_BITS`].
    pub multiplier: i64,
    /// ell: bits of the accumulator z and one to spare.
    pub ell: u32,
    /// d.
    pub dropped: u32,
}

impl Factor {
    fn rounded(self, factor: i128) -> i128 {
        let half = (1_i128 << self.dropped) >> 1;
        (factor + half) >> self.dropped
    }

    /// What k stands for.
    fn guard(self) -> i128 {
        self.rounded(self.multiplier.into())
    }

    /// What w stands for.
    fn wrap(self) -> i128 {
        self.rounded(i128::from(self.multiplier) << self.ell)
    }

    /// The least and the greatest of 2^d S - (M z + B), over all shares.
    #[must_use]
    pub fn errors(self) -> [i128; 2] {
        let guard = (self.guard() << self.dropped) - i128::from(self.multiplier);
        let wrap = (i128::from(self.multiplier) << self.ell) - (self.wrap() << self.dropped);
        let floors = 2 * ((1_i128 << self.dropped) - 1);
        [guard.min(0) + wrap.min(0) - floors, guard.max(0) + wrap.max(0)]
    }

    /// B - b that makes every result right, if there is one: M z + b may fall by up to `above` and grow by up to `below`.
    #[must_use]
    pub fn offset(self, above: i128, below: i128) -> Option<i128> {
        let [least, most] = self.errors();
        let (lo, hi) = (-above - least, below - most);
        (lo <= hi).then_some((lo + hi) >> 1)
    }

    /// The client's c_0, alpha and its part of S, from its share of ell + 1 bits.
    #[must_use]
    pub fn client(self, c: u64) -> [u64; 3] {
        let kept = c >> 1;
        let product = (i128::from(self.multiplier) * i128::from(kept)) >> self.dropped;
        [c & 1, kept >> (self.ell - 1) & 1, product as u64]
    }

    /// K and -W, modulo 2^64.
    #[must_use]
    pub fn weights(self) -> [u64; 2] {
        [self.guard() as u64, (self.wrap() as u64).wrapping_neg()]
    }

    /// The server's part of S, v_0 K, and -(1 - beta) W, from its share of ell + 1 bits, modulo 2^64.
    #[must_use]
    pub fn server(self, v: u64, offset: i64) -> [u64; 3] {
        let ([own, k, w], [guard, wrap]) = (self.server_bits(v, offset), self.weights());
        [own, guard.wrapping_mul(k), wrap.wrapping_mul(w)]
    }

    /// The server's part of S, v_0, and 1 - beta.
    #[must_use]
    pub fn server_bits(self, v: u64, offset: i64) -> [u64; 3] {
        let centre = 1_u64 << (self.ell - 2);
        let kept = (v >> 1).wrapping_add(centre) & (u64::MAX >> (64 - self.ell));
        let beta = kept >> (self.ell - 1) & 1;
        let product = i128::from(self.multiplier) * (i128::from(kept) - i128::from(centre)) + i128::from(offset);
        let own = ((product >> self.dropped) as u64).wrapping_add(self.weights()[1].wrapping_mul(beta));
        [own, v & 1, 1 - beta]
    }
}

/// Fails unless `spec` is that of S: without guard bit, with a shift of s - d.
fn check(spec: Spec, clip: Clip, layout: &Layout, finish: Finish) -> Result<(), LayoutError> {
    check_size("guard bits of a truncated product", spec.guard.into(), 0, 0)?;
    layout.check_clipped(spec, clip, finish)
}

/// The program. `spec` is that of S: its ell is R, its shift s - d, no guard bit. Inputs: the client's c_0, alpha (one bit each) and part
/// of S (R bits), offline, with [`Finish::Upload`] its xhat; the server's part of S, v_0 K and -(1 - beta) W (R bits each). Outputs: the
/// client's and the server's share, or the server's m.
///
/// # Errors
/// [`LayoutError`] as [`requantise::program_clipped`](crate::requantise::program_clipped).
pub fn program(spec: Spec, clip: Clip, layout: &Layout, finish: Finish) -> Result<Program, LayoutError> {
    check(spec, clip, layout, finish)?;
    let mut b = Builder::new();
    record(&mut b, spec, clip, layout, finish)?;
    Ok(b.finish())
}

/// Checks the widths of a factor whose products end in a ring of `ring` bits; call it on every one that a peer proposes.
///
/// # Errors
/// [`LayoutError::Size`].
pub fn check_factor(factor: Factor, ring: u32) -> Result<(), LayoutError> {
    let bits = (64 - factor.multiplier.max(0).leading_zeros()) as usize;
    check_size("bits of a multiplier", bits, 1, MAX_MULTIPLIER_BITS as usize)?;
    check_size("bits of an accumulator", factor.ell as usize, 2, MAX_ELL.into())?;
    check_size("the ring of a truncated product", ring as usize, 2, MAX_ELL.into())?;
    check_size("the bits that a product loses", factor.dropped as usize, 0, MAX_DROPPED as usize)
}

pub(crate) fn record(
    b: &mut Builder,
    spec: Spec,
    clip: Clip,
    layout: &Layout,
    finish: Finish,
) -> Result<(), LayoutError> {
    let ring = spec.width();
    let bits = [(); 2].map(|()| b.input(Party::Client, 1, Time::OFFLINE));
    let mut c = b.input(Party::Client, ring, Time::OFFLINE);
    let a = spec.effective_bits()?;
    let xhat = finish.uploads().then(|| b.input(Party::Client, finish.ring(a), Time::OFFLINE));
    let mut v = b.input(Party::Server, ring, Time::START);
    for bit in bits {
        let constant = b.input(Party::Server, ring, Time::START);
        let choice = b.half(Party::Client, bit.planes[0], bit.time);
        let (client, server) = b.ole(choice, &constant);
        (c, v) = (b.add(&c, &client), b.add(&v, &server));
    }
    record_words(b, spec, clip, layout, finish, [&c, &v], xhat.as_ref())
}

#[cfg(test)]
mod tests;
