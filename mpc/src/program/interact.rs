//! The interactive steps: messages, corrections, OLE, polynomial OT, chosen OT.
//!
//! Notation: a wire's receiver holds the bit x, its random OT gave it the choice b and the key of b, the sender
//! the keys of 0 and 1. The correction is d = x xor b [Bea95]. A gate hashes each key alone, under a tweak of its own,
//! into a stream of pad bits.
//!
//! [Bea95]: crate#references

use super::builder::{Bit, Builder, Half, Message, Wire, Word};
use super::gates::{Gate, Polynomial, moebius};
use super::graph::{Label, Op, Plane};
use super::time::Time;
use crate::party::Party;

/// One use of a wire: its pads are independent of those of every other use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap {
    wire: usize,
    gate: u32,
}

impl Builder {
    /// Sends a word to the other party.
    pub fn send(&mut self, word: &Word) -> Word {
        self.send_at(word, word.time)
    }

    /// Sends a word at `time`, not before it is known; it arrives at [`Time::arrival`].
    pub(crate) fn send_at(&mut self, word: &Word, time: Time) -> Word {
        debug_assert!(time >= word.time);
        let time = time.max(Time::OFFLINE);
        let party = word.party.other();
        self.tally.message(word.party, word.width(), time);
        let planes = word.planes.iter().map(|plane| self.message(word.party, *plane, time)).collect();
        Word { party, planes, time: time.arrival() }
    }

    fn message(&mut self, sender: Party, plane: Plane, time: Time) -> Plane {
        if !self.graph.records {
            return Plane::UNRECORDED;
        }
        let message = u32::try_from(self.messages.len()).expect("a program has few messages");
        self.messages.push(Message { sender, time, plane });
        self.graph.source(Op::Received { message }, sender.other(), time.arrival())
    }

    /// Sends the correction of the half's wire, once; returns when the other party has it.
    pub(super) fn open(&mut self, half: Half) -> Time {
        if let Some(wire) = self.origins[half.origin].wire {
            return self.wires[wire].arrival;
        }
        let time = half.time.max(Time::OFFLINE);
        self.tally.correction(half.party, time);
        let (wire, arrival) = (self.wires.len(), time.arrival());
        let choice = self.choice(wire, half.party);
        let mine = self.graph.xor(self.origins[half.origin].base, choice);
        let theirs = self.message(half.party, mine, time);
        self.wires.push(Wire { receiver: half.party, arrival, correction: [mine, theirs], gates: 0 });
        self.origins[half.origin].wire = Some(wire);
        arrival
    }

    fn choice(&mut self, wire: usize, receiver: Party) -> Plane {
        let wire = u32::try_from(wire).expect("a program has few wires");
        self.graph.source(Op::Choice { wire }, receiver, Time::Prepared)
    }

    pub(crate) fn is_open(&self, half: Half) -> bool {
        self.origins[half.origin].wire.is_some()
    }

    /// True if this is the XOR of two opened halves: then it needs no OT of its own.
    pub(crate) fn splits(&self, half: Half) -> bool {
        let parts = self.origins[half.origin].parts;
        !self.is_open(half) && parts.is_some_and(|(a, b)| self.is_open(a) && self.is_open(b))
    }

    fn split(&mut self, half: Half) -> Option<(Half, Half)> {
        let (a, b) = self.origins[half.origin].parts.filter(|_| self.splits(half))?;
        Some((if half.flipped { self.flip_half(a) } else { a }, b))
    }

    /// Opens the half if need be and takes the next gate of its wire.
    pub(crate) fn tap(&mut self, half: Half) -> (Tap, Time) {
        let arrival = self.open(half);
        let wire = self.origins[half.origin].wire.expect("an opened half has a wire");
        let gate = self.wires[wire].gates;
        self.wires[wire].gates += 1;
        (Tap { wire, gate }, arrival)
    }

    /// A pad bit of a gate.
    pub(crate) fn pad(&mut self, tap: Tap, label: Label, position: usize) -> Plane {
        if !self.graph.records {
            return Plane::UNRECORDED;
        }
        let receiver = self.wires[tap.wire].receiver;
        let party = if label == Label::Held { receiver } else { receiver.other() };
        let wire = u32::try_from(tap.wire).expect("a program has few wires");
        let position = u32::try_from(position).expect("a gate has few pads");
        self.graph.source(Op::Pad { wire, gate: tap.gate, label, position }, party, Time::Prepared)
    }

    /// `k` pad bits of a gate, as a word.
    pub(crate) fn pads(&mut self, tap: Tap, label: Label, k: usize) -> Word {
        let receiver = self.wires[tap.wire].receiver;
        let party = if label == Label::Held { receiver } else { receiver.other() };
        let planes = (0..k).map(|position| self.pad(tap, label, position)).collect();
        Word { party, planes, time: Time::Prepared }
    }

    /// The choice of the random OT behind a gate.
    pub(crate) fn choice_of(&mut self, tap: Tap) -> Plane {
        let receiver = self.wires[tap.wire].receiver;
        self.choice(tap.wire, receiver)
    }

    /// The correction of `half`, whose wire the gate taps: the receiver's copy, and the sender's.
    pub(crate) fn correction(&mut self, tap: Tap, half: Half) -> [Plane; 2] {
        let correction = self.wires[tap.wire].correction;
        if half.flipped { correction.map(|plane| self.graph.not(plane)) } else { correction }
    }

    /// Additive shares of x * y modulo 2^k, for a bit x and a word y of k bits of the other party: the shares of
    /// the receiver (the owner of x) and of the sender [Gil99].
    ///
    /// ```text
    /// receiver    d = x xor b                                      -> sender
    /// sender      e = y - (m_1 - m_0)                              -> receiver     without waiting for d
    /// receiver    (-1)^d m_b + x e          sender   d m_1 - (1 - d) m_0           sum = x y
    /// ```
    ///
    /// m_0 and m_1 are the first k pads of either key. The sum, case by case: d = 0, b = x: m_x + x (y - m_1 + m_0)
    /// - m_0 = x y. d = 1, b = 1 - x: -m_b + x (y - m_1 + m_0) + m_1 = x y.
    ///
    /// [Gil99]: crate#references
    pub fn ole(&mut self, x: Half, y: &Word) -> (Word, Word) {
        if y.width() == 1
            && let Some((a, b)) = self.split(x)
        {
            let (za, ya) = self.ole(a, y);
            let (zb, yb) = self.ole(b, y);
            return (self.add(&za, &zb), self.add(&ya, &yb));
        }
        let k = y.width();
        let (tap, d_arrival) = self.tap(x);
        if !self.graph.records {
            let e = self.send(y);
            let (mine, theirs) = (x.time.max(e.time), d_arrival);
            return (Word { time: mine, ..e }, Word { party: y.party, planes: y.planes.clone(), time: theirs });
        }
        let [m, m_0, m_1] = [Label::Held, Label::Zero, Label::One].map(|label| self.pads(tap, label, k));
        let change = self.sub(&m_1, &m_0);
        let e = self.sub(y, &change);
        let e = self.send(&e);
        let [d_receiver, d_sender] = self.correction(tap, x);
        let product = self.and_bit(&e, x.plane, x.time);
        let mine = self.neg_if_plus(&m, d_receiver, &product);
        let minus = self.neg(&m_0);
        let theirs = self.mux(d_sender, d_arrival, &minus, &m_1);
        (mine, theirs)
    }

    /// Polynomial OT: XOR-shared outputs of a gate, for the receiver's bits `xs` and the sender's bits `ys`.
    ///
    /// Per output, with T(y, x) the gate and P(x) = XOR over the maximal sets B of Q_B(x_B) its pads:
    ///
    /// ```text
    /// receiver    d_i = x_i xor b_i, once per wire                 -> sender
    /// sender      the sent coefficients of T(y, .) xor P           -> receiver
    /// receiver    P(x) xor (sent and free part)(x)                 sender   coefficient 0 of T(y, .) xor P
    /// ```
    ///
    /// Q_B(z), as in [NP99], is the XOR over i in B of pad number w of wire i under choice w_i, where w = z xor d is z in terms
    /// of the random choices: 2^|B| pads per wire, disjoint for every output and B. The receiver can compute
    /// Q_B(x_B) and lacks at least one key for every other z. In terms of w the pads depend on no correction, so
    /// both parties combine them when the OTs arrive: the receiver keeps one bit of each Q_B, the sender its normal
    /// form, in which z = w xor d is the substitution of x_i xor d_i for every variable.
    ///
    /// [NP99]: crate#references
    ///
    /// # Panics
    /// If the number of bits does not fit the gate.
    pub fn poly(&mut self, gate: Gate, xs: &[Half], ys: &[Half]) -> Vec<Bit> {
        assert_eq!((xs.len(), ys.len()), (gate.inputs(), gate.inputs()), "bits of {gate:?}");
        let (receiver, sender) = (xs[0].party, ys[0].party);
        let taps: Vec<(Tap, Time)> = xs.iter().map(|x| self.tap(*x)).collect();
        let latest = |halves: &[Half]| halves.iter().map(|half| half.time).max();
        let arrival = taps.iter().map(|(_, arrival)| *arrival).max();
        let sent_at = arrival.max(latest(ys)).expect("a gate has inputs");
        let known = latest(xs).expect("a gate has inputs");
        let mut circuit = PolyCircuit::new(self, xs, ys, taps.iter().map(|(tap, _)| *tap).collect());
        let mut outputs = Vec::new();
        for polynomial in gate.polynomials() {
            let received = known.max(sent_at.arrival());
            let (mine, theirs) = if circuit.builder.graph.records {
                circuit.output(polynomial, sender, sent_at)
            } else {
                circuit.builder.tally.message(sender, polynomial.sent.len(), sent_at);
                (Plane::UNRECORDED, Plane::UNRECORDED)
            };
            let mine = circuit.builder.half(receiver, mine, received);
            let theirs = circuit.builder.half(sender, theirs, sent_at);
            outputs.push(match receiver {
                Party::Server => circuit.builder.bit(mine, theirs),
                Party::Client => circuit.builder.bit(theirs, mine),
            });
        }
        outputs
    }

    /// Chosen 1-of-2 OT: the owner of `x` learns `zero` or `one`, as x says, and nothing of the other [Bea95].
    ///
    /// ```text
    /// receiver    d = x xor b                                      -> sender
    /// sender      c_w = (word of choice w xor d) xor pads of w     -> receiver     w = 0, 1
    /// receiver    c_b xor pads of b
    /// ```
    ///
    /// [Bea95]: crate#references
    pub fn choose(&mut self, x: Half, zero: &Word, one: &Word) -> Word {
        let k = zero.width();
        let (tap, arrival) = self.tap(x);
        let [m, m_0, m_1] = [Label::Held, Label::Zero, Label::One].map(|label| self.pads(tap, label, k));
        let d = self.correction(tap, x)[1];
        let mut masked = |first: &Word, second: &Word, pads: &Word| {
            let word = self.mux(d, arrival, first, second);
            let planes = word.planes.iter().zip(&pads.planes);
            let planes = planes.map(|(a, b)| self.graph.xor(*a, *b)).collect();
            self.send(&Word { planes, ..word })
        };
        let (c_0, c_1) = (masked(zero, one, &m_0), masked(one, zero, &m_1));
        let choice = self.choice_of(tap);
        let chosen = self.mux(choice, Time::Prepared, &c_0, &c_1);
        let planes = chosen.planes.iter().zip(&m.planes).map(|(a, b)| self.graph.xor(*a, *b)).collect();
        Word { planes, time: chosen.time.max(x.time), ..chosen }
    }
}

/// The circuit of one polynomial OT, both roles.
struct PolyCircuit<'a> {
    builder: &'a mut Builder,
    xs: &'a [Half],
    ys: &'a [Half],
    taps: Vec<Tap>,
    /// Pads that this gate has drawn from each wire so far.
    drawn: Vec<usize>,
}

impl<'a> PolyCircuit<'a> {
    fn new(builder: &'a mut Builder, xs: &'a [Half], ys: &'a [Half], taps: Vec<Tap>) -> Self {
        Self { builder, xs, ys, drawn: vec![0; taps.len()], taps }
    }

    /// One output bit: the receiver's half and the sender's.
    fn output(&mut self, polynomial: &Polynomial, sender: Party, sent_at: Time) -> (Plane, Plane) {
        let sets = 1 << self.xs.len();
        let (mut secret, mut mine) = (vec![Plane::ZERO; sets], Plane::ZERO);
        for set in polynomial.maximal() {
            let members: Vec<usize> = (0..self.xs.len()).filter(|i| set >> i & 1 == 1).collect();
            let (normal_form, pad) = self.pad_table(&members);
            mine = self.builder.graph.xor(mine, pad);
            for (local, coefficient) in normal_form.into_iter().enumerate() {
                let global = spread(local, &members);
                secret[global] = self.builder.graph.xor(secret[global], coefficient);
            }
        }
        let mut coefficients = vec![Plane::ZERO; sets];
        let planes: Vec<Plane> = polynomial
            .sent
            .iter()
            .map(|set| {
                let value = self.function(polynomial.coefficients[*set]);
                self.builder.graph.xor(value, secret[*set])
            })
            .collect();
        let word = Word { party: sender, planes, time: sent_at };
        let received = self.builder.send_at(&word, sent_at);
        for (set, plane) in polynomial.sent.iter().zip(received.planes) {
            coefficients[*set] = plane;
        }
        for set in &polynomial.free {
            coefficients[*set] = Plane::ONE;
        }
        let at_x = self.evaluate(&coefficients);
        let mine = self.builder.graph.xor(mine, at_x);
        let constant = self.function(polynomial.coefficients[0]);
        let theirs = self.builder.graph.xor(constant, secret[0]);
        (mine, theirs)
    }

    /// A table Q of pads over some of the wires: its normal form in x (sender), its value at x (receiver).
    fn pad_table(&mut self, members: &[usize]) -> (Vec<Plane>, Plane) {
        let size = 1 << members.len();
        let (mut table, mut held) = (vec![Plane::ZERO; size], vec![Plane::ZERO; size]);
        for (place, i) in members.iter().enumerate() {
            let (tap, first) = (self.taps[*i], self.drawn[*i]);
            self.drawn[*i] += size;
            for w in 0..size {
                let label = if w >> place & 1 == 1 { Label::One } else { Label::Zero };
                let pad = self.builder.pad(tap, label, first + w);
                table[w] = self.builder.graph.xor(table[w], pad);
                let pad = self.builder.pad(tap, Label::Held, first + w);
                held[w] = self.builder.graph.xor(held[w], pad);
            }
        }
        let pairs = |place: usize| (0..size).filter(move |w| w >> place & 1 == 1).map(move |w| (w ^ 1 << place, w));
        for place in 0..members.len() {
            for (low, high) in pairs(place) {
                table[high] = self.builder.graph.xor(table[high], table[low]);
            }
        }
        for (place, i) in members.iter().enumerate() {
            let d = self.builder.correction(self.taps[*i], self.xs[*i])[1];
            for (low, high) in pairs(place) {
                table[low] = self.builder.graph.and_xor(d, table[high], table[low]);
            }
        }
        for i in members.iter().rev() {
            let choice = self.builder.choice_of(self.taps[*i]);
            let high = held.split_off(held.len() / 2);
            for (low, high) in held.iter_mut().zip(high) {
                *low = self.builder.graph.mux(choice, *low, high);
            }
        }
        (table, held[0])
    }

    /// A function of the sender's bits, given as a table.
    fn function(&mut self, table: u64) -> Plane {
        let normal_form = moebius(table);
        let mut value = Plane::ZERO;
        for monomial in (0..1_usize << self.ys.len()).filter(|set| normal_form >> set & 1 == 1) {
            let members = self.ys.iter().enumerate().filter(|(i, _)| monomial >> i & 1 == 1);
            let mut product = Plane::ONE;
            for (_, y) in members {
                product = self.builder.graph.and(product, y.plane);
            }
            value = self.builder.graph.xor(value, product);
        }
        value
    }

    /// The value at x of a polynomial given by its coefficients, the highest variable first.
    fn evaluate(&mut self, coefficients: &[Plane]) -> Plane {
        if let [constant] = coefficients {
            return *constant;
        }
        let (low, high) = coefficients.split_at(coefficients.len() / 2);
        let x = self.xs[coefficients.len().ilog2() as usize - 1].plane;
        let (low, high) = (self.evaluate(low), self.evaluate(high));
        self.builder.graph.and_xor(x, high, low)
    }
}

/// The set of all wires that `local`, a set of the members, stands for.
fn spread(local: usize, members: &[usize]) -> usize {
    members.iter().enumerate().fold(0, |set, (place, i)| set | (local >> place & 1) << i)
}
