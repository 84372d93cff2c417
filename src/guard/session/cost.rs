//! What a guarded inference will send, frame by frame, and what it takes: the plan's prediction, which the sockets' counters must meet.
//!
//! Triples are made in batches for many slots and charged as they are used, at the price of a batch, like OTs; a slot that is opened gives
//! them back. With probability p a slot is opened, so that 1 / (1 - p) are prepared for each that is used.

use lowkey_mpc::channel::Sums;
use lowkey_mpc::demand::Demand;
use lowkey_mpc::guard::{CHALLENGE_BYTES, Circuit, Flights, Origin, PROOF_BYTES, Triples};
use lowkey_mpc::ot::{Correlations, price};
use lowkey_mpc::party::{Party, Stage};

use super::super::audit::AuditRate;
use super::super::circuits::{Circuits, Layer};
use super::super::exchange::{Complete, Settled, Word};
use super::super::slot::{ANSWER_BYTES, COMMITMENT_BYTES, NONCE_BYTES};
use super::batches;
use crate::cost::{Frames, Prediction, request};
use crate::plan::{NodeId, Plan, Reveal, ServerMemory};
use crate::report::{Measured, charged_bytes};
use crate::scope::{CONTROL, TRIPLES};
use crate::session::{Action, Done};

/// Bytes of what is kept of a bit, and while it is made.
const TAG: usize = Triples::BYTES / 3;
const BLOCK: usize = 16;
/// Bytes that a party holds for a triple that is made, while its batch is: itself as it was made and in the order of the batch, its OTs, its
/// messages.
const MAKING: usize = 6 * BLOCK + 16;

/// What a guarded inference sends.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// The offline stage of one slot, opened or not, up to the coin; and the online stage. OTs of triples are no part of its demand.
    pub slot: Prediction,
    /// The request for a slot, however many are prepared.
    pub request: u64,
    /// What is sent where a slot is opened.
    pub opening: u64,
    /// Triples of a slot, used once.
    pub triples: usize,
}

impl Forecast {
    /// Of a plan with these circuits.
    pub fn new(plan: &Plan, circuits: &Circuits, reveal: Reveal) -> Self {
        let (offline, online) = (Stage::Offline, Stage::Online);
        let mut frames = Frames::default();
        frames.control(offline, Party::Client, &request(Action::Prepare { slot: 0, reveal }));
        frames.push(offline, Party::Client, CONTROL, ANSWER_BYTES);
        frames.control(offline, Party::Server, &Settled { slot: 0 });
        let mut apart = std::mem::take(&mut frames).frames.into_iter().map(|frame| frame.bytes);
        let request_bytes = apart.next().expect("just pushed");
        let opening = apart.sum();

        frames.push(offline, Party::Client, CONTROL, COMMITMENT_BYTES);
        frames.push(offline, Party::Server, CONTROL, NONCE_BYTES);
        frames.lattice(plan);
        for layer in circuits.all(reveal) {
            let bytes = layer.circuit.early_bytes(layer.lanes);
            if bytes > 0 {
                frames.push(offline, Party::Client, layer.scope(plan), bytes);
            }
        }
        if circuits.all(reveal).any(|layer| layer.circuit.proved() > 0) {
            frames.push(offline, Party::Server, CONTROL, CHALLENGE_BYTES);
            frames.push(offline, Party::Client, CONTROL, PROOF_BYTES);
        }
        frames.control(offline, Party::Client, &Complete { sums: Sums::default() });
        frames.control(offline, Party::Server, &Word::Use);

        frames.control(online, Party::Client, &request(Action::Run { slot: 0 }));
        for layer in circuits.all(reveal) {
            frames.circuit(&layer.circuit, layer.lanes, layer.scope(plan));
        }
        frames.control(online, Party::Server, &Done { sums: Sums::default() });
        let slot = Prediction { frames: frames.frames, demand: demand(circuits, reveal) };
        Self { slot, request: request_bytes, opening, triples: circuits.triples(reveal) }
    }

    /// Bytes of both parties before the input is known where `slots` were prepared for one that was used, OTs and triples at their price.
    pub fn offline_bytes(&self, slots: u64) -> u64 {
        let charged = charged_bytes(self.slot.demand * slots as usize);
        self.request
            + slots * sent(&self.slot, Stage::Offline)
            + (slots - 1) * self.opening
            + charged
            + self.triple_bytes()
    }

    /// The same, on average at a rate of audits.
    pub fn mean_offline_bytes(&self, rate: AuditRate) -> f64 {
        let slots = 1.0 / (1.0 - rate.probability());
        let of_slot = sent(&self.slot, Stage::Offline) + charged_bytes(self.slot.demand);
        let of_slots = slots * of_slot as f64 + (slots - 1.0) * self.opening as f64;
        (self.request + self.triple_bytes()) as f64 + of_slots
    }

    /// Bytes of both parties for a slot that is opened.
    pub fn opened_bytes(&self) -> u64 {
        self.offline_bytes(2) - self.offline_bytes(1)
    }

    /// Bytes of both parties after that.
    pub fn online_bytes(&self) -> u64 {
        sent(&self.slot, Stage::Online)
    }

    /// Flights after the input is known.
    pub fn flights(&self) -> u64 {
        self.slot.flights(Stage::Online, &[])
    }

    /// The triples of a slot.
    fn triple_bytes(&self) -> u64 {
        triple_charges(self.triples).iter().sum()
    }

    /// What a stage may send: a slot and its triples, those of a whole batch.
    pub(crate) fn most_bytes(&self) -> u64 {
        let made = batches(self.triples).iter().map(|batch| batch.good()).sum();
        self.offline_bytes(2) + self.online_bytes() + 2 * triple_charges(made).iter().sum::<u64>()
    }
}

fn sent(prediction: &Prediction, stage: Stage) -> u64 {
    prediction.bytes(stage, Party::Client) + prediction.bytes(stage, Party::Server)
}

/// OTs of one slot, those of its triples not included.
pub(crate) fn demand(circuits: &Circuits, reveal: Reveal) -> Demand {
    circuits.ots(reveal).into()
}

/// What `count` triples cost each party to send, the client first, at the price of the batches that are made where so many are missing.
fn triple_charges(count: usize) -> [u64; 2] {
    if count == 0 {
        return [0; 2];
    }
    let batch = batches(count)[0];
    let cost = batch.cost();
    let share = |bytes: f64| (bytes * count as f64 / batch.good() as f64).ceil() as u64;
    let frames = |sender| cost.bytes(Stage::Offline, sender) as f64;
    let ots = cost.demand.ots.total() as f64 * price::BYTES_PER_OT;
    [share(frames(Party::Client)), share(frames(Party::Server) + ots)]
}

/// An offline stage as it is charged: triples as they are used.
pub(crate) fn charged(mut measured: Measured, party: Party, triples: usize) -> Measured {
    let stage = &mut measured.stage;
    if let Some(place) = measured.scopes.iter().position(|(scope, _)| scope == TRIPLES) {
        let (_, made) = measured.scopes.remove(place);
        stage.bytes_sent -= made.bytes_sent;
        stage.bytes_received -= made.bytes_received;
    }
    let [mut own, mut others] = triple_charges(triples);
    if party == Party::Server {
        std::mem::swap(&mut own, &mut others);
    }
    stage.bytes_sent += own;
    stage.bytes_received += others;
    measured
}

impl Frames {
    /// The frames of a circuit's online stage, those of an exchange in one group.
    fn circuit(&mut self, circuit: &Circuit, lanes: usize, scope: &str) {
        let first = usize::from(circuit.input_planes(Origin::Late) > 0);
        let exchanged = first..first + 2 * circuit.depth();
        for (index, frame) in circuit.online_frames(lanes, &mut Flights::default()).into_iter().enumerate() {
            let second = exchanged.contains(&index) && (index - first) % 2 == 1;
            if second {
                self.push_together(Stage::Online, frame.sender, scope, frame.bytes);
            } else {
                self.push(Stage::Online, frame.sender, scope, frame.bytes);
            }
        }
    }
}

impl Circuits {
    /// Bytes of both parties for the OTs and the triples of one node, at their price.
    pub fn charged_bytes(&self, node: NodeId) -> u64 {
        let of = |layer: &Layer| {
            let ots = charged_bytes(layer.circuit.ots_of_bits(layer.lanes).into());
            ots + triple_charges(layer.triples()).iter().sum::<u64>()
        };
        self.of(node).iter().map(of).sum()
    }

    /// The memory that a server needs for guarded sessions, whatever is revealed. An estimate, on the safe side.
    pub fn server_memory(&self, plan: &Plan) -> ServerMemory {
        memory(plan, self)
    }
}

fn memory(plan: &Plan, circuits: &Circuits) -> ServerMemory {
    let (plain, reveals) = (plan.server_memory(), [Reveal::Logits, Reveal::Class]);
    let of = |reveal: Reveal| {
        let batch = batches(circuits.triples(reveal))[0];
        let kept = circuits.all(reveal).map(|layer| {
            let planes = [Origin::Early, Origin::Late].map(|origin| layer.circuit.input_planes(origin));
            // What is proved, and sums of what is known.
            TAG * layer.lanes * (3 * planes[0] + planes[1]) + Triples::BYTES * layer.triples()
        });
        let need = batch.ots() + circuits.ots(reveal);
        let session = Correlations::most_held_bytes(need, batch.ots()) + Triples::BYTES * batch.good();
        let widest = circuits.all(reveal).map(|layer| TAG * layer.lanes * layer.circuit.triples()).max().unwrap_or(0);
        // All blocks that the proof reads, z, copies of x and y, and both terms of each product, twice.
        let proved = |layer: &Layer| layer.circuit.input_planes(Origin::Early) + 8 * layer.circuit.proved();
        let proof = circuits.all(reveal).map(|layer| BLOCK * layer.lanes * proved(layer)).sum();
        ServerMemory {
            session: plain.session + session as u64,
            slot: plain.slot + kept.sum::<usize>() as u64,
            work: plain.work + (MAKING * batch.triples()).max(2 * widest).max(proof) as u64,
        }
    };
    let [logits, class] = reveals.map(of);
    logits.max(class)
}
