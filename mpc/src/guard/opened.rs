//! Who a party is in a guarded computation, and one running hash of the authentication of all bits that the client opened.
//!
//! MACs are concatenated, in order, and never added: Delta would cancel in a sum. The hashes of both ends are equal if and only if every bit
//! was opened as the client holds it. They are compared before anything is sent that reveals an output.

use super::bits::Bits;
use super::packed;
use crate::correlation::ot::Cots;
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::bits::Planes;
use crate::primitive::block::{Block, Delta};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes of the hash.
pub const DIGEST_BYTES: usize = 32;

/// One party of a session's guarded computation. One for a session: all that the session opens goes into it, in the same order at both
/// ends.
pub struct Guard {
    delta: Option<Delta>,
    opened: Sha256,
}

impl Guard {
    /// The party that holds these oblivious transfers, which may be none; all of a session's have the same Delta.
    #[must_use]
    pub fn new(cots: &Cots) -> Self {
        let delta = (cots.party() == Party::Server).then(|| cots.sent.delta().clone());
        Self { delta, opened: Sha256::new_with_prefix(b"lowkey guard opened/1") }
    }

    /// The same party with a hash of its own, of nothing yet: for bits that are opened apart from the session, in an audit.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { delta: self.delta.clone(), opened: Sha256::new_with_prefix(b"lowkey guard opened apart/1") }
    }

    /// The party.
    #[must_use]
    pub fn party(&self) -> Party {
        if self.delta.is_some() { Party::Server } else { Party::Client }
    }

    /// The server's Delta.
    ///
    /// # Panics
    /// At the client.
    pub(super) fn delta(&self) -> &Delta {
        self.delta.as_ref().expect("the server has Delta")
    }

    /// What the hash of everything opened so far is: the client sends it where the server [compares](Self::compare).
    #[must_use]
    pub fn digest(&self) -> [u8; DIGEST_BYTES] {
        self.opened.clone().finalize().into()
    }

    /// Goes on with MACs: the client's own, or what the server computed that they must be.
    pub(super) fn absorb(&mut self, macs: &[Block]) {
        self.opened.update(bytemuck::cast_slice::<Block, u8>(macs));
    }

    /// At the server: compares the client's hash with its own, without a branch on where they differ.
    ///
    /// # Errors
    /// [`Error::Cheated`] if anything was opened that the client did not hold.
    pub fn compare(&self, digest: &[u8; DIGEST_BYTES]) -> Result<()> {
        if self.digest().ct_eq(digest).into() { Ok(()) } else { Err(Error::Cheated) }
    }

    /// The complement of bits.
    #[must_use]
    pub fn not(&self, bits: &Bits) -> Bits {
        let one = u8::from(self.delta.is_some());
        let flip = Block::new(one.into(), 0);
        Bits::of(bits.lanes(), bits.blocks().iter().map(|block| *block ^ flip).collect())
    }

    /// At the client: opens bits to the server. Returns the message.
    pub fn open(&mut self, bits: &Bits) -> Vec<u8> {
        self.absorb(bits.blocks());
        packed::pack(bits.blocks().iter().copied())
    }

    /// At the server: the values of bits that the client opened. They are right if the next comparison says so.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the message has another length.
    pub fn opened(&mut self, bits: &Bits, message: &[u8]) -> Result<Planes> {
        packed::check(message, bits.blocks().len())?;
        let mut values = bits.halves();
        let mut macs = Zeroizing::new(Vec::with_capacity(bits.lanes()));
        for i in 0..bits.width() {
            let plane = values.plane_mut(i);
            macs.clear();
            for (lane, block) in bits.plane(i).iter().enumerate() {
                let bit = packed::bit(message, i * bits.lanes() + lane);
                plane[lane / 64] ^= u64::from(bit) << (lane % 64);
                macs.push(mac(self.delta(), *block, bit));
            }
            self.absorb(&macs);
        }
        Ok(values)
    }

    /// Both parties: the client claims that it holds these values of its halves, which the server knows. No bit is sent; the next
    /// comparison says whether it is true. The values are the server's own idea of them, the client's `claimed` is not read.
    pub fn claim(&mut self, bits: &Bits, claimed: &Planes) {
        let Some(delta) = self.delta.clone() else {
            return self.absorb(bits.blocks());
        };
        for i in 0..bits.width() {
            let plane = claimed.plane(i);
            let value = |lane: usize| (plane[lane / 64] >> (lane % 64) & 1) as u8;
            let macs: Zeroizing<Vec<Block>> = bits
                .plane(i)
                .iter()
                .enumerate()
                .map(|(lane, block)| mac(&delta, *block, value(lane)))
                .collect::<Vec<_>>()
                .into();
            self.absorb(&macs);
        }
    }
}

/// The MAC of a bit that the client says it holds.
#[inline]
pub(super) fn mac(delta: &Delta, block: Block, bit: u8) -> Block {
    block.with_lsb(0) ^ delta.times(bit)
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({}, ..)", self.party())
    }
}
