//! Correlated OTs as values: moved, never copied, spent once.
//!
//! OT number `i` of a direction gives the sender `k`, the receiver `k ^ b * delta` and the bit `b`:
//!
//! ```text
//! sent.keys()[i] ^ b_i * delta = received.keys()[i],    lsb(sent key) = 0,    b_i = lsb(received key)
//! ```

use super::base::SessionId;
use super::coins::Subkeys;
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::block::{Block, Delta};
use crate::primitive::hash::TccrHash;
use rayon::prelude::*;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Range};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::{Zeroize, Zeroizing};

/// A number of OTs in each direction. Sums and products stop at the largest `usize`, which no plan may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OtCount {
    /// OTs in which the client receives and the server sends.
    pub client_receives: usize,
    /// OTs in which the server receives and the client sends.
    pub server_receives: usize,
}

impl OtCount {
    /// No OT.
    pub const ZERO: Self = Self { client_receives: 0, server_receives: 0 };

    /// `n` OTs in which `party` receives.
    #[must_use]
    pub fn received_by(party: Party, n: usize) -> Self {
        match party {
            Party::Client => Self { client_receives: n, server_receives: 0 },
            Party::Server => Self { client_receives: 0, server_receives: n },
        }
    }

    /// As many as `party` has of each half.
    pub(super) fn of_halves(party: Party, sent: usize, received: usize) -> Self {
        Self::received_by(party, received) + Self::received_by(party.other(), sent)
    }

    /// How many OTs `party` receives.
    #[must_use]
    pub fn where_receives(self, party: Party) -> usize {
        match party {
            Party::Client => self.client_receives,
            Party::Server => self.server_receives,
        }
    }

    /// What is left of it without `other`; `None` if that is more, in a direction.
    #[must_use]
    pub fn less(self, other: Self) -> Option<Self> {
        Some(Self {
            client_receives: self.client_receives.checked_sub(other.client_receives)?,
            server_receives: self.server_receives.checked_sub(other.server_receives)?,
        })
    }

    /// In each direction the larger number.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        Self {
            client_receives: self.client_receives.max(other.client_receives),
            server_receives: self.server_receives.max(other.server_receives),
        }
    }

    /// Both directions together.
    #[must_use]
    pub fn total(self) -> usize {
        self.client_receives.saturating_add(self.server_receives)
    }
}

impl Add for OtCount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            client_receives: self.client_receives.saturating_add(other.client_receives),
            server_receives: self.server_receives.saturating_add(other.server_receives),
        }
    }
}

impl AddAssign for OtCount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<usize> for OtCount {
    type Output = Self;
    fn mul(self, times: usize) -> Self {
        Self {
            client_receives: self.client_receives.saturating_mul(times),
            server_receives: self.server_receives.saturating_mul(times),
        }
    }
}

impl Sum for OtCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::ZERO, Add::add)
    }
}

/// The largest buffer that came back from dropped keys, wiped: all zeros. Touching fresh memory costs half as much as an OT, so
/// the next keys of the same direction use it again.
#[derive(Clone, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<Block>>>);

impl Spare {
    /// Keys of zero, at least `len` of them, from index `first` on.
    pub fn take(&self, first: u64, len: usize) -> Keys {
        let spare = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let blocks = if spare.len() < len { vec![Block::ZERO; len] } else { spare };
        Keys { first, live: 0..blocks.len(), blocks, spare: self.clone() }
    }

    /// Bytes of memory that it holds.
    pub fn held_bytes(&self) -> usize {
        size_of_val(&self.0.lock().unwrap_or_else(PoisonError::into_inner)[..])
    }

    fn give(&self, buffer: Vec<Block>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() > spare.len() {
            *spare = buffer;
        }
    }
}

/// Consecutive keys of one direction, wiped when dropped.
pub(super) struct Keys {
    first: u64,
    /// Zero outside of `live`.
    blocks: Vec<Block>,
    live: Range<usize>,
    spare: Spare,
}

impl Keys {
    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn len(&self) -> usize {
        self.live.len()
    }

    pub fn as_slice(&self) -> &[Block] {
        &self.blocks[self.live.clone()]
    }

    /// The keys, to be written.
    pub fn room(&mut self) -> &mut [Block] {
        &mut self.blocks[self.live.clone()]
    }

    /// Keeps the first `n` keys; those behind them must be zero.
    pub fn truncate(&mut self, n: usize) {
        self.live.end = self.live.start + n;
    }

    /// The keys alone, where they are if they fill their buffer.
    fn into_blocks(mut self) -> Zeroizing<Vec<Block>> {
        if self.len() < self.blocks.len() {
            return Zeroizing::new(self.as_slice().to_vec());
        }
        self.live = 0..0;
        Zeroizing::new(std::mem::take(&mut self.blocks))
    }

    /// Moves the first `n` keys out, `n` at most [`Keys::len`]. Copies the smaller of the two parts.
    pub fn split_front(&mut self, n: usize) -> Self {
        let (front, rest) = (n, self.len() - n);
        let middle = self.live.start + front;
        let mut other = self.spare.take(self.first, front.min(rest));
        other.truncate(front.min(rest));
        if front <= rest {
            other.room().copy_from_slice(&self.as_slice()[..front]);
            self.room()[..front].zeroize();
            self.live.start = middle;
        } else {
            other.room().copy_from_slice(&self.as_slice()[front..]);
            self.room()[front..].zeroize();
            self.live.end = middle;
            std::mem::swap(self, &mut other);
        }
        self.first = other.first + n as u64;
        other
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // The slice and not the vector: only what was written, and in blocks.
        self.room().zeroize();
        self.spare.give(std::mem::take(&mut self.blocks));
    }
}

/// One party's half of consecutive OTs: their keys, and what else its role knows.
pub struct Half<R> {
    keys: Keys,
    pads: Subkeys,
    role: R,
}

/// The sender's half: it has the correlation.
pub type SentCots = Half<Delta>;

/// The receiver's half: its keys have the choices.
pub type ReceivedCots = Half<Chooser>;

/// The role of a receiver, which knows nothing but its keys.
#[derive(Clone, Copy)]
pub struct Chooser;

impl<R> Half<R> {
    /// The hash that makes pads of a short run of these keys, from OT number `first` of the session on; the same on both sides. Every
    /// OT must belong to one run only.
    #[must_use]
    pub fn hash(&self, first: u64) -> TccrHash {
        TccrHash::new(self.pads.at(first))
    }

    /// The index of the first OT, counted over the whole session and the same on both sides.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.keys.first()
    }

    /// How many OTs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key of each OT: of a sender that of choice 0, where that of choice 1 is it XOR [`delta`](SentCots::delta); of a receiver that of its
    /// choice, which is the least significant bit and is random.
    #[must_use]
    pub fn keys(&self) -> &[Block] {
        self.keys.as_slice()
    }

    /// The [keys](Self::keys), moved out.
    pub(crate) fn into_keys(self) -> Zeroizing<Vec<Block>> {
        self.keys.into_blocks()
    }

    /// Moves the first `n` OTs out.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn split_front(&mut self, n: usize) -> Self
    where
        R: Clone,
    {
        assert!(n <= self.len(), "cannot split {n} of {} OTs", self.len());
        Self { keys: self.keys.split_front(n), pads: self.pads.clone(), role: self.role.clone() }
    }
}

/// Consecutive OTs that have one key of a hash.
pub(crate) struct Run<'a> {
    /// The hash that makes their pads.
    pub hash: TccrHash,
    /// The index of the first, counted over the whole session.
    pub first: u64,
    /// Their [keys](Half::keys).
    pub keys: &'a [Block],
}

impl<R: Sync> Half<R> {
    /// Spends all OTs on all threads, in runs of `len`, each with its item of `items`; `room` is what a thread works in. A run is wiped by
    /// the thread that has used it, in whose caches it is.
    ///
    /// # Panics
    /// If there are not as many items as runs.
    pub(crate) fn spend<I, S>(
        mut self,
        len: usize,
        items: I,
        room: impl Fn() -> S + Send + Sync,
        use_run: impl Fn(&mut S, Run<'_>, I::Item) + Send + Sync,
    ) where
        I: IndexedParallelIterator,
    {
        assert_eq!(self.len().div_ceil(len), items.len(), "an item for every run");
        let (first, pads) = (self.first(), &self.pads);
        let runs = self.keys.room().par_chunks_mut(len).zip(items).enumerate();
        runs.for_each_init(room, |room, (i, (keys, item))| {
            let first = first + (len * i) as u64;
            use_run(room, Run { hash: TccrHash::new(pads.at(first)), first, keys }, item);
            keys.zeroize();
        });
        self.keys.truncate(0);
    }
}

impl SentCots {
    pub(super) fn new(keys: Keys, delta: Delta, pads: Subkeys) -> Self {
        Self { keys, pads, role: delta }
    }

    /// The correlation, the same for the whole session.
    #[must_use]
    pub fn delta(&self) -> &Delta {
        &self.role
    }
}

impl fmt::Debug for SentCots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SentCots({}..+{})", self.first(), self.len())
    }
}

impl ReceivedCots {
    pub(super) fn new(keys: Keys, pads: Subkeys) -> Self {
        Self { keys, pads, role: Chooser }
    }

    /// The choice bit of OT `i` (relative to [`Half::first`]), 0 or 1.
    #[must_use]
    pub fn choice(&self, i: usize) -> u8 {
        self.keys()[i].lsb()
    }
}

impl fmt::Debug for ReceivedCots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceivedCots({}..+{})", self.first(), self.len())
    }
}

/// One party's halves of OTs in both directions.
pub struct Cots {
    party: Party,
    session: SessionId,
    /// The OTs in which this party sends.
    pub sent: SentCots,
    /// The OTs in which this party receives.
    pub received: ReceivedCots,
}

impl Cots {
    pub(super) fn new(party: Party, session: SessionId, sent: SentCots, received: ReceivedCots) -> Self {
        Self { party, session, sent, received }
    }

    /// The party that holds these halves.
    #[must_use]
    pub fn party(&self) -> Party {
        self.party
    }

    /// The session that they belong to, which has one Delta in each direction.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// How many OTs there are in each direction.
    #[must_use]
    pub fn count(&self) -> OtCount {
        OtCount::of_halves(self.party, self.sent.len(), self.received.len())
    }

    /// Moves the first OTs of both directions out, for example for one layer.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if there are fewer; nothing is moved then.
    pub fn split_front(&mut self, need: OtCount) -> Result<Self> {
        check(need, self.count())?;
        Ok(Self::new(
            self.party,
            self.session,
            self.sent.split_front(need.where_receives(self.party.other())),
            self.received.split_front(need.where_receives(self.party)),
        ))
    }
}

impl fmt::Debug for Cots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { party, sent, received, .. } = self;
        f.debug_struct("Cots").field("party", party).field("sent", sent).field("received", received).finish()
    }
}

/// Fails with [`Error::Exhausted`] if `have` does not cover `need`.
pub(super) fn check(need: OtCount, have: OtCount) -> Result<()> {
    for party in [Party::Client, Party::Server] {
        let (need, have) = (need.where_receives(party), have.where_receives(party));
        if need > have {
            return Err(Error::Exhausted { received_by: party, need, have });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::ot::ideal;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    const NEED: OtCount = OtCount { client_receives: 100, server_receives: 37 };

    #[test]
    fn the_ideal_double_is_correlated() {
        let (client, server) = ideal::deal(NEED, &mut ChaCha20Rng::seed_from_u64(1));
        assert_eq!(client.count(), NEED);
        assert_eq!(server.count(), NEED);
        ideal::assert_correlated(&client, &server);
    }

    #[test]
    fn splits_keep_order_index_and_correlation() {
        let (mut client, mut server) = ideal::deal(NEED, &mut ChaCha20Rng::seed_from_u64(2));
        let all = client.received.keys().to_vec();
        let mut seen = Vec::new();
        for n in [0, 1, 60, 3, 36] {
            let need = OtCount { client_receives: n, server_receives: n / 3 };
            let (c, s) = (client.split_front(need).unwrap(), server.split_front(need).unwrap());
            assert_eq!(c.received.first(), seen.len() as u64);
            ideal::assert_correlated(&c, &s);
            seen.extend_from_slice(c.received.keys());
        }
        assert_eq!(seen, all);
        assert_eq!(client.received.first(), 100);
        assert_eq!(client.count().client_receives, 0);
    }

    #[test]
    fn the_buffer_of_dropped_keys_is_used_again() {
        let spare = Spare::default();
        let mut keys = spare.take(0, 100);
        keys.room().fill(Block::ONES);
        let front = keys.split_front(60);
        let buffer = front.as_slice().as_ptr();
        // The rest, the smaller part, was copied.
        assert_eq!((keys.as_slice(), keys.first()), (&[Block::ONES; 40][..], 60));
        assert_eq!((front.as_slice(), front.first()), (&[Block::ONES; 60][..], 0));
        drop(front);
        let again = spare.take(7, 100);
        assert_eq!((again.as_slice(), again.first()), (&[Block::ZERO; 100][..], 7));
        assert_eq!(again.as_slice().as_ptr(), buffer);
        drop(keys.split_front(1));
        assert_eq!((keys.as_slice(), keys.first()), (&[Block::ONES; 39][..], 61));
    }

    #[test]
    fn runs_are_spent_in_order_under_their_hashes_and_wiped() {
        let (client, server) = ideal::deal(NEED, &mut ChaCha20Rng::seed_from_u64(5));
        let (keys, spare) = (client.received.keys().to_vec(), client.received.keys.spare.clone());
        let buffer = client.received.keys().as_ptr();
        let hashes: Vec<_> = [0, 30, 60, 90].map(|first| server.sent.hash(first)).into();
        let mut seen = vec![(0, Vec::new()); 4];
        client.received.spend(
            30,
            seen.par_iter_mut(),
            || (),
            |(), run, seen| {
                let mut hashed = run.keys.to_vec();
                run.hash.hash(&mut hashed, |_| Block::ZERO);
                *seen = (run.first, hashed);
            },
        );
        for (i, (keys, hash)) in keys.chunks(30).zip(hashes).enumerate() {
            let mut hashed = keys.to_vec();
            hash.hash(&mut hashed, |_| Block::ZERO);
            assert_eq!(seen[i], (30 * i as u64, hashed));
        }
        let again = spare.take(0, 100);
        assert_eq!((again.as_slice(), again.as_slice().as_ptr()), (&[Block::ZERO; 100][..], buffer));
    }

    #[test]
    fn keys_that_fill_their_buffer_are_moved_and_others_copied() {
        let (client, server) = ideal::deal(NEED, &mut ChaCha20Rng::seed_from_u64(6));
        let (all, at) = (client.received.keys().to_vec(), client.received.keys().as_ptr());
        let moved = client.received.into_keys();
        assert_eq!((moved.as_slice(), moved.as_ptr()), (&all[..], at));
        let mut sent = server.sent;
        let front = sent.keys()[..7].to_vec();
        assert_eq!(*sent.split_front(7).into_keys(), front);
    }

    #[test]
    fn splitting_more_than_there_is_moves_nothing() {
        let (mut client, _) = ideal::deal(NEED, &mut ChaCha20Rng::seed_from_u64(3));
        let need = OtCount::received_by(Party::Server, 38);
        assert!(matches!(
            client.split_front(need),
            Err(Error::Exhausted { received_by: Party::Server, need: 38, have: 37 })
        ));
        assert_eq!(client.count(), NEED);
    }

    #[test]
    fn secrets_print_redacted() {
        let (client, _) = ideal::deal(NEED, &mut ChaCha20Rng::seed_from_u64(4));
        assert_eq!(
            format!("{client:?}"),
            "Cots { party: Client, sent: SentCots(0..+37), received: ReceivedCots(0..+100) }"
        );
    }
}
