//! What a party sees of a gate, by enumeration of everything random; and programs against malformed frames.

use super::builder::{Builder, Half};
use super::gates::moebius;
use super::graph::{Label, Op, Plane};
use super::testing::{ODD_LANES, open, run, share};
use super::*;
use crate::correlation::ot::ideal;
use crate::layout::Search;
use crate::party::{Party, Stage};
use crate::primitive::bits::Planes;
use crate::spec::Finish;
use crate::{maxpool, output, requantise};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Everything that the parties draw or are given: inputs, the choices of the random OTs, and the pads.
#[derive(Clone, Default)]
struct Tape {
    inputs: HashMap<(u32, u32), bool>,
    choices: HashMap<u32, bool>,
    /// (wire, gate, which of the two keys, position).
    pads: HashMap<(u32, u32, bool, u32), bool>,
}

/// The value of every node of a recorded protocol.
fn evaluate(b: &Builder, tape: &Tape) -> Vec<bool> {
    let mut values: Vec<bool> = Vec::new();
    for node in &b.graph.nodes {
        let of = |plane: Plane| plane.node().map_or(plane == Plane::ONE, |node| values[node]);
        let value = match node.op {
            Op::Input { input, bit } => tape.inputs[&(input, bit)],
            Op::Choice { wire } => tape.choices[&wire],
            // A receiver also draws pads that its sender never uses; their value does not matter.
            Op::Pad { wire, gate, label, position } => {
                tape.pads.get(&(wire, gate, key(label, tape.choices[&wire]), position)).copied().unwrap_or(true)
            }
            Op::Received { message } => of(b.messages[message as usize].plane),
            Op::Not(a) => !of(a),
            Op::Xor(a, b) => of(a) ^ of(b),
            Op::And(a, b) => of(a) & of(b),
            Op::Or(a, b) => of(a) | of(b),
            Op::Xor3(a, b, c) => of(a) ^ of(b) ^ of(c),
            Op::Maj(a, b, c) => (of(a) & of(b)) | (of(b) & of(c)) | (of(a) & of(c)),
            Op::Mux(s, zero, one) => of(if of(s) { one } else { zero }),
            Op::AndXor(a, b, c) => (of(a) & of(b)) ^ of(c),
        };
        values.push(value);
    }
    values
}

fn value(plane: Plane, values: &[bool]) -> bool {
    plane.node().map_or(plane == Plane::ONE, |node| values[node])
}

/// The key that a label stands for, given the choice of the random OT.
fn key(label: Label, choice: bool) -> bool {
    match label {
        Label::Held => choice,
        Label::Zero => false,
        Label::One => true,
    }
}

/// The bits of `number`, as a tape over `names`.
fn assign<T: Copy + Eq + std::hash::Hash>(names: &[T], number: u64) -> HashMap<T, bool> {
    names.iter().enumerate().map(|(i, name)| (*name, number >> i & 1 == 1)).collect()
}

/// A protocol in which one party receives and the other sends, with private inputs of both.
struct Gadget {
    b: Builder,
    receiver: Party,
    x_bits: Vec<(u32, u32)>,
    y_bits: Vec<(u32, u32)>,
    wires: Vec<u32>,
    pads: Vec<(u32, u32, bool, u32)>,
}

impl Gadget {
    /// `record` gets the receiver's bits and the sender's word.
    fn new(x_width: usize, y_width: usize, record: impl FnOnce(&mut Builder, &[Half], &Word)) -> Self {
        let (mut b, receiver) = (Builder::new(), Party::Client);
        let x = b.input(receiver, x_width, Time::START);
        let y = b.input(receiver.other(), y_width, Time::START);
        let halves = b.halves(&x);
        record(&mut b, &halves, &y);
        let (mut wires, mut pads) = (Vec::new(), Vec::new());
        for node in &b.graph.nodes {
            match node.op {
                Op::Choice { wire } => wires.push(wire),
                Op::Pad { wire, gate, label: Label::Zero, position } => pads.push((wire, gate, false, position)),
                Op::Pad { wire, gate, label: Label::One, position } => pads.push((wire, gate, true, position)),
                _ => {}
            }
        }
        let bits = |input: u32, width: usize| (0..width as u32).map(|bit| (input, bit)).collect();
        Self { x_bits: bits(0, x_width), y_bits: bits(1, y_width), b, receiver, wires, pads }
    }

    /// What `party` sends.
    fn messages(&self, party: Party, values: &[bool]) -> u64 {
        let sent = self.b.messages.iter().filter(|message| message.sender == party);
        sent.enumerate().fold(0, |all, (i, message)| all | u64::from(value(message.plane, values)) << i)
    }

    /// How often each message of the sender occurs over all pads that the receiver does not know, for one input of
    /// the receiver, one input of the sender, one set of choices and one set of pads that the receiver knows.
    fn receiver_view(&self, x: u64, y: u64, choices: u64, known: u64) -> BTreeMap<u64, usize> {
        let choices = assign(&self.wires, choices);
        let (held, secret): (Vec<_>, Vec<_>) = self.pads.iter().partition(|(wire, _, key, _)| choices[wire] == *key);
        let mut inputs = assign(&self.x_bits, x);
        inputs.extend(assign(&self.y_bits, y));
        let mut tape = Tape { inputs, choices, pads: assign(&held, known) };
        let mut seen = BTreeMap::new();
        for pads in 0..1 << secret.len() {
            tape.pads.extend(assign(&secret, pads));
            let values = evaluate(&self.b, &tape);
            *seen.entry(self.messages(self.receiver.other(), &values)).or_default() += 1;
        }
        seen
    }

    /// The sender's messages are uniform, and the receiver's corrections too: whatever the inputs, whatever else the
    /// other party knows.
    fn assert_hiding(&self, name: &str) {
        let sent = self.b.messages.iter().filter(|message| message.sender != self.receiver).count();
        for x in 0..1 << self.x_bits.len() {
            for choices in 0..1 << self.wires.len() {
                for known in [0, u64::MAX, 0x5a5a_3c96_a5c3_693a] {
                    let views: Vec<_> =
                        (0..1 << self.y_bits.len()).map(|y| self.receiver_view(x, y, choices, known)).collect();
                    assert_eq!(views[0].len(), 1 << sent, "{name}: every message occurs");
                    let count = views[0].values().next();
                    assert!(views[0].values().all(|other| Some(other) == count), "{name}: equally often");
                    assert!(views.iter().all(|view| *view == views[0]), "{name}: for every input of the sender");
                }
            }
        }
        for x in 0..1 << self.x_bits.len() {
            let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
            for choices in 0..1 << self.wires.len() {
                let mut inputs = assign(&self.x_bits, x);
                inputs.extend(assign(&self.y_bits, 0));
                let tape = Tape { inputs, choices: assign(&self.wires, choices), pads: assign(&self.pads, 0) };
                *seen.entry(self.messages(self.receiver, &evaluate(&self.b, &tape))).or_default() += 1;
            }
            assert!(
                seen.len() == 1 << self.wires.len() && seen.values().all(|count| *count == 1),
                "{name}: corrections"
            );
        }
    }
}

#[test]
fn views_of_polynomial_ot_are_independent_of_the_other_input() {
    for gate in [
        Gate::First(1),
        Gate::First(2),
        Gate::Ext(1),
        Gate::Gp(1),
        Gate::Gp(2),
        Gate::Zero(1),
        Gate::Top(1),
        Gate::Top0(2),
    ] {
        let n = gate.inputs();
        let gadget = Gadget::new(n, n, |b, xs, y| {
            let ys = b.halves(y);
            b.poly(gate, xs, &ys);
        });
        gadget.assert_hiding(&format!("{gate:?}"));
    }
}

#[test]
fn views_of_ole_and_chosen_ot_are_independent_of_the_other_input() {
    for k in 1..=3 {
        Gadget::new(1, k, |b, xs, y| {
            b.ole(xs[0], y);
        })
        .assert_hiding("OLE");
    }
    // The receiver of a chosen OT learns one message, so only the other can be hidden: compare its views for senders
    // that agree on the chosen one.
    let gadget = Gadget::new(1, 4, |b, xs, y| {
        let (zero, one) = (b.slice(y, 0, 2), b.slice(y, 2, 2));
        b.choose(xs[0], &zero, &one);
    });
    for (x, choices, known, chosen) in (0..32).map(|i| (i & 1, i >> 1 & 1, i >> 2 & 3, i >> 3)) {
        let input = |other: u64| if x == 0 { chosen | other << 2 } else { other | chosen << 2 };
        let views: Vec<_> = (0..4).map(|other| gadget.receiver_view(x, input(other), choices, known)).collect();
        assert!(views.iter().all(|view| *view == views[0]) && views[0].len() == 4);
    }
}

/// One wire that feeds two gates: the pads of either are independent of the other's.
#[test]
fn views_of_gates_that_share_a_wire_are_independent_of_the_other_input() {
    Gadget::new(2, 2, |b, xs, y| {
        let ys = b.halves(y);
        b.poly(Gate::First(2), xs, &ys);
        let flipped = b.flip_half(xs[1]);
        b.ole(flipped, y);
    })
    .assert_hiding("two gates");
}

/// The receiver computes the table of pads at its own x; at every other point it is uniform, whatever it knows.
#[test]
fn pads_are_known_at_one_point_only() {
    for gate in [Gate::First(1), Gate::First(2), Gate::Gp(2)] {
        let n = gate.inputs();
        let mut shares = Vec::new();
        let gadget = Gadget::new(n, n, |b, xs, y| {
            let ys = b.halves(y);
            shares = b.poly(gate, xs, &ys);
        });
        let coefficients: Vec<usize> = gate.polynomials()[0].sent.clone();
        assert_eq!(coefficients.len(), (1 << n) - 1, "one table over all wires");
        // With y fixed, the sender's constant and its messages are T(y, .) xor P as a normal form: P follows.
        let sender = shares[0].server.unwrap().plane;
        for (x, choices) in (0..1_u64 << n).flat_map(|x| (0..1_u64 << n).map(move |choices| (x, choices))) {
            let chosen = assign(&gadget.wires, choices);
            let (held, secret): (Vec<_>, Vec<_>) =
                gadget.pads.iter().partition(|(wire, _, key, _)| chosen[wire] == *key);
            let mut inputs = assign(&gadget.x_bits, x);
            inputs.extend(assign(&gadget.y_bits, 0));
            let mut tape = Tape { inputs, choices: chosen, pads: assign(&held, 0x9e37_79b9_7f4a_7c15) };
            let mut tables: BTreeMap<u64, usize> = BTreeMap::new();
            for pads in 0..1_u64 << secret.len() {
                tape.pads.extend(assign(&secret, pads));
                let values = evaluate(&gadget.b, &tape);
                let message = gadget.messages(Party::Server, &values);
                let normal_form = (coefficients.iter().enumerate())
                    .fold(u64::from(value(sender, &values)), |all, (i, set)| all | (message >> i & 1) << set);
                let table = moebius(normal_form) & (u64::MAX >> (64 - (1 << n)));
                let function = (0..1_u64 << n).fold(0, |all, x| all | u64::from(gate.outputs(0, x)[0]) << x);
                *tables.entry(table ^ function).or_default() += 1;
            }
            let count = tables.values().next();
            assert_eq!(tables.len(), 1 << ((1 << n) - 1), "{gate:?}: every table with one known entry occurs");
            assert!(tables.values().all(|other| Some(other) == count), "{gate:?}: equally often");
            let known: Vec<u64> = tables.keys().map(|table| table >> x & 1).collect();
            assert!(known.iter().all(|bit| *bit == known[0]), "{gate:?}: the entry at x is fixed");
        }
    }
}

#[test]
fn every_gate_in_both_directions() {
    let gates = [Gate::First(4), Gate::Ext(3), Gate::Gp(3), Gate::Top(5), Gate::Top0(4), Gate::Zero(2)];
    for (gate, receiver) in gates.into_iter().flat_map(|gate| [(gate, Party::Client), (gate, Party::Server)]) {
        let (n, mut b) = (gate.inputs(), Builder::new());
        let x = b.input(receiver, n, Time::OFFLINE);
        let y = b.input(receiver.other(), n, Time::START);
        let (xs, ys) = (b.halves(&x), b.halves(&y));
        for bit in b.poly(gate, &xs, &ys) {
            let words = crate::gadget::compare::words(&b, bit);
            b.output_share(&words);
        }
        let program = Arc::new(b.finish());
        let (x, y): (Vec<u64>, Vec<u64>) = (0..1 << n).flat_map(|x| (0..1 << n).map(move |y| (x, y))).unzip();
        let inputs = [Planes::from_lanes(&x, n), Planes::from_lanes(&y, n)];
        let outcome = run(&program, x.len(), &inputs, 1);
        for (output, (client, server)) in outcome.client.iter().zip(&outcome.server).enumerate() {
            for (lane, bit) in open(client, server).into_iter().enumerate() {
                assert_eq!(bit == 1, gate.outputs(y[lane], x[lane])[output], "{gate:?} to the {receiver}");
            }
        }
    }
}

/// Requantise four tensors, pool them: the outputs of one program are the inputs of the next, times included.
#[test]
fn programs_chain() {
    let spec = requantise::Spec { ell: 10, shift: 4, bits: 3, guard: 1 };
    let layout = Search::new(0.73).requantise(spec, Finish::Small).unwrap()[0].layout.clone();
    let first = Arc::new(requantise::program(spec, &layout, Finish::Small).unwrap());
    let time = |party| first.outputs().iter().find(|port| port.party == party).unwrap().time;
    let pool = maxpool::Spec { bits: 3, window: 4, client: time(Party::Client), server: time(Party::Server) };
    let form = Finish::Share { ring: 11 };
    let choice = Search::new(0.73).max_pool(pool, form).unwrap().swap_remove(0);
    let second = Arc::new(maxpool::program(pool, &choice.layout, form).unwrap());
    assert!(second.cost(1).flights() > first.cost(1).flights());
    for (seed, lanes) in ODD_LANES.into_iter().enumerate() {
        let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
        let (mut inputs, mut values) = (Vec::new(), vec![Vec::new(); lanes]);
        for _ in 0..4 {
            let [c, v] = [(); 2].map(|()| Planes::random(lanes, spec.width(), &mut rng));
            for (lane, x) in open(&c, &v).into_iter().enumerate() {
                values[lane].push(requantise::ideal(spec, ((x << 53) as i64) >> 54));
            }
            let outcome = run(&first, lanes, &[c, v], seed as u64);
            inputs.extend([outcome.client, outcome.server].into_iter().flatten());
        }
        let outcome = run(&second, lanes, &inputs, seed as u64);
        let want: Vec<u64> = values.iter().map(|window| maxpool::ideal(window)).collect();
        assert_eq!(open(&outcome.client[0], &outcome.server[0]), want, "seed {seed}");
    }
}

fn ready_logits(lanes: usize) -> (OnlineRun, OnlineRun, Vec<u8>) {
    let program = Arc::new(output::logits(9).unwrap());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (client, server) = ideal::deal(program.ots() * lanes, &mut rng);
    let [c, v] = share(&vec![17; lanes], 10, &mut rng);
    let mut client = program.prepare(lanes, client).unwrap().offline(vec![c]);
    let mut server = program.prepare(lanes, server).unwrap().offline(vec![]);
    let Turn::Send(corrections) = client.turn() else { panic!("the client corrects") };
    assert_eq!(server.turn(), Turn::Receive(corrections.len()));
    server.receive(&corrections).unwrap();
    assert_eq!((client.turn(), server.turn()), (Turn::Done, Turn::Done));
    let client = client.finish().online(vec![]);
    let mut server = server.finish().online(vec![v]);
    let Turn::Send(messages) = server.turn() else { panic!("the server answers") };
    (client, server, messages)
}

#[test]
fn malformed_frames_are_refused() {
    for lanes in ODD_LANES {
        let (mut client, _, good) = ready_logits(lanes);
        assert_eq!(client.turn(), Turn::Receive(good.len()));
        for bad in [&good[..good.len() - 1], &[], &[good.as_slice(), &[0]].concat()] {
            assert!(client.receive(bad).unwrap_err().is_peer_fault());
        }
        if lanes % 8 != 0 {
            for plane in [0, 17] {
                let mut bad = good.clone();
                bad[(plane + 1) * lanes.div_ceil(8) - 1] |= 0x80;
                assert!(client.receive(&bad).unwrap_err().is_peer_fault());
            }
        }
        // The right frame still gets through.
        client.receive(&good).unwrap();
        assert_eq!(client.turn(), Turn::Done);
        assert_eq!(client.finish()[0].to_lanes::<u64>(), vec![8; lanes]);
    }
}

#[test]
fn too_few_ots_are_refused() {
    let program = Arc::new(output::logits(9).unwrap());
    let (client, _) = ideal::deal(program.ots() * 9, &mut ChaCha20Rng::seed_from_u64(1));
    let error = program.prepare(10, client).unwrap_err();
    assert!(matches!(error, crate::error::Error::Exhausted { received_by: Party::Client, need: 10, have: 9 }));
}

#[test]
fn states_print_redacted() {
    let (client, server, _) = ready_logits(70);
    let text = format!("{client:?} {server:?}");
    assert_eq!(
        text,
        "OnlineRun(Run(State(client, 70 lanes, segment 2, ..), online)) OnlineRun(Run(State(server, 70 lanes, segment 4, ..), online))"
    );
}

/// No frame at all passes where nothing has to be sent, and a program may have no lanes.
#[test]
fn nothing_to_do() {
    let outcome = run(&Arc::new(output::logits(5).unwrap()), 0, &[Planes::zero(0, 6), Planes::zero(0, 6)], 1);
    assert!(outcome.frames.iter().all(|frame| frame.payload.is_empty()));
    assert_eq!(outcome.client[0].lanes(), 0);
    let mut b = Builder::new();
    let word = b.input(Party::Server, 3, Time::START);
    let negative = b.neg(&word);
    b.output(&negative);
    let program = Arc::new(b.finish());
    let outcome = run(&program, 3, &[Planes::from_lanes(&[1_u8, 2, 0], 3)], 1);
    assert_eq!(outcome.server[0].to_lanes::<u8>(), vec![7, 6, 0]);
    assert_eq!((outcome.frames.len(), program.cost(3).flights()), (0, 0));
}

/// Word arithmetic against plain integers.
#[test]
fn words_are_integers() {
    let mut b = Builder::new();
    let (x, y) = (b.input(Party::Client, 5, Time::START), b.input(Party::Client, 5, Time::START));
    let s = b.input(Party::Client, 1, Time::START);
    let results = [
        b.add(&x, &y),
        b.sub(&x, &y),
        b.neg(&x),
        b.neg_if(&x, s.planes[0], s.time),
        b.and_bit(&x, s.planes[0], s.time),
        b.mux(s.planes[0], s.time, &x, &y),
        b.shift_left(&x, 2, 5),
        b.mul_constant(&x, 11),
        b.xor(&x, &y),
        b.slice(&x, 1, 5),
    ];
    results.iter().for_each(|word| b.output(word));
    let all: Vec<(u64, u64, u64)> = (0..32).flat_map(|x| (0..32).flat_map(move |y| [(x, y, 0), (x, y, 1)])).collect();
    let lanes = |f: fn(&(u64, u64, u64)) -> u64| all.iter().map(f).collect::<Vec<u64>>();
    let inputs = [
        Planes::from_lanes(&lanes(|case| case.0), 5),
        Planes::from_lanes(&lanes(|case| case.1), 5),
        Planes::from_lanes(&lanes(|case| case.2), 1),
    ];
    let outcome = run(&Arc::new(b.finish()), all.len(), &inputs, 1);
    for (lane, (x, y, s)) in all.into_iter().enumerate() {
        let want = [
            x + y,
            x.wrapping_sub(y),
            x.wrapping_neg(),
            if s == 1 { x.wrapping_neg() } else { x },
            x * s,
            if s == 1 { y } else { x },
            x << 2,
            x * 11,
            x ^ y,
            x >> 1,
        ];
        for (i, want) in want.into_iter().enumerate() {
            assert_eq!(outcome.client[i].to_lanes::<u64>()[lane], want & 31, "operation {i} on {x} {y} {s}");
        }
    }
    assert!(outcome.frames.iter().all(|frame| frame.stage == Stage::Online));
}
