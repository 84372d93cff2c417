//! A recorded function of authenticated bits: its inputs, outputs and layers, and what follows from them, cost and flights.

use super::flights::Flights;
use super::opened::DIGEST_BYTES;
use super::packed;
use super::prove;
use crate::correlation::ot::OtCount;
use crate::party::Party;
use crate::program::{Cost, FrameCost, Time};

/// Whose an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client's, known offline.
    Early,
    /// The client's, known online.
    Late,
    /// The server's, known online.
    Server,
    /// Authenticated before: what another circuit kept.
    Shared,
    /// Both parties', known online: bits by which others are multiplied, [`Builder::times`](super::Builder::times).
    Public,
}

/// Who gets an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Opened to the server.
    Server,
    /// Opened to the client, after a comparison.
    Client,
    /// Nobody: it stays authenticated.
    Kept,
}

/// A number of planes that come in or go out together, the lowest bit first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port<T> {
    /// Whose it is, or who gets it.
    pub of: T,
    /// Bits per lane.
    pub width: usize,
}

/// A bit of every lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wire {
    /// `None` for the constant.
    pub(super) node: Option<u32>,
    /// The complement of the node, or the constant itself.
    pub(super) flipped: bool,
}

impl Wire {
    /// Zero in every lane.
    pub const ZERO: Self = Self::constant(false);
    /// One in every lane.
    pub const ONE: Self = Self::constant(true);

    /// The same bit in every lane.
    #[must_use]
    pub const fn constant(bit: bool) -> Self {
        Self { node: None, flipped: bit }
    }

    /// The complement.
    #[must_use]
    pub const fn not(self) -> Self {
        Self { flipped: !self.flipped, ..self }
    }
}

/// How a bit comes about. Operands of a sum are never complemented, constants or equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Input {
        port: u32,
        plane: u32,
    },
    Xor(u32, u32),
    And(Wire, Wire),
    /// Of bits that the client knows.
    Known(Wire, Wire),
    /// Of a public bit and another: local.
    Times(u32, u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub op: Op,
    /// ANDs of triples on the longest way to it.
    pub depth: u32,
    /// The client knows it offline.
    pub known: bool,
    /// The last layer that reads it.
    pub last: u32,
}

/// A recorded circuit.
#[derive(Clone, Debug)]
pub struct Circuit {
    pub(super) nodes: Vec<Node>,
    pub(super) inputs: Vec<Port<Origin>>,
    /// The node of the lowest plane of each input; the others follow.
    pub(super) firsts: Vec<u32>,
    pub(super) outputs: Vec<(Destination, Vec<Wire>)>,
    /// ANDs of each layer.
    pub(super) ands: Vec<usize>,
    /// ANDs that the client proves.
    pub(super) proved: usize,
}

impl Circuit {
    /// All inputs.
    #[must_use]
    pub fn inputs(&self) -> &[Port<Origin>] {
        &self.inputs
    }

    /// The first node of input `number` of an origin, and its width.
    pub(super) fn input_nodes(&self, origin: Origin, number: usize) -> (usize, usize) {
        let ports = self.inputs.iter().zip(&self.firsts).filter(|(port, _)| port.of == origin);
        let (port, first) = { ports }.nth(number).expect("an input of the circuit");
        (*first as usize, port.width)
    }

    /// All outputs.
    #[must_use]
    pub fn outputs(&self) -> Vec<Port<Destination>> {
        self.outputs.iter().map(|(of, wires)| Port { of: *of, width: wires.len() }).collect()
    }

    /// Triples per lane.
    #[must_use]
    pub fn triples(&self) -> usize {
        self.ands.iter().sum()
    }

    /// Layers of ANDs.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.ands.len()
    }

    /// Planes that come from one origin.
    #[must_use]
    pub fn input_planes(&self, origin: Origin) -> usize {
        self.inputs.iter().filter(|port| port.of == origin).map(|port| port.width).sum()
    }

    /// Planes that go to one destination.
    #[must_use]
    pub fn output_planes(&self, to: Destination) -> usize {
        self.outputs.iter().filter(|(of, _)| *of == to).map(|(_, wires)| wires.len()).sum()
    }

    /// Oblivious transfers for the client's bits and for a proof of its own, besides those of the triples.
    #[must_use]
    pub fn ots(&self, lanes: usize) -> OtCount {
        self.ots_of_bits(lanes) + OtCount::received_by(Party::Client, self.proof_ots())
    }

    /// Oblivious transfers for the client's bits.
    #[must_use]
    pub fn ots_of_bits(&self, lanes: usize) -> OtCount {
        let planes = self.input_planes(Origin::Early) + self.input_planes(Origin::Late) + self.proved;
        OtCount::received_by(Party::Client, planes * lanes)
    }

    /// ANDs per lane that the client proves.
    #[must_use]
    pub fn proved(&self) -> usize {
        self.proved
    }

    /// Oblivious transfers that hide what a proof sums up.
    pub(super) fn proof_ots(&self) -> usize {
        if self.proved > 0 { prove::MASK_OTS } else { 0 }
    }

    /// True if the client's hash goes with the openings of the last layer.
    pub(super) fn digest_in_last_layer(&self) -> bool {
        let to = |to| self.output_planes(to) > 0;
        to(Destination::Client) && !to(Destination::Server) && self.depth() > 0
    }

    /// True if the client sends a frame after the last layer.
    pub(super) fn client_ends(&self) -> bool {
        let to = |to| self.output_planes(to) > 0;
        to(Destination::Server) || to(Destination::Client) && !self.digest_in_last_layer()
    }

    /// Bytes of the ports of one origin that the client corrects.
    fn corrections(&self, origin: Origin, lanes: usize) -> usize {
        let ports = self.inputs.iter().filter(|port| port.of == origin);
        ports.map(|port| packed::bytes(port.width * lanes)).sum()
    }

    /// Bytes of the client's frame in the offline stage; none if there are none.
    #[must_use]
    pub fn early_bytes(&self, lanes: usize) -> usize {
        self.corrections(Origin::Early, lanes) + packed::bytes(self.proved * lanes)
    }

    /// Bytes of the client's corrections online.
    pub(super) fn late_bytes(&self, lanes: usize) -> usize {
        self.corrections(Origin::Late, lanes)
    }

    /// Bytes of the server's openings of a layer.
    pub(super) fn layer_bytes(&self, layer: usize, lanes: usize) -> usize {
        packed::bytes(2 * self.ands[layer] * lanes)
    }

    /// Bytes of the client's openings of a layer.
    pub(super) fn client_layer_bytes(&self, layer: usize, lanes: usize) -> usize {
        let digest = self.digest_in_last_layer() && layer + 1 == self.depth();
        self.layer_bytes(layer, lanes) + if digest { DIGEST_BYTES } else { 0 }
    }

    /// Bytes of the frame behind the last layer.
    pub(super) fn end_bytes(&self, lanes: usize) -> usize {
        let reveals = self.output_planes(Destination::Client) > 0;
        let digest = if reveals && !self.digest_in_last_layer() { DIGEST_BYTES } else { 0 };
        packed::bytes(self.output_planes(Destination::Server) * lanes) + digest
    }

    /// Frames and oblivious transfers, those of the triples not included, of a circuit that runs alone.
    #[must_use]
    pub fn cost(&self, lanes: usize) -> Cost {
        let offline = &mut Flights::default();
        let mut frames: Vec<FrameCost> = self.early_frame(lanes, offline).into_iter().collect();
        if self.proved > 0 {
            frames.extend(proof_frames(offline));
        }
        frames.extend(self.online_frames(lanes, &mut Flights::default()));
        Cost { frames, demand: self.ots(lanes).into() }
    }

    /// The frame of its corrections.
    pub(super) fn early_frame(&self, lanes: usize, flights: &mut Flights) -> Option<FrameCost> {
        let bytes = self.early_bytes(lanes);
        (bytes > 0).then(|| offline_frame(flights, Party::Client, bytes))
    }

    /// The frames of the online stage, behind those of circuits that ran before.
    pub fn online_frames(&self, lanes: usize, flights: &mut Flights) -> Vec<FrameCost> {
        let mut frames = Vec::new();
        let mut frame = |flight, sender, bytes| frames.push(FrameCost { time: Time::Online(flight), sender, bytes });
        if self.late_bytes(lanes) > 0 {
            frame(flights.send(Party::Client), Party::Client, self.late_bytes(lanes));
        }
        for layer in 0..self.depth() {
            let [client, server] = flights.exchange();
            frame(client, Party::Client, self.client_layer_bytes(layer, lanes));
            frame(server, Party::Server, self.layer_bytes(layer, lanes));
        }
        if self.client_ends() {
            frame(flights.send(Party::Client), Party::Client, self.end_bytes(lanes));
        }
        let revealed = self.output_planes(Destination::Client);
        if revealed > 0 {
            frame(flights.send(Party::Server), Party::Server, packed::bytes(revealed * lanes));
        }
        frames
    }
}

fn offline_frame(flights: &mut Flights, sender: Party, bytes: usize) -> FrameCost {
    FrameCost { time: Time::Offline(flights.send(sender)), sender, bytes }
}

/// The frames of a proof.
pub(super) fn proof_frames(flights: &mut Flights) -> [FrameCost; 2] {
    [(Party::Server, prove::CHALLENGE_BYTES), (Party::Client, prove::PROOF_BYTES)]
        .map(|(sender, bytes)| offline_frame(flights, sender, bytes))
}
