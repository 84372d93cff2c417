//! Running a program: prepared, offline, ready, online, each moved into the next, so that nothing runs twice.
//!
//! ```text
//! Program --prepare(OTs)--> Prepared --offline(inputs)--> OfflineRun --finish--> Ready --online(inputs)--> OnlineRun --finish--> outputs
//! ```
//!
//! A run is a pure state machine: [`Step::Send`] and [`Step::Receive`] say what to do with the channel. In the direct
//! schedule the offline run simply comes right before the online one.

use super::code::Program;
use super::machine::{Blocks, Chunk, Chunks, FrameBuffer, Memory, Place, run};
use super::pads;
use crate::correlation::ot::Cots;
use crate::error::{Error, Result};
use crate::party::{Party, Stage};
use crate::primitive::bits::Planes;
use rayon::prelude::*;
use std::fmt;
use std::sync::Arc;

/// What a run needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this payload.
    Send(Vec<u8>),
    /// Receive a payload of this many bytes and hand it to `receive`.
    Receive(usize),
    /// Nothing: take the result.
    Done,
}

/// A program with its OTs spent, before the party's inputs are known.
#[derive(Debug)]
pub struct Prepared(State);

/// A program whose offline stage is over.
#[derive(Debug)]
pub struct Ready(State);

/// The offline stage of a program, under way.
#[derive(Debug)]
pub struct OfflineRun(Run);

/// The online stage of a program, under way.
#[derive(Debug)]
pub struct OnlineRun(Run);

/// The planes of one party that are kept between segments.
struct State {
    program: Arc<Program>,
    party: Party,
    blocks: Blocks,
    /// The segment to run next.
    next: usize,
    slots: Chunks,
}

/// A state, and what its segments of one stage work with.
struct Run {
    state: State,
    stage: Stage,
    inputs: Vec<Planes>,
    outputs: Vec<Planes>,
    registers: Chunks,
    received: Option<FrameBuffer>,
}

impl Program {
    /// Turns the OTs of `lanes` lanes into pads. The keys are wiped.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if there are fewer OTs than `self.ots() * lanes`.
    ///
    /// # Panics
    /// If there are more.
    pub fn prepare(self: &Arc<Self>, lanes: usize, cots: Cots) -> Result<Prepared> {
        let (need, have, party) = (self.ots() * lanes, cots.count(), cots.party());
        for received_by in [Party::Client, Party::Server] {
            let (need, have) = (need.where_receives(received_by), have.where_receives(received_by));
            if need > have {
                return Err(Error::Exhausted { received_by, need, have });
            }
        }
        assert_eq!(need, have, "a program takes exactly the OTs that it spends");
        let code = self.code(party);
        let blocks = Blocks::new(code, lanes);
        let slots = Chunks::zero(code.slots * blocks.chunks);
        let mut state = State { program: Arc::clone(self), party, blocks, next: 0, slots };
        state.keep_pads(&cots);
        Ok(Prepared(state))
    }
}

impl Program {
    /// Bytes of memory that a party holds from the preparation to the end of the online stage.
    #[must_use]
    pub fn held_bytes(&self, party: Party, lanes: usize) -> usize {
        let code = self.code(party);
        code.slots * Blocks::new(code, lanes).chunks * size_of::<Chunk>()
    }
}

impl Prepared {
    /// Starts the offline stage with this party's inputs of offline times, in the order of [`Program::inputs`].
    ///
    /// # Panics
    /// If number, width or lanes of the inputs are wrong.
    #[must_use]
    pub fn offline(self, inputs: Vec<Planes>) -> OfflineRun {
        OfflineRun(Run::new(self.0, Stage::Offline, inputs))
    }
}

impl OfflineRun {
    /// Runs until a frame is due.
    #[must_use]
    pub fn step(&mut self) -> Step {
        self.0.step()
    }

    /// Takes in the frame that [`Step::Receive`] asked for.
    ///
    /// # Errors
    /// [`Error::Protocol`] if its length is wrong or a bit beyond the last lane is set.
    ///
    /// # Panics
    /// If no frame is due.
    pub fn receive(&mut self, frame: &[u8]) -> Result<()> {
        self.0.receive(frame)
    }

    /// Ends the stage.
    ///
    /// # Panics
    /// Unless the last step was [`Step::Done`].
    #[must_use]
    pub fn finish(self) -> Ready {
        Ready(self.0.finish().0)
    }
}

impl Ready {
    /// Bytes of memory that it holds: those of [`Program::held_bytes`].
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        size_of_val(&self.0.slots.0[..])
    }

    /// Starts the online stage with this party's other inputs, in the order of [`Program::inputs`].
    ///
    /// # Panics
    /// If number, width or lanes of the inputs are wrong.
    #[must_use]
    pub fn online(self, inputs: Vec<Planes>) -> OnlineRun {
        OnlineRun(Run::new(self.0, Stage::Online, inputs))
    }
}

impl OnlineRun {
    /// Runs until a frame is due.
    #[must_use]
    pub fn step(&mut self) -> Step {
        self.0.step()
    }

    /// Takes in the frame that [`Step::Receive`] asked for.
    ///
    /// # Errors
    /// [`Error::Protocol`] if its length is wrong or a bit beyond the last lane is set.
    ///
    /// # Panics
    /// If no frame is due.
    pub fn receive(&mut self, frame: &[u8]) -> Result<()> {
        self.0.receive(frame)
    }

    /// This party's outputs, in the order of [`Program::outputs`].
    ///
    /// # Panics
    /// Unless the last step was [`Step::Done`].
    #[must_use]
    pub fn finish(self) -> Vec<Planes> {
        self.0.finish().1
    }
}

impl State {
    /// Runs the first segment, which has no frames and keeps pads in slots, on all blocks and all threads.
    fn keep_pads(&mut self, cots: &Cots) {
        let (code, blocks) = (self.program.code(self.party), self.blocks);
        let segment = &code.segments[0];
        assert!(segment.send.is_none() && segment.receive.is_none(), "pads come before all frames");
        let none = FrameBuffer::zero(0, blocks);
        let fresh = || Chunks::zero(code.registers * blocks.size);
        let run = |registers: &mut Chunks, ((first, size), slots): ((usize, usize), &mut [Chunk])| {
            let place = Place { first, size, slots: 0 };
            pads::fill(code, cots, blocks.lanes, &mut registers.0, place);
            let sent = &mut FrameBuffer::zero(0, blocks);
            run(
                &segment.code,
                &mut registers.0,
                place,
                &mut Memory { slots, received: &none, sent, inputs: &[], outputs: &mut [] },
            );
        };
        let places: Vec<_> = blocks.iter().collect();
        let slots = (code.slots * blocks.size).max(1);
        if let [place] = places[..] {
            run(&mut fresh(), (place, &mut self.slots.0));
        } else {
            places.into_par_iter().zip(self.slots.0.par_chunks_mut(slots)).for_each_init(fresh, run);
        }
        self.next = 1;
    }

    /// Runs the next segment on all blocks; returns what it has put into its frame.
    fn segment(
        &mut self,
        registers: &mut Chunks,
        received: &FrameBuffer,
        inputs: &[Planes],
        outputs: &mut [Planes],
    ) -> FrameBuffer {
        let code = self.program.code(self.party);
        let segment = &code.segments[self.next];
        let planes = segment.send.map_or(0, |frame| self.program.frames[frame].planes);
        let mut sent = FrameBuffer::zero(planes, self.blocks);
        for (first, size) in self.blocks.iter() {
            let place = Place { first, size, slots: first * code.slots };
            let mut memory = Memory { slots: &mut self.slots.0, received, sent: &mut sent, inputs, outputs };
            run(&segment.code, &mut registers.0, place, &mut memory);
        }
        self.next += 1;
        sent
    }
}

impl Run {
    fn new(state: State, stage: Stage, inputs: Vec<Planes>) -> Self {
        let mine = state.program.inputs().iter().filter(|port| port.party == state.party);
        let widths: Vec<usize> = mine.filter(|port| port.time.stage() == stage).map(|port| port.width).collect();
        let given: Vec<usize> = inputs.iter().map(Planes::width).collect();
        assert_eq!(given, widths, "widths of the inputs of the {} in the {stage} stage", state.party);
        let lanes = state.blocks.lanes;
        assert!(inputs.iter().all(|input| input.lanes() == lanes), "every input has {lanes} lanes");
        let outputs = state.program.outputs().iter().filter(|port| port.party == state.party);
        let outputs = match stage {
            Stage::Online => outputs.map(|port| Planes::zero(lanes, port.width)).collect(),
            Stage::Setup | Stage::Offline => Vec::new(),
        };
        let registers = Chunks::zero(state.program.code(state.party).registers * state.blocks.size);
        Self { state, stage, inputs, outputs, registers, received: None }
    }

    /// The index of the frame that the next segment of this stage awaits, if there is a segment left.
    fn due(&self) -> Option<Option<usize>> {
        let segments = &self.state.program.code(self.state.party).segments;
        let segment = segments.get(self.state.next).filter(|segment| segment.time.stage() == self.stage)?;
        Some(segment.receive.filter(|_| self.received.is_none()))
    }

    fn step(&mut self) -> Step {
        while let Some(due) = self.due() {
            if let Some(frame) = due {
                return Step::Receive(self.frame_bytes(frame));
            }
            let none = FrameBuffer::zero(0, self.state.blocks);
            let received = self.received.take().unwrap_or(none);
            let (inputs, outputs) = (&self.inputs, &mut self.outputs);
            let sent = self.state.segment(&mut self.registers, &received, inputs, outputs);
            let code = self.state.program.code(self.state.party);
            if code.segments[self.state.next - 1].send.is_some() {
                return Step::Send(sent.encode(self.state.blocks.lanes));
            }
        }
        Step::Done
    }

    fn frame_bytes(&self, frame: usize) -> usize {
        FrameBuffer::bytes(self.state.program.frames[frame].planes, self.state.blocks.lanes)
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<()> {
        let frame = self.due().flatten().expect("a frame is handed over only when one is due");
        let expected = self.frame_bytes(frame);
        if bytes.len() != expected {
            return Err(Error::protocol("bytes of a frame of planes", expected, bytes.len()));
        }
        let planes = self.state.program.frames[frame].planes;
        let decoded = FrameBuffer::decode(bytes, planes, self.state.blocks);
        self.received = Some(decoded.ok_or_else(|| Error::protocol("bits beyond the last lane", "zero", "not zero"))?);
        Ok(())
    }

    fn finish(self) -> (State, Vec<Planes>) {
        assert!(self.due().is_none(), "a run is finished after its last step");
        (self.state, self.outputs)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({}, {} lanes, segment {}, ..)", self.party, self.blocks.lanes, self.next)
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({:?}, {})", self.state, self.stage)
    }
}
