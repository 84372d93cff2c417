//! The memory that a plan asks of a server: for each session, and for each slot that waits for its input.

use std::collections::BTreeMap;
use std::sync::Arc;

use lowkey_bridge::{Kept, Schedule};
use lowkey_mpc::ot::{Correlations, OtCount};
use lowkey_mpc::party::Party;
use lowkey_mpc::program::Program;
use serde::Serialize;

use super::{Nonlinear, Plan, Reveal, Step};

/// Bytes of a word of a server's keys in memory for a byte on the wire: unpacked, and transformed for three primes.
const KEY_EXPANSION: usize = 6;
/// Most bytes of transforms that a client keeps between inferences; more are made again for each.
const MOST_READY: usize = 128 << 20;
/// Bytes of a share, whatever its ring.
const WORD: usize = size_of::<u64>();
/// What a process takes before it has a model.
const PROCESS: u64 = 12 << 20;
/// What a session takes besides: the buffers of its connection, its thread.
const CONNECTION: usize = 256 << 10;
/// Thousandths of what a client's process holds that its allocator keeps besides, for the next one who asks, and of a server's, as measured
/// with glibc's; a client's threads each keep some.
const ALLOCATOR: [u64; 2] = [270, 125];

/// Bytes of memory of a server, apart from the model, which all sessions share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServerMemory {
    /// Of a session: seeds and tables of silent OT, and OTs in reserve. At most.
    #[serde(rename = "session_bytes")]
    pub session: u64,
    /// Of each slot that is prepared: exactly what it holds.
    #[serde(rename = "slot_bytes")]
    pub slot: u64,
    /// What a session works with while a stage runs: bodies, keys, OTs of a layer. An estimate.
    #[serde(rename = "work_bytes")]
    pub work: u64,
}

impl ServerMemory {
    /// What a session needs that holds so many slots; one at least, for it has to answer something.
    pub fn with_slots(&self, slots: usize) -> u64 {
        self.session + self.work + self.slot * slots.max(1) as u64
    }

    /// The larger of the two in everything.
    pub fn max(self, other: Self) -> Self {
        Self {
            session: self.session.max(other.session),
            slot: self.slot.max(other.slot),
            work: self.work.max(other.work),
        }
    }
}

impl Plan {
    /// The memory that a server needs, whatever is revealed.
    pub fn server_memory(&self) -> ServerMemory {
        let reveals = [Reveal::Logits, Reveal::Class];
        let larger = |of: [OtCount; 2]| of[0].larger(of[1]);
        let most = larger(reveals.map(|reveal| self.most_agreed(reveal)));
        let largest = larger(reveals.map(|reveal| self.ots_at_once(reveal)));
        let slot = reveals.map(|reveal| self.slot_bytes(reveal)).into_iter().max().unwrap_or(0);
        ServerMemory {
            session: (Correlations::most_held_bytes(most, largest) + CONNECTION) as u64,
            slot: slot as u64,
            work: self.work_bytes() as u64,
        }
    }

    /// In which form both parties keep what they multiply keys with. Transforms of a small network are ready for the next inference; those of a
    /// large one would be most of what a party holds, and making them is little beside the inference itself.
    pub fn kept(&self) -> Kept {
        let ready = self.linear.iter().filter_map(|node| node.encrypted.as_ref());
        let ready: usize = ready.map(|layer| layer.model_bytes(Kept::Ready)[0]).sum();
        if ready > MOST_READY { Kept::Packed } else { Kept::Ready }
    }

    /// What a client's process takes at its peak, and a server's, of one session with one slot, given what a server needs for these: an
    /// estimate.
    pub fn peak_bytes(&self, memory: &ServerMemory) -> [u64; 2] {
        let model =
            self.linear.iter().filter_map(|node| node.encrypted.as_ref()).map(|layer| layer.model_bytes(self.kept()));
        let [client, server] = model.fold([0, 0], |[c, v], [own, theirs]| [c + own, v + theirs]);
        let both = self.own_bytes() as u64 + memory.with_slots(1);
        // A client has made of the hint what it needs; a server sends it to whoever comes.
        let held = [client, server + self.hint_bytes()].map(|model| model as u64 + both);
        [0, 1].map(|party| PROCESS + held[party] + held[party] * ALLOCATOR[party] / 1000)
    }

    /// Bytes of memory that the plan itself takes at either party: where bodies and outputs sit, and the code of its programs.
    fn own_bytes(&self) -> usize {
        let layers = self.linear.iter().filter_map(|node| node.encrypted.as_ref()).map(|layer| layer.plan_bytes());
        // Layers that are alike share their programs.
        let mut programs = BTreeMap::new();
        for step in self.steps.iter().filter_map(Step::nonlinear) {
            for program in [&step.programs.prepared, &step.programs.direct] {
                programs.insert(Arc::as_ptr(program), program.code_bytes());
            }
        }
        layers.sum::<usize>() + programs.values().sum::<usize>()
    }

    /// Bytes of memory that the server's half of a slot holds.
    pub fn slot_bytes(&self, reveal: Reveal) -> usize {
        let outputs = self.linear.iter().filter_map(|node| node.encrypted.as_ref()).map(|layer| layer.share_bytes());
        let of_step = |step: &Nonlinear| step.programs.prepared.held_bytes(Party::Server, step.lanes);
        let programs = self.steps.iter().filter_map(Step::nonlinear).map(of_step);
        let answer = match (reveal, &self.answer.class) {
            (Reveal::Logits, _) => self.answer.logits.held_bytes(Party::Server, self.answer.lanes),
            (Reveal::Class, Some(argmax)) => argmax.held_bytes(Party::Server),
            (Reveal::Class, None) => 0,
        };
        outputs.sum::<usize>() + programs.sum::<usize>() + answer
    }

    /// The most OTs that are agreed on at a time.
    fn most_agreed(&self, reveal: Reveal) -> OtCount {
        self.ot_parts(reveal).into_iter().fold(OtCount::ZERO, |most, (_, ots)| most.larger(ots))
    }

    /// The most OTs whose keys are in memory at a time.
    fn ots_at_once(&self, reveal: Reveal) -> OtCount {
        let of_step = |step: &Nonlinear| {
            let of = |program: &Program| program.ots_at_once(step.lanes);
            of(&step.programs.prepared).larger(of(&step.programs.direct))
        };
        let steps = self.steps.iter().filter_map(Step::nonlinear).map(of_step);
        steps.fold(self.answer.demand(reveal).ots, OtCount::larger)
    }

    /// The most that pads of one program take until they are in its slots.
    fn pad_bytes(&self) -> usize {
        let of_step = |step: &Nonlinear| {
            let of = |program: &Program| program.pad_bytes(Party::Server, step.lanes);
            of(&step.programs.prepared).max(of(&step.programs.direct))
        };
        self.steps.iter().filter_map(Step::nonlinear).map(of_step).max().unwrap_or(0)
    }

    /// The server's keys of one inference, the bodies of its largest layer as they came and as words, the shares between layers, and the pads of
    /// the largest program.
    fn work_bytes(&self) -> usize {
        let body = |upload| self.body_len(upload, Schedule::Direct);
        let bodies = self.uploads.iter().map(body).max().unwrap_or(0);
        KEY_EXPANSION * self.b0_bytes() + 3 * bodies + self.halves_bytes(WORD) + self.pad_bytes()
    }
}
