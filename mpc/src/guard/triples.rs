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
use super::opened::{DIGEST_BYTES, Guard, in_turns};
use super::order::Order;
use super::packed;
use super::tag::{Tag, Word, mac};
use crate::correlation::ot::base::SessionId;
use crate::correlation::ot::{Correlations, Cots, OtCount, Run};
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::block::{Block, Delta};
use crate::transport::channel::{Channel, FrameKind};
use rand::CryptoRng;
use rayon::prelude::*;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Triples that share the key of a hash: 336 hashed keys, and a whole number of bytes of every message.
const CHUNK: usize = 168;

/// Triples whose OTs are taken at a time: whole chunks.
const PART: usize = 384 * CHUNK;

/// Buckets that are checked at a time, and by a thread at a time: whole bytes of every message.
const BUCKETS: usize = 1 << 14;
const BUCKETS_OF_A_THREAD: usize = 1 << 10;

/// Pairs whose d and f fill a byte.
const PAIRS: usize = 4;

/// The server, before e.
struct Formed {
    batch: Batch,
    session: SessionId,
    delta: Delta,
    space: Workspace,
}

/// The server, after the order.
struct Sealed {
    batch: Batch,
    session: SessionId,
    delta: Delta,
    /// Bucket after bucket, then those that are opened.
    space: Workspace,
}

/// The client, after e.
struct Given {
    batch: Batch,
    session: SessionId,
    space: Workspace,
}

/// Memory in which batches are made, one after the other, so that the system has to give it once. Wiped when dropped.
#[derive(Default)]
pub struct Workspace {
    /// As they are made, and in the order of the batch: words of triples.
    made: Vec<u64>,
    arranged: Vec<u64>,
}

/// Words that a thread wipes at a time.
const WIPED: usize = 1 << 16;

impl Workspace {
    /// For a batch; what was there before is overwritten.
    fn fit(mut self, batch: Batch) -> Self {
        let words = 3 * batch.triples();
        for space in [&mut self.made, &mut self.arranged] {
            if space.len() < words {
                wipe(space);
                // Zeros that are not written before they are needed.
                *space = vec![0; words];
            }
        }
        self
    }

    fn made(&mut self, batch: Batch) -> &mut [Triple] {
        bytemuck::cast_slice_mut(&mut self.made[..3 * batch.triples()])
    }

    /// Puts what was made in this order.
    fn arrange(&mut self, batch: Batch, order: &Order, fix: impl Fn(usize, Triple) -> Triple + Sync) {
        let words = 3 * batch.triples();
        let (from, to) =
            (bytemuck::cast_slice(&self.made[..words]), bytemuck::cast_slice_mut(&mut self.arranged[..words]));
        order.arrange(from, to, fix);
    }

    /// The triples of bucket after bucket, and those that are opened.
    fn arranged(&self, batch: Batch) -> (&[Triple], &[Triple]) {
        let all: &[Triple] = bytemuck::cast_slice(&self.arranged[..3 * batch.triples()]);
        all.split_at(batch.bucket() * batch.good())
    }
}

fn wipe(space: &mut [u64]) {
    space.par_chunks_mut(WIPED).for_each(Zeroize::zeroize);
}

impl Drop for Workspace {
    fn drop(&mut self) {
        [&mut self.made, &mut self.arranged].into_iter().for_each(|space| wipe(space));
    }
}

/// Bytes in which the server tells the order of a batch.
fn order_bytes(batch: Batch) -> usize {
    SEED_BYTES + packed::bytes(batch.paired_bits())
}

impl Formed {
    /// The server's halves, of OTs as they are needed, a part at a time.
    fn form(
        batch: Batch,
        session: SessionId,
        mut take: impl FnMut(OtCount) -> Result<Cots>,
        space: Workspace,
    ) -> Result<Self> {
        let mut space = space.fit(batch);
        let mut delta = None;
        for triples in space.made(batch).chunks_mut(PART) {
            let cots = take(OtCount::received_by(Party::Client, 3 * triples.len()))?;
            let own = &*delta.insert(cots.sent.delta().clone());
            let chunks = triples.par_chunks_mut(CHUNK);
            cots.sent.spend(3 * CHUNK, chunks, || room(4), |room, run, triples| form_chunk(run, own, triples, room));
        }
        let delta = delta.expect("a batch is not empty");
        Ok(Self { batch, session, delta, space })
    }

    /// Corrects z by the client's e, and draws the order. Returns its seed and d_s, f_s of all pairs.
    ///
    /// # Errors
    /// [`Error::Protocol`] if e has another length.
    fn correct<R: CryptoRng + ?Sized>(self, e: &[u8], rng: &mut R) -> Result<(Sealed, Vec<u8>)> {
        packed::check(e, self.batch.triples())?;
        let mut seed = [0; SEED_BYTES];
        rng.fill_bytes(&mut seed);
        let Self { batch, session, delta, mut space } = self;
        let correction = Tag::of(delta.block()).with_lsb(0);
        let corrected = |i: usize, [x, y, z]: Triple| [x, y, z ^ (correction & Tag::splat(packed::bit(e, i)))];
        space.arrange(batch, &Order::of(&seed, batch), corrected);
        let mut message = vec![0; order_bytes(batch)];
        message[..SEED_BYTES].copy_from_slice(&seed);
        set_pairs(&mut message[SEED_BYTES..], batch, space.arranged(batch).0);
        Ok((Sealed { batch, session, delta, space }, message))
    }
}

/// Where a thread hashes so many keys of each triple of a chunk: wiped when its chunks are done, not for each of them.
fn room(keys: usize) -> Zeroizing<Vec<Block>> {
    Zeroizing::new(vec![Block::ZERO; keys * CHUNK])
}

/// The tags of one chunk; z_s goes in the place of the lowest bit of the key of r.
fn form_chunk(Run { hash, first, keys }: Run<'_>, delta: &Delta, triples: &mut [Triple], room: &mut [Block]) {
    let (cots, _) = keys.as_chunks::<3>();
    let (keys, others) = room[..4 * triples.len()].split_at_mut(2 * triples.len());
    for ([x, y, _], keys) in cots.iter().zip(keys.as_chunks_mut().0) {
        *keys = [*x, *y];
    }
    let tweak = |j: usize| Block::new(first + (j / 2 * 3 + j % 2) as u64, 0);
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
}

impl Sealed {
    /// Checks what the client opened, and leaves the first triple of every bucket. They are right if the next comparison says so, and one
    /// comes with this message.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the message has another length, [`Error::Cheated`], [`Error::OtherSession`].
    fn check(self, guard: &mut Guard, message: &[u8]) -> Result<(Triples, Workspace)> {
        let Self { batch, session, delta, space } = self;
        guard.check(Some(session))?;
        let bits = batch.opened_bits();
        let (bits_of_client, digest) = split_message(message, bits)?;
        let bit = |i: usize| packed::bit(bits_of_client, i);
        let (buckets, opened) = space.arranged(batch);
        let macs_of = |pair: usize, Pair { d, f, w }: Pair| {
            let (d_c, f_c) = (bit(2 * pair), bit(2 * pair + 1));
            let (all_d, all_f) = (d.lsb() ^ d_c, f.lsb() ^ f_c);
            let w = w.at(all_d, all_f) ^ Tag::bit(all_d & all_f);
            [mac(&delta, d, d_c), mac(&delta, f, f_c), mac(&delta, w, w.lsb())]
        };
        let good = check_pairs(guard, batch, buckets, macs_of);
        for (i, [x, y, z]) in opened.iter().enumerate() {
            let at = batch.paired_bits() + 2 * i;
            let (x_c, y_c) = (bit(at), bit(at + 1));
            let product = (x.lsb() ^ x_c) & (y.lsb() ^ y_c);
            guard.absorb(&[mac(&delta, *x, x_c), mac(&delta, *y, y_c), mac(&delta, *z, z.lsb() ^ product)]);
        }
        guard.compare(digest)?;
        Ok((good, space))
    }
}

impl Given {
    /// The client's halves, of OTs as they are needed, a part at a time. Returns e.
    fn give(
        batch: Batch,
        session: SessionId,
        mut take: impl FnMut(OtCount) -> Result<Cots>,
        space: Workspace,
    ) -> Result<(Self, Vec<u8>)> {
        let mut space = space.fit(batch);
        let mut e = vec![0; packed::bytes(batch.triples())];
        for (triples, e) in space.made(batch).chunks_mut(PART).zip(e.chunks_mut(PART / 8)) {
            let cots = take(OtCount::received_by(Party::Client, 3 * triples.len()))?;
            let chunks = triples.par_chunks_mut(CHUNK).zip(e.par_chunks_mut(CHUNK / 8));
            cots.received.spend(
                3 * CHUNK,
                chunks,
                || room(2),
                |room, run, (triples, e)| give_chunk(run, triples, e, room),
            );
        }
        Ok((Self { batch, session, space }, e))
    }

    /// Opens what the order asks for. Returns the triples that are left, and the message: bits and hash.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the server's message has another length, [`Error::OtherSession`].
    fn open(self, guard: &mut Guard, message: &[u8]) -> Result<((Triples, Workspace), Vec<u8>)> {
        let Self { batch, session, mut space } = self;
        guard.check(Some(session))?;
        let length = || Error::protocol("length of an order", order_bytes(batch), message.len());
        let (seed, theirs) = message.split_first_chunk().ok_or_else(length)?;
        packed::check(theirs, batch.paired_bits())?;
        space.arrange(batch, &Order::of(seed, batch), |_, triple| triple);
        let (buckets, opened) = space.arranged(batch);
        let macs_of = |pair: usize, Pair { d, f, w }: Pair| {
            let (d_s, f_s) = (packed::bit(theirs, 2 * pair), packed::bit(theirs, 2 * pair + 1));
            [d, f, w.at(d.lsb() ^ d_s, f.lsb() ^ f_s)]
        };
        let good = check_pairs(guard, batch, buckets, macs_of);
        let mut message = vec![0; packed::bytes(batch.opened_bits())];
        set_pairs(&mut message, batch, buckets);
        for (i, [x, y, z]) in opened.iter().enumerate() {
            guard.absorb(&[*x, *y, *z]);
            let at = batch.paired_bits() + 2 * i;
            packed::set(&mut message, at, x.lsb());
            packed::set(&mut message, at + 1, y.lsb());
        }
        message.extend_from_slice(&guard.digest());
        Ok(((good, space), message))
    }
}

/// e and the tags of one chunk, z_c in the place of the choice of r.
fn give_chunk(Run { hash, first, keys }: Run<'_>, triples: &mut [Triple], e: &mut [u8], room: &mut [Block]) {
    let (cots, _) = keys.as_chunks::<3>();
    let keys = &mut room[..2 * triples.len()];
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
}

/// A party's halves of d and f of every pair of every bucket, one after the other; what is left of the last byte is zero.
fn set_pairs(bits: &mut [u8], batch: Batch, buckets: &[Triple]) {
    let size = batch.bucket();
    let parts = buckets.par_chunks(BUCKETS_OF_A_THREAD * size);
    let bytes = bits.par_chunks_mut(BUCKETS_OF_A_THREAD * (size - 1) / PAIRS);
    bytes.zip(parts).for_each(|(bytes, buckets)| {
        let mut pairs = buckets.chunks_exact(size).flat_map(|members| {
            let [x, y, _] = members[0];
            members[1..].iter().map(move |[other_x, other_y, _]| (x ^ *other_x).lsb() | (y ^ *other_y).lsb() << 1)
        });
        for byte in bytes {
            *byte = (0..PAIRS).fold(0, |byte, i| byte | pairs.next().unwrap_or(0) << (2 * i));
        }
    });
}

/// d = x ^ x' and f = y ^ y' of a pair, and what must be zero once they are known.
struct Pair {
    d: Tag,
    f: Tag,
    w: Outcome,
}

/// z ^ z' ^ d y' ^ f x', of values of d and f.
struct Outcome {
    z: Tag,
    other: [Tag; 2],
}

impl Outcome {
    #[inline]
    fn at(&self, d: u8, f: u8) -> Tag {
        let [x, y] = self.other;
        self.z ^ (y & Tag::splat(d)) ^ (x & Tag::splat(f))
    }
}

impl Pair {
    #[inline]
    fn of([x, y, z]: Triple, [other_x, other_y, other_z]: Triple) -> Self {
        Self { d: x ^ other_x, f: y ^ other_y, w: Outcome { z: z ^ other_z, other: [other_x, other_y] } }
    }
}

/// Of every pair of every bucket `macs` makes what is opened, from its number; the guard absorbs it. Returns the first triple of every bucket.
fn check_pairs(
    guard: &mut Guard,
    batch: Batch,
    buckets: &[Triple],
    macs: impl Fn(usize, Pair) -> Triple + Send + Sync,
) -> Triples {
    let (size, session) = (batch.bucket(), guard.session());
    let mut good = Triples::default();
    let mut groups = buckets.chunks(BUCKETS * size).enumerate();
    let fill = |room: &mut [Tag]| {
        let (group, buckets) = groups.next().expect("as many as are asked for");
        let mut firsts = Zeroizing::new(vec![[Tag::ZERO; 3]; buckets.len() / size]);
        let (room, _) = room.as_chunks_mut::<3>();
        let parts = room.par_chunks_mut(BUCKETS_OF_A_THREAD * (size - 1));
        let parts = parts.zip(firsts.par_chunks_mut(BUCKETS_OF_A_THREAD));
        let parts = parts.zip(buckets.par_chunks(BUCKETS_OF_A_THREAD * size)).enumerate();
        parts.for_each(|(part, ((room, firsts), buckets))| {
            let mut pair = (group * BUCKETS + part * BUCKETS_OF_A_THREAD) * (size - 1);
            let buckets = room.chunks_exact_mut(size - 1).zip(firsts).zip(buckets.chunks_exact(size));
            for ((room, first), members) in buckets {
                *first = members[0];
                for (room, other) in room.iter_mut().zip(&members[1..]) {
                    *room = macs(pair, Pair::of(*first, *other));
                    pair += 1;
                }
            }
        });
        good.append(Triples::of(session, firsts));
        3 * (buckets.len() / size) * (size - 1)
    };
    let room = 3 * BUCKETS.min(batch.good()) * (size - 1);
    in_turns([room, batch.good().div_ceil(BUCKETS)], fill, |macs| guard.absorb(macs));
    good
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
/// are needed, so that not all of a batch's are in memory; `space` is what the batches before were made in, if there were any.
///
/// # Errors
/// Those of the channel, [`Error::Protocol`] for a malformed message, before anything is sent [`Error::OtherSession`] if the OTs are not the
/// guard's and [`Error::Exhausted`] if the pool has too few, and at the server [`Error::Cheated`].
pub async fn make_of<R: CryptoRng>(
    ch: &mut Channel,
    guard: &mut Guard,
    batch: Batch,
    pool: &mut Correlations,
    space: &mut Workspace,
    rng: &mut R,
) -> Result<Triples> {
    let (need, have) = (batch.ots().client_receives, pool.available().client_receives);
    if have < need {
        return Err(Error::Exhausted { received_by: Party::Client, need, have });
    }
    let session = pool.session();
    make_from(ch, guard, batch, session, |need| pool.take(need), space, rng).await
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
    make_from(ch, guard, batch, session, |need| cots.split_front(need), &mut Workspace::default(), rng).await
}

async fn make_from<R: CryptoRng>(
    ch: &mut Channel,
    guard: &mut Guard,
    batch: Batch,
    session: SessionId,
    take: impl FnMut(OtCount) -> Result<Cots>,
    space: &mut Workspace,
    rng: &mut R,
) -> Result<Triples> {
    guard.check(Some(session))?;
    let own = std::mem::take(space);
    let triples;
    match guard.party() {
        Party::Server => {
            let formed = Formed::form(batch, session, take, own)?;
            let e = ch.recv(FrameKind::Data, packed::bytes(batch.triples())).await?;
            let (sealed, order) = formed.correct(&e, rng)?;
            ch.send(FrameKind::Data, order).await?;
            let message = ch.recv(FrameKind::Data, packed::bytes(batch.opened_bits()) + DIGEST_BYTES).await?;
            (triples, *space) = sealed.check(guard, &message)?;
        }
        Party::Client => {
            let (given, e) = Given::give(batch, session, take, own)?;
            ch.send(FrameKind::Data, e).await?;
            let order = ch.recv(FrameKind::Data, order_bytes(batch)).await?;
            let (kept, message) = given.open(guard, &order)?;
            (triples, *space) = kept;
            ch.send(FrameKind::Data, message).await?;
        }
    }
    Ok(triples)
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

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workspace({} triples, ..)", self.made.len() / 3)
    }
}

#[cfg(test)]
mod tests;
