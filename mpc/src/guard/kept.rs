//! Triples that were made and checked, until they are used.

#[cfg(test)]
use super::bits::Bits;
use super::opened::Guard;
use super::tag::Tag;
use crate::correlation::ot::base::SessionId;
use crate::error::{Error, Result};
use crate::party::Party;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// x, y and z of a triple: one party's tags.
pub type Triple = [Tag; 3];

/// Triples that were checked, each to be used once: [`Triples::BYTES`] each, in pieces that are given up as triples are taken. Wiped when dropped.
#[derive(Default)]
pub struct Triples(Vec<Piece>);

/// Triples of one session.
struct Piece {
    session: SessionId,
    triples: Zeroizing<Vec<Triple>>,
}

impl Triples {
    /// Bytes of memory that a party holds for a triple.
    pub const BYTES: usize = 3 * Tag::BYTES;

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.triples.len()).sum()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.0.iter().map(|piece| piece.triples.capacity() * Self::BYTES).sum()
    }

    /// Moves the last `n` out.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if there are fewer; nothing is moved then.
    pub fn take(&mut self, n: usize) -> Result<Self> {
        let have = self.len();
        if n > have {
            return Err(Error::Exhausted { received_by: Party::Client, need: n, have });
        }
        let (mut taken, mut missing) = (Vec::new(), n);
        while missing > 0 {
            let mut piece = self.0.pop().expect("there are as many");
            if piece.triples.len() > missing {
                let back = piece.split_back(missing);
                self.0.push(std::mem::replace(&mut piece, back));
            }
            missing -= piece.triples.len();
            taken.push(piece);
        }
        taken.reverse();
        Ok(Self(taken))
    }

    /// Adds those of another batch.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// x, y and z, a plane of each.
    ///
    /// # Panics
    /// If they are of several sessions.
    #[cfg(test)]
    pub(super) fn into_bits(self) -> Bits {
        let sessions = self.0.iter().map(|piece| piece.session);
        let session = sessions.reduce(|a, b| {
            assert_eq!(a, b, "triples of one session");
            a
        });
        let (len, all) = (self.len(), self.flatten());
        Bits::of(session, len, (0..3).flat_map(|i| all.iter().map(move |triple| triple[i])).collect())
    }

    /// In one piece of memory.
    pub(super) fn flatten(mut self) -> Zeroizing<Vec<Triple>> {
        if self.0.len() == 1 {
            return self.0.remove(0).triples;
        }
        let mut all = Zeroizing::new(Vec::with_capacity(self.len()));
        self.0.drain(..).for_each(|piece| all.extend_from_slice(&piece.triples));
        all
    }

    /// Fails unless all are of the guard's session.
    pub(super) fn check(&self, guard: &Guard) -> Result<()> {
        self.0.iter().try_for_each(|piece| guard.check(Some(piece.session)))
    }

    /// In one piece.
    pub(super) fn of(session: SessionId, triples: Zeroizing<Vec<Triple>>) -> Self {
        Self(vec![Piece { session, triples }])
    }

    #[cfg(test)]
    pub(super) fn at_mut(&mut self, mut i: usize) -> &mut Triple {
        let mut pieces = self.0.iter_mut();
        loop {
            let piece = pieces.next().expect("a triple");
            if i < piece.triples.len() {
                return &mut piece.triples[i];
            }
            i -= piece.triples.len();
        }
    }
}

impl Piece {
    /// Moves the last `n` out.
    fn split_back(&mut self, n: usize) -> Self {
        let keep = self.triples.len() - n;
        let back = Zeroizing::new(self.triples[keep..].to_vec());
        self.triples[keep..].as_flattened_mut().zeroize();
        self.triples.truncate(keep);
        Self { session: self.session, triples: back }
    }
}

impl fmt::Debug for Triples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Triples({}, ..)", self.len())
    }
}

#[cfg(test)]
mod tests;
