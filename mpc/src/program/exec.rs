//! Running a program: prepared, offline, ready, online, each moved into the next, so that nothing runs twice.
//!
//! ```text
//! Program --prepare(OTs)--> PreparedProgram --offline(inputs)--> OfflineRun --finish--> ReadyProgram
//!         --online(inputs)--> OnlineRun --finish--> outputs
//! ```
//!
//! A run is a pure state machine: [`Turn::Send`] and [`Turn::Receive`] say what to do with the channel. In the direct
//! schedule the offline run simply comes right before the online one.

use super::code::{Code, Program};
use super::machine::{Blocks, Chunk, Chunks, FrameBuffer, Memory, Place, run};
use super::pads::{self, Portion};
use crate::correlation::ot::{Correlations, Cots, OtCount};
use crate::error::{Error, Result};
use crate::party::{Party, Stage};
use crate::primitive::bits::Planes;
use rayon::prelude::*;
use std::fmt;
use std::sync::Arc;

/// OTs whose keys are in memory at a time, 4 MB.
const AT_ONCE: usize = 1 << 18;

/// What a run needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send this payload.
    Send(Vec<u8>),
    /// Receive a payload of this many bytes and hand it to `receive`.
    Receive(usize),
    /// Nothing: take the result.
    Done,
}

/// A program with its OTs spent, before the party's inputs are known.
#[derive(Debug)]
pub struct PreparedProgram(State);

/// A program whose offline stage is over.
#[derive(Debug)]
pub struct ReadyProgram(State);

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
    cells: Chunks,
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
    pub fn prepare(self: &Arc<Self>, lanes: usize, cots: Cots) -> Result<PreparedProgram> {
        let (need, have) = (self.ots() * lanes, cots.count());
        for received_by in [Party::Client, Party::Server] {
            let (need, have) = (need.where_receives(received_by), have.where_receives(received_by));
            if need > have {
                return Err(Error::Exhausted { received_by, need, have });
            }
        }
        assert_eq!(need, have, "a program takes exactly the OTs that it spends");
        let mut state = State::new(self, cots.party(), lanes);
        let part = Portion::whole(self.ots(), lanes);
        state.keep_pads(|code, registers, place| pads::fill(code, &part, &cots, registers, place));
        Ok(PreparedProgram(state))
    }

    /// As [`prepare`](Self::prepare), with the next OTs of `ots`. Where these are many, keys become pads a part at a time: in memory they
    /// would take ten times what the pads do.
    ///
    /// # Errors
    /// Those of [`Correlations::take`].
    pub fn prepare_from(self: &Arc<Self>, lanes: usize, ots: &mut Correlations) -> Result<PreparedProgram> {
        self.prepare_in_parts(lanes, ots, AT_ONCE)
    }

    pub(super) fn prepare_in_parts(
        self: &Arc<Self>,
        lanes: usize,
        ots: &mut Correlations,
        most: usize,
    ) -> Result<PreparedProgram> {
        let need = self.ots() * lanes;
        if need.total() <= most {
            return self.prepare(lanes, ots.take(need)?);
        }
        let mut own = ots.take_in_parts(need)?;
        let mut state = State::new(self, own.party(), lanes);
        let (code, blocks) = (self.code(own.party()), state.blocks);
        let mut pads = Chunks::zero(code.pads * blocks.chunks);
        for part in Portion::cut(self.ots(), lanes, most) {
            let cots = own.next(part.ots());
            let fill = |place, pads: &mut [Chunk]| pads::fill(code, &part, &cots, pads, place);
            blocks.for_each(&mut pads.0, code.pads, fill);
        }
        state.keep_pads(|code, registers, place| {
            let own = &pads.0[code.pads * place.first..][..code.pads * place.size];
            registers[..own.len()].copy_from_slice(own);
        });
        Ok(PreparedProgram(state))
    }

    /// The most OTs that [`prepare_from`](Self::prepare_from) has in memory at a time.
    #[must_use]
    pub fn ots_at_once(&self, lanes: usize) -> OtCount {
        let need = self.ots() * lanes;
        if need.total() <= AT_ONCE {
            return need;
        }
        Portion::cut(self.ots(), lanes, AT_ONCE).iter().map(Portion::ots).fold(OtCount::ZERO, OtCount::larger)
    }

    /// Bytes of memory that [`prepare_from`](Self::prepare_from) works with besides.
    #[must_use]
    pub fn pad_bytes(&self, party: Party, lanes: usize) -> usize {
        match (self.ots() * lanes).total() <= AT_ONCE {
            true => 0,
            false => self.code(party).pads * Blocks::new(self.code(party), lanes).chunks * size_of::<Chunk>(),
        }
    }
}

impl Program {
    /// Bytes of memory that a party holds from the preparation to the end of the online stage.
    #[must_use]
    pub fn held_bytes(&self, party: Party, lanes: usize) -> usize {
        let code = self.code(party);
        code.cells * Blocks::new(code, lanes).chunks * size_of::<Chunk>()
    }
}

impl PreparedProgram {
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
    pub fn turn(&mut self) -> Turn {
        self.0.turn()
    }

    /// Takes in the frame that [`Turn::Receive`] asked for.
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
    /// Unless the last turn was [`Turn::Done`].
    #[must_use]
    pub fn finish(self) -> ReadyProgram {
        ReadyProgram(self.0.finish().0)
    }
}

impl ReadyProgram {
    /// Bytes of memory that it holds: those of [`Program::held_bytes`].
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        size_of_val(&self.0.cells.0[..])
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
    pub fn turn(&mut self) -> Turn {
        self.0.turn()
    }

    /// Takes in the frame that [`Turn::Receive`] asked for.
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
    /// Unless the last turn was [`Turn::Done`].
    #[must_use]
    pub fn finish(self) -> Vec<Planes> {
        self.0.finish().1
    }
}

impl State {
    fn new(program: &Arc<Program>, party: Party, lanes: usize) -> Self {
        let code = program.code(party);
        let blocks = Blocks::new(code, lanes);
        let cells = Chunks::zero(code.cells * blocks.chunks);
        Self { program: Arc::clone(program), party, blocks, next: 0, cells }
    }

    /// Runs the first segment, which has no frames and keeps pads in cells, on all blocks and all threads. `pads` fills the registers of a block
    /// that begin with a pad or a choice.
    fn keep_pads(&mut self, pads: impl Fn(&Code, &mut [Chunk], Place) + Sync) {
        let (code, blocks) = (self.program.code(self.party), self.blocks);
        let segment = &code.segments[0];
        assert!(segment.send.is_none() && segment.receive.is_none(), "pads come before all frames");
        let none = FrameBuffer::zero(0, blocks);
        let fresh = || Chunks::zero(code.registers * blocks.size);
        let run = |registers: &mut Chunks, ((first, size), cells): ((usize, usize), &mut [Chunk])| {
            let place = Place { first, size, cells: 0 };
            pads(code, &mut registers.0, place);
            let sent = &mut FrameBuffer::zero(0, blocks);
            run(
                &segment.code,
                &mut registers.0,
                place,
                &mut Memory { cells, received: &none, sent, inputs: &[], outputs: &mut [] },
            );
        };
        let places: Vec<_> = blocks.iter().collect();
        let cells = (code.cells * blocks.size).max(1);
        if let [place] = places[..] {
            run(&mut fresh(), (place, &mut self.cells.0));
        } else {
            places.into_par_iter().zip(self.cells.0.par_chunks_mut(cells)).for_each_init(fresh, run);
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
            let place = Place { first, size, cells: first * code.cells };
            let mut memory = Memory { cells: &mut self.cells.0, received, sent: &mut sent, inputs, outputs };
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

    fn turn(&mut self) -> Turn {
        while let Some(due) = self.due() {
            if let Some(frame) = due {
                return Turn::Receive(self.frame_bytes(frame));
            }
            let none = FrameBuffer::zero(0, self.state.blocks);
            let received = self.received.take().unwrap_or(none);
            let (inputs, outputs) = (&self.inputs, &mut self.outputs);
            let sent = self.state.segment(&mut self.registers, &received, inputs, outputs);
            let code = self.state.program.code(self.state.party);
            if code.segments[self.state.next - 1].send.is_some() {
                return Turn::Send(sent.encode(self.state.blocks.lanes));
            }
        }
        Turn::Done
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
        assert!(self.due().is_none(), "a run is finished after its last turn");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Search;
    use crate::maxpool;
    use crate::program::Time;
    use crate::spec::Finish;
    use crate::transport::channel::Channel;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    /// Both parties' OTs, alike whenever they are set up.
    async fn pools() -> [Correlations; 2] {
        let (mut to_server, mut to_client) = Channel::pair();
        let [mut own, mut theirs] = [1, 2].map(ChaCha20Rng::seed_from_u64);
        let pools = tokio::join!(
            Correlations::setup(&mut to_server, &mut own),
            Correlations::setup(&mut to_client, &mut theirs)
        );
        [pools.0.unwrap(), pools.1.unwrap()]
    }

    fn words(prepared: &PreparedProgram) -> Vec<[u64; 8]> {
        prepared.0.cells.0.iter().map(|chunk| chunk.0).collect()
    }

    /// However the OTs are taken, the same pads are kept, and the same OTs come next. Both parties receive on some wires.
    #[tokio::test]
    async fn parts_make_the_pads_of_the_whole() {
        let pool = maxpool::Spec { bits: 3, window: 4, client: Time::OFFLINE, server: Time::START };
        let choice = Search::new(0.73).max_pool(pool, Finish::Share { ring: 11 }).unwrap().swap_remove(0);
        let program = Arc::new(maxpool::program(pool, &choice.layout, Finish::Share { ring: 11 }).unwrap());
        let OtCount { client_receives, server_receives } = program.ots();
        assert!(client_receives > 1 && server_receives > 1);
        for lanes in [1, 63, 600, 1500] {
            let (mut whole, mut cut) = (pools().await, pools().await);
            for most in [1, 100, 1024, 5000] {
                for (whole, cut) in whole.iter_mut().zip(&mut cut) {
                    let own = whole.take(program.ots() * lanes).unwrap();
                    let expected = program.prepare(lanes, own).unwrap();
                    let found = program.prepare_in_parts(lanes, cut, most).unwrap();
                    assert!(words(&expected) == words(&found), "{lanes} lanes, {most} at a time");
                    assert_eq!(whole.next_index(), cut.next_index());
                }
            }
        }
    }

    /// Parts are no larger than was asked for, or one chunk of one wire, and all OTs are in one of them, in order.
    #[test]
    fn parts_are_small_and_complete() {
        let ots = OtCount { client_receives: 3, server_receives: 5 };
        for lanes in [1, 511, 512, 513, 3000] {
            for most in [1, 512, 1500, 4000, 100_000] {
                let parts = Portion::cut(ots, lanes, most);
                assert_eq!(parts.iter().map(Portion::ots).sum::<OtCount>(), ots * lanes);
                assert!(parts.iter().all(|part| part.ots().total() <= most.max(512)), "{lanes} {most}");
                for receiver in [0, 1] {
                    let of_wire = |part: &Portion, wire: usize| part.lanes.clone().map(move |lane| wire * lanes + lane);
                    let of_part =
                        |part: &Portion| part.wires[receiver].clone().flat_map(|wire| of_wire(part, wire)).collect();
                    let indices: Vec<usize> = parts.iter().flat_map(|part| -> Vec<usize> { of_part(part) }).collect();
                    assert!(indices.into_iter().eq(0..[3, 5][receiver] * lanes), "{lanes} lanes, {most} at a time");
                }
            }
        }
    }

    /// A part that is not taken is spent with the rest.
    #[tokio::test]
    async fn what_is_left_of_parts_is_spent() {
        let mut pool = pools().await;
        let need = OtCount { client_receives: 100, server_receives: 70 };
        let before = pool[0].available();
        drop(pool[0].take_in_parts(need).unwrap().next(OtCount { client_receives: 30, server_receives: 0 }));
        assert_eq!(before.less(need), Some(pool[0].available()));
        let too_many = OtCount { client_receives: 0, server_receives: before.server_receives };
        assert!(pool[0].take_in_parts(too_many).is_err());
    }
}
