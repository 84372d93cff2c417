//! Both parties of a program in one thread, over ideal OTs: what the tests of all protocols share.

use super::{OfflineRun, OnlineRun, Program, Turn};
use crate::correlation::ot::ideal;
use crate::error::Result;
use crate::party::{Party, Stage};
use crate::primitive::bits::Planes;
use crate::spec::Finish;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;

/// A frame that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub stage: Stage,
    pub sender: Party,
    pub payload: Vec<u8>,
}

/// Outputs of both parties, and everything that was sent.
pub(crate) struct Outcome {
    pub client: Vec<Planes>,
    pub server: Vec<Planes>,
    pub frames: Vec<Sent>,
}

trait Machine {
    fn turn(&mut self) -> Turn;
    fn receive(&mut self, frame: &[u8]) -> Result<()>;
}

macro_rules! machine {
    ($($run:ty),*) => {$(
        impl Machine for $run {
            fn turn(&mut self) -> Turn {
                self.turn()
            }
            fn receive(&mut self, frame: &[u8]) -> Result<()> {
                self.receive(frame)
            }
        }
    )*};
}
machine!(OfflineRun, OnlineRun);

/// Runs both machines of a stage to their end.
fn converse(client: &mut impl Machine, server: &mut impl Machine, stage: Stage, frames: &mut Vec<Sent>) {
    let mut queues = [std::collections::VecDeque::new(), std::collections::VecDeque::new()];
    loop {
        let mut idle = true;
        for sender in [Party::Client, Party::Server] {
            let machine: &mut dyn Machine = if sender == Party::Client { client } else { server };
            let (mine, theirs) = (usize::from(sender == Party::Server), usize::from(sender == Party::Client));
            match machine.turn() {
                Turn::Done => continue,
                Turn::Send(payload) => {
                    queues[theirs].push_back(payload.clone());
                    frames.push(Sent { stage, sender, payload });
                }
                Turn::Receive(len) => {
                    let Some(frame): Option<Vec<u8>> = queues[mine].pop_front() else { continue };
                    assert_eq!(frame.len(), len);
                    machine.receive(&frame).unwrap();
                }
            }
            idle = false;
        }
        if idle {
            assert!(queues.iter().all(std::collections::VecDeque::is_empty), "a frame was not received");
            assert!(client.turn() == Turn::Done && server.turn() == Turn::Done, "both parties wait");
            return;
        }
    }
}

/// Runs a program; `inputs` are those of [`Program::inputs`], both parties' in that order.
pub(crate) fn run(program: &Arc<Program>, lanes: usize, inputs: &[Planes], seed: u64) -> Outcome {
    let (client, server) = ideal::deal(program.ots() * lanes, &mut ChaCha20Rng::seed_from_u64(seed));
    assert_eq!(inputs.len(), program.inputs().len(), "inputs of both parties");
    let of = |party: Party, stage: Stage| -> Vec<Planes> {
        let ports = program.inputs().iter().zip(inputs);
        let mine = ports.filter(|(port, _)| port.party == party && port.time.stage() == stage);
        mine.map(|(_, planes)| planes.clone()).collect()
    };
    let mut frames = Vec::new();
    let mut client = program.prepare(lanes, client).unwrap().offline(of(Party::Client, Stage::Offline));
    let mut server = program.prepare(lanes, server).unwrap().offline(of(Party::Server, Stage::Offline));
    converse(&mut client, &mut server, Stage::Offline, &mut frames);
    let mut client = client.finish().online(of(Party::Client, Stage::Online));
    let mut server = server.finish().online(of(Party::Server, Stage::Online));
    converse(&mut client, &mut server, Stage::Online, &mut frames);
    check_cost(program, lanes, &frames);
    Outcome { client: client.finish(), server: server.finish(), frames }
}

/// The planned cost is what was sent, frame by frame.
fn check_cost(program: &Program, lanes: usize, frames: &[Sent]) {
    let cost = program.cost(lanes);
    for stage in [Stage::Offline, Stage::Online] {
        for party in [Party::Client, Party::Server] {
            let planned = cost.frames.iter().filter(|frame| frame.time.stage() == stage && frame.sender == party);
            let planned: Vec<usize> = planned.map(|frame| frame.bytes).collect();
            let sent = frames.iter().filter(|frame| frame.stage == stage && frame.sender == party);
            let sent: Vec<usize> = sent.map(|frame| frame.payload.len()).collect();
            assert_eq!(planned, sent, "frames of the {party} in the {stage} stage");
            assert_eq!(cost.bytes(stage, party), sent.iter().sum::<usize>());
        }
    }
    assert_eq!(cost.total_bytes(), frames.iter().map(|frame| frame.payload.len()).sum::<usize>());
}

/// Lanes that fill no, one and several words, with and without a rest.
pub(crate) const ODD_LANES: [usize; 6] = [1, 5, 63, 64, 65, 1000];

/// Splits values into uniform shares modulo 2^width: the client's and the server's lanes.
pub(crate) fn share(values: &[u64], width: usize, rng: &mut ChaCha20Rng) -> [Planes; 2] {
    let client: Vec<u64> = Planes::random(values.len(), width, rng).to_lanes();
    let server: Vec<u64> = values.iter().zip(&client).map(|(value, client)| value.wrapping_sub(*client)).collect();
    [Planes::from_lanes(&client, width), Planes::from_lanes(&server, width)]
}

/// y of a program that ends as `form`: from both shares, or from the client's pad `xhat` and the server's m.
pub(crate) fn opened(form: Finish, xhat: &Planes, outcome: &Outcome) -> Vec<u64> {
    open(if form.uploads() { xhat } else { &outcome.client[0] }, &outcome.server[0])
}

/// The sum of shares modulo 2^width.
pub(crate) fn open(a: &Planes, b: &Planes) -> Vec<u64> {
    assert_eq!(a.width(), b.width());
    let kept = u64::MAX >> (64 - a.width());
    let pairs = a.to_lanes::<u64>().into_iter().zip(b.to_lanes::<u64>());
    pairs.map(|(a, b)| a.wrapping_add(b) & kept).collect()
}
