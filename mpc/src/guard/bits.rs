//! `M = S ^ b_s ^ b_c Delta`: a bit b = b_s ^ b_c of which each party has a [`Tag`], b_s and b_c being the lowest bits.
//!
//! The lowest bit of Delta is one, and that of S without b_s is zero. Both survive everything here, so sums are sums of tags at both
//! ends. Bits know their session, since another one has another Delta: a [`Guard`](super::Guard) refuses those that are not its own.

use super::tag::{Tag, Word};
use crate::correlation::ot::Cots;
use crate::correlation::ot::base::SessionId;
use crate::party::Party;
use crate::primitive::bits::{Planes, WORD_LANES};
use crate::primitive::block::Block;
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// One party's halves of authenticated bits: planes of `lanes` each, one after the other. Wiped when dropped.
pub struct Bits {
    lanes: usize,
    /// `None` for bits that are public or one party's alone: they are right under every Delta.
    session: Option<SessionId>,
    tags: Zeroizing<Vec<Tag>>,
}

/// The keys that a party holds of transfers in which the client receives.
pub(super) fn keys(cots: Cots) -> Zeroizing<Vec<Block>> {
    match cots.party() {
        Party::Client => cots.received.into_keys(),
        Party::Server => cots.sent.into_keys(),
    }
}

impl Bits {
    /// Zeros that both parties know.
    #[must_use]
    pub fn zero(lanes: usize, width: usize) -> Self {
        Self::of(None, lanes, vec![Tag::ZERO; lanes * width])
    }

    /// Random bits, all of them the client's: one oblivious transfer each. Must be of those in which the client receives.
    ///
    /// # Panics
    /// If their number is no multiple of `lanes`.
    #[must_use]
    pub fn random(lanes: usize, cots: Cots) -> Self {
        let session = cots.session();
        Self::of(Some(session), lanes, keys(cots).iter().map(|key| Tag::of(*key)).collect())
    }

    pub(super) fn of(session: Option<SessionId>, lanes: usize, tags: Vec<Tag>) -> Self {
        assert!(lanes > 0 && tags.len().is_multiple_of(lanes), "bits are whole planes");
        Self { lanes, session, tags: Zeroizing::new(tags) }
    }

    /// Lanes of a plane.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Planes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.tags.len() / self.lanes
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.tags.capacity() * Tag::BYTES
    }

    /// Whose Delta they are under.
    pub(super) fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The tags of all planes.
    pub(super) fn tags(&self) -> &[Tag] {
        &self.tags
    }

    pub(super) fn tags_mut(&mut self) -> &mut [Tag] {
        &mut self.tags
    }

    /// The tags of one plane.
    pub(super) fn plane(&self, i: usize) -> &[Tag] {
        &self.tags[i * self.lanes..][..self.lanes]
    }

    /// Some of the planes, copied: bits may be used many times.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn planes(&self, range: Range<usize>) -> Self {
        Self::of(self.session, self.lanes, self.tags[range.start * self.lanes..range.end * self.lanes].to_vec())
    }

    /// The planes of this and of other bits, one after the other.
    ///
    /// # Panics
    /// If the lanes or the sessions differ.
    #[must_use]
    pub fn join(parts: &[&Self]) -> Self {
        let lanes = parts.first().map_or(1, |part| part.lanes);
        assert!(parts.iter().all(|part| part.lanes == lanes), "planes of as many lanes");
        let session = parts.iter().fold(None, |session, part| one_session(session, part.session));
        Self::of(session, lanes, parts.iter().flat_map(|part| part.tags.iter().copied()).collect())
    }

    /// The same bits in other lanes: lane `to` of a plane is lane `from(to)` of it.
    #[must_use]
    pub fn gather(&self, lanes: usize, from: impl Fn(usize) -> usize) -> Self {
        self.gather_or_zero(lanes, |to| Some(from(to)))
    }

    /// As [`gather`](Self::gather), zero where it is `None`: for windows that reach beyond what they read.
    #[must_use]
    pub fn gather_or_zero(&self, lanes: usize, from: impl Fn(usize) -> Option<usize>) -> Self {
        let planes = (0..self.width()).map(|i| self.plane(i));
        let lane = |plane: &[Tag], to: usize| from(to).map_or(Tag::ZERO, |from| plane[from]);
        let tags = planes.flat_map(|plane| (0..lanes).map(|to| lane(plane, to)).collect::<Vec<_>>()).collect();
        Self::of(self.session, lanes, tags)
    }

    /// The sum of bits.
    ///
    /// # Panics
    /// If lanes, widths or sessions differ.
    #[must_use]
    pub fn xor(&self, other: &Self) -> Self {
        assert_eq!((self.lanes, self.tags.len()), (other.lanes, other.tags.len()), "planes of one shape");
        let session = one_session(self.session, other.session);
        Self::of(session, self.lanes, self.tags.iter().zip(other.tags()).map(|(a, b)| *a ^ *b).collect())
    }

    /// This party's halves: b_s or b_c.
    #[must_use]
    pub fn halves(&self) -> Planes {
        let mut halves = Planes::zero(self.lanes, self.width());
        for i in 0..self.width() {
            for (word, tags) in halves.plane_mut(i).iter_mut().zip(self.plane(i).chunks(WORD_LANES)) {
                *word = tags.iter().rev().fold(0, |word, tag| word << 1 | u64::from(tag.lsb()));
            }
        }
        halves
    }
}

/// The session of bits that are computed from those of two.
fn one_session(a: Option<SessionId>, b: Option<SessionId>) -> Option<SessionId> {
    assert!(a.is_none() || b.is_none() || a == b, "bits of one session");
    a.or(b)
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bits({} x {} lanes, ..)", self.width(), self.lanes)
    }
}
