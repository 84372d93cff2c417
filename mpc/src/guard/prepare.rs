//! The offline stage of a circuit: what the client knows before there is an input, and the products that it proves.
//!
//! ```text
//! client   corrections of its early bits, and of the products that it proves     --> server
//! server   chi                                                                     --> client    if there are such products
//! client   the proof                                                               --> server
//! ```

use super::bits::Bits;
use super::circuit::{Circuit, Op, Origin, Wire};
use super::known::{apply, correct};
use super::opened::Guard;
use super::packed;
use super::prove::{self, Products};
use super::triples::Triples;
use crate::correlation::ot::{Cots, OtCount};
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::bits::Planes;
use crate::primitive::block::Block;
use crate::transport::channel::{Channel, FrameKind};
use rand::CryptoRng;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Blocks of the nodes of a circuit, as long as they are needed.
type Values = Vec<Option<Zeroizing<Vec<Block>>>>;

/// One party's circuit whose offline stage is over.
pub struct Prepared {
    pub(super) circuit: Arc<Circuit>,
    pub(super) lanes: usize,
    pub(super) values: Values,
    /// Random bits for late inputs.
    pub(super) late: Vec<Bits>,
    pub(super) triples: Triples,
}

/// The offline stage. `early`: at the client, its inputs of [`Origin::Early`]; at the server none. The oblivious transfers are those of
/// [`Circuit::ots`], the triples [`Circuit::triples`] for each lane.
///
/// # Errors
/// Those of the channel, [`Error::Protocol`] for a malformed message, [`Error::Exhausted`] if there are too few of something.
///
/// # Panics
/// If inputs do not fit the circuit.
pub async fn offline<R: CryptoRng>(
    circuit: &Arc<Circuit>,
    lanes: usize,
    ch: &mut Channel,
    guard: &mut Guard,
    (mut cots, triples): (Cots, Triples),
    early: Vec<Planes>,
    rng: &mut R,
) -> Result<Prepared> {
    let (need, have) = (circuit.triples() * lanes, triples.len());
    if have < need {
        return Err(Error::Exhausted { received_by: Party::Client, need, have });
    }
    let mut random = |width: usize| -> Result<Bits> {
        Ok(Bits::random(lanes, cots.split_front(OtCount::received_by(Party::Client, width * lanes))?))
    };
    let mut prepared = Prepared {
        circuit: circuit.clone(),
        lanes,
        values: (0..circuit.nodes.len()).map(|_| None).collect(),
        late: Vec::new(),
        triples,
    };
    let mut ports = Vec::new();
    for port in circuit.inputs() {
        match port.of {
            Origin::Early => ports.push(random(port.width)?),
            Origin::Late => prepared.late.push(random(port.width)?),
            Origin::Server | Origin::Shared => {}
        }
    }
    let proved = if circuit.proved > 0 { Some(random(circuit.proved)?) } else { None };
    if guard.party() == Party::Client {
        let message = prepared.give_early(ports, &early, proved);
        if !message.is_empty() {
            ch.send(FrameKind::Data, message).await?;
        }
    } else if circuit.early_bytes(lanes) > 0 {
        let message = ch.recv(FrameKind::Data, circuit.early_bytes(lanes)).await?;
        let mut rest = &message[..];
        for (number, random) in ports.into_iter().enumerate() {
            let (own, others) = rest.split_at(packed::bytes(random.width() * lanes));
            prepared.place(Origin::Early, number, &apply(guard, random, own)?);
            rest = others;
        }
        prepared.take_products(guard, proved, rest)?;
    }
    if circuit.proved > 0 {
        // All of these: fewer would mask less than a block.
        let mask = Bits::random(1, cots.split_front(OtCount::received_by(Party::Client, prove::MASK_OTS))?);
        prepared.proof(ch, guard, mask, rng).await?;
    }
    Ok(prepared)
}

impl Prepared {
    /// Lanes.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Instead of the online stage: the client claims that its early inputs are these, which the server has computed from what the client
    /// showed of the slot; the next comparison says whether they are. At the client `early` is not read. Gives the triples back, which
    /// nobody has used.
    ///
    /// # Panics
    /// At the server, if the inputs do not fit the circuit.
    #[must_use]
    pub fn audit(self, guard: &mut Guard, early: &[Planes]) -> Triples {
        let ports = self.circuit.inputs().iter().enumerate().filter(|(_, port)| port.of == Origin::Early);
        for (number, (place, port)) in ports.enumerate() {
            let node = |plane: usize| {
                let mut nodes = self.circuit.nodes.iter().enumerate();
                let is = |op: Op| matches!(op, Op::Input { port, plane: of } if port as usize == place && of as usize == plane);
                nodes.find(|(_, node)| is(node.op)).map(|(i, _)| i as u32).expect("an input of the circuit")
            };
            let blocks = (0..port.width).flat_map(|plane| self.value(node(plane)).iter().copied()).collect();
            let bits = Bits::of(self.lanes, blocks);
            match guard.party() {
                Party::Client => guard.claim(&bits, &Planes::default()),
                Party::Server => guard.claim(&bits, &early[number]),
            }
        }
        self.triples
    }

    /// Puts the planes of input `number` of an origin where the circuit reads them.
    pub(super) fn place(&mut self, origin: Origin, number: usize, bits: &Bits) {
        let ports = self.circuit.inputs().iter().enumerate().filter(|(_, port)| port.of == origin);
        let (place, port) = ports.map(|(i, port)| (i, *port)).nth(number).expect("an input of the circuit");
        assert_eq!((bits.lanes(), bits.width()), (self.lanes, port.width), "an input of the circuit's shape");
        for (value, node) in self.values.iter_mut().zip(&self.circuit.nodes) {
            match node.op {
                Op::Input { port, plane } if port as usize == place => {
                    *value = Some(Zeroizing::new(bits.plane(plane as usize).to_vec()));
                }
                Op::Input { .. } | Op::Xor(..) | Op::And(..) | Op::Known(..) => {}
            }
        }
    }

    /// At the client: early bits and the products that it proves. Returns corrections.
    pub(super) fn give_early(&mut self, ports: Vec<Bits>, early: &[Planes], proved: Option<Bits>) -> Vec<u8> {
        assert_eq!(ports.len(), early.len(), "an input for every early port");
        let mut message = Vec::with_capacity(self.circuit.early_bytes(self.lanes));
        for (number, (random, values)) in ports.into_iter().zip(early).enumerate() {
            let (bits, bytes) = correct(random, values);
            self.place(Origin::Early, number, &bits);
            message.extend(bytes);
        }
        message.extend(self.give_products(proved));
        message
    }

    /// The blocks of a node.
    pub(super) fn value(&self, node: u32) -> &[Block] {
        self.values[node as usize].as_ref().expect("a value is kept until its last use")
    }

    /// The sum of two nodes.
    pub(super) fn sum(&self, a: u32, b: u32) -> Zeroizing<Vec<Block>> {
        Zeroizing::new(self.value(a).iter().zip(self.value(b)).map(|(a, b)| *a ^ *b).collect())
    }

    /// Goes through what is known offline in order; `product` makes z from x and y and the number of the product.
    fn known(&mut self, mut product: impl FnMut(&Self, Wire, Wire, usize) -> Vec<Block>) {
        let circuit = self.circuit.clone();
        let mut number = 0;
        for (i, node) in circuit.nodes.iter().enumerate() {
            let value = match node.op {
                Op::Known(a, b) => {
                    number += 1;
                    Some(Zeroizing::new(product(self, a, b, number - 1)))
                }
                Op::Xor(a, b) if [a, b].iter().all(|node| self.values[*node as usize].is_some()) => {
                    Some(self.sum(a, b))
                }
                Op::Input { .. } | Op::Xor(..) | Op::And(..) => None,
            };
            if value.is_some() {
                self.values[i] = value;
            }
        }
    }

    /// At the client: the products that it proves. Returns corrections.
    pub(super) fn give_products(&mut self, random: Option<Bits>) -> Vec<u8> {
        let Some(random) = random else { return Vec::new() };
        let lanes = self.lanes;
        let mut message = vec![0; packed::bytes(random.width() * lanes)];
        self.known(|at, a, b, number| {
            let bit = |wire: Wire, lane: usize| {
                at.value(wire.node.expect("constants fold"))[lane].lsb() ^ u8::from(wire.flipped)
            };
            let corrected = random.plane(number).iter().enumerate().map(|(lane, block)| {
                let e = block.lsb() ^ (bit(a, lane) & bit(b, lane));
                let at = number * lanes + lane;
                message[at / 8] |= e << (at % 8);
                *block ^ Block::new(e.into(), 0)
            });
            corrected.collect()
        });
        message
    }

    /// At the server: its halves of these products.
    pub(super) fn take_products(&mut self, guard: &Guard, random: Option<Bits>, message: &[u8]) -> Result<()> {
        let Some(random) = random else { return Ok(()) };
        let bits = apply(guard, random, message)?;
        self.known(|_, _, _, number| bits.plane(number).to_vec());
        Ok(())
    }

    /// The proof of all products.
    async fn proof<R: CryptoRng>(
        &mut self,
        ch: &mut Channel,
        guard: &mut Guard,
        mask: Bits,
        rng: &mut R,
    ) -> Result<()> {
        match guard.party() {
            Party::Client => {
                let chi = ch.recv(FrameKind::Data, prove::CHALLENGE_BYTES).await?;
                let chi = Block::from_bytes(*chi.first_chunk().expect("the length was checked"));
                let v = self.with_products(guard, |guard, products| prove::prove(guard, products, &mask, chi));
                ch.send(FrameKind::Data, v.to_bytes().to_vec()).await
            }
            Party::Server => {
                let chi = Block::random(rng);
                ch.send(FrameKind::Data, chi.to_bytes().to_vec()).await?;
                let v = ch.recv(FrameKind::Data, prove::PROOF_BYTES).await?;
                let v = Block::from_bytes(*v.first_chunk().expect("the length was checked"));
                self.with_products(guard, |guard, products| prove::verify(guard, products, &mask, chi, v));
                Ok(())
            }
        }
    }

    /// Looks at all products. The server's halves are complemented where the operand is.
    pub(super) fn with_products<T>(&self, guard: &mut Guard, f: impl FnOnce(&mut Guard, &Products<'_>) -> T) -> T {
        let server = guard.party() == Party::Server;
        let operand = |wire: Wire| {
            let flip = Block::new((server && wire.flipped).into(), 0);
            self.value(wire.node.expect("constants fold")).iter().map(|block| *block ^ flip).collect::<Vec<_>>()
        };
        let nodes = self.circuit.nodes.iter().enumerate();
        let all: Vec<_> = nodes
            .filter_map(|(i, node)| match node.op {
                Op::Known(a, b) => Some((Zeroizing::new([operand(a), operand(b)]), i, [a.flipped, b.flipped])),
                Op::Input { .. } | Op::Xor(..) | Op::And(..) => None,
            })
            .collect();
        let planes = all.iter().map(|(xy, z, _)| [&xy[0][..], &xy[1][..], self.value(*z as u32)]).collect();
        let flipped = all.iter().map(|(_, _, flipped)| *flipped).collect();
        f(guard, &Products { planes, flipped })
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({} lanes, ..)", self.lanes)
    }
}
