//! Arithmetic that circuits are recorded from. Numbers are wires, the lowest bit first.

use super::builder::Builder;
use super::circuit::Wire;

/// How carries, borrows and disjunctions of many bits are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Carry {
    /// One after the other: an AND and a layer for every bit.
    #[default]
    Ripple,
    /// By a tree [Skl60]: an AND for every bit, two for every merge of it (one if nothing comes in); as many layers as the logarithm and one.
    ///
    /// [Skl60]: crate#references
    Prefix,
}

/// The carry out of x + y: an AND for every bit, or a tree.
pub fn carry(b: &mut Builder, how: Carry, x: &[Wire], y: &[Wire]) -> Wire {
    assert_eq!(x.len(), y.len(), "numbers of one width");
    match how {
        Carry::Ripple => x.iter().zip(y).fold(Wire::ZERO, |carry, (x, y)| b.majority(*x, *y, carry)),
        Carry::Prefix => generate(b, x, y),
    }
}

/// The lower part of a tree: a power of two, so that trees of prefixes share theirs.
fn lower(width: usize) -> usize {
    width.next_power_of_two() / 2
}

/// One where x + y carries out of itself.
fn generate(b: &mut Builder, x: &[Wire], y: &[Wire]) -> Wire {
    match x.len() {
        0 => Wire::ZERO,
        1 => b.and(x[0], y[0]),
        width => {
            let ((low_x, high_x), (low_y, high_y)) = (x.split_at(lower(width)), y.split_at(lower(width)));
            let (low, high) = (generate(b, low_x, low_y), generate(b, high_x, high_y));
            if low == Wire::ZERO {
                return high;
            }
            let through = propagate(b, high_x, high_y);
            let passed = b.and(through, low);
            // Never both.
            b.xor(high, passed)
        }
    }
}

/// One where a carry that comes in goes out.
fn propagate(b: &mut Builder, x: &[Wire], y: &[Wire]) -> Wire {
    match x.len() {
        0 => Wire::ONE,
        1 => b.xor(x[0], y[0]),
        width => {
            let ((low_x, high_x), (low_y, high_y)) = (x.split_at(lower(width)), y.split_at(lower(width)));
            let (low, high) = (propagate(b, low_x, low_y), propagate(b, high_x, high_y));
            b.and(low, high)
        }
    }
}

/// One where any bit is: an AND for every bit above the first.
pub fn any(b: &mut Builder, how: Carry, bits: &[Wire]) -> Wire {
    match (how, bits) {
        (Carry::Ripple, _) | (Carry::Prefix, [] | [_]) => bits.iter().fold(Wire::ZERO, |any, bit| b.or(any, *bit)),
        (Carry::Prefix, _) => {
            let (low, high) = bits.split_at(bits.len() / 2);
            let (low, high) = (any(b, how, low), any(b, how, high));
            b.or(low, high)
        }
    }
}

/// The bits of c + v from bit `from` on, modulo 2^width: carries out of all bits below the last.
pub fn sum(b: &mut Builder, how: Carry, c: &[Wire], v: &[Wire], from: usize) -> Vec<Wire> {
    assert_eq!(c.len(), v.len(), "numbers of one width");
    let bit = |i: usize| {
        let local = b.xor(c[i], v[i]);
        let carry = carry(b, how, &c[..i], &v[..i]);
        b.xor(local, carry)
    };
    (from..c.len()).map(bit).collect()
}

/// One where x < y, both without sign.
pub fn less(b: &mut Builder, how: Carry, x: &[Wire], y: &[Wire]) -> Wire {
    let x: Vec<Wire> = x.iter().map(|bit| bit.not()).collect();
    carry(b, how, &x, y)
}

/// `yes` where `choice` is one, else `no`: an AND for every bit.
pub fn select(b: &mut Builder, choice: Wire, yes: &[Wire], no: &[Wire]) -> Vec<Wire> {
    yes.iter().zip(no).map(|(yes, no)| b.select(choice, *yes, *no)).collect()
}

/// min(y, top) for a public top: no AND where every y is at most that.
pub fn at_most(b: &mut Builder, y: &[Wire], top: u64) -> Vec<Wire> {
    let top: Vec<Wire> = (0..y.len()).map(|i| Wire::constant(top >> i & 1 == 1)).collect();
    if top.iter().all(|bit| *bit == Wire::ONE) {
        return y.to_vec();
    }
    let above = less(b, Carry::Ripple, &top, y);
    select(b, above, &top, y)
}

/// The entry of a public table whose number x is, `width` bits of it: for each of these a tree of selections, of which the lowest two levels are one
/// AND and what trees have in common is computed once.
pub fn look_up(b: &mut Builder, x: &[Wire], entries: &[u64], width: usize) -> Vec<Wire> {
    assert_eq!(entries.len(), 1 << x.len(), "an entry for every number");
    let tree = |bit: usize| {
        let leaves: Vec<Wire> = entries.iter().map(|entry| Wire::constant(entry >> bit & 1 == 1)).collect();
        let level =
            |level: Vec<Wire>, choice: &Wire| level.chunks(2).map(|pair| b.select(*choice, pair[1], pair[0])).collect();
        x.iter().fold(leaves, level)[0]
    };
    (0..width).map(tree).collect()
}

/// clamp(t, 0, 2^a - 1) of a signed number of more than a bits: h - 2 ANDs for the bits between those and the sign, and 1 + a.
pub fn clamp(b: &mut Builder, how: Carry, t: &[Wire], a: usize) -> Vec<Wire> {
    let (sign, kept, high) = (t[t.len() - 1], &t[..a], &t[a..t.len() - 1]);
    let positive = sign.not();
    // Carries arrive from below, and so does this.
    let over = any(b, how, high);
    let full = b.and(positive, over);
    let plain = b.xor(positive, full);
    let bit = |bit: &Wire| {
        let kept = b.and(plain, *bit);
        b.xor(kept, full)
    };
    kept.iter().map(bit).collect()
}

/// y - xhat modulo 2^ring, ring bits of xhat and at most as many of y. A borrow through a bits; above y the borrow passes where xhat has a one below,
/// which the client knows: as many ANDs as bits above the first, side by side, and as many proofs less one.
pub fn masked(b: &mut Builder, how: Carry, y: &[Wire], xhat: &[Wire]) -> Vec<Wire> {
    let not_y: Vec<Wire> = y.iter().map(|bit| bit.not()).collect();
    let mut m = Vec::with_capacity(xhat.len());
    for (i, (y, x)) in y.iter().zip(xhat).enumerate() {
        let local = b.xor(*y, *x);
        let borrow = carry(b, how, &not_y[..i], &xhat[..i]);
        m.push(b.xor(local, borrow));
    }
    if y.len() < xhat.len() {
        let borrow = carry(b, how, &not_y, &xhat[..y.len()]);
        let mut any = Wire::ZERO;
        for (i, x) in xhat.iter().enumerate().skip(y.len()) {
            let passed = b.or(any, borrow);
            m.push(b.xor(*x, passed));
            if i + 1 < xhat.len() {
                any = b.known_or(any, *x);
            }
        }
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::testing::{Given, evaluate};
    use crate::guard::{Destination, Origin};
    use crate::primitive::bits::Planes;

    /// Sums, comparisons and disjunctions of all pairs of numbers of 4 bits, and how many ANDs and layers a tree takes.
    #[tokio::test]
    async fn trees_and_chains_are_equal_for_all_numbers() {
        for how in [Carry::Ripple, Carry::Prefix] {
            let mut b = Builder::new();
            let (x, y) = (b.input(Origin::Early, 4), b.input(Origin::Server, 4));
            let mut out = sum(&mut b, how, &x, &y, 0);
            out.push(carry(&mut b, how, &x, &y));
            out.push(less(&mut b, how, &x, &y));
            let both = [&x[..], &y[..]].concat();
            out.push(any(&mut b, how, &both));
            b.output(Destination::Server, &out);
            let [xs, ys] = [4, 0].map(|shift| (0..256_u16).map(|i| i >> shift & 15).collect::<Vec<_>>());
            let [early, server] = [&xs, &ys].map(|values| vec![Planes::from_lanes(values, 4)]);
            let given = Given { early, server, ..Given::default() };
            let [_, server] = evaluate(b.finish(), 256, given, 1).await.unwrap();
            for (i, got) in server.opened[0].to_lanes::<u16>().into_iter().enumerate() {
                let (x, y) = (xs[i], ys[i]);
                let want = [x + y, u16::from(x < y) << 5, u16::from(x | y > 0) << 6];
                assert_eq!(got, want.into_iter().sum::<u16>(), "{how:?} {x} {y}");
            }
        }
    }

    #[test]
    fn a_tree_has_few_layers() {
        for (width, ripple, prefix) in [(4, [4, 4], [8, 3]), (8, [8, 8], [19, 4]), (14, [14, 14], [36, 5])] {
            for (how, want) in [(Carry::Ripple, ripple), (Carry::Prefix, prefix)] {
                let mut b = Builder::new();
                let (x, y) = (b.input(Origin::Early, width), b.input(Origin::Server, width));
                let carry = carry(&mut b, how, &x, &y);
                b.output(Destination::Server, &[carry]);
                let circuit = b.finish();
                assert_eq!([circuit.triples(), circuit.depth()], want, "{how:?}, {width} bits");
            }
        }
    }
}
