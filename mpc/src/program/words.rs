//! Local arithmetic on words modulo 2^k, bit by bit: ripple carries over planes.

use super::builder::{Builder, Share, Word};
use super::graph::Plane;
use super::time::Time;
use crate::party::Party;

/// Arithmetic on the words of one party. All operands of an operation have one width and one owner.
impl Builder {
    /// A public constant modulo 2^width.
    #[must_use]
    pub fn constant(&self, party: Party, value: u64, width: usize) -> Word {
        let bit = |i: usize| value.checked_shr(i as u32).unwrap_or(0) & 1 == 1;
        Word { party, planes: (0..width).map(|i| Plane::constant(bit(i))).collect(), time: Time::Prepared }
    }

    fn map(&mut self, a: &Word, b: &Word, mut f: impl FnMut(&mut Self, Plane, Plane) -> Plane) -> Word {
        debug_assert_eq!((a.width(), a.party), (b.width(), b.party));
        if !self.graph.records {
            return Word { time: a.time.max(b.time), ..a.clone() };
        }
        let planes = a.planes.iter().zip(&b.planes).map(|(a, b)| f(self, *a, *b)).collect();
        Word { party: a.party, planes, time: a.time.max(b.time) }
    }

    /// a xor b, bit by bit.
    pub fn xor(&mut self, a: &Word, b: &Word) -> Word {
        self.map(a, b, |this, a, b| this.graph.xor(a, b))
    }

    /// XOR of planes of one party.
    pub(crate) fn xor_all(&mut self, planes: &[Plane]) -> Plane {
        let mut triples = planes.chunks(2);
        let mut sum = Plane::ZERO;
        for pair in &mut triples {
            sum = match pair {
                [a, b] => self.graph.xor3(sum, *a, *b),
                rest => self.graph.xor(sum, rest.first().copied().unwrap_or(Plane::ZERO)),
            };
        }
        sum
    }

    /// a + b.
    pub fn add(&mut self, a: &Word, b: &Word) -> Word {
        let mut carry = Plane::ZERO;
        self.map(a, b, |this, a, b| {
            let sum = this.graph.xor3(a, b, carry);
            carry = this.graph.maj(a, b, carry);
            sum
        })
    }

    /// a - b.
    pub fn sub(&mut self, a: &Word, b: &Word) -> Word {
        let mut borrow = Plane::ZERO;
        self.map(a, b, |this, a, b| {
            let difference = this.graph.xor3(a, b, borrow);
            let not_a = this.graph.not(a);
            borrow = this.graph.maj(not_a, b, borrow);
            difference
        })
    }

    /// -a.
    pub fn neg(&mut self, a: &Word) -> Word {
        let zero = self.constant(a.party, 0, a.width());
        self.sub(&zero, a)
    }

    /// -a where `bit` is one, else a; `bit` is known at `time`.
    pub fn neg_if(&mut self, a: &Word, bit: Plane, time: Time) -> Word {
        let zero = self.constant(a.party, 0, a.width());
        self.neg_if_plus(a, bit, &Word { time, ..zero })
    }

    /// b - a where `bit` is one, else b + a: (a xor bit) + b + bit, with one carry chain.
    pub(super) fn neg_if_plus(&mut self, a: &Word, bit: Plane, b: &Word) -> Word {
        let mut carry = None;
        self.map(a, b, |this, a, b| {
            let flipped = this.graph.xor(a, bit);
            let (sum, carry_in) = match carry {
                None => (this.graph.xor(a, b), bit),
                Some(carry) => (this.graph.xor3(flipped, b, carry), carry),
            };
            carry = Some(this.graph.maj(flipped, b, carry_in));
            sum
        })
    }

    /// a where `bit` is one, else 0; `bit` is known at `time`.
    pub fn and_bit(&mut self, a: &Word, bit: Plane, time: Time) -> Word {
        let planes = a.planes.iter().map(|a| self.graph.and(*a, bit)).collect();
        Word { party: a.party, planes, time: a.time.max(time) }
    }

    /// `one` where `bit` is one, else `zero`; `bit` is known at `time`.
    pub fn mux(&mut self, bit: Plane, time: Time, zero: &Word, one: &Word) -> Word {
        let word = self.map(zero, one, |this, zero, one| this.graph.mux(bit, zero, one));
        Word { time: word.time.max(time), ..word }
    }

    /// The bits of `a` from `from` on, `width` of them; bits above `a` are zero.
    #[must_use]
    pub fn slice(&self, a: &Word, from: usize, width: usize) -> Word {
        let bit = |i: usize| a.planes.get(i).copied().unwrap_or(Plane::ZERO);
        Word { party: a.party, planes: (from..from + width).map(bit).collect(), time: a.time }
    }

    /// `a` extended by zeros, or reduced, to `width` bits.
    #[must_use]
    pub fn resize(&self, a: &Word, width: usize) -> Word {
        self.slice(a, 0, width)
    }

    /// a * 2^n modulo 2^width.
    #[must_use]
    pub fn shift_left(&self, a: &Word, n: usize, width: usize) -> Word {
        let planes = std::iter::repeat_n(Plane::ZERO, n).chain(a.planes.iter().copied());
        let padded = planes.chain(std::iter::repeat(Plane::ZERO));
        Word { party: a.party, planes: padded.take(width).collect(), time: a.time }
    }

    /// a * factor, for a public factor.
    pub fn mul_constant(&mut self, a: &Word, factor: u64) -> Word {
        let mut product = self.constant(a.party, 0, a.width());
        product.time = a.time;
        for shift in (0..a.width().min(64)).filter(|shift| factor >> shift & 1 == 1) {
            let term = self.shift_left(a, shift, a.width());
            product = self.add(&product, &term);
        }
        product
    }

    /// The word of a single plane.
    #[must_use]
    pub fn word_of(&self, party: Party, plane: Plane, time: Time) -> Word {
        Word { party, planes: vec![plane], time }
    }

    /// Each party adds its shares.
    pub fn add_shares(&mut self, a: &Share, b: &Share) -> Share {
        Share { client: self.add(&a.client, &b.client), server: self.add(&a.server, &b.server) }
    }

    /// Each party subtracts its shares.
    pub fn sub_shares(&mut self, a: &Share, b: &Share) -> Share {
        Share { client: self.sub(&a.client, &b.client), server: self.sub(&a.server, &b.server) }
    }
}
