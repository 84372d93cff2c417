//! `[z] = [x][y]`: triples against an arbitrary client, three oblivious transfers and three bits each, checked in buckets.
//!
//! ```text
//! server                                                              client
//! the order, from a seed; x_s, y_s, the same in a bucket
//! u_1 = H(K_y) ^ H(K_y ^ Delta) ^ x_s
//! u_2 = H(K_x) ^ H(K_x ^ Delta) ^ y_s                     --u-->
//! z_s = H(K_y) ^ H(K_x) ^ x_s y_s
//!                                                                     z_c = H(M_y) ^ y_c u_1 ^ H(M_x) ^ x_c u_2 ^ x_c y_c
//!                                                         <--e--      e = z_c ^ r
//! [z] is [r] corrected by e                               --seed-->   [z] is [r] corrected by e
//!                                                                     of each pair of a bucket: d = x ^ x', f = y ^ y'
//!                                                         <--bits--   of the opened: x_c, y_c;  the hash of all opened so far
//! z ^ z' ^ d y' ^ f x' ^ d f = 0 and z = x y, by their MACs
//! ```
//!
//! Triple i takes the OTs 3i, 3i + 1 and 3i + 2 of its batch: x, y, r. Each of x and y is hashed once, under its index; [`CHUNK`] triples share the
//! key of a hash. A step takes its state by value.

use super::batch::Batch;
use super::kept::{Triple, Triples};
use super::opened::{DIGEST_BYTES, Guard};
use super::order::{Order, SEED_BYTES};
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

/// The server, after u.
pub struct Offered {
    batch: Batch,
    session: SessionId,
    seed: Zeroizing<[u8; SEED_BYTES]>,
    order: Order,
    delta: Delta,
    triples: Zeroizing<Vec<Triple>>,
}

/// The server, after the seed.
pub struct Sealed {
    batch: Batch,
    session: SessionId,
    order: Order,
    delta: Delta,
    triples: Zeroizing<Vec<Triple>>,
}

/// The client, after e.
pub struct Accepted {
    batch: Batch,
    session: SessionId,
    triples: Zeroizing<Vec<Triple>>,
}

impl Offered {
    /// Draws the order and the server's halves. Returns u.
    ///
    /// # Panics
    /// If the oblivious transfers are not as many as [`Batch::ots`], or not the server's.
    pub fn offer<R: CryptoRng + ?Sized>(batch: Batch, mut cots: Cots, rng: &mut R) -> (Self, Vec<u8>) {
        assert_eq!((cots.party(), cots.count()), (Party::Server, batch.ots()), "the OTs of one batch");
        let session = cots.session();
        Self::offer_from(batch, session, |need| cots.split_front(need), rng).expect("as many OTs as are taken")
    }

    /// [`Self::offer`] with OTs as they are needed, a part at a time.
    fn offer_from<R: CryptoRng + ?Sized>(
        batch: Batch,
        session: SessionId,
        mut take: impl FnMut(OtCount) -> Result<Cots>,
        rng: &mut R,
    ) -> Result<(Self, Vec<u8>)> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        rng.fill_bytes(&mut *seed);
        let order = Order::of(&seed, batch);
        let mut triples = Zeroizing::new(vec![[Tag::ZERO; 3]; batch.triples()]);
        let alone = order.opened().chunks_exact(1);
        for members in order.buckets().chain(alone) {
            let drawn = rng.next_u32();
            for member in members {
                let [x, y, _] = &mut triples[*member as usize];
                (*x, *y) = (Tag::bit((drawn & 1) as u8), Tag::bit((drawn >> 1 & 1) as u8));
            }
        }
        let mut u = vec![0; packed::bytes(2 * batch.triples())];
        let mut delta = None;
        for (triples, u) in triples.chunks_mut(PART).zip(u.chunks_mut(2 * PART / 8)) {
            let cots = take(OtCount::received_by(Party::Client, 3 * triples.len()))?;
            let sent = &cots.sent;
            let keys = sent.keys().as_chunks::<3>().0.par_chunks(CHUNK);
            let chunks = keys.zip(triples.par_chunks_mut(CHUNK)).zip(u.par_chunks_mut(2 * CHUNK / 8));
            chunks.enumerate().for_each(|(i, ((keys, triples), u))| {
                let first = sent.first() + (3 * CHUNK * i) as u64;
                offer_chunk(&sent.hash(first), first, sent.delta(), keys, triples, u);
            });
            delta = Some(sent.delta().clone());
        }
        let delta = delta.expect("a batch is not empty");
        Ok((Self { batch, session, seed, order, delta, triples }, u))
    }

    /// Corrects z by the client's e. Returns the seed of the order.
    ///
    /// # Errors
    /// [`Error::Protocol`] if e has another length.
    pub fn correct(mut self, e: &[u8]) -> Result<(Sealed, [u8; SEED_BYTES])> {
        packed::check(e, self.batch.triples())?;
        let delta = Tag::of(self.delta.block()).with_lsb(0);
        for (i, [_, _, z]) in self.triples.iter_mut().enumerate() {
            *z ^= delta & Tag::splat(packed::bit(e, i));
        }
        let Self { batch, session, seed, order, delta, triples } = self;
        Ok((Sealed { batch, session, order, delta, triples }, *seed))
    }
}

/// u and the tags of one chunk, whose triples come with x_s and y_s; z_s goes in the place of the lowest bit of the key of r.
fn offer_chunk(hash: &TccrHash, first: u64, delta: &Delta, cots: &[[Block; 3]], triples: &mut [Triple], u: &mut [u8]) {
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
    for (i, ((triple, cots), (keys, others))) in triples.iter_mut().zip(cots).zip(pads).enumerate() {
        let (x_s, y_s) = (triple[0].lsb(), triple[1].lsb());
        let [of_x, of_y] = [keys[0].lsb(), keys[1].lsb()];
        packed::set(u, 2 * i, of_y ^ others[1].lsb() ^ x_s);
        packed::set(u, 2 * i + 1, of_x ^ others[0].lsb() ^ y_s);
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
    pub fn check(self, guard: &mut Guard, message: &[u8]) -> Result<Triples> {
        let Self { batch, session, order, delta, triples } = self;
        guard.check(Some(session))?;
        let bits = batch.opened_bits();
        let (opened, digest) = split_message(message, bits)?;
        let pairs = batch.bucket() - 1;
        check_pairs(guard, &order, &triples, |pair, d, f, w, macs| {
            let (d_c, f_c) = (packed::bit(opened, 2 * pair), packed::bit(opened, 2 * pair + 1));
            let w = w(d_c, f_c) ^ Tag::bit(d_c & f_c);
            *macs = [mac(&delta, d, d_c), mac(&delta, f, f_c), mac(&delta, w, w.lsb())];
        });
        for (i, member) in order.opened().iter().enumerate() {
            let at = 2 * (pairs * batch.good() + i);
            let [x, y, z] = triples[*member as usize];
            let (x_c, y_c) = (packed::bit(opened, at), packed::bit(opened, at + 1));
            let product = (x.lsb() ^ x_c) & (y.lsb() ^ y_c);
            guard.absorb(&[mac(&delta, x, x_c), mac(&delta, y, y_c), mac(&delta, z, z.lsb() ^ product)]);
        }
        guard.compare(digest)?;
        Ok(first_of_buckets(session, &order, &triples))
    }
}

impl Accepted {
    /// Takes u. Returns e.
    ///
    /// # Errors
    /// [`Error::Protocol`] if u has another length.
    ///
    /// # Panics
    /// If the oblivious transfers are not as many as [`Batch::ots`], or not the client's.
    pub fn accept(batch: Batch, mut cots: Cots, u: &[u8]) -> Result<(Self, Vec<u8>)> {
        assert_eq!((cots.party(), cots.count()), (Party::Client, batch.ots()), "the OTs of one batch");
        let session = cots.session();
        Self::accept_from(batch, session, |need| cots.split_front(need), u)
    }

    /// [`Self::accept`] with OTs as they are needed, a part at a time.
    fn accept_from(
        batch: Batch,
        session: SessionId,
        mut take: impl FnMut(OtCount) -> Result<Cots>,
        u: &[u8],
    ) -> Result<(Self, Vec<u8>)> {
        packed::check(u, 2 * batch.triples())?;
        let mut triples = Zeroizing::new(vec![[Tag::ZERO; 3]; batch.triples()]);
        let mut e = vec![0; packed::bytes(batch.triples())];
        let messages = u.chunks(2 * PART / 8).zip(e.chunks_mut(PART / 8));
        for (triples, (u, e)) in triples.chunks_mut(PART).zip(messages) {
            let cots = take(OtCount::received_by(Party::Client, 3 * triples.len()))?;
            let received = &cots.received;
            let keys = received.keys().as_chunks::<3>().0.par_chunks(CHUNK);
            let messages = u.par_chunks(2 * CHUNK / 8).zip(e.par_chunks_mut(CHUNK / 8));
            let chunks = keys.zip(triples.par_chunks_mut(CHUNK)).zip(messages);
            chunks.enumerate().for_each(|(i, ((keys, triples), (u, e)))| {
                let first = received.first() + (3 * CHUNK * i) as u64;
                accept_chunk(&received.hash(first), first, keys, triples, u, e);
            });
        }
        Ok((Self { batch, session, triples }, e))
    }

    /// Opens what the order asks for. Returns the triples that are left, and the message: bits and hash.
    #[must_use]
    pub fn open(self, guard: &mut Guard, seed: &[u8; SEED_BYTES]) -> (Triples, Vec<u8>) {
        let Self { batch, session, triples } = self;
        let order = Order::of(seed, batch);
        let mut bits = Vec::with_capacity(batch.opened_bits());
        check_pairs(guard, &order, &triples, |_, d, f, w, macs| *macs = [d, f, w(d.lsb(), f.lsb())]);
        let of = |member: &u32| triples[*member as usize];
        for members in order.buckets() {
            let [x, y, _] = of(&members[0]);
            bits.extend(members[1..].iter().flat_map(|member| [x ^ of(member)[0], y ^ of(member)[1]]));
        }
        for member in order.opened() {
            let [x, y, z] = of(member);
            guard.absorb(&[x, y, z]);
            bits.extend([x, y]);
        }
        let mut message = packed::halves(&bits);
        bits.zeroize();
        message.extend_from_slice(&guard.digest());
        (first_of_buckets(session, &order, &triples), message)
    }
}

/// e and the tags of one chunk, z_c in the place of the choice of r.
fn accept_chunk(hash: &TccrHash, first: u64, cots: &[[Block; 3]], triples: &mut [Triple], u: &[u8], e: &mut [u8]) {
    let mut space = [Block::ZERO; 2 * CHUNK];
    let keys = &mut space[..2 * triples.len()];
    for ([x, y, _], keys) in cots.iter().zip(keys.as_chunks_mut().0) {
        *keys = [*x, *y];
    }
    hash.hash(keys, |j| Block::new(first + (j / 2 * 3 + j % 2) as u64, 0));
    for (i, ((triple, cots), keys)) in triples.iter_mut().zip(cots).zip(keys.as_chunks::<2>().0).enumerate() {
        let [x, y, r] = cots.map(Tag::of);
        let (x_c, y_c) = (x.lsb(), y.lsb());
        let (u_1, u_2) = (packed::bit(u, 2 * i), packed::bit(u, 2 * i + 1));
        let z_c = keys[1].lsb() ^ (y_c & u_1) ^ keys[0].lsb() ^ (x_c & u_2) ^ (x_c & y_c);
        packed::set(e, i, z_c ^ r.lsb());
        *triple = [x, y, r.with_lsb(z_c)];
    }
    space.zeroize();
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

/// Makes a batch: four flights. Both parties call it with the same batch, and OTs as many as [`Batch::ots`].
///
/// # Errors
/// Those of the channel, [`Error::Protocol`] for a malformed message, [`Error::OtherSession`] before anything is sent if the OTs are not the
/// guard's, and at the server [`Error::Cheated`].
///
/// # Panics
/// If there are more or fewer OTs.
pub async fn make<R: CryptoRng>(
    ch: &mut Channel,
    guard: &mut Guard,
    batch: Batch,
    mut cots: Cots,
    rng: &mut R,
) -> Result<Triples> {
    assert_eq!(cots.count(), batch.ots(), "the OTs of one batch");
    let session = cots.session();
    make_from(ch, guard, batch, session, |need| cots.split_front(need), rng).await
}

/// [`make`] with OTs that the pool computes as they are needed, so that not all of a batch's are in memory. The pool must have
/// [as many](Batch::ots), and both parties call this or neither.
///
/// # Errors
/// As [`make`], and [`Error::Exhausted`], before anything is sent, if the pool has too few.
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

async fn make_from<R: CryptoRng>(
    ch: &mut Channel,
    guard: &mut Guard,
    batch: Batch,
    session: SessionId,
    take: impl FnMut(OtCount) -> Result<Cots>,
    rng: &mut R,
) -> Result<Triples> {
    guard.check(Some(session))?;
    let all = batch.triples();
    match guard.party() {
        Party::Server => {
            let (offered, u) = Offered::offer_from(batch, session, take, rng)?;
            ch.send(FrameKind::Data, u).await?;
            let e = ch.recv(FrameKind::Data, packed::bytes(all)).await?;
            let (sealed, seed) = offered.correct(&e)?;
            ch.send(FrameKind::Data, seed.to_vec()).await?;
            let message = ch.recv(FrameKind::Data, packed::bytes(batch.opened_bits()) + DIGEST_BYTES).await?;
            sealed.check(guard, &message)
        }
        Party::Client => {
            let u = ch.recv(FrameKind::Data, packed::bytes(2 * all)).await?;
            let (accepted, e) = Accepted::accept_from(batch, session, take, &u)?;
            ch.send(FrameKind::Data, e).await?;
            let seed = ch.recv(FrameKind::Data, SEED_BYTES).await?;
            let (triples, message) = accepted.open(guard, seed.first_chunk().expect("the length was checked"));
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
redacted!(Offered, Sealed, Accepted);

#[cfg(test)]
mod tests;
