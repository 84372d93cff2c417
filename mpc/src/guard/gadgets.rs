//! Arithmetic that circuits are recorded from. Numbers are wires, the lowest bit first.

use super::builder::Builder;
use super::circuit::Wire;

/// The bits of c + v from bit `from` on, modulo 2^width: an AND for every bit below the last.
pub fn sum(b: &mut Builder, c: &[Wire], v: &[Wire], from: usize) -> Vec<Wire> {
    assert_eq!(c.len(), v.len(), "numbers of one width");
    let (mut carry, mut bits) = (Wire::ZERO, Vec::new());
    for (i, (x, y)) in c.iter().zip(v).enumerate() {
        if i >= from {
            let local = b.xor(*x, *y);
            bits.push(b.xor(local, carry));
        }
        if i + 1 < c.len() {
            carry = b.majority(*x, *y, carry);
        }
    }
    bits
}

/// One where x < y, both without sign: an AND for every bit.
pub fn less(b: &mut Builder, x: &[Wire], y: &[Wire]) -> Wire {
    x.iter().zip(y).fold(Wire::ZERO, |borrow, (x, y)| b.majority(x.not(), *y, borrow))
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
    let above = less(b, &top, y);
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
pub fn clamp(b: &mut Builder, t: &[Wire], a: usize) -> Vec<Wire> {
    let (sign, kept, high) = (t[t.len() - 1], &t[..a], &t[a..t.len() - 1]);
    let positive = sign.not();
    // Carries arrive from below, and so does this.
    let over = high.iter().fold(Wire::ZERO, |any, bit| b.or(any, *bit));
    let full = b.and(positive, over);
    let plain = b.xor(positive, full);
    let bit = |bit: &Wire| {
        let kept = b.and(plain, *bit);
        b.xor(kept, full)
    };
    kept.iter().map(bit).collect()
}

/// y - xhat modulo 2^ring, ring bits of xhat and at most as many of y. a ANDs; above y the borrow passes where xhat has a one below,
/// which the client knows: as many ANDs as bits above the first, side by side, and as many proofs less one.
pub fn masked(b: &mut Builder, y: &[Wire], xhat: &[Wire]) -> Vec<Wire> {
    let (mut borrow, mut m) = (Wire::ZERO, Vec::with_capacity(xhat.len()));
    for (i, (y, x)) in y.iter().zip(xhat).enumerate() {
        let local = b.xor(*y, *x);
        m.push(b.xor(local, borrow));
        if i + 1 < xhat.len() {
            borrow = b.majority(y.not(), *x, borrow);
        }
    }
    let mut any = Wire::ZERO;
    for (i, x) in xhat.iter().enumerate().skip(y.len()) {
        let passed = b.or(any, borrow);
        m.push(b.xor(*x, passed));
        if i + 1 < xhat.len() {
            any = b.known_or(any, *x);
        }
    }
    m
}
