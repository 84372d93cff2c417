//! Compiled code: what each party hashes, and the segments that it runs between frames.
//!
//! A *segment* is what a party does at one time: take in the frame that arrives, compute, send the frame of that
//! time. Planes that live within a segment are in *registers*, a scratch memory for a block of lanes; planes that
//! live longer are stored in *cells*, which exist for all lanes.

use super::builder::Port;
use super::cost::{Cost, FrameCost, Tally};
use super::graph::Label;
use super::time::Time;
use crate::correlation::demand::Demand;
use crate::correlation::ot::OtCount;
use crate::party::Party;

/// A compiled two-party protocol. It holds for any number of lanes.
#[derive(Debug)]
pub struct Program {
    pub(super) client: Code,
    pub(super) server: Code,
    pub(super) frames: Vec<Frame>,
    pub(super) tally: Tally,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
}

impl Program {
    /// What a lane spends.
    #[must_use]
    pub fn demand(&self) -> Demand {
        self.tally.demand
    }

    /// Of [`Program::demand`] the random OTs: what [`Program::prepare`] takes for each lane.
    #[must_use]
    pub fn ots(&self) -> OtCount {
        self.tally.demand.ots
    }

    /// Bits per lane.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Inputs of both parties. A party gives its own, in this order: those of an offline time at
    /// [`super::PreparedProgram::offline`], the others at [`super::ReadyProgram::online`].
    #[must_use]
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Outputs of both parties; a party gets its own, in this order.
    #[must_use]
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Frames, bytes, demand and flights for a number of lanes. A plane takes ceil(lanes / 8) bytes.
    #[must_use]
    pub fn cost(&self, lanes: usize) -> Cost {
        let cost = |frame: &Frame| FrameCost {
            time: frame.time,
            sender: frame.sender,
            bytes: frame.planes * lanes.div_ceil(8),
        };
        Cost { frames: self.frames.iter().map(cost).collect(), demand: self.tally.demand * lanes }
    }

    /// Bytes of memory that it takes, with the code of both parties.
    #[must_use]
    pub fn code_bytes(&self) -> usize {
        self.client.bytes() + self.server.bytes()
    }

    pub(super) fn code(&self, party: Party) -> &Code {
        match party {
            Party::Client => &self.client,
            Party::Server => &self.server,
        }
    }
}

/// What one party sends at one time.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub time: Time,
    pub sender: Party,
    pub planes: usize,
}

/// The code of one party.
#[derive(Debug, Default)]
pub(super) struct Code {
    /// The pads to hash, a wire after the other.
    pub wires: Vec<WirePads>,
    /// The first segment runs when the OTs arrive; then those of the offline and of the online stage.
    pub segments: Vec<Segment>,
    pub registers: usize,
    /// The registers that begin with a pad or a choice: the first ones.
    pub pads: usize,
    pub cells: usize,
}

impl Code {
    fn bytes(&self) -> usize {
        let of_gate = |gate: &GatePads| size_of::<GatePads>() + size_of_val(&gate.planes[..]);
        let of_wire = |wire: &WirePads| size_of::<WirePads>() + wire.gates.iter().map(of_gate).sum::<usize>();
        let of_segment = |segment: &Segment| size_of::<Segment>() + size_of_val(&segment.code[..]);
        self.wires.iter().map(of_wire).sum::<usize>() + self.segments.iter().map(of_segment).sum::<usize>()
    }
}

/// What a party hashes for one wire.
#[derive(Debug)]
pub(super) struct WirePads {
    /// True if the party receives on this wire.
    pub receives: bool,
    /// Number of the wire among those of its direction.
    pub index: usize,
    /// Register of the choice.
    pub choice: Option<u32>,
    pub gates: Vec<GatePads>,
}

/// Pads of one gate from one key.
#[derive(Debug)]
pub(super) struct GatePads {
    pub label: Label,
    pub gate: u32,
    /// (position, register), ascending.
    pub planes: Vec<(u32, u32)>,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub time: Time,
    /// Index of the frame to await.
    pub receive: Option<usize>,
    pub code: Vec<Instruction>,
    /// Index of the frame to send.
    pub send: Option<usize>,
}

/// One operation on a block of lanes; unused operands are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub code: OpCode,
    /// Register written, or read by [`OpCode::Store`], [`OpCode::Put`] and [`OpCode::Output`].
    pub register: u32,
    pub operands: [u32; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpCode {
    Zero,
    One,
    Not,
    Xor,
    And,
    Or,
    Xor3,
    Maj,
    Mux,
    AndXor,
    /// Register from cell.
    Load,
    /// Register to cell.
    Store,
    /// Register from a plane of the frame received.
    Take,
    /// Register to a plane of the frame to be sent.
    Put,
    /// Register from (input, bit).
    Input,
    /// Register to (output, bit).
    Output,
}
