//! What the client knows before there is an input: its early bits, and products of them that it gives and proves. Whole blocks, as the proof
//! needs; of what circuits go on with [tags](super::tag) are kept.

use super::circuit::{Circuit, Op, Origin, Wire};
use super::known::{apply_words, correct_words};
use super::opened::Guard;
use super::packed;
use super::prove::{self, Plane, Products};
use super::tag::{Tag, Word};
use crate::error::Result;
use crate::party::Party;
use crate::primitive::bits::Planes;
use crate::primitive::block::Block;
use crate::transport::channel::{Channel, FrameKind};
use rand::CryptoRng;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Keys or MACs, plane after plane. Wiped.
pub type Wide = Zeroizing<Vec<Block>>;

/// Tags of the nodes of a circuit, as long as they are needed.
pub type Values = Vec<Option<Zeroizing<Vec<Tag>>>>;

/// One party's blocks of the nodes that are known early.
pub struct Early {
    circuit: Arc<Circuit>,
    lanes: usize,
    pub(super) values: Vec<Option<Wide>>,
    kept: Values,
}

impl Early {
    /// None yet.
    pub fn new(circuit: Arc<Circuit>, lanes: usize) -> Self {
        let values = vec![None; circuit.nodes.len()];
        Self { circuit, lanes, values, kept: Vec::new() }
    }

    /// At the client: its early inputs from random bits, and the products that it proves. Returns corrections.
    pub fn give(&mut self, ports: Vec<Wide>, early: &[Planes], proved: Option<Wide>) -> Vec<u8> {
        assert_eq!(ports.len(), early.len(), "an input for every early port");
        let mut message = Vec::with_capacity(self.circuit.early_bytes(self.lanes));
        for (number, (mut random, values)) in ports.into_iter().zip(early).enumerate() {
            assert_eq!(random.len(), values.lanes() * values.width(), "an input of the circuit's shape");
            message.extend(correct_words(&mut random, packed::of_planes(values)));
            self.place(number, &random);
        }
        message.extend(self.give_products(proved));
        message
    }

    /// At the server: its halves of these.
    ///
    /// # Errors
    /// [`crate::error::Error::Protocol`] for a malformed message.
    pub fn take(&mut self, guard: &Guard, ports: Vec<Wide>, proved: Option<Wide>, message: &[u8]) -> Result<()> {
        let mut rest = message;
        for (number, mut random) in ports.into_iter().enumerate() {
            let (own, others) = rest.split_at(packed::bytes(random.len()));
            apply_words(guard.delta(), &mut random, own)?;
            self.place(number, &random);
            rest = others;
        }
        self.take_products(guard, proved, rest)
    }

    /// Puts the planes of early input `number` where the circuit reads them.
    fn place(&mut self, number: usize, blocks: &[Block]) {
        let (node, width) = self.circuit.input_nodes(Origin::Early, number);
        assert_eq!(blocks.len(), width * self.lanes, "an input of the circuit's shape");
        for (value, plane) in self.values[node..].iter_mut().zip(blocks.chunks(self.lanes)) {
            *value = Some(Zeroizing::new(plane.to_vec()));
        }
    }

    /// The blocks of a node.
    fn value(&self, node: u32) -> &[Block] {
        self.values[node as usize].as_ref().expect("what is known early is computed in order")
    }

    /// Goes through what is known in order; `product` makes z from x and y and the number of the product.
    fn known(&mut self, mut product: impl FnMut(&Self, Wire, Wire, usize) -> Vec<Block>) {
        let (mut number, circuit) = (0, self.circuit.clone());
        for (i, node) in circuit.nodes.iter().enumerate() {
            let value = match node.op {
                Op::Known(a, b) => {
                    number += 1;
                    product(self, a, b, number - 1)
                }
                Op::Xor(a, b) if node.known => self.value(a).iter().zip(self.value(b)).map(|(a, b)| *a ^ *b).collect(),
                Op::Input { .. } | Op::Xor(..) | Op::And(..) | Op::Times(..) => continue,
            };
            self.values[i] = Some(Zeroizing::new(value));
        }
    }

    /// At the client: the products that it proves. Returns corrections.
    pub(super) fn give_products(&mut self, random: Option<Wide>) -> Vec<u8> {
        let Some(mut random) = random else { return Vec::new() };
        let lanes = self.lanes;
        let mut message = vec![0; packed::bytes(random.len())];
        self.known(|at, a, b, number| {
            let [x, y] = [a, b].map(|wire| at.value(wire.node.expect("constants fold")));
            let z = &mut random[number * lanes..][..lanes];
            for (lane, (z, (x, y))) in z.iter_mut().zip(x.iter().zip(y)).enumerate() {
                let product = (x.lsb() ^ u8::from(a.flipped)) & (y.lsb() ^ u8::from(b.flipped));
                packed::set(&mut message, number * lanes + lane, z.lsb() ^ product);
                *z = z.with_lsb(product);
            }
            z.to_vec()
        });
        message
    }

    /// At the server: its halves of these products.
    pub(super) fn take_products(&mut self, guard: &Guard, random: Option<Wide>, message: &[u8]) -> Result<()> {
        let Some(mut random) = random else { return Ok(()) };
        apply_words(guard.delta(), &mut random, message)?;
        let lanes = self.lanes;
        self.known(|_, _, _, number| random[number * lanes..][..lanes].to_vec());
        Ok(())
    }

    /// All products.
    fn products(&self) -> impl Iterator<Item = Plane<'_>> {
        let operand = |wire: Wire| self.value(wire.node.expect("constants fold"));
        self.circuit.nodes.iter().enumerate().filter_map(move |(i, node)| match node.op {
            Op::Known(a, b) => {
                Some(Plane { xyz: [operand(a), operand(b), self.value(i as u32)], flipped: [a.flipped, b.flipped] })
            }
            Op::Input { .. } | Op::Xor(..) | Op::And(..) | Op::Times(..) => None,
        })
    }

    /// Takes what is kept, and lets go of the blocks that no proof reads.
    #[must_use]
    pub fn settle(mut self) -> Self {
        let mut is_read = vec![false; self.values.len()];
        for (i, node) in self.circuit.nodes.iter().enumerate() {
            if let Op::Known(a, b) = node.op {
                let operands = [a, b].into_iter().filter_map(|wire| wire.node).map(|node| node as usize);
                operands.chain([i]).for_each(|node| is_read[node] = true);
            }
        }
        let tags = |blocks: &Wide| Zeroizing::new(blocks.iter().map(|block| Tag::of(*block)).collect::<Vec<_>>());
        let nodes = self.values.iter().zip(&self.circuit.nodes);
        // Sums are computed again when the circuit runs.
        let keep = |(value, op): (&Option<Wide>, Op)| {
            if let Op::Xor(..) = op { None } else { value.as_ref().map(tags) }
        };
        self.kept = nodes.map(|(value, node)| keep((value, node.op))).collect();
        self.values.iter_mut().zip(is_read).filter(|(_, is_read)| !is_read).for_each(|(value, _)| *value = None);
        self
    }

    /// What is kept: tags of inputs and products.
    pub fn keep(self) -> Values {
        self.kept
    }
}

/// The proof of all products of some circuits.
///
/// # Errors
/// Those of the channel.
pub async fn prove<R: CryptoRng>(
    all: &[&Early],
    ch: &mut Channel,
    guard: &mut Guard,
    mask: &[Block],
    rng: &mut R,
) -> Result<()> {
    match guard.party() {
        Party::Client => {
            let chi = ch.recv(FrameKind::Data, prove::CHALLENGE_BYTES).await?;
            let chi = Block::from_bytes(*chi.first_chunk().expect("the length was checked"));
            let v = with_products(all, guard, |guard, products| prove::prove(guard, products, mask, chi));
            ch.send(FrameKind::Data, v.to_bytes().to_vec()).await
        }
        Party::Server => {
            let chi = Block::random(rng);
            ch.send(FrameKind::Data, chi.to_bytes().to_vec()).await?;
            let v = ch.recv(FrameKind::Data, prove::PROOF_BYTES).await?;
            let v = Block::from_bytes(*v.first_chunk().expect("the length was checked"));
            with_products(all, guard, |guard, products| prove::verify(guard, products, mask, chi, v));
            Ok(())
        }
    }
}

/// Looks at all products.
pub(super) fn with_products<T>(all: &[&Early], guard: &mut Guard, f: impl FnOnce(&mut Guard, &Products<'_>) -> T) -> T {
    f(guard, &Products(all.iter().flat_map(|early| early.products()).collect()))
}
