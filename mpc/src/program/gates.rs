//! The gates of polynomial OT: which function of which bits, and which of its coefficients are sent.
//!
//! A gate is a function T(y, x) of the sender's bits y and the receiver's bits x. Its algebraic normal form in x,
//!
//! ```text
//! T(y, x) = XOR over sets B of positions in x:  coefficient_B(y) * product of x_i over i in B,
//! ```
//!
//! has a *free* part, the coefficients that do not depend on y, and a *sent* part: all sets below a set whose
//! coefficient does. A set is a number whose bit i says whether it holds position i. Digits are little-endian; the half of a carry is the last bit.

use std::sync::OnceLock;

/// Most bits that either side of a gate may have: a table over one side is a word.
pub const MAX_BITS: usize = 6;

/// A gate and the size of its digit, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// The carry out of a digit without carry in.
    First(usize),
    /// The carry out of a digit, extending a chain: y and x have one more bit, the halves of the carry in.
    Ext(usize),
    /// (generate, propagate) of a digit: the sum overflows; the sum is all ones.
    Gp(usize),
    /// (carry, zero) of a digit with a carry in as in [`Gate::Ext`]: the carry out; the sum without it is zero.
    Zero(usize),
    /// (in range, not negative) of the topmost digit, with a carry in as in [`Gate::Ext`]: the sum is zero; its
    /// top bit is zero.
    Top(usize),
    /// The two outputs of [`Gate::Top`] for carry in 0, and the changes of both that a carry in makes.
    Top0(usize),
}

/// One output bit of a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polynomial {
    /// `coefficients[B]`, a function of y: bit `y` is its value there.
    pub coefficients: Vec<u64>,
    /// The sets sent, ascending; closed downwards; the constant (the empty set) is never sent.
    pub sent: Vec<usize>,
    /// The nonempty sets whose coefficient is publicly one.
    pub free: Vec<usize>,
}

impl Gate {
    /// Bits of the sender and of the receiver: every gate here has as many on both sides.
    #[must_use]
    pub fn inputs(self) -> usize {
        match self {
            Self::First(m) | Self::Gp(m) | Self::Top0(m) => m,
            Self::Ext(m) | Self::Zero(m) | Self::Top(m) => m + 1,
        }
    }

    /// The outputs for sender's bits `y` and receiver's bits `x`, each a little-endian number.
    #[must_use]
    pub fn outputs(self, y: u64, x: u64) -> Vec<bool> {
        let in_range = |sum: u64, h: usize| {
            let digit = sum & ((1 << h) - 1);
            [digit == 0, digit >> (h - 1) == 0]
        };
        let digits = |m: usize| (y & ((1 << m) - 1)) + (x & ((1 << m) - 1));
        let carry_in = |m: usize| (y ^ x) >> m & 1;
        match self {
            Self::First(m) => vec![digits(m) >> m == 1],
            Self::Ext(m) => vec![(digits(m) + carry_in(m)) >> m == 1],
            Self::Gp(m) => vec![digits(m) >> m == 1, digits(m) == (1 << m) - 1],
            Self::Zero(m) => {
                let sum = digits(m) + carry_in(m);
                vec![sum >> m == 1, sum & ((1 << m) - 1) == 0]
            }
            Self::Top(h) => in_range(digits(h) + carry_in(h), h).to_vec(),
            Self::Top0(h) => {
                let [u0, w0] = in_range(digits(h), h);
                let [u1, w1] = in_range(digits(h) + 1, h);
                vec![u0, w0, u0 ^ u1, w0 ^ w1]
            }
        }
    }

    /// The polynomials of all outputs, computed once.
    ///
    /// # Panics
    /// If a side has no bit or more than [`MAX_BITS`].
    #[must_use]
    pub fn polynomials(self) -> &'static [Polynomial] {
        const KINDS: usize = 6;
        static KNOWN: [[OnceLock<Vec<Polynomial>>; MAX_BITS]; KINDS] =
            [const { [const { OnceLock::new() }; MAX_BITS] }; KINDS];
        let n = self.inputs();
        assert!((1..=MAX_BITS).contains(&n), "{self:?} has {n} bits on a side");
        let kind = match self {
            Self::First(_) => 0,
            Self::Ext(_) => 1,
            Self::Gp(_) => 2,
            Self::Top(_) => 3,
            Self::Top0(_) => 4,
            Self::Zero(_) => 5,
        };
        KNOWN[kind][n - 1].get_or_init(|| {
            let row = |y| (0..1 << n).map(|x| self.outputs(y, x)).collect();
            let rows: Vec<Vec<Vec<bool>>> = (0..1 << n).map(row).collect();
            let outputs = 0..rows[0][0].len();
            outputs.map(|output| Polynomial::new(n, |y, x| rows[y][x][output])).collect()
        })
    }
}

impl Polynomial {
    /// The normal form of `function(y, x)` with `n` bits on either side.
    fn new(n: usize, function: impl Fn(usize, usize) -> bool) -> Self {
        let all = u64::MAX >> (64 - (1 << n));
        let mut coefficients = vec![0; 1 << n];
        for y in 0..1 << n {
            let table = (0..1 << n).fold(0, |table, x| table | u64::from(function(y, x)) << x);
            let row = moebius(table);
            for (set, coefficient) in coefficients.iter_mut().enumerate() {
                *coefficient |= (row >> set & 1) << y;
            }
        }
        let private: Vec<usize> =
            (1..1 << n).filter(|set| coefficients[*set] != 0 && coefficients[*set] != all).collect();
        let is_sent = |set: usize| private.iter().any(|above| above & set == set);
        Self {
            sent: (1..1 << n).filter(|set| is_sent(*set)).collect(),
            free: (1..1 << n).filter(|set| !is_sent(*set) && coefficients[*set] == all).collect(),
            coefficients,
        }
    }

    /// The sets sent that lie below no other: one table of pads is spent on each.
    #[must_use]
    pub fn maximal(&self) -> Vec<usize> {
        let below = |set: usize| self.sent.iter().any(|above| *above != set && above & set == set);
        self.sent.iter().copied().filter(|set| !below(*set)).collect()
    }
}

/// The algebraic normal form of a function of up to six bits, given as a table in a word; its own inverse.
#[must_use]
pub fn moebius(table: u64) -> u64 {
    [
        0xaaaa_aaaa_aaaa_aaaa,
        0xcccc_cccc_cccc_cccc,
        0xf0f0_f0f0_f0f0_f0f0,
        0xff00_ff00_ff00_ff00,
        0xffff_0000_ffff_0000,
        0xffff_ffff_0000_0000_u64,
    ]
    .iter()
    .enumerate()
    .fold(table, |table, (i, high)| table ^ (table << (1 << i) & high))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Gate; 15] = [
        Gate::First(1),
        Gate::First(2),
        Gate::First(4),
        Gate::Ext(1),
        Gate::Ext(2),
        Gate::Ext(4),
        Gate::Gp(1),
        Gate::Gp(3),
        Gate::Top(1),
        Gate::Top(3),
        Gate::Top0(1),
        Gate::Top0(3),
        Gate::Zero(1),
        Gate::Zero(2),
        Gate::Zero(3),
    ];

    #[test]
    fn polynomials_are_the_gates() {
        for gate in ALL {
            let n = gate.inputs();
            for (o, polynomial) in gate.polynomials().iter().enumerate() {
                for (y, x) in (0..1_usize << n).flat_map(|y| (0..1_usize << n).map(move |x| (y, x))) {
                    let value = (0..1 << n)
                        .filter(|set| set & x == *set)
                        .fold(0, |sum, set| sum ^ polynomial.coefficients[set] >> y & 1);
                    assert_eq!(value == 1, gate.outputs(y as u64, x as u64)[o], "{gate:?} {y} {x}");
                    for set in (1..1 << n).filter(|set| !polynomial.sent.contains(set)) {
                        let free = u64::from(polynomial.free.contains(&set));
                        assert_eq!(polynomial.coefficients[set] >> y & 1, free, "{gate:?} {set}");
                    }
                }
            }
        }
    }

    /// Coefficients sent, per gate: the figures behind the cost model.
    #[test]
    fn sizes() {
        let sent = |gate: Gate| -> usize { gate.polynomials().iter().map(|p| p.sent.len()).sum() };
        let sizes = ALL.map(sent);
        assert_eq!(sizes, [1, 3, 15, 2, 6, 30, 1, 13, 0, 18, 0, 16, 2, 10, 26]);
        assert_eq!(Gate::Ext(2).polynomials()[0].maximal(), vec![0b011, 0b101, 0b110]);
    }
}
