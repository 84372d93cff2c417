//! The local computation of both parties: bit planes and the operations that make one from others.
//!
//! A plane is one bit per lane, held by one party. Operations on constants fold, and an operation that was
//! recorded before is not recorded again.

use super::time::Time;
use crate::party::Party;
use std::collections::HashMap;

/// A bit of every lane: a constant, or a node of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plane(u32);

impl Plane {
    /// Zero in every lane.
    pub const ZERO: Self = Self(0);
    /// One in every lane.
    pub const ONE: Self = Self(1);
    /// Stands for every plane of a graph that does not record.
    pub(crate) const UNRECORDED: Self = Self(2);

    /// The constant plane of a bit.
    #[must_use]
    pub fn constant(bit: bool) -> Self {
        Self(u32::from(bit))
    }

    /// Index of the node, or `None` for a constant.
    pub(crate) fn node(self) -> Option<usize> {
        self.0.checked_sub(2).map(|index| index as usize)
    }
}

/// Whose key of a random OT a pad is hashed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Label {
    /// The receiver's only key.
    Held,
    /// The sender's key of choice 0.
    Zero,
    /// The sender's key of choice 1.
    One,
}

/// How a plane comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// Bit `bit` of the party's input.
    Input {
        input: u32,
        bit: u32,
    },
    /// The choice of the wire's random OT.
    Choice {
        wire: u32,
    },
    /// Bit `position` of the hash of the wire's key for one gate.
    Pad {
        wire: u32,
        gate: u32,
        label: Label,
        position: u32,
    },
    /// A plane that the peer sent.
    Received {
        message: u32,
    },
    Not(Plane),
    Xor(Plane, Plane),
    And(Plane, Plane),
    Or(Plane, Plane),
    Xor3(Plane, Plane, Plane),
    /// At least two of three.
    Maj(Plane, Plane, Plane),
    /// The third where the first is one, else the second.
    Mux(Plane, Plane, Plane),
    /// The first and the second, xor the third.
    AndXor(Plane, Plane, Plane),
}

impl Op {
    /// The planes that the operation reads; unused places hold constants.
    pub fn operands(self) -> [Plane; 3] {
        const NONE: Plane = Plane::ZERO;
        match self {
            Self::Input { .. } | Self::Choice { .. } | Self::Pad { .. } | Self::Received { .. } => [NONE; 3],
            Self::Not(a) => [a, NONE, NONE],
            Self::Xor(a, b) | Self::And(a, b) | Self::Or(a, b) => [a, b, NONE],
            Self::Xor3(a, b, c) | Self::Maj(a, b, c) | Self::Mux(a, b, c) | Self::AndXor(a, b, c) => [a, b, c],
        }
    }
}

/// A plane of one party and the earliest time at which the party can have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub op: Op,
    pub party: Party,
    pub time: Time,
}

/// The nodes of both parties, in an order in which each follows its operands.
#[derive(Debug)]
pub(crate) struct Graph {
    pub nodes: Vec<Node>,
    known: HashMap<Op, Plane>,
    /// A graph that does not record serves to count messages: all its planes are one placeholder.
    pub records: bool,
}

impl Graph {
    pub fn new(records: bool) -> Self {
        Self { nodes: Vec::new(), known: HashMap::new(), records }
    }

    /// A plane that is no function of others.
    pub fn source(&mut self, op: Op, party: Party, time: Time) -> Plane {
        if !self.records {
            return Plane::UNRECORDED;
        }
        let next = Plane(u32::try_from(self.nodes.len() + 2).expect("a program has fewer than 2^32 operations"));
        *self.known.entry(op).or_insert_with(|| {
            self.nodes.push(Node { op, party, time });
            next
        })
    }

    fn derived(&mut self, op: Op) -> Plane {
        let mut nodes = op.operands().into_iter().filter_map(Plane::node).map(|index| self.nodes[index]);
        let first = nodes.next().expect("operations on constants alone fold");
        let time = nodes.fold(first.time, |time, node| {
            debug_assert_eq!(node.party, first.party, "a local operation has operands of one party");
            time.max(node.time)
        });
        self.source(op, first.party, time)
    }

    fn op(&self, plane: Plane) -> Option<Op> {
        plane.node().map(|index| self.nodes[index].op)
    }

    pub fn not(&mut self, a: Plane) -> Plane {
        if !self.records {
            return Plane::UNRECORDED;
        }
        match (a, self.op(a)) {
            (Plane::ZERO, _) => Plane::ONE,
            (Plane::ONE, _) => Plane::ZERO,
            (_, Some(Op::Not(b))) => b,
            _ => self.derived(Op::Not(a)),
        }
    }

    pub fn xor(&mut self, a: Plane, b: Plane) -> Plane {
        if !self.records {
            return Plane::UNRECORDED;
        }
        match (a.min(b), a.max(b)) {
            (Plane::ZERO, b) => b,
            (Plane::ONE, b) => self.not(b),
            (a, b) if a == b => Plane::ZERO,
            (a, b) => self.derived(Op::Xor(a, b)),
        }
    }

    pub fn and(&mut self, a: Plane, b: Plane) -> Plane {
        if !self.records {
            return Plane::UNRECORDED;
        }
        match (a.min(b), a.max(b)) {
            (Plane::ZERO, _) => Plane::ZERO,
            (Plane::ONE, b) => b,
            (a, b) if a == b => a,
            (a, b) => self.derived(Op::And(a, b)),
        }
    }

    pub fn or(&mut self, a: Plane, b: Plane) -> Plane {
        if !self.records {
            return Plane::UNRECORDED;
        }
        match (a.min(b), a.max(b)) {
            (Plane::ZERO, b) => b,
            (Plane::ONE, _) => Plane::ONE,
            (a, b) if a == b => a,
            (a, b) => self.derived(Op::Or(a, b)),
        }
    }

    pub fn xor3(&mut self, a: Plane, b: Plane, c: Plane) -> Plane {
        if !self.records {
            return Plane::UNRECORDED;
        }
        let [a, b, c] = sorted([a, b, c]);
        if a.node().is_none() || a == b || b == c {
            let ab = self.xor(a, b);
            return self.xor(ab, c);
        }
        self.derived(Op::Xor3(a, b, c))
    }

    pub fn maj(&mut self, a: Plane, b: Plane, c: Plane) -> Plane {
        if !self.records {
            return Plane::UNRECORDED;
        }
        match sorted([a, b, c]) {
            [Plane::ZERO, b, c] => self.and(b, c),
            [Plane::ONE, b, c] => self.or(b, c),
            [a, b, c] if a == b || b == c => {
                debug_assert!(a == b || b == c);
                b
            }
            [a, b, c] => self.derived(Op::Maj(a, b, c)),
        }
    }

    pub fn mux(&mut self, select: Plane, zero: Plane, one: Plane) -> Plane {
        if !self.records {
            return Plane::UNRECORDED;
        }
        match (select, zero, one) {
            (Plane::ZERO, zero, _) => zero,
            (Plane::ONE, _, one) => one,
            (_, zero, one) if zero == one => zero,
            (s, Plane::ZERO, one) => self.and(s, one),
            (s, Plane::ONE, one) => {
                let s = self.not(s);
                self.or(s, one)
            }
            (s, zero, Plane::ZERO) => {
                let s = self.not(s);
                self.and(s, zero)
            }
            (s, zero, Plane::ONE) => self.or(s, zero),
            (s, zero, one) => self.derived(Op::Mux(s, zero, one)),
        }
    }

    pub fn and_xor(&mut self, a: Plane, b: Plane, c: Plane) -> Plane {
        if !self.records {
            return Plane::UNRECORDED;
        }
        let (a, b) = (a.min(b), a.max(b));
        if a.node().is_none() || a == b || c.node().is_none() {
            let ab = self.and(a, b);
            return self.xor(ab, c);
        }
        self.derived(Op::AndXor(a, b, c))
    }
}

fn sorted(mut planes: [Plane; 3]) -> [Plane; 3] {
    planes.sort_unstable();
    planes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evaluates a plane for given inputs: the meaning of every operation, in one place.
    fn value(graph: &Graph, plane: Plane, inputs: u32) -> bool {
        let Some(index) = plane.node() else { return plane == Plane::ONE };
        let of = |plane| value(graph, plane, inputs);
        match graph.nodes[index].op {
            Op::Input { bit, .. } => inputs >> bit & 1 == 1,
            Op::Not(a) => !of(a),
            Op::Xor(a, b) => of(a) ^ of(b),
            Op::And(a, b) => of(a) & of(b),
            Op::Or(a, b) => of(a) | of(b),
            Op::Xor3(a, b, c) => of(a) ^ of(b) ^ of(c),
            Op::Maj(a, b, c) => u8::from(of(a)) + u8::from(of(b)) + u8::from(of(c)) >= 2,
            Op::Mux(s, zero, one) => {
                if of(s) {
                    of(one)
                } else {
                    of(zero)
                }
            }
            Op::AndXor(a, b, c) => (of(a) & of(b)) ^ of(c),
            Op::Choice { .. } | Op::Pad { .. } | Op::Received { .. } => unreachable!("not a function of inputs"),
        }
    }

    #[test]
    fn folding_keeps_the_meaning() {
        for kinds in 0..5_u32.pow(3) {
            let mut graph = Graph::new(true);
            let input = |graph: &mut Graph, bit| graph.source(Op::Input { input: 0, bit }, Party::Client, Time::START);
            let sources = [input(&mut graph, 0), input(&mut graph, 1), input(&mut graph, 2), Plane::ZERO, Plane::ONE];
            let [a, b, c] = [0, 1, 2].map(|i| sources[(kinds / 5_u32.pow(i) % 5) as usize]);
            type Three = fn(&mut Graph, Plane, Plane, Plane) -> Plane;
            type Meaning = fn(bool, bool, bool) -> bool;
            let cases: [(Three, Meaning); 8] = [
                (|g, a, _, _| g.not(a), |a, _, _| !a),
                (|g, a, b, _| g.xor(a, b), |a, b, _| a ^ b),
                (|g, a, b, _| g.and(a, b), |a, b, _| a & b),
                (|g, a, b, _| g.or(a, b), |a, b, _| a | b),
                (|g, a, b, c| g.xor3(a, b, c), |a, b, c| a ^ b ^ c),
                (|g, a, b, c| g.maj(a, b, c), |a, b, c| (a & b) | (b & c) | (a & c)),
                (|g, a, b, c| g.mux(a, b, c), |a, b, c| if a { c } else { b }),
                (|g, a, b, c| g.and_xor(a, b, c), |a, b, c| (a & b) ^ c),
            ];
            for (i, (operation, meaning)) in cases.into_iter().enumerate() {
                let result = operation(&mut graph, a, b, c);
                for inputs in 0..8 {
                    let [a, b, c] = [a, b, c].map(|plane| value(&graph, plane, inputs));
                    assert_eq!(value(&graph, result, inputs), meaning(a, b, c), "operation {i} on {kinds}");
                }
            }
        }
    }

    #[test]
    fn operations_are_recorded_once() {
        let mut graph = Graph::new(true);
        let [a, b] = [0, 1].map(|bit| graph.source(Op::Input { input: 0, bit }, Party::Server, Time::START));
        assert_eq!(graph.xor(a, b), graph.xor(b, a));
        let not = graph.not(a);
        assert_eq!(graph.not(not), a);
        assert_eq!(graph.nodes.len(), 4);
    }
}
