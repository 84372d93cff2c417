//! What an inference will send, frame by frame: the plan's prediction, which the sockets' counters must meet.

#![deny(clippy::wildcard_enum_match_arm)]

use lowkey_bridge::Schedule;
use lowkey_he::pack;
use lowkey_mpc::channel::{HEADER_BYTES, Sums};
use lowkey_mpc::demand::Demand;
use lowkey_mpc::ot::{NextIndex, price};
use lowkey_mpc::party::{Party, Stage};
use lowkey_mpc::program::{Cost, Time};
use lowkey_mpc::wire;
use serde::Serialize;

use crate::plan::{Nonlinear, Plan, Reveal, Step};
use crate::scope::{CONTROL, INPUT, KEYS, OUTPUT};
use crate::session::{Accept, Action, Ask, Done, HINT_CHUNK, Hello, Ready, Request, Welcome};

/// One frame, header included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When.
    pub stage: Stage,
    /// Who.
    pub sender: Party,
    /// What for: a node's name, or one of the scopes that belong to no layer.
    pub scope: String,
    /// Bytes, header included.
    pub bytes: u64,
    /// Frames of one group are sent by both parties before either receives the other's.
    group: u32,
}

/// The frames of one inference, in order, and what it spends; batches of OTs excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// All frames.
    pub frames: Vec<Frame>,
    /// What is spent.
    pub demand: Demand,
}

impl Prediction {
    /// Bytes that a party sends in a stage.
    pub fn bytes(&self, stage: Stage, sender: Party) -> u64 {
        self.frames.iter().filter(|f| f.stage == stage && f.sender == sender).map(|f| f.bytes).sum()
    }

    /// Bytes of both parties in one stage for one scope.
    pub fn scope_bytes(&self, stage: Stage, scope: &str) -> u64 {
        self.frames.iter().filter(|f| f.stage == stage && f.scope == scope).map(|f| f.bytes).sum()
    }

    /// One-way latencies on the critical path of a stage: the largest frame depth, where a frame's depth is 1 + the largest
    /// that its sender has received. `batches` are the parties that send a batch of OTs after the request; each batch is checked before
    /// anything else is sent.
    pub fn flights(&self, stage: Stage, batches: &[Party]) -> u64 {
        self.added(stage, batches).map(|(_, added)| added).sum()
    }

    /// Those by which the frames of a scope make the path longer, without batches: of all scopes they sum up to [`flights`](Self::flights).
    pub fn scope_flights(&self, stage: Stage, scope: &str) -> u64 {
        self.added(stage, &[]).filter(|(of, _)| *of == scope).map(|(_, added)| added).sum()
    }

    /// By group of frames, in order: the scope, and by how much it makes the critical path longer.
    fn added(&self, stage: Stage, batches: &[Party]) -> impl Iterator<Item = (&str, u64)> {
        let mut groups: Vec<(&str, Vec<Party>)> = Vec::new();
        let mut last = None;
        for frame in self.frames.iter().filter(|frame| frame.stage == stage) {
            if last == Some(frame.group) {
                groups.last_mut().expect("a group was begun").1.push(frame.sender);
            } else {
                groups.push((&frame.scope, vec![frame.sender]));
                last = Some(frame.group);
            }
        }
        if !groups.is_empty() && !batches.is_empty() {
            // The sums, what the receivers reply, and what the senders answer.
            let replies = batches.iter().map(|party| party.other()).collect();
            groups.splice(1..1, [batches.to_vec(), replies, batches.to_vec()].map(|senders| (CONTROL, senders)));
        }
        let at = |party: Party| usize::from(party == Party::Server);
        let mut received = [0u64; 2];
        let mut largest = 0;
        groups.into_iter().map(move |(scope, group)| {
            let before = largest;
            let depths: Vec<(Party, u64)> = group.iter().map(|&sender| (sender, 1 + received[at(sender)])).collect();
            for (sender, depth) in depths {
                largest = largest.max(depth);
                let receiver = &mut received[at(sender.other())];
                *receiver = (*receiver).max(depth);
            }
            (scope, largest - before)
        })
    }
}

/// Bytes of the setup stage of a client that names no model, with the hint sent, both directions: handshake, plan, hint, base OTs and
/// bootstrap, checksums. Given are the bytes of the plan's text and of the hint.
pub(crate) fn setup_bytes(plan: usize, hint: usize) -> u64 {
    control(&Hello::new(Ask::Only))
        + package_bytes(plan, hint)
        + 2 * price::SETUP_BYTES as u64
        + 2 * control(&Sums::default())
}

/// Of these what a model takes: welcome, plan, hint, and that it is wanted.
pub(crate) fn package_bytes(plan: usize, hint: usize) -> u64 {
    let frames = 1 + hint.div_ceil(HINT_CHUNK);
    control(&Welcome::refusal()) + control(&Accept { send_hint: true }) + (plan + hint + frames * HEADER_BYTES) as u64
}

/// The frame of a control message.
fn control<T: Serialize>(message: &T) -> u64 {
    (HEADER_BYTES + encoded(message)) as u64
}

fn encoded<T: Serialize>(message: &T) -> usize {
    wire::encode(message).expect("control messages are encodable").len()
}

/// Frames in the order in which they are sent.
#[derive(Default)]
pub(crate) struct Frames {
    pub(crate) frames: Vec<Frame>,
    group: u32,
}

impl Frames {
    /// The next frame.
    pub(crate) fn push(&mut self, stage: Stage, sender: Party, scope: &str, payload: usize) {
        self.group += 1;
        self.push_together(stage, sender, scope, payload);
    }

    /// The next frame, which is sent before the one before it is received.
    pub(crate) fn push_together(&mut self, stage: Stage, sender: Party, scope: &str, payload: usize) {
        let bytes = (HEADER_BYTES + payload) as u64;
        self.frames.push(Frame { stage, sender, scope: scope.to_owned(), bytes, group: self.group });
    }

    /// The next control message.
    pub(crate) fn control<T: Serialize>(&mut self, stage: Stage, sender: Party, message: &T) {
        self.push(stage, sender, CONTROL, encoded(message));
    }

    /// The frames of one stage of a program, sent in stage `during`.
    fn program(&mut self, cost: &Cost, of: Stage, during: Stage, scope: &str) {
        let mut last: Option<Time> = None;
        for frame in cost.frames.iter().filter(|frame| frame.time.stage() == of) {
            let group = self.group;
            self.push(during, frame.sender, scope, frame.bytes);
            if last == Some(frame.time) {
                self.group = group;
                self.frames.last_mut().expect("just pushed").group = group;
            }
            last = Some(frame.time);
        }
    }
}

/// Predicts one inference: of the prepared schedule its offline and online stage, of the direct one its only stage.
pub fn predict(plan: &Plan, schedule: Schedule, reveal: Reveal) -> Prediction {
    let mut all = Frames::default();
    match schedule {
        Schedule::Prepared => all.prepared(plan, reveal),
        Schedule::Direct => all.direct(plan, reveal),
    }
    all.control(Stage::Online, Party::Server, &Done { sums: Sums::default() });
    Prediction { frames: all.frames, demand: plan.demand(reveal) }
}

/// A request, whose length depends on what is asked for only.
pub(crate) fn request(action: Action) -> Request {
    Request { action, ots: NextIndex { client_receives: 0, server_receives: 0 }, sums: Sums::default() }
}

/// What the programs of a plan send, each with its scope, in order; that of the output last.
fn programs(plan: &Plan, schedule: Schedule, reveal: Reveal) -> Vec<(&str, Cost)> {
    let of_step = |step: &Nonlinear| (plan.name(step.node), step.programs.of(schedule).cost(step.lanes));
    let of_step = plan.steps.iter().filter_map(Step::nonlinear).map(of_step);
    let answer = match (reveal, &plan.answer.class) {
        (Reveal::Logits, _) => Some(plan.answer.logits.cost(plan.answer.lanes)),
        (Reveal::Class, Some(argmax)) => Some(argmax.cost()),
        (Reveal::Class, None) => None,
    };
    of_step.chain(answer.map(|cost| (OUTPUT, cost))).collect()
}

impl Frames {
    /// The client's lattice work of one slot.
    pub(crate) fn lattice(&mut self, plan: &Plan) {
        self.push(Stage::Offline, Party::Client, KEYS, plan.b0_bytes());
        for upload in &plan.uploads {
            let scope = plan.name(plan.linear[upload.linear].node);
            self.push(Stage::Offline, Party::Client, scope, plan.body_len(upload, Schedule::Prepared));
        }
    }

    fn prepared(&mut self, plan: &Plan, reveal: Reveal) {
        let (offline, online) = (Stage::Offline, Stage::Online);
        let programs = programs(plan, Schedule::Prepared, reveal);
        self.control(offline, Party::Client, &request(Action::Prepare { slot: 0, reveal }));
        self.lattice(plan);
        for (scope, cost) in &programs {
            self.program(cost, Stage::Offline, offline, scope);
        }
        self.control(offline, Party::Server, &Ready { slot: 0, sums: Sums::default() });

        self.control(online, Party::Client, &request(Action::Run { slot: 0 }));
        self.push(online, Party::Client, INPUT, pack::packed_len(plan.input().elements(), plan.input_ring().width()));
        for (scope, cost) in &programs {
            self.program(cost, Stage::Online, online, scope);
        }
    }

    fn direct(&mut self, plan: &Plan, reveal: Reveal) {
        let online = Stage::Online;
        self.control(online, Party::Client, &request(Action::Direct { slot: 0, reveal }));
        self.push(online, Party::Client, KEYS, plan.b0_bytes());
        let mut programs = programs(plan, Schedule::Direct, reveal).into_iter();
        let both_halves = |frames: &mut Self, (scope, cost): (&str, Cost)| {
            frames.program(&cost, Stage::Offline, online, scope);
            frames.program(&cost, Stage::Online, online, scope);
        };
        for (node, step) in plan.steps.pairs() {
            match step {
                Step::Linear(linear) => {
                    for upload in plan.uploads_of(*linear) {
                        self.push(online, Party::Client, plan.name(node), plan.body_len(upload, Schedule::Direct));
                    }
                }
                Step::Nonlinear(_) => both_halves(self, programs.next().expect("one per nonlinear step")),
                Step::Local { .. } | Step::Reshape => {}
            }
        }
        programs.for_each(|program| both_halves(self, program));
    }
}
