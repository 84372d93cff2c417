//! Runs a prepared circuit: late inputs, then layer by layer, then outputs.
//!
//! ```text
//! client   corrections of its late bits                                                     --> server
//! both     of every AND of a layer d = x ^ a, f = y ^ b, from a triple c = a b;   xy = c ^ d b ^ f a ^ d f
//! client   outputs to the server; the hash of all opened so far                             --> server
//! server   outputs to the client, if the hash is right                                      --> client
//! ```
//!
//! Bits of a layer: AND after AND, d of all lanes before f, without rests between.

use super::bits::Bits;
use super::circuit::{Destination, Op, Origin, Wire};
use super::kept::{Triple, Triples};
use super::known::{apply, correct, of_server};
use super::opened::{DIGEST_BYTES, Guard};
use super::packed;
use super::prepare::PreparedCircuit;
use super::tag::{Tag, Word};
use crate::error::Result;
use crate::party::Party;
use crate::primitive::bits::Planes;
use crate::transport::channel::{Channel, FrameKind};
use rayon::prelude::*;
use zeroize::Zeroizing;

/// Lanes that a thread works on at a time.
const PART: usize = 1 << 12;

/// What a party gets.
#[derive(Debug, Default)]
pub struct Outputs {
    /// What was opened to this party, output after output.
    pub opened: Vec<Planes>,
    /// What was kept.
    pub kept: Vec<Bits>,
}

/// The online stage. `late`: at the client, its inputs of [`Origin::Late`], at the server, its own, and behind them at both those of
/// [`Origin::Public`]; `shared`: those of [`Origin::Shared`].
///
/// # Errors
/// Those of the channel, [`Error::Protocol`](crate::error::Error::Protocol) for a malformed message,
/// [`Error::OtherSession`](crate::error::Error::OtherSession), before anything is sent, if the circuit or `shared` are not the guard's, and, at the
/// server before it opens outputs to the client, [`Error::Cheated`](crate::error::Error::Cheated).
///
/// # Panics
/// If inputs do not fit the circuit.
pub async fn online(
    mut prepared: PreparedCircuit,
    ch: &mut Channel,
    guard: &mut Guard,
    late: Vec<Planes>,
    shared: &[&Bits],
) -> Result<Outputs> {
    guard.check(Some(prepared.session))?;
    shared.iter().try_for_each(|bits| guard.check(bits.session()))?;
    let circuit = prepared.circuit.clone();
    let lanes = prepared.lanes;
    for (number, bits) in shared.iter().enumerate() {
        prepared.place(Origin::Shared, number, bits);
    }
    prepared.late(ch, guard, late).await?;
    let mut opening = Zeroizing::new(Vec::new());
    for layer in 0..circuit.depth() {
        let triples = prepared.triples_of(layer)?;
        prepared.masks(guard, layer, &triples, &mut opening);
        let mut own = packed::halves(&opening);
        let theirs = match guard.party() {
            Party::Client => {
                guard.absorb(&opening);
                if circuit.digest_in_last_layer() && layer + 1 == circuit.depth() {
                    own.extend(guard.digest());
                }
                ch.send(FrameKind::Data, own.clone()).await?;
                ch.recv(FrameKind::Data, circuit.layer_bytes(layer, lanes)).await?
            }
            Party::Server => {
                ch.send(FrameKind::Data, own.clone()).await?;
                ch.recv(FrameKind::Data, circuit.client_layer_bytes(layer, lanes)).await?
            }
        };
        let bits = circuit.layer_bytes(layer, lanes);
        packed::check(&theirs[..bits], opening.len())?;
        if guard.party() == Party::Server {
            guard.absorb_held(&opening, &theirs[..bits]);
            if let Some(digest) = theirs[bits..].first_chunk::<DIGEST_BYTES>() {
                guard.compare(digest)?;
            }
        }
        let both: Vec<u8> = own.iter().zip(&theirs[..bits]).map(|(a, b)| a ^ b).collect();
        prepared.combine(guard, layer, &triples, &both);
    }
    prepared.locals(circuit.depth() as u32);
    prepared.open_outputs(ch, guard).await
}

impl PreparedCircuit {
    /// Late inputs of both parties.
    async fn late(&mut self, ch: &mut Channel, guard: &Guard, values: Vec<Planes>) -> Result<()> {
        let circuit = self.circuit.clone();
        let bytes = circuit.late_bytes(self.lanes);
        let random = std::mem::take(&mut self.late);
        let mut values = values.into_iter();
        match guard.party() {
            Party::Client => {
                let mut message = Vec::with_capacity(bytes);
                for (number, random) in random.into_iter().enumerate() {
                    let (bits, own) = correct(random, &values.next().expect("an input for every late port"));
                    self.place(Origin::Late, number, &bits);
                    message.extend(own);
                }
                if bytes > 0 {
                    ch.send(FrameKind::Data, message).await?;
                }
            }
            Party::Server if bytes > 0 => {
                let message = ch.recv(FrameKind::Data, bytes).await?;
                let mut rest = &message[..];
                for (number, random) in random.into_iter().enumerate() {
                    let (own, others) = rest.split_at(packed::bytes(random.width() * self.lanes));
                    self.place(Origin::Late, number, &apply(guard, random, own)?);
                    rest = others;
                }
            }
            Party::Server => {}
        }
        let of_the_server = circuit.inputs().iter().filter(|port| port.of == Origin::Server);
        for (number, port) in of_the_server.enumerate() {
            let own =
                (guard.party() == Party::Server).then(|| values.next().expect("an input for every port of the server"));
            self.place(Origin::Server, number, &of_server(self.lanes, port.width, own.as_ref()));
        }
        for (number, _) in circuit.inputs().iter().filter(|port| port.of == Origin::Public).enumerate() {
            self.place_public(number, &values.next().expect("an input for every public port"));
        }
        assert!(values.next().is_none(), "no input without a port");
        Ok(())
    }

    /// Public bits, as what a tag is multiplied by.
    fn place_public(&mut self, number: usize, planes: &Planes) {
        let (node, width) = self.circuit.input_nodes(Origin::Public, number);
        assert_eq!((planes.lanes(), planes.width()), (self.lanes, width), "an input of the circuit's shape");
        let mut tags = Zeroizing::new(vec![Tag::ZERO; width * self.lanes]);
        packed::for_each_word(&mut tags, &packed::of_planes(planes), |tag, bit| *tag = Tag::splat(bit));
        for (value, plane) in self.values[node..node + width].iter_mut().zip(tags.chunks(self.lanes)) {
            *value = Some(Zeroizing::new(plane.to_vec()));
        }
    }

    /// Computes what is local in a layer, in order.
    fn locals(&mut self, layer: u32) {
        let circuit = self.circuit.clone();
        for (i, node) in circuit.nodes.iter().enumerate() {
            if node.depth == layer
                && node.last >= layer
                && let Some(value) = self.local(node.op)
            {
                self.values[i] = Some(value);
            }
        }
    }

    /// The triples of a layer, moved out: those of the layers behind it are what is kept.
    fn triples_of(&mut self, layer: usize) -> Result<Zeroizing<Vec<Triple>>> {
        self.triples.take(self.circuit.ands[layer] * self.lanes).map(Triples::flatten)
    }

    /// d and f of all ANDs of a layer.
    fn masks(&mut self, guard: &Guard, layer: usize, triples: &[Triple], opening: &mut Zeroizing<Vec<Tag>>) {
        self.locals(layer as u32);
        let lanes = self.lanes;
        opening.clear();
        opening.resize(2 * triples.len(), Tag::ZERO);
        let gates = triples.chunks(lanes).zip(self.gates(layer));
        for (opening, (triples, (a, b))) in opening.chunks_mut(2 * lanes).zip(gates) {
            let (d, f) = opening.split_at_mut(lanes);
            let node = |wire: Wire| self.value(wire.node.expect("constants fold"));
            fill(d, node(a), triples, 0, guard.flip(a.flipped));
            fill(f, node(b), triples, 1, guard.flip(b.flipped));
        }
    }

    /// The products of a layer, from the opened d and f. Forgets what no later layer reads.
    fn combine(&mut self, guard: &Guard, layer: usize, triples: &[Triple], opened: &[u8]) {
        let lanes = self.lanes;
        let circuit = self.circuit.clone();
        let ands = circuit.nodes.iter().enumerate().filter(|(_, node)| is_and_of(node.op, node.depth, layer));
        for ((g, triples), (i, _)) in triples.chunks(lanes).enumerate().zip(ands) {
            let mut product = Zeroizing::new(vec![Tag::ZERO; lanes]);
            product.par_chunks_mut(PART).zip(triples.par_chunks(PART)).enumerate().for_each(
                |(part, (out, triples))| {
                    for (lane, (out, [a, b, c])) in out.iter_mut().zip(triples).enumerate() {
                        let at = 2 * g * lanes + part * PART + lane;
                        let (d, f) = (packed::bit(opened, at), packed::bit(opened, at + lanes));
                        *out = *c ^ (*b & Tag::splat(d)) ^ (*a & Tag::splat(f)) ^ guard.flip(d & f == 1);
                    }
                },
            );
            self.values[i] = Some(product);
        }
        for (value, node) in self.values.iter_mut().zip(&circuit.nodes) {
            if node.last <= layer as u32 && node.depth <= layer as u32 {
                *value = None;
            }
        }
    }

    /// The operands of the ANDs of a layer.
    fn gates(&self, layer: usize) -> Vec<(Wire, Wire)> {
        let nodes = self.circuit.nodes.iter().filter(|node| is_and_of(node.op, node.depth, layer));
        nodes.filter_map(|node| if let Op::And(a, b) = node.op { Some((a, b)) } else { None }).collect()
    }

    /// The planes of an output.
    fn output(&self, guard: &Guard, wires: &[Wire]) -> Bits {
        let plane = |wire: &Wire| -> Vec<Tag> {
            let flip = guard.flip(wire.flipped);
            match wire.node {
                Some(node) => self.value(node).iter().map(|tag| *tag ^ flip).collect(),
                None => vec![flip; self.lanes],
            }
        };
        Bits::of(Some(self.session), self.lanes, wires.iter().flat_map(plane).collect())
    }

    /// All outputs to one destination.
    fn outputs_to(&self, guard: &Guard, to: Destination) -> Vec<Bits> {
        let outputs = self.circuit.outputs.iter().filter(|(of, _)| *of == to);
        outputs.map(|(_, wires)| self.output(guard, wires)).collect()
    }

    async fn open_outputs(self, ch: &mut Channel, guard: &mut Guard) -> Result<Outputs> {
        let kept = self.outputs_to(guard, Destination::Kept);
        let to_server = self.outputs_to(guard, Destination::Server);
        let to_client = self.outputs_to(guard, Destination::Client);
        let (ends, reveals) = (self.circuit.client_ends(), !to_client.is_empty());
        let digest = reveals && !self.circuit.digest_in_last_layer();
        let all = |bits: &[Bits]| Bits::join(&bits.iter().collect::<Vec<_>>());
        let widths = |bits: &[Bits]| bits.iter().map(Bits::width).collect::<Vec<_>>();
        let mut opened = Vec::new();
        match guard.party() {
            Party::Client => {
                if ends {
                    let mut message = if to_server.is_empty() { Vec::new() } else { guard.open(&all(&to_server)) };
                    if digest {
                        message.extend(guard.digest());
                    }
                    ch.send(FrameKind::Data, message).await?;
                }
                if reveals {
                    let bits = all(&to_client);
                    let message = ch.recv(FrameKind::Data, packed::bytes(bits.tags().len())).await?;
                    packed::check(&message, bits.tags().len())?;
                    let mut values = bits.halves();
                    packed::add(&mut values, &message);
                    opened = split(&values, &widths(&to_client));
                }
            }
            Party::Server => {
                if ends {
                    let message = ch.recv(FrameKind::Data, self.circuit.end_bytes(self.lanes)).await?;
                    let (bits, hash) = message.split_at(message.len() - if digest { DIGEST_BYTES } else { 0 });
                    if !to_server.is_empty() {
                        opened = split(&guard.opened(&all(&to_server), bits)?, &widths(&to_server));
                    }
                    if let Some(hash) = hash.first_chunk() {
                        guard.compare(hash)?;
                    }
                }
                if reveals {
                    let bits = all(&to_client);
                    ch.send(FrameKind::Data, packed::halves(bits.tags())).await?;
                }
            }
        }
        Ok(Outputs { opened, kept })
    }
}

/// True for the ANDs of a layer.
fn is_and_of(op: Op, depth: u32, layer: usize) -> bool {
    matches!(op, Op::And(..)) && depth as usize == layer + 1
}

/// `out = value ^ triple[part] ^ flip`.
fn fill(out: &mut [Tag], value: &[Tag], triples: &[Triple], part: usize, flip: Tag) {
    let parts = out.par_chunks_mut(PART).zip(value.par_chunks(PART)).zip(triples.par_chunks(PART));
    parts.for_each(|((out, value), triples)| {
        for ((out, value), triple) in out.iter_mut().zip(value).zip(triples) {
            *out = *value ^ triple[part] ^ flip;
        }
    });
}

/// Planes in groups of some widths.
fn split(planes: &Planes, widths: &[usize]) -> Vec<Planes> {
    let mut first = 0;
    let mut group = |width: &usize| {
        let mut group = Planes::zero(planes.lanes(), *width);
        (0..*width).for_each(|i| group.plane_mut(i).copy_from_slice(planes.plane(first + i)));
        first += width;
        group
    };
    widths.iter().map(&mut group).collect()
}

#[cfg(test)]
mod tests;
