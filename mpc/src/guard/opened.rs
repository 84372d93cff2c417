//! Who a party is in a guarded computation, and one running hash, BLAKE3, of the authentication of all bits that the client opened.
//!
//! MACs are concatenated, in order, and never added: Delta would cancel in a sum. The hashes of both ends are equal if and only if every bit
//! was opened as the client holds it. They are compared before anything is sent that reveals an output.

use super::bits::Bits;
use super::packed;
use super::tag::{Tag, Word, mac};
use crate::correlation::ot::Cots;
use crate::correlation::ot::base::SessionId;
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::bits::Planes;
use crate::primitive::block::Delta;
use blake3::Hasher;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{DefaultIsZeroes, Zeroizing};

/// Bytes of the hash.
pub const DIGEST_BYTES: usize = 32;

/// MACs that are computed at a time: whole bytes of a message.
const MACS: usize = 1 << 16;

/// One party of a session's guarded computation. One for a session: all that the session opens goes into it, in the same order at both
/// ends.
pub struct Guard {
    session: SessionId,
    delta: Option<Delta>,
    opened: Zeroizing<Hasher>,
}

impl Guard {
    /// The party that holds these oblivious transfers, which may be none; all of a session's have the same Delta.
    #[must_use]
    pub fn new(cots: &Cots) -> Self {
        let delta = (cots.party() == Party::Server).then(|| cots.sent.delta().clone());
        Self { session: cots.session(), delta, opened: hasher("lowkey guard opened/3") }
    }

    /// The same party with a hash of its own, of nothing yet: for bits that are opened apart from the session, in an audit.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { session: self.session, delta: self.delta.clone(), opened: hasher("lowkey guard opened apart/3") }
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

    /// The session that all bits must be of.
    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// Fails unless bits are of this session, or right under every Delta.
    ///
    /// # Errors
    /// [`Error::OtherSession`].
    pub(super) fn check(&self, session: Option<SessionId>) -> Result<()> {
        if session.is_none_or(|session| session == self.session) { Ok(()) } else { Err(Error::OtherSession) }
    }

    fn own(&self, bits: &Bits) {
        assert!(self.check(bits.session()).is_ok(), "bits of this session");
    }

    /// What the hash of everything opened so far is: the client sends it where the server [compares](Self::compare).
    #[must_use]
    pub fn digest(&self) -> [u8; DIGEST_BYTES] {
        self.opened.finalize().into()
    }

    /// Goes on with MACs: the client's own, or what the server computed that they must be.
    pub(super) fn absorb<W: Word>(&mut self, macs: &[W]) {
        self.opened.update(bytemuck::cast_slice::<W, u8>(macs));
    }

    /// At the client: goes on with its MACs. At the server: with those that the client holds if its halves are these, packed.
    pub(super) fn absorb_held(&mut self, tags: &[Tag], halves: &[u8]) {
        let Some(delta) = self.delta.clone() else {
            return self.absorb(tags);
        };
        let mut pieces = tags.chunks(MACS).zip(halves.chunks(MACS / 8));
        let fill = |room: &mut [Tag]| {
            let (tags, halves) = pieces.next().expect("as many as are asked for");
            let room = &mut room[..tags.len()];
            room.copy_from_slice(tags);
            packed::for_each_word(room, halves, |tag, half| *tag = mac(&delta, *tag, half));
            tags.len()
        };
        in_turns([tags.len().min(MACS), tags.len().div_ceil(MACS)], fill, |macs| self.absorb(macs));
    }

    /// At the server: compares the client's hash with its own, without a branch on where they differ.
    ///
    /// # Errors
    /// [`Error::Cheated`] if anything was opened that the client did not hold.
    pub fn compare(&self, digest: &[u8; DIGEST_BYTES]) -> Result<()> {
        if self.digest().ct_eq(digest).into() { Ok(()) } else { Err(Error::Cheated) }
    }

    /// What a party adds to its halves to complement a bit, if `flipped`.
    pub(super) fn flip(&self, flipped: bool) -> Tag {
        Tag::bit((self.delta.is_some() && flipped).into())
    }

    /// The complement of bits.
    #[must_use]
    pub fn not(&self, bits: &Bits) -> Bits {
        let flip = self.flip(true);
        Bits::of(bits.session(), bits.lanes(), bits.tags().iter().map(|tag| *tag ^ flip).collect())
    }

    /// At the client: opens bits to the server. Returns the message.
    ///
    /// # Panics
    /// If the bits are of another session.
    pub fn open(&mut self, bits: &Bits) -> Vec<u8> {
        self.own(bits);
        self.absorb(bits.tags());
        packed::halves(bits.tags())
    }

    /// At the server: the values of bits that the client opened. They are right if the next comparison says so.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the message has another length, [`Error::OtherSession`] if the bits have another Delta.
    pub fn opened(&mut self, bits: &Bits, message: &[u8]) -> Result<Planes> {
        self.check(bits.session())?;
        packed::check(message, bits.tags().len())?;
        self.absorb_held(bits.tags(), message);
        let mut values = bits.halves();
        packed::add(&mut values, message);
        Ok(values)
    }

    /// Both parties: the client claims that it holds these values of its halves, which the server knows. No bit is sent; the next
    /// comparison says whether it is true. The values are the server's own idea of them, the client's `claimed` is not read.
    ///
    /// # Panics
    /// If the bits are of another session.
    pub fn claim(&mut self, bits: &Bits, claimed: &Planes) {
        self.own(bits);
        self.absorb_held(bits.tags(), &packed::of_planes(claimed));
    }
}

/// A hash of nothing yet, for one use.
fn hasher(of: &str) -> Zeroizing<Hasher> {
    Zeroizing::new(Hasher::new_derive_key(of))
}

/// Computes pieces of at most `room` words, one after the other: `fill` writes one to the front of a room and says how long it is, `take` gets it
/// while the next is written.
pub(super) fn in_turns<W: Word + DefaultIsZeroes>(
    [room, pieces]: [usize; 2],
    mut fill: impl FnMut(&mut [W]) -> usize + Send,
    mut take: impl FnMut(&[W]) + Send,
) {
    let of = |pieces: usize| Zeroizing::new(vec![W::ZERO; if pieces > 0 { room } else { 0 }]);
    let (mut made, mut room, mut len) = (of(pieces.saturating_sub(1)), of(pieces), 0);
    for _ in 0..pieces {
        let next = if len == 0 { fill(&mut room) } else { rayon::join(|| take(&made[..len]), || fill(&mut room)).1 };
        std::mem::swap(&mut made, &mut room);
        len = next;
    }
    take(&made[..len]);
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({}, ..)", self.party())
    }
}
