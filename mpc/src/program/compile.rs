//! From a recorded protocol to code for each party: dead planes dropped, nodes placed in segments, registers and cells
//! given out.

use super::builder::{Builder, Message};
use super::code::{Code, Frame, GatePads, Instruction, OpCode, Program, Segment, WirePads};
use super::graph::{Label, Op, Plane};
use super::time::Time;
use crate::correlation::ot::OtCount;
use crate::party::Party;
use std::collections::{BTreeMap, BTreeSet};

impl Builder {
    /// Compiles what was recorded.
    ///
    /// # Panics
    /// If the builder only counts.
    #[must_use]
    pub fn finish(self) -> Program {
        assert!(self.graph.records, "a counting builder has no program");
        let mut places: BTreeMap<(Time, bool), Vec<usize>> = BTreeMap::new();
        for (index, message) in self.messages.iter().enumerate() {
            places.entry((message.time, message.sender == Party::Server)).or_default().push(index);
        }
        let frame = |((time, server), messages): (&(Time, bool), &Vec<usize>)| Frame {
            time: *time,
            sender: if *server { Party::Server } else { Party::Client },
            planes: messages.len(),
        };
        let frames: Vec<Frame> = places.iter().map(frame).collect();
        let mut place = vec![(0, 0); self.messages.len()];
        for (frame, messages) in places.values().enumerate() {
            for (plane, message) in messages.iter().enumerate() {
                place[*message] = (frame, plane as u32);
            }
        }
        let needed = self.needed();
        let code = |party| PartyCompiler::new(&self, party, &needed, &frames, &place).compile();
        Program {
            client: code(Party::Client),
            server: code(Party::Server),
            frames,
            tally: self.tally,
            outputs: self.outputs.iter().map(|(port, _)| *port).collect(),
            inputs: self.inputs,
        }
    }

    /// The nodes that a message or an output depends on.
    fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.graph.nodes.len()];
        let sent = self.messages.iter().map(|message| message.plane);
        let roots = sent.chain(self.outputs.iter().flat_map(|(_, planes)| planes.iter().copied()));
        for node in roots.filter_map(Plane::node) {
            needed[node] = true;
        }
        for node in (0..needed.len()).rev() {
            for operand in self.graph.nodes[node].op.operands().into_iter().filter_map(Plane::node) {
                needed[operand] |= needed[node];
            }
        }
        needed
    }
}

const UNUSED: u32 = u32::MAX;

/// Compiles the code of one party.
struct PartyCompiler<'a> {
    builder: &'a Builder,
    party: Party,
    frames: &'a [Frame],
    /// Frame and plane of every message.
    place: &'a [(usize, u32)],
    /// The party's nodes that are needed, in order.
    nodes: Vec<usize>,
    times: Vec<Time>,
    /// Segment in which a node is computed.
    segment: Vec<usize>,
    /// Last segment in which a node is read.
    last: Vec<usize>,
    cell: Vec<u32>,
    cells: Pool,
    register: Vec<u32>,
    registers: Pool,
    /// Reads left within the segment that is being emitted.
    reads: Vec<u32>,
}

/// Numbers handed out and taken back.
#[derive(Default)]
struct Pool {
    free: Vec<u32>,
    size: u32,
}

impl Pool {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.size += 1;
            self.size - 1
        })
    }

    fn give(&mut self, number: u32) {
        self.free.push(number);
    }
}

impl<'a> PartyCompiler<'a> {
    fn new(
        builder: &'a Builder,
        party: Party,
        needed: &[bool],
        frames: &'a [Frame],
        place: &'a [(usize, u32)],
    ) -> Self {
        let all = &builder.graph.nodes;
        let nodes = (0..all.len()).filter(|node| needed[*node] && all[*node].party == party).collect();
        let mut times = BTreeSet::from([Time::Prepared, Time::OFFLINE, Time::START]);
        for frame in frames {
            times.insert(if frame.sender == party { frame.time } else { frame.time.arrival() });
        }
        let mut compiler = Self {
            builder,
            party,
            frames,
            place,
            nodes,
            times: times.into_iter().collect(),
            segment: vec![0; all.len()],
            last: vec![0; all.len()],
            cell: vec![UNUSED; all.len()],
            cells: Pool::default(),
            register: vec![UNUSED; all.len()],
            registers: Pool::default(),
            reads: vec![0; all.len()],
        };
        compiler.schedule();
        compiler
    }

    fn op(&self, node: usize) -> Op {
        self.builder.graph.nodes[node].op
    }

    fn operands(&self, node: usize) -> impl Iterator<Item = usize> + use<> {
        self.op(node).operands().into_iter().filter_map(Plane::node)
    }

    /// The last segment that starts no later than `time`.
    fn segment_at(&self, time: Time) -> usize {
        self.times.partition_point(|start| *start <= time) - 1
    }

    /// Messages of this party with their segments.
    fn sent(&self) -> impl Iterator<Item = (usize, &Message)> {
        let mine = self.builder.messages.iter().filter(|message| message.sender == self.party);
        mine.map(|message| (self.segment_at(message.time), message))
    }

    /// Places each node: as early as possible, except that functions of inputs alone wait until they are read. They
    /// are many, their inputs few and kept anyway.
    fn schedule(&mut self) {
        let end = self.times.len() - 1;
        let mut of_inputs = vec![false; self.segment.len()];
        let mut first_read = vec![end; self.segment.len()];
        for node in self.nodes.clone() {
            of_inputs[node] = match self.op(node) {
                Op::Input { .. } => true,
                Op::Choice { .. } | Op::Pad { .. } | Op::Received { .. } => false,
                _ => self.operands(node).all(|operand| of_inputs[operand]),
            };
        }
        let sent: Vec<(usize, Plane)> = self.sent().map(|(segment, message)| (segment, message.plane)).collect();
        let given = self.outputs().map(|(_, _, plane)| (end, plane)).collect::<Vec<_>>();
        for (segment, node) in sent.into_iter().chain(given).filter_map(|(at, plane)| Some((at, plane.node()?))) {
            first_read[node] = first_read[node].min(segment);
            self.last[node] = self.last[node].max(segment);
        }
        for node in self.nodes.clone().into_iter().rev() {
            let time = self.builder.graph.nodes[node].time;
            self.segment[node] = match self.op(node) {
                Op::Input { .. } if time >= Time::START => self.segment_at(Time::START),
                Op::Input { .. } => self.segment_at(Time::OFFLINE),
                _ if of_inputs[node] => first_read[node],
                _ => self.segment_at(time),
            };
            for operand in self.operands(node) {
                first_read[operand] = first_read[operand].min(self.segment[node]);
                self.last[operand] = self.last[operand].max(self.segment[node]);
            }
        }
    }

    /// (output, bit, plane) of this party's outputs, counted among its own.
    fn outputs(&self) -> impl Iterator<Item = (u32, u32, Plane)> {
        let mine = self.builder.outputs.iter().filter(|(port, _)| port.party == self.party);
        (0..)
            .zip(mine)
            .flat_map(|(output, (_, planes))| (0..).zip(planes).map(move |(bit, plane)| (output, bit, *plane)))
    }

    fn compile(mut self) -> Code {
        let mut by_segment = vec![Vec::new(); self.times.len()];
        for node in &self.nodes {
            by_segment[self.segment[*node]].push(*node);
        }
        let mut code = Code::default();
        for (segment, nodes) in by_segment.into_iter().enumerate() {
            if segment == 0 {
                code.wires = self.assign_pads(&nodes);
                code.pads = self.registers.size as usize;
            }
            let instructions = self.emit(segment, &nodes);
            let frame = |sender: Party, arrives: bool| {
                self.frames.iter().position(|frame| {
                    let time = if arrives { frame.time.arrival() } else { frame.time };
                    frame.sender == sender && time == self.times[segment]
                })
            };
            code.segments.push(Segment {
                time: self.times[segment],
                receive: frame(self.party.other(), true),
                send: frame(self.party, false),
                code: instructions,
            });
        }
        code.registers = self.registers.size as usize;
        code.cells = self.cells.size as usize;
        code
    }

    /// Gives a register to every pad and choice, and lists them by wire.
    fn assign_pads(&mut self, nodes: &[usize]) -> Vec<WirePads> {
        let mut seen = OtCount::ZERO;
        let mut wires: Vec<WirePads> = Vec::new();
        for wire in &self.builder.wires {
            let index = seen.where_receives(wire.receiver);
            seen += OtCount::received_by(wire.receiver, 1);
            wires.push(WirePads { receives: wire.receiver == self.party, index, choice: None, gates: Vec::new() });
        }
        let mut gates: BTreeMap<(u32, Label, u32), Vec<(u32, u32)>> = BTreeMap::new();
        for node in nodes {
            match self.op(*node) {
                Op::Choice { wire } => {
                    self.register[*node] = self.registers.take();
                    wires[wire as usize].choice = Some(self.register[*node]);
                }
                Op::Pad { wire, gate, label, position } => {
                    self.register[*node] = self.registers.take();
                    gates.entry((wire, label, gate)).or_default().push((position, self.register[*node]));
                }
                _ => {}
            }
        }
        for ((wire, label, gate), mut planes) in gates {
            planes.sort_unstable();
            wires[wire as usize].gates.push(GatePads { label, gate, planes });
        }
        wires.retain(|wire| wire.choice.is_some() || !wire.gates.is_empty());
        wires
    }

    fn emit(&mut self, segment: usize, nodes: &[usize]) -> Vec<Instruction> {
        let sent: Vec<(u32, Plane)> = (self.builder.messages.iter().zip(self.place))
            .filter(|(message, _)| message.sender == self.party && self.segment_at(message.time) == segment)
            .map(|(message, (_, place))| (*place, message.plane))
            .collect();
        let is_last = segment + 1 == self.times.len();
        let given: Vec<(u32, u32, Plane)> = self.outputs().filter(|_| is_last).collect();
        let planes = sent.iter().map(|(_, plane)| *plane).chain(given.iter().map(|(_, _, plane)| *plane));
        let handed_out = planes.filter_map(Plane::node);
        let reads: Vec<usize> = handed_out.chain(nodes.iter().flat_map(|node| self.operands(*node))).collect();
        for read in reads {
            self.reads[read] += 1;
        }
        let mut code = Vec::new();
        let mut ended = Vec::new();
        for node in nodes {
            self.compute(*node, &mut code, &mut ended);
            if self.last[*node] > segment {
                self.cell[*node] = self.cells.take();
                let register = self.register[*node];
                code.push(Instruction { code: OpCode::Store, register, operands: [self.cell[*node], 0, 0] });
            }
            if self.reads[*node] == 0 {
                self.release(*node);
            }
        }
        for (place, plane) in sent {
            self.consume(plane, OpCode::Put, [place, 0, 0], &mut code, &mut ended);
        }
        for (output, bit, plane) in given {
            self.consume(plane, OpCode::Output, [output, bit, 0], &mut code, &mut ended);
        }
        for node in ended {
            if self.last[node] == segment {
                self.cells.give(self.cell[node]);
            }
        }
        code
    }

    /// Computes a node into a register; pads are there already.
    fn compute(&mut self, node: usize, code: &mut Vec<Instruction>, loaded: &mut Vec<usize>) {
        let (op, operands) = match self.op(node) {
            Op::Choice { .. } | Op::Pad { .. } => return,
            Op::Input { input, bit } => (OpCode::Input, [self.own_input(input), bit, 0]),
            Op::Received { message } => (OpCode::Take, [self.place[message as usize].1, 0, 0]),
            Op::Not(_) => (OpCode::Not, [0; 3]),
            Op::Xor(..) => (OpCode::Xor, [0; 3]),
            Op::And(..) => (OpCode::And, [0; 3]),
            Op::Or(..) => (OpCode::Or, [0; 3]),
            Op::Xor3(..) => (OpCode::Xor3, [0; 3]),
            Op::Maj(..) => (OpCode::Maj, [0; 3]),
            Op::Mux(..) => (OpCode::Mux, [0; 3]),
            Op::AndXor(..) => (OpCode::AndXor, [0; 3]),
        };
        let mut registers = operands;
        let read: Vec<usize> = self.operands(node).collect();
        for (register, operand) in registers.iter_mut().zip(&read) {
            *register = self.load(*operand, code, loaded);
        }
        for operand in read {
            self.read_done(operand);
        }
        self.register[node] = self.registers.take();
        code.push(Instruction { code: op, register: self.register[node], operands: registers });
    }

    /// Number of an input among those that this party gives in the same stage.
    fn own_input(&self, input: u32) -> u32 {
        let inputs = &self.builder.inputs;
        let port = inputs[input as usize];
        let before = inputs[..input as usize].iter();
        before.filter(|other| other.party == port.party && other.time.stage() == port.time.stage()).count() as u32
    }

    /// The register of a node, loaded from its cell if need be.
    fn load(&mut self, node: usize, code: &mut Vec<Instruction>, loaded: &mut Vec<usize>) -> u32 {
        if self.register[node] == UNUSED {
            self.register[node] = self.registers.take();
            loaded.push(node);
            let register = self.register[node];
            code.push(Instruction { code: OpCode::Load, register, operands: [self.cell[node], 0, 0] });
        }
        self.register[node]
    }

    fn read_done(&mut self, node: usize) {
        self.reads[node] -= 1;
        if self.reads[node] == 0 {
            self.release(node);
        }
    }

    fn release(&mut self, node: usize) {
        self.registers.give(self.register[node]);
        self.register[node] = UNUSED;
    }

    /// Hands a plane out: to a frame or an output.
    fn consume(
        &mut self,
        plane: Plane,
        op: OpCode,
        operands: [u32; 3],
        code: &mut Vec<Instruction>,
        loaded: &mut Vec<usize>,
    ) {
        match plane.node() {
            Some(node) => {
                let register = self.load(node, code, loaded);
                code.push(Instruction { code: op, register, operands });
                self.read_done(node);
            }
            None => {
                let register = self.registers.take();
                let constant = if plane == Plane::ONE { OpCode::One } else { OpCode::Zero };
                code.push(Instruction { code: constant, register, operands: [0; 3] });
                code.push(Instruction { code: op, register, operands });
                self.registers.give(register);
            }
        }
    }
}
