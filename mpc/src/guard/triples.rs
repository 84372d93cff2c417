//! `[z] = [x][y]`: triples against an arbitrary client, three oblivious transfers and a bit each, checked in buckets.
//!
//! ```text
//! server                                                              client
//! x_s = H(K_y) ^ H(K_y ^ Delta),   y_s = H(K_x) ^ H(K_x ^ Delta)
//! z_s = H(K_y) ^ H(K_x) ^ x_s y_s                                     z_c = H(M_y) ^ H(M_x) ^ x_c y_c
//!                                                         <--e--      e = z_c ^ r
//! [z] is [r] corrected by e                                           [z] is [r] corrected by e
//! the order, from a seed
//! of each pair of a bucket: d_s, f_s                --seed, bits-->
//!                                                                     of each pair of a bucket: d = x ^ x', f = y ^ y'
//!                                                         <--bits--   d_c, f_c; of the opened: x_c, y_c;  the hash of all opened so far
//! z ^ z' ^ d y' ^ f x' ^ d f = 0 and z = x y, by their MACs
//! ```
//!
//! Triple i takes the OTs 3i, 3i + 1 and 3i + 2 of its batch: x, y, r. Each of x and y is hashed once, under its index; [`CHUNK`] triples share the
//! key of a hash. A step takes its state by value.

use super::batch::{Batch, SEED_BYTES};
use super::kept::{Triple, Triples};
use super::opened::{DIGEST_BYTES, Guard};
use super::order::Order;
use super::packed;
use super::tag::{Tag, Word, mac};
use crate::correlation::ot::base::SessionId;
use crate::correlation::ot::{Correlations, Cots, OtCount};
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::block::{Block, Delta};
use crate::primitive::hash::TccrHash;
use crate::transport::channel::{Channel, FrameKind};
use rand::CryptoRng;
use rayon::prelude::*;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Triples that share the key of a hash: 336 hashed keys, and a whole number of bytes of every message.
const CHUNK: usize = 168;

/// Triples whose OTs are taken at a time: whole chunks.
const PART: usize = 384 * CHUNK;

/// Buckets that are checked at a time.
const BUCKETS: usize = 1 << 14;

/// The server, before e.
struct Formed {
    batch: Batch,
    session: SessionId,
    delta: Delta,
    triples: Zeroizing<Vec<Triple>>,
}

/// The server, after the order.
struct Sealed {
    batch: Batch,
    session: SessionId,
    order: Order,
    delta: Delta,
    triples: Zeroizing<Vec<Triple>>,
}

/// The client, after e.
struct Given {
    batch: Batch,
    session: SessionId,
    triples: Zeroizing<Vec<Triple>>,
}

/// Bytes in which the server tells the order of a batch.
fn order_bytes(batch: Batch) -> usize {
    SEED_BYTES + packed::bytes(batch.paired_bits())
}

impl Formed {
    /// The server's halves, of OTs as they are needed, a part at a time.
    fn form(batch: Batch, session: SessionId, mut take: impl FnMut(OtCount) -> Result<Cots>) -> Result<Self> {
        let mut triples = Zeroizing::new(vec![[Tag::ZERO; 3]; batch.triples()]);
        let mut delta = None;
        for triples in triples.chunks_mut(PART) {
            let cots = take(OtCount::received_by(Party::Client, 3 * triples.len()))?;
            let sent = &cots.sent;
            let keys = sent.keys().as_chunks::<3>().0.par_chunks(CHUNK);
            keys.zip(triples.par_chunks_mut(CHUNK)).enumerate().for_each(|(i, (keys, triples))| {
                let first = sent.first() + (3 * CHUNK * i) as u64;
                form_chunk(&sent.hash(first), first, sent.delta(), keys, triples);
            });
            delta = Some(sent.delta().clone());
        }
        let delta = delta.expect("a batch is not empty");
        Ok(Self { batch, session, delta, triples })
    }

    /// Corrects z by the client's e, and draws the order. Returns its seed and d_s, f_s of all pairs.
    ///
    /// # Errors
    /// [`Error::Protocol`] if e has another length.
    fn correct<R: CryptoRng + ?Sized>(mut self, e: &[u8], rng: &mut R) -> Result<(Sealed, Vec<u8>)> {
        packed::check(e, self.batch.triples())?;
        let delta = Tag::of(self.delta.block()).with_lsb(0);
        for (i, [_, _, z]) in self.triples.iter_mut().enumerate() {
            *z ^= delta & Tag::splat(packed::bit(e, i));
        }
        let mut seed = [0; SEED_BYTES];
        rng.fill_bytes(&mut seed);
        let Self { batch, session, delta, triples } = self;
        let order = Order::of(&seed, batch);
        let mut message = vec![0; order_bytes(batch)];
        message[..SEED_BYTES].copy_from_slice(&seed);
        set_pairs(&mut message[SEED_BYTES..], &order, &triples);
        Ok((Sealed { batch, session, order, delta, triples }, message))
    }
}

/// The tags of one chunk; z_s goes in the place of the lowest bit of the key of r.
fn form_chunk(hash: &TccrHash, first: u64, delta: &Delta, cots: &[[Block; 3]], triples: &mut [Triple]) {
    let mut zero: [Block; 2 * CHUNK] = [Block::ZERO; 2 * CHUNK];
    let keys = &mut zero[..2 * triples.len()];
    for ([x, y, _], keys) in cots.iter().zip(keys.as_chunks_mut().0) {
        *keys = [*x, *y];
    }
    let tweak = |j: usize| Block::new(first + (j / 2 * 3 + j % 2) as u64, 0);
    let mut one = [Block::ZERO; 2 * CHUNK];
    let others = &mut one[..keys.len()];
    for (other, key) in others.iter_mut().zip(&*keys) {
        *other = *key ^ delta.block();
    }
    hash.hash(keys, tweak);
    hash.hash(others, tweak);
    let pads = keys.as_chunks::<2>().0.iter().zip(others.as_chunks::<2>().0);
    for ((triple, cots), (keys, others)) in triples.iter_mut().zip(cots).zip(pads) {
        let [of_x, of_y] = [keys[0].lsb(), keys[1].lsb()];
        let (x_s, y_s) = (of_y ^ others[1].lsb(), of_x ^ others[0].lsb());
        let [x, y, r] = cots.map(Tag::of);
        *triple = [x.with_lsb(x_s), y.with_lsb(y_s), r.with_lsb(of_y ^ of_x ^ (x_s & y_s))];
    }
    zero.zeroize();
    one.zeroize();
}

impl Sealed {
    /// Checks what the client opened, and leaves the first triple of every bucket. They are right if the next comparison says so, and one
    /// comes with this message.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the message has another length, [`Error::Cheated`].
    fn check(self, guard: &mut Guard, message: &[u8]) -> Result<Triples> {
        let Self { batch, session, order, delta, triples } = self;
        guard.check(Some(session))?;
        let bits = batch.opened_bits();
        let (opened, digest) = split_message(message, bits)?;
        check_pairs(guard, &order, &triples, |pair, d, f, w, macs| {
            let (d_c, f_c) = (packed::bit(opened, 2 * pair), packed::bit(opened, 2 * pair + 1));
            let (all_d, all_f) = (d.lsb() ^ d_c, f.lsb() ^ f_c);
            let w = w(all_d, all_f) ^ Tag::bit(all_d & all_f);
            *macs = [mac(&delta, d, d_c), mac(&delta, f, f_c), mac(&delta, w, w.lsb())];
        });
        for (i, member) in order.opened().iter().enumerate() {
            let at = batch.paired_bits() + 2 * i;
            let [x, y, z] = triples[*member as usize];
            let (x_c, y_c) = (packed::bit(opened, at), packed::bit(opened, at + 1));
            let product = (x.lsb() ^ x_c) & (y.lsb() ^ y_c);
            guard.absorb(&[mac(&delta, x, x_c), mac(&delta, y, y_c), mac(&delta, z, z.lsb() ^ product)]);
        }
        guard.compare(digest)?;
        Ok(first_of_buckets(session, &order, &triples))
    }
}

impl Given {
    /// The client's halves, of OTs as they are needed, a part at a time. Returns e.
    fn give(
        batch: Batch,
        session: SessionId,
        mut take: impl FnMut(OtCount) -> Result<Cots>,
    ) -> Result<(Self, Vec<u8>)> {
        let mut triples = Zeroizing::new(vec![[Tag::ZERO; 3]; batch.triples()]);
        let mut e = vec![0; packed::bytes(batch.triples())];
        for (triples, e) in triples.chunks_mut(PART).zip(e.chunks_mut(PART / 8)) {
            let cots = take(OtCount::received_by(Party::Client, 3 * triples.len()))?;
            let received = &cots.received;
            let keys = received.keys().as_chunks::<3>().0.par_chunks(CHUNK);
            let chunks = keys.zip(triples.par_chunks_mut(CHUNK)).zip(e.par_chunks_mut(CHUNK / 8));
            chunks.enumerate().for_each(|(i, ((keys, triples), e))| {
                let first = received.first() + (3 * CHUNK * i) as u64;
                give_chunk(&received.hash(first), first, keys, triples, e);
            });
        }
        Ok((Self { batch, session, triples }, e))
    }

    /// Opens what the order asks for. Returns the triples that are left, and the message: bits and hash.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the server's message has another length.
    fn open(self, guard: &mut Guard, message: &[u8]) -> Result<(Triples, Vec<u8>)> {
        let Self { batch, session, triples } = self;
        let length = || Error::protocol("length of an order", order_bytes(batch), message.len());
        let (seed, theirs) = message.split_first_chunk().ok_or_else(length)?;
        packed::check(theirs, batch.paired_bits())?;
        let order = Order::of(seed, batch);
        check_pairs(guard, &order, &triples, |pair, d, f, w, macs| {
            let (d_s, f_s) = (packed::bit(theirs, 2 * pair), packed::bit(theirs, 2 * pair + 1));
            *macs = [d, f, w(d.lsb() ^ d_s, f.lsb() ^ f_s)];
        });
        let mut message = vec![0; packed::bytes(batch.opened_bits())];
        set_pairs(&mut message, &order, &triples);
        for (i, member) in order.opened().iter().enumerate() {
            let [x, y, z] = triples[*member as usize];
            guard.absorb(&[x, y, z]);
            let at = batch.paired_bits() + 2 * i;
            packed::set(&mut message, at, x.lsb());
            packed::set(&mut message, at + 1, y.lsb());
        }
        message.extend_from_slice(&guard.digest());
        Ok((first_of_buckets(session, &order, &triples), message))
    }
}

/// e and the tags of one chunk, z_c in the place of the choice of r.
fn give_chunk(hash: &TccrHash, first: u64, cots: &[[Block; 3]], triples: &mut [Triple], e: &mut [u8]) {
    let mut space = [Block::ZERO; 2 * CHUNK];
    let keys = &mut space[..2 * triples.len()];
    for ([x, y, _], keys) in cots.iter().zip(keys.as_chunks_mut().0) {
        *keys = [*x, *y];
    }
    hash.hash(keys, |j| Block::new(first + (j / 2 * 3 + j % 2) as u64, 0));
    for (i, ((triple, cots), keys)) in triples.iter_mut().zip(cots).zip(keys.as_chunks::<2>().0).enumerate() {
        let [x, y, r] = cots.map(Tag::of);
        let z_c = keys[1].lsb() ^ keys[0].lsb() ^ (x.lsb() & y.lsb());
        packed::set(e, i, z_c ^ r.lsb());
        *triple = [x, y, r.with_lsb(z_c)];
    }
    space.zeroize();
}

/// A party's halves of d and f of every pair of every bucket, one after the other.
fn set_pairs(bits: &mut [u8], order: &Order, triples: &[Triple]) {
    let of = |member: u32| triples[member as usize];
    let mut at = 0;
    for members in order.buckets() {
        let [x, y, _] = of(members[0]);
        for member in &members[1..] {
            let [other_x, other_y, _] = of(*member);
            packed::set(bits, at, (x ^ other_x).lsb());
            packed::set(bits, at + 1, (y ^ other_y).lsb());
            at += 2;
        }
    }
}

/// Of every pair of every bucket: absorbs what `macs` makes of its number, [d], [f] and, for values of d and f, [z ^ z' ^ d y' ^ f x'].
fn check_pairs(
    guard: &mut Guard,
    order: &Order,
    triples: &[Triple],
    macs: impl Fn(usize, Tag, Tag, &dyn Fn(u8, u8) -> Tag, &mut Triple) + Sync,
) {
    let Some(size) = order.buckets().next().map(<[u32]>::len) else { return };
    let mut space = Zeroizing::new(vec![[Tag::ZERO; 3]; BUCKETS * (size - 1)]);
    for (group, members) in order.in_buckets().chunks(BUCKETS * size).enumerate() {
        let space = &mut space[..members.len() / size * (size - 1)];
        let buckets = space.par_chunks_mut(size - 1).zip(members.par_chunks(size)).enumerate();
        buckets.for_each(|(i, (space, members))| {
            let first = triples[members[0] as usize];
            for (k, (out, member)) in space.iter_mut().zip(&members[1..]).enumerate() {
                let other = triples[*member as usize];
                let pair = (group * BUCKETS + i) * (size - 1) + k;
                let w = |d, f| first[2] ^ other[2] ^ (other[1] & Tag::splat(d)) ^ (other[0] & Tag::splat(f));
                macs(pair, first[0] ^ other[0], first[1] ^ other[1], &w, out);
            }
        });
        guard.absorb(space.as_flattened());
    }
}

/// The triples that come out of a batch.
fn first_of_buckets(session: SessionId, order: &Order, triples: &[Triple]) -> Triples {
    Triples::of(session, order.buckets().map(|members| triples[members[0] as usize]))
}

/// Opened bits and the hash.
fn split_message(message: &[u8], bits: usize) -> Result<(&[u8], &[u8; DIGEST_BYTES])> {
    let (opened, digest) = message
        .split_last_chunk()
        .ok_or_else(|| Error::protocol("length of opened bits", packed::bytes(bits) + DIGEST_BYTES, message.len()))?;
    packed::check(opened, bits)?;
    Ok((opened, digest))
}

/// Makes a batch: three flights. Both parties call it with the same batch. The pool must have [as many OTs](Batch::ots), which it computes as they
/// are needed, so that not all of a batch's are in memory.
///
/// # Errors
/// Those of the channel, [`Error::Protocol`] for a malformed message, before anything is sent [`Error::OtherSession`] if the OTs are not the
/// guard's and [`Error::Exhausted`] if the pool has too few, and at the server [`Error::Cheated`].
pub async fn make_of<R: CryptoRng>(
    ch: &mut Channel,
    guard: &mut Guard,
    batch: Batch,
    pool: &mut Correlations,
    rng: &mut R,
) -> Result<Triples> {
    let (need, have) = (batch.ots().client_receives, pool.available().client_receives);
    if have < need {
        return Err(Error::Exhausted { received_by: Party::Client, need, have });
    }
    let session = pool.session();
    make_from(ch, guard, batch, session, |need| pool.take(need), rng).await
}

/// [`make_of`] with OTs that are at hand, as many as [`Batch::ots`].
#[cfg(test)]
pub(super) async fn make<R: CryptoRng>(
    ch: &mut Channel,
    guard: &mut Guard,
    batch: Batch,
    mut cots: Cots,
    rng: &mut R,
) -> Result<Triples> {
    let session = cots.session();
    make_from(ch, guard, batch, session, |need| cots.split_front(need), rng).await
}

async fn make_from<R: CryptoRng>(
    ch: &mut Channel,
    guard: &mut Guard,
    batch: Batch,
    session: SessionId,
    take: impl FnMut(OtCount) -> Result<Cots>,
    rng: &mut R,
) -> Result<Triples> {
    guard.check(Some(session))?;
    match guard.party() {
        Party::Server => {
            let formed = Formed::form(batch, session, take)?;
            let e = ch.recv(FrameKind::Data, packed::bytes(batch.triples())).await?;
            let (sealed, order) = formed.correct(&e, rng)?;
            ch.send(FrameKind::Data, order).await?;
            let message = ch.recv(FrameKind::Data, packed::bytes(batch.opened_bits()) + DIGEST_BYTES).await?;
            sealed.check(guard, &message)
        }
        Party::Client => {
            let (given, e) = Given::give(batch, session, take)?;
            ch.send(FrameKind::Data, e).await?;
            let order = ch.recv(FrameKind::Data, order_bytes(batch)).await?;
            let (triples, message) = given.open(guard, &order)?;
            ch.send(FrameKind::Data, message).await?;
            Ok(triples)
        }
    }
}

macro_rules! redacted {
    ($($state:ident),*) => {$(
        impl fmt::Debug for $state {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($state), "({:?}, ..)"), self.batch)
            }
        }
    )*};
}
redacted!(Formed, Sealed, Given);

#[cfg(test)]
mod tests;
