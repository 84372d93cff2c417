//! The nonlinear layers of a network as circuits: what [`crate::requantise`], [`crate::maxpool`], [`crate::output`] and [`crate::argmax`] are against a
//! client that keeps to the protocol.
//!
//! | circuit | inputs | ANDs per lane |
//! |---|---|---|
//! | [`requantise`] | c, xhat of the client, v of the server | L - 1, (h - 2), 1 + a, a, ring - a - 1 |
//! | [`rescale`] | c_0, alpha, c, xhat of the client, v_0, 1 - beta, v of the server | 3, R - 1, then as a requantisation of R bits |
//! | [`max_pool`] | what requantisations kept | 2 a for each pair, then as above |
//! | [`input`] | x and xhat of the client | a, ring - a - 1 |
//! | [`table`] | what a requantisation kept | for each bit of an entry at most 2^(a-1) - 1 |
//! | [`logits`] | c of the client, v of the server | a tree of ell bits |
//! | [`argmax`] | what logits kept | a comparison of ell bits by a tree, for each pair of up to 16 classes; of more with selections, for each class |
//! | [`unmask`] | xhat of the client, m of the server | a - 1 |
//! | [`reveal`] | m of the server | 0 |
//!
//! A scale, which multiplies exact accumulators, is a [`rescale`] of which nothing is dropped: its ring holds the whole product.

use super::bits::Bits;
use super::builder::Builder;
use super::circuit::{Circuit, Destination, Origin, Wire};
use super::gadgets::{Carry, any, at_most, clamp, less, look_up, masked, select, sum};
use crate::protocol::rescale::Factor;
use crate::spec::{Clip, Finish, LayoutError, MAX_BITS, MAX_ELL, Spec, check_clip, check_ring, check_size};

/// Widest value that is pooled or given as an input.
const MAX_VALUE: usize = 32;

/// Most values of a window, most classes.
const MAX_PLAYERS: usize = 1 << 12;

/// Most classes of which all pairs are compared at once.
const MAX_PAIRED: usize = 16;

/// Ends with m = y - xhat, opened to the server, in a ring of so many bits; or keeps y.
fn end(b: &mut Builder, how: Carry, y: &[Wire], xhat: Option<&[Wire]>) {
    match xhat {
        Some(xhat) => {
            let m = masked(b, how, y, xhat);
            b.output(Destination::Server, &m);
        }
        None => b.output(Destination::Kept, y),
    }
}

fn check_end(ring: Option<u8>, bits: usize) -> Result<(), LayoutError> {
    ring.map_or(Ok(()), |ring| check_ring(Finish::Upload { ring }, bits))
}

/// y = clamp(floor(z / 2^s), 0, top) as [`crate::requantise`] defines it. Inputs: the client's c (L bits, early), with a ring its xhat (ring bits,
/// early), the server's v (L bits). Output: m = y - xhat modulo 2^ring to the server; without a ring, y (a bits) is kept.
///
/// # Errors
/// [`LayoutError`] if the specification has no such layer, or its result no place in the ring.
pub fn requantise(spec: Spec, clip: Clip, ring: Option<u8>) -> Result<Circuit, LayoutError> {
    requantise_by(Carry::Ripple, spec, clip, ring)
}

/// [`requantise`] with carries by chains or by trees: about twice the bytes in half the flights, for links on which a flight costs more.
///
/// # Errors
/// As [`requantise`].
pub fn requantise_by(how: Carry, spec: Spec, clip: Clip, ring: Option<u8>) -> Result<Circuit, LayoutError> {
    let (low, a, _) = spec.cuts()?;
    check_clip(clip, a)?;
    check_end(ring, a)?;
    let mut b = Builder::new();
    let c = b.input(Origin::Early, spec.width());
    let xhat = ring.map(|ring| b.input(Origin::Early, ring.into()));
    let v = b.input(Origin::Server, spec.width());
    let y = clipped(&mut b, how, [&c, &v], (low, a), clip);
    end(&mut b, how, &y, xhat.as_deref());
    Ok(b.finish())
}

/// The `bits` bits of clamp(x + y, 0, top), the lowest `low` of the sum dropped.
fn clipped(b: &mut Builder, how: Carry, [x, y]: [&[Wire]; 2], (low, bits): (usize, usize), clip: Clip) -> Vec<Wire> {
    if bits == 1 {
        // The server has subtracted 2^s: only the sign counts.
        return vec![sum(b, how, x, y, x.len() - 1)[0].not()];
    }
    let t = sum(b, how, x, y, low);
    let y = clamp(b, how, &t, bits);
    at_most(b, &y, clip.top.into())
}

/// y = clamp(S >> s, 0, top) of a sum S modulo 2^R = `spec.ell` of truncated products, as [`crate::rescale`] defines it; `spec.shift` is what is
/// left of the shift, and there is no guard bit. With nothing dropped, S = M z + B exactly. Inputs: early, the client's c_0 and alpha (one bit each),
/// its part of S (R bits) and with a ring its xhat; the server's v_0, 1 - beta and part of S ([`Factor::server_bits`]); public, [`weights`] of each
/// lane. Output as [`requantise`].
///
/// The wraps k = c_0 v_0, w = alpha (1 - beta) and k w choose among 0, K, -W and K - W, which costs nothing since these are public; one carry-save
/// addition and one chain add that to both parts.
///
/// # Errors
/// As [`requantise`], and if there is a guard bit.
pub fn rescale(how: Carry, spec: Spec, clip: Clip, ring: Option<u8>) -> Result<Circuit, LayoutError> {
    check_size("guard bits of a truncated product", spec.guard.into(), 0, 0)?;
    let (low, a, _) = spec.cuts()?;
    check_clip(clip, a)?;
    check_end(ring, a)?;
    let (mut b, width) = (Builder::new(), spec.width());
    let [c_0, alpha] = [(); 2].map(|()| b.input(Origin::Early, 1)[0]);
    let c = b.input(Origin::Early, width);
    let xhat = ring.map(|ring| b.input(Origin::Early, ring.into()));
    let [v_0, not_beta] = [(); 2].map(|()| b.input(Origin::Server, 1)[0]);
    let v = b.input(Origin::Server, width);
    let weights = [(); 3].map(|()| b.input(Origin::Public, width));
    let (k, w) = (b.and(c_0, v_0), b.and(alpha, not_beta));
    let both = b.and(k, w);
    let (mut sums, mut carries) = (Vec::with_capacity(width), vec![Wire::ZERO]);
    for i in 0..width {
        let chosen = weights.iter().zip([k, w, both]).fold(Wire::ZERO, |sum, (weights, wrap)| {
            let own = b.times(weights[i], wrap);
            b.xor(sum, own)
        });
        let local = b.xor(c[i], v[i]);
        sums.push(b.xor(local, chosen));
        if i + 1 < width {
            carries.push(b.majority(c[i], v[i], chosen));
        }
    }
    let y = clipped(&mut b, how, [&sums, &carries], (low, a), clip);
    end(&mut b, how, &y, xhat.as_deref());
    Ok(b.finish())
}

/// The public inputs of [`rescale`] of a lane with this multiplier, modulo 2^64: what k, w and k w add to a sum, bit by bit.
#[must_use]
pub fn weights(factor: Factor) -> [u64; 3] {
    let [guard, wrap] = factor.weights();
    [guard, wrap, guard ^ wrap ^ guard.wrapping_add(wrap)]
}

/// y = m + xhat modulo 2^bits, kept: what was opened to the server as m becomes bits again. Inputs: the client's xhat (early), the server's m.
///
/// # Errors
/// [`LayoutError`] if there are too many bits.
pub fn unmask(how: Carry, bits: usize) -> Result<Circuit, LayoutError> {
    check_size("bits", bits, 1, MAX_VALUE)?;
    let mut b = Builder::new();
    let (xhat, m) = (b.input(Origin::Early, bits), b.input(Origin::Server, bits));
    let y = sum(&mut b, how, &xhat, &m, 0);
    b.output(Destination::Kept, &y);
    Ok(b.finish())
}

/// The largest of a window's values of `bits` bits, without sign. Inputs: the values, shared, and with a ring the client's xhat (early). Output
/// as [`requantise`].
///
/// # Errors
/// [`LayoutError`] if a size is out of bounds.
pub fn max_pool(bits: usize, window: usize, ring: Option<u8>) -> Result<Circuit, LayoutError> {
    max_pool_by(Carry::Ripple, bits, window, ring)
}

/// [`max_pool`] as [`requantise_by`].
///
/// # Errors
/// As [`max_pool`].
pub fn max_pool_by(how: Carry, bits: usize, window: usize, ring: Option<u8>) -> Result<Circuit, LayoutError> {
    check_size("bits of a pooled value", bits, 1, MAX_VALUE)?;
    check_size("values per window", window, 1, MAX_PLAYERS)?;
    check_end(ring, bits)?;
    let mut b = Builder::new();
    let mut players: Vec<_> = (0..window).map(|_| b.input(Origin::Shared, bits)).collect();
    let xhat = ring.map(|ring| b.input(Origin::Early, ring.into()));
    while players.len() > 1 {
        players = players
            .chunks(2)
            .map(|pair| match pair {
                [x, y] if bits == 1 => vec![b.or(x[0], y[0])],
                [x, y] => {
                    let is_less = less(&mut b, how, x, y);
                    select(&mut b, is_less, y, x)
                }
                rest => rest[0].clone(),
            })
            .collect();
    }
    end(&mut b, how, &players[0], xhat.as_deref());
    Ok(b.finish())
}

/// The entry of a public table, modulo 2^ring. Inputs: a number of `bits` bits, shared, and the client's xhat (ring bits, early). Output: m = entry -
/// xhat modulo 2^ring to the server.
///
/// # Errors
/// [`LayoutError::Size`] unless there are 1 to 8 bits, and an entry for each number of so many.
pub fn table(bits: usize, entries: &[u64], ring: u8) -> Result<Circuit, LayoutError> {
    check_size("bits of a table's input", bits, 1, MAX_BITS.into())?;
    check_size("entries of a table", entries.len(), 1 << bits, 1 << bits)?;
    check_size("the ring of a table", ring.into(), 1, 64)?;
    let mut b = Builder::new();
    let x = b.input(Origin::Shared, bits);
    let xhat = b.input(Origin::Early, ring.into());
    let y = look_up(&mut b, &x, entries, ring.into());
    end(&mut b, Carry::Ripple, &y, Some(&xhat));
    Ok(b.finish())
}

/// An input of the network. Inputs: the client's xhat (ring bits, early) and its x (late). Output: m = min(x, top) - xhat modulo 2^ring to the server. No
/// input is refused; one beyond the top counts as the top, so that no client evaluates a network beyond its planned rings.
///
/// # Errors
/// [`LayoutError`] if a size is out of bounds.
pub fn input(bits: usize, top: u64, ring: u8) -> Result<Circuit, LayoutError> {
    check_size("bits of an input", bits, 1, MAX_VALUE)?;
    check_ring(Finish::Upload { ring }, bits)?;
    let mut b = Builder::new();
    let xhat = b.input(Origin::Early, ring.into());
    let x = b.input(Origin::Late, bits);
    let x = at_most(&mut b, &x, top.min((1 << bits) - 1));
    end(&mut b, Carry::Ripple, &x, Some(&xhat));
    Ok(b.finish())
}

/// z = (c + v) >> 1 modulo 2^ell. Inputs: the client's c (ell + 1 bits, early), the server's v. Output: z, to the client or kept for [`argmax`].
///
/// # Errors
/// [`LayoutError::Size`] unless ell is from 1 to [`MAX_ELL`].
pub fn logits(ell: usize, to: Destination) -> Result<Circuit, LayoutError> {
    logits_by(Carry::Prefix, ell, to)
}

/// [`logits`] with carries by chains or by trees, which is what a few logits take: their flights cost more than their bytes.
pub(super) fn logits_by(how: Carry, ell: usize, to: Destination) -> Result<Circuit, LayoutError> {
    check_size("bits of a logit", ell, 1, MAX_ELL.into())?;
    let mut b = Builder::new();
    let c = b.input(Origin::Early, ell + 1);
    let v = b.input(Origin::Server, ell + 1);
    let z = sum(&mut b, how, &c, &v, 1);
    b.output(to, &z);
    Ok(b.finish())
}

/// An activation or sum x = xhat + m modulo 2^ring, to the client, which has xhat. Input: the server's m. Output: m to the client, after a comparison.
///
/// # Errors
/// [`LayoutError::Size`] unless the ring has 1 to 64 bits.
pub fn reveal(ring: usize) -> Result<Circuit, LayoutError> {
    check_size("the ring of an output", ring, 1, 64)?;
    let mut b = Builder::new();
    let m = b.input(Origin::Server, ring);
    b.output(Destination::Client, &m);
    Ok(b.finish())
}

/// The index of the largest of some signed numbers of ell bits, to the client alone; of equal ones the lowest. Inputs: the numbers, shared; see
/// [`per_class`]. Any two may differ by as much as they can. Few numbers are compared in all pairs at once, many in rounds, by trees: there are
/// few lanes, so that flights cost more than bytes.
///
/// # Errors
/// [`LayoutError::Size`] if a size is out of bounds.
pub fn argmax(ell: usize, classes: usize) -> Result<Circuit, LayoutError> {
    check_size("bits of a logit", ell, 1, MAX_ELL.into())?;
    check_size("classes", classes, 1, MAX_PLAYERS)?;
    let mut b = Builder::new();
    let players: Vec<Vec<Wire>> = (0..classes)
        .map(|_| {
            // With its sign complemented a number is ordered as one without.
            let mut value = b.input(Origin::Shared, ell);
            value[ell - 1] = value[ell - 1].not();
            value
        })
        .collect();
    let index = if classes <= MAX_PAIRED { largest_of_pairs(&mut b, &players) } else { tournament(&mut b, players) };
    b.output(Destination::Client, &index);
    Ok(b.finish())
}

/// Bits of an index of so many.
fn index_width(classes: usize) -> usize {
    classes.next_power_of_two().trailing_zeros().max(1) as usize
}

/// The index of the first of the largest: the one that is above those before it and not below those behind it.
fn largest_of_pairs(b: &mut Builder, players: &[Vec<Wire>]) -> Vec<Wire> {
    let below: Vec<Vec<Wire>> = (0..players.len())
        .map(|i| players[..i].iter().map(|before| less(b, Carry::Prefix, before, &players[i])).collect())
        .collect();
    let is_largest: Vec<Wire> = (0..players.len())
        .map(|i| {
            let loses = below[i].iter().map(|wins| wins.not()).chain(below[i + 1..].iter().map(|row| row[i]));
            any(b, Carry::Prefix, &loses.collect::<Vec<_>>()).not()
        })
        .collect();
    let bit = |bit: usize| {
        let of = is_largest.iter().enumerate().filter(|(i, _)| i >> bit & 1 == 1);
        of.fold(Wire::ZERO, |sum, (_, is_largest)| b.xor(sum, *is_largest))
    };
    (0..index_width(players.len())).map(bit).collect()
}

/// The same, in rounds of pairs.
fn tournament(b: &mut Builder, players: Vec<Vec<Wire>>) -> Vec<Wire> {
    let width = index_width(players.len());
    let index = |i: usize| (0..width).map(|bit| Wire::constant(i >> bit & 1 == 1)).collect::<Vec<_>>();
    let mut players: Vec<_> = players.into_iter().enumerate().map(|(i, value)| (value, index(i))).collect();
    while players.len() > 1 {
        let last = players.len() == 2;
        players = players
            .chunks(2)
            .map(|pair| match pair {
                [(x, i), (y, j)] => {
                    let right = less(b, Carry::Prefix, x, y);
                    let value = if last { Vec::new() } else { select(b, right, y, x) };
                    (value, select(b, right, j, i))
                }
                rest => rest[0].clone(),
            })
            .collect();
    }
    players.remove(0).1
}

/// The inputs of [`argmax`] from kept logits, lane `image * classes + class`: for each class, of all images.
#[must_use]
pub fn per_class(logits: &Bits, classes: usize) -> Vec<Bits> {
    let images = logits.lanes() / classes;
    (0..classes).map(|class| logits.gather(images, |image| image * classes + class)).collect()
}

#[cfg(test)]
mod tests;
