//! Records a function of authenticated bits once, for both roles.
//!
//! A [`Wire`] is a bit of every lane. Sums, complements and constants are local; an AND takes a triple and a place in a layer, and all ANDs of a
//! layer are opened in one flight. An AND of bits that the client knows before there is an input takes no triple: the client gives the
//! result, and proves it ([`Builder::known_and`]).

use super::circuit::{Circuit, Destination, Node, Op, Origin, Port, Wire};
use std::collections::HashMap;

/// Records a circuit.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<Node>,
    seen: HashMap<Op, u32>,
    inputs: Vec<Port<Origin>>,
    firsts: Vec<u32>,
    outputs: Vec<(Destination, Vec<Wire>)>,
}

impl Builder {
    /// An empty circuit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn node(&mut self, op: Op, depth: u32, known: bool) -> Wire {
        let next = u32::try_from(self.nodes.len()).expect("a circuit has few bits");
        let node = *self.seen.entry(op).or_insert_with(|| {
            self.nodes.push(Node { op, depth, known, last: 0 });
            next
        });
        Wire { node: Some(node), flipped: false }
    }

    fn of(&self, node: u32) -> Node {
        self.nodes[node as usize]
    }

    fn is_public(&self, node: u32) -> bool {
        matches!(self.of(node).op, Op::Input { port, .. } if self.inputs[port as usize].of == Origin::Public)
    }

    /// The node of a bit that is authenticated.
    fn secret(&self, node: u32) -> Node {
        assert!(!self.is_public(node), "public bits only multiply");
        self.of(node)
    }

    /// The next input.
    pub fn input(&mut self, of: Origin, width: usize) -> Vec<Wire> {
        let port = u32::try_from(self.inputs.len()).expect("a circuit has few inputs");
        self.inputs.push(Port { of, width });
        self.firsts.push(u32::try_from(self.nodes.len()).expect("a circuit has few bits"));
        let planes = 0..u32::try_from(width).expect("an input has few bits");
        planes.map(|plane| self.node(Op::Input { port, plane }, 0, of == Origin::Early)).collect()
    }

    /// The next output.
    ///
    /// # Panics
    /// If a bit is public.
    pub fn output(&mut self, to: Destination, wires: &[Wire]) {
        for node in wires.iter().filter_map(|wire| wire.node) {
            self.secret(node);
        }
        self.outputs.push((to, wires.to_vec()));
    }

    /// a ^ b.
    ///
    /// # Panics
    /// If one is public.
    pub fn xor(&mut self, a: Wire, b: Wire) -> Wire {
        let flipped = a.flipped ^ b.flipped;
        match (a.node, b.node) {
            (None, node) | (node, None) => Wire { node, flipped },
            (Some(a), Some(b)) if a == b => Wire { node: None, flipped },
            (Some(a), Some(b)) => {
                let (of_a, of_b) = (self.secret(a), self.secret(b));
                let op = Op::Xor(a.min(b), a.max(b));
                let sum = self.node(op, of_a.depth.max(of_b.depth), of_a.known && of_b.known);
                Wire { flipped, ..sum }
            }
        }
    }

    /// The product where nothing has to be computed.
    fn folded(a: Wire, b: Wire) -> Option<Wire> {
        match (a, b) {
            (Wire::ZERO, _) | (_, Wire::ZERO) => Some(Wire::ZERO),
            (Wire::ONE, other) | (other, Wire::ONE) => Some(other),
            _ if a.node == b.node => Some(if a == b { a } else { Wire::ZERO }),
            _ => None,
        }
    }

    fn nodes_of(a: Wire, b: Wire) -> (u32, u32) {
        (a.node.expect("constants fold"), b.node.expect("constants fold"))
    }

    /// p x, where p is of an input of [`Origin::Public`], and not the same in every lane: nothing but work.
    ///
    /// # Panics
    /// If p is not public or complemented, or x is.
    pub fn times(&mut self, p: Wire, x: Wire) -> Wire {
        let (Some(p), false) = (p.node.filter(|node| self.is_public(*node)), p.flipped) else {
            panic!("a public bit as it comes in");
        };
        let Some(node) = x.node else {
            assert!(!x.flipped, "no public bit becomes an authenticated one");
            return Wire::ZERO;
        };
        assert!(!x.flipped, "a sum with the public bit");
        let depth = self.secret(node).depth;
        self.node(Op::Times(p, node), depth, false)
    }

    /// a b: one triple.
    ///
    /// # Panics
    /// If one is public.
    pub fn and(&mut self, a: Wire, b: Wire) -> Wire {
        if let Some(folded) = Self::folded(a, b) {
            return folded;
        }
        let (first, second) = Self::nodes_of(a, b);
        let depth = 1 + self.secret(first).depth.max(self.secret(second).depth);
        self.node(Op::And(a.min(b), a.max(b)), depth, false)
    }

    /// a b of bits that the client knows offline, proved by it: one oblivious transfer and one bit, nothing online.
    ///
    /// # Panics
    /// If the client does not know them: they are no functions of early inputs.
    pub fn known_and(&mut self, a: Wire, b: Wire) -> Wire {
        if let Some(folded) = Self::folded(a, b) {
            return folded;
        }
        let (first, second) = Self::nodes_of(a, b);
        assert!(self.of(first).known && self.of(second).known, "the client knows what it proves");
        self.node(Op::Known(a.min(b), a.max(b)), 0, true)
    }

    /// a or b.
    pub fn or(&mut self, a: Wire, b: Wire) -> Wire {
        self.and(a.not(), b.not()).not()
    }

    /// [`Builder::or`] of bits that the client knows.
    ///
    /// # Panics
    /// As [`Builder::known_and`].
    pub fn known_or(&mut self, a: Wire, b: Wire) -> Wire {
        self.known_and(a.not(), b.not()).not()
    }

    /// `yes` where `choice` is one, else `no`.
    pub fn select(&mut self, choice: Wire, yes: Wire, no: Wire) -> Wire {
        let both = self.xor(yes, no);
        let taken = self.and(choice, both);
        self.xor(no, taken)
    }

    /// At least two of three.
    pub fn majority(&mut self, a: Wire, b: Wire, c: Wire) -> Wire {
        let (x, y) = (self.xor(a, c), self.xor(b, c));
        let both = self.and(x, y);
        self.xor(c, both)
    }

    /// The circuit.
    #[must_use]
    pub fn finish(self) -> Circuit {
        let Self { mut nodes, inputs, firsts, outputs, .. } = self;
        let depth = nodes.iter().map(|node| node.depth).max().unwrap_or(0);
        for i in 0..nodes.len() {
            // What is local is computed in the layer of its depth; an AND reads its operands a layer before its own.
            let Node { op, depth, .. } = nodes[i];
            let (at, read) = match op {
                Op::Input { .. } => (0, [None; 2]),
                Op::Xor(a, b) | Op::Times(a, b) => (depth, [Some(a), Some(b)]),
                Op::And(a, b) => (depth - 1, [a.node, b.node]),
                Op::Known(a, b) => (0, [a.node, b.node]),
            };
            for read in read.into_iter().flatten() {
                let last = &mut nodes[read as usize].last;
                *last = at.max(*last);
            }
        }
        for node in outputs.iter().flat_map(|(_, wires)| wires).filter_map(|wire| wire.node) {
            nodes[node as usize].last = u32::MAX;
        }
        let mut ands = vec![0; depth as usize];
        for node in &nodes {
            if let Op::And(..) = node.op {
                ands[node.depth as usize - 1] += 1;
            }
        }
        let proved = nodes.iter().filter(|node| matches!(node.op, Op::Known(..))).count();
        Circuit { nodes, inputs, firsts, outputs, ands, proved }
    }
}
