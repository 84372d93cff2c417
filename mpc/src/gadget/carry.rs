//! k = carry out of c + v, c held by the client and v by the server: an XOR-shared bit.
//!
//! c and v are private inputs, not shares, so the chain needs no propagate bits. With k = K xor m, K the server's
//! half and m the client's, one bit of the chain is
//!
//! ```text
//! maj(c_i, v_i, k) = K v_i + m c_i + K c_i + v_i (c_i + m)      two OLEs: 4 bits, 2 OTs
//! ```
//!
//! and a digit of several bits with its carry in is one polynomial OT. A [`Part::Block`] computes (generate,
//! propagate) of its digits beside the chain and joins it with one AND: fewer flights, more bits.

use crate::party::Party;
use crate::program::{Bit, Builder, Gate, Half, Word};
pub use crate::spec::{MAX_DIGIT, Part};

/// The bits of a private pair: the server's v and the client's c.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub server: Vec<Half>,
    pub client: Vec<Half>,
}

impl Pair {
    pub fn new(b: &mut Builder, server: &Word, client: &Word) -> Self {
        debug_assert_eq!((server.party, client.party), (Party::Server, Party::Client));
        Self { server: b.halves(server), client: b.halves(client) }
    }

    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self { server: self.server[range.clone()].to_vec(), client: self.client[range].to_vec() }
    }

    /// c_i xor v_i.
    pub fn bit(&self, b: &Builder, i: usize) -> Bit {
        b.bit(self.server[i], self.client[i])
    }
}

/// The carry out of all digits of `plan`, the lowest first, with an optional carry in. No digits: the carry in.
///
/// # Panics
/// If the plan and the pair differ in size, or a part is not valid.
pub(crate) fn carry(b: &mut Builder, plan: &[Part], pair: &Pair, carry_in: Option<Bit>) -> Option<Bit> {
    let mut known = carry_in;
    let mut at = 0;
    for part in plan {
        let digit = pair.slice(at..at + part.bits());
        at += part.bits();
        known = Some(match (part, known) {
            (Part::Block(widths), known) => {
                let [generate, propagate] = generate_propagate(b, widths, &digit);
                match known {
                    None => generate,
                    Some(known) => {
                        let through = ands(b, propagate, &[known])[0];
                        b.xor_bits(generate, through)
                    }
                }
            }
            (Part::Digit(1), Some(known)) => step(b, known, digit.server[0], digit.client[0]),
            (Part::Digit(m), Some(known)) => gate(b, Gate::Ext(usize::from(*m)), &digit, Some(known))[0],
            (Part::Digit(m), None) => gate(b, Gate::First(usize::from(*m)), &digit, None)[0],
        });
    }
    assert_eq!(at, pair.server.len(), "a plan covers all bits");
    known
}

/// A gate on one digit. The party that has known its half of the carry longer receives, so that a digit takes one
/// flight whatever its size; without a carry the client receives, whose corrections can go offline.
pub(crate) fn gate(b: &mut Builder, gate: Gate, digit: &Pair, carry: Option<Bit>) -> Vec<Bit> {
    let (mut server, mut client) = (digit.server.clone(), digit.client.clone());
    let mut server_receives = false;
    if let Some(carry) = carry {
        let (s, c) = carry.both();
        server_receives = s.time <= c.time;
        server.push(s);
        client.push(c);
    }
    if server_receives { b.poly(gate, &server, &client) } else { b.poly(gate, &client, &server) }
}

/// One bit of the chain: maj(c, v, k).
pub(crate) fn step(b: &mut Builder, k: Bit, v: Half, c: Half) -> Bit {
    let (ks, kc) = k.both();
    let masked = b.xor_halves(c, kc);
    let (z1, y1) = ole_bit(b, ks, c);
    let (z2, y2) = ole_bit(b, v, masked);
    let local_s = b.and_halves(ks, v);
    let local_c = b.and_halves(kc, c);
    let server = xor3_halves(b, z1, z2, local_s);
    let client = xor3_halves(b, y1, y2, local_c);
    let server = b.half(Party::Server, server.plane, server.time);
    let client = b.half(Party::Client, client.plane, client.time.max(masked.time));
    b.bit(server, client)
}

/// maj(c, v, k) and maj(c, not v, k), at the cost of one: they differ by c xor k. Without a carry that comes in, k = 0.
pub(crate) fn fork_step(b: &mut Builder, known: Option<Bit>, v: Half, c: Half) -> [Bit; 2] {
    let private = Bit { server: None, client: Some(c) };
    let (first, change) = match known {
        Some(k) => (step(b, k, v, c), b.xor_bits(private, k)),
        None => (gate(b, Gate::First(1), &Pair { server: vec![v], client: vec![c] }, None)[0], private),
    };
    [first, b.xor_bits(first, change)]
}

/// The carries out of a digit of m bits of two numbers with one carry in, if any, and the same bits of the client. The client
/// receives, so that it pays for its bits once.
pub(crate) fn fork_gate(b: &mut Builder, m: usize, first: &Pair, second: &Pair, known: Option<Bit>) -> [Bit; 2] {
    let mut client = first.client.clone();
    let both = known.map(Bit::both);
    client.extend(both.map(|(_, c)| c));
    let gate = if known.is_some() { Gate::Ext(m) } else { Gate::First(m) };
    [first, second].map(|pair| {
        let mut server = pair.server.clone();
        server.extend(both.map(|(s, _)| s));
        b.poly(gate, &client, &server)[0]
    })
}

fn xor3_halves(b: &mut Builder, x: Half, y: Half, z: Half) -> Half {
    let xy = b.xor_halves(x, y);
    b.xor_halves(xy, z)
}

/// XOR shares of x * y: the receiver's (the owner of x) and the sender's.
fn ole_bit(b: &mut Builder, x: Half, y: Half) -> (Half, Half) {
    let word = b.word_of(y.party, y.plane, y.time);
    let (mine, theirs) = b.ole(x, &word);
    (b.half(x.party, mine.planes[0], mine.time), b.half(y.party, theirs.planes[0], theirs.time))
}

/// p AND each of `others`. The halves of the shared operand receive: 2 corrections once, 2 bits per product.
pub(crate) fn ands(b: &mut Builder, p: Bit, others: &[Bit]) -> Vec<Bit> {
    let (ps, pc) = p.both();
    let mut products = Vec::new();
    for other in others {
        let (gs, gc) = other.both();
        let local_s = b.and_halves(ps, gs);
        let local_c = b.and_halves(pc, gc);
        let mut product = b.bit(local_s, local_c);
        for (mut x, mut y) in [(ps, gc), (pc, gs)] {
            if !b.is_open(x) && (b.is_open(y) || b.splits(y)) {
                (x, y) = (y, x);
            }
            let (mine, theirs) = ole_bit(b, x, y);
            let cross = if x.party == Party::Server { b.bit(mine, theirs) } else { b.bit(theirs, mine) };
            product = b.xor_bits(product, cross);
        }
        products.push(product);
    }
    products
}

/// (generate, propagate) of a run of digits: a balanced tree.
pub(crate) fn generate_propagate(b: &mut Builder, widths: &[u8], pair: &Pair) -> [Bit; 2] {
    if let [m] = widths {
        let outputs = gate(b, Gate::Gp(usize::from(*m)), pair, None);
        return [outputs[0], outputs[1]];
    }
    let (low, high) = widths.split_at(widths.len() / 2);
    let cut = low.iter().map(|m| usize::from(*m)).sum();
    let [g0, p0] = generate_propagate(b, low, &pair.slice(0..cut));
    let [g1, p1] = generate_propagate(b, high, &pair.slice(cut..pair.server.len()));
    let through = ands(b, p1, &[g0, p0]);
    [b.xor_bits(g1, through[0]), through[1]]
}
