//! Records a two-party protocol once, both roles side by side.
//!
//! Values belong to one party: a [`Word`] of `k` bits, or a [`Half`], a single bit. A pair of halves is a [`Bit`],
//! shared by XOR; a pair of words is a [`Share`], shared by addition modulo 2^k. Every value carries the [`Time`]
//! at which its party knows it.

use super::cost::Tally;
use super::graph::{Graph, Op, Plane};
use super::time::Time;
use crate::correlation::demand::Demand;
use crate::party::Party;

/// A number of `k` bits per lane, held by one party; the lowest plane comes first.
#[derive(Clone, Debug)]
pub struct Word {
    /// Who holds it.
    pub party: Party,
    /// Its bits, the lowest first.
    pub planes: Vec<Plane>,
    /// When the party knows it.
    pub time: Time,
}

impl Word {
    /// Width in bits.
    #[must_use]
    pub fn width(&self) -> usize {
        self.planes.len()
    }
}

/// A bit of one party: private, or its half of a [`Bit`].
///
/// A half remembers whether its OT correction was sent, so that it pays once, however many gates it feeds.
#[derive(Clone, Copy, Debug)]
pub struct Half {
    /// Who holds it.
    pub party: Party,
    /// Its value.
    pub plane: Plane,
    /// When the party knows it.
    pub time: Time,
    pub(super) origin: usize,
    pub(super) flipped: bool,
}

/// A bit shared by XOR. A missing half is a public zero: the bit is the other party's private one.
#[derive(Clone, Copy, Debug)]
pub struct Bit {
    /// The server's half.
    pub server: Option<Half>,
    /// The client's half.
    pub client: Option<Half>,
}

/// A number shared by addition modulo 2^k.
#[derive(Clone, Debug)]
pub struct Share {
    /// The client's share.
    pub client: Word,
    /// The server's share.
    pub server: Word,
}

/// What a half and its negation have in common.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The value that is corrected: that of the half that is not flipped.
    pub base: Plane,
    /// The wire, once opened.
    pub wire: Option<usize>,
    /// The two halves whose XOR this is.
    pub parts: Option<(Half, Half)>,
}

/// A random OT per lane, whose receiver's choice is corrected to a bit that the receiver holds.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub receiver: Party,
    /// When the sender has the correction.
    pub arrival: Time,
    /// The correction: the receiver's copy, and the sender's.
    pub correction: [Plane; 2],
    /// Number of gates that the wire feeds so far.
    pub gates: u32,
}

/// One plane that a party sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub sender: Party,
    pub time: Time,
    pub plane: Plane,
}

/// An input or output of one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Whose it is.
    pub party: Party,
    /// Bits per lane.
    pub width: usize,
    /// When it is known.
    pub time: Time,
}

/// Records a protocol, or only counts its messages.
#[derive(Debug)]
pub struct Builder {
    pub(super) graph: Graph,
    pub(super) origins: Vec<Origin>,
    pub(super) wires: Vec<Wire>,
    pub(super) messages: Vec<Message>,
    pub(super) tally: Tally,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<(Port, Vec<Plane>)>,
}

impl Builder {
    /// A builder that records, to be finished by [`Builder::finish`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_graph(Graph::new(true))
    }

    /// A builder that only counts: a protocol is then its own cost function. Its planes have no meaning.
    #[must_use]
    pub fn counting() -> Self {
        Self::with_graph(Graph::new(false))
    }

    fn with_graph(graph: Graph) -> Self {
        Self {
            graph,
            origins: Vec::new(),
            wires: Vec::new(),
            messages: Vec::new(),
            tally: Tally::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// What the protocol costs so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What a lane spends so far.
    #[must_use]
    pub fn demand(&self) -> Demand {
        self.tally.demand
    }

    /// Flights of the online stage so far, to the arrival of the last frame.
    #[must_use]
    pub fn flights(&self) -> u32 {
        self.tally.flights()
    }

    /// The next input of a party.
    pub fn input(&mut self, party: Party, width: usize, time: Time) -> Word {
        let input = u32::try_from(self.inputs.len()).expect("a program has few inputs");
        self.inputs.push(Port { party, width, time });
        let bits = 0..u32::try_from(width).expect("an input has few bits");
        let planes = bits.map(|bit| self.graph.source(Op::Input { input, bit }, party, time)).collect();
        Word { party, planes, time }
    }

    /// The inputs of both parties for one shared number.
    pub fn input_share(&mut self, width: usize, client: Time, server: Time) -> Share {
        Share { client: self.input(Party::Client, width, client), server: self.input(Party::Server, width, server) }
    }

    /// The next output of the party that holds `word`.
    pub fn output(&mut self, word: &Word) {
        let port = Port { party: word.party, width: word.width(), time: word.time };
        self.outputs.push((port, word.planes.clone()));
    }

    /// One output of each party, the client's first.
    pub fn output_share(&mut self, share: &Share) {
        self.output(&share.client);
        self.output(&share.server);
    }

    /// A new half: a bit that has no OT yet.
    pub fn half(&mut self, party: Party, plane: Plane, time: Time) -> Half {
        self.half_of_parts(party, plane, time, None)
    }

    fn half_of_parts(&mut self, party: Party, plane: Plane, time: Time, parts: Option<(Half, Half)>) -> Half {
        self.origins.push(Origin { base: plane, wire: None, parts });
        Half { party, plane, time, origin: self.origins.len() - 1, flipped: false }
    }

    /// The bits of a word, each as a half.
    pub fn halves(&mut self, word: &Word) -> Vec<Half> {
        word.planes.iter().map(|plane| self.half(word.party, *plane, word.time)).collect()
    }

    /// The negation of a half; it shares the half's wire.
    pub fn flip_half(&mut self, half: Half) -> Half {
        Half { plane: self.graph.not(half.plane), flipped: !half.flipped, ..half }
    }

    /// XOR of two halves of one party.
    pub fn xor_halves(&mut self, a: Half, b: Half) -> Half {
        let plane = self.graph.xor(a.plane, b.plane);
        self.half_of_parts(a.party, plane, a.time.max(b.time), Some((a, b)))
    }

    /// AND of two halves of one party.
    pub fn and_halves(&mut self, a: Half, b: Half) -> Half {
        let plane = self.graph.and(a.plane, b.plane);
        self.half(a.party, plane, a.time.max(b.time))
    }

    /// A bit from one half of each party.
    #[must_use]
    pub fn bit(&self, server: Half, client: Half) -> Bit {
        debug_assert_eq!((server.party, client.party), (Party::Server, Party::Client));
        Bit { server: Some(server), client: Some(client) }
    }

    /// XOR of two shared bits.
    pub fn xor_bits(&mut self, a: Bit, b: Bit) -> Bit {
        let mut either = |a: Option<Half>, b: Option<Half>| match (a, b) {
            (Some(a), Some(b)) => Some(self.xor_halves(a, b)),
            (a, b) => a.or(b),
        };
        Bit { server: either(a.server, b.server), client: either(a.client, b.client) }
    }

    /// The negation of a shared bit.
    ///
    /// # Panics
    /// If both halves are missing.
    pub fn flip(&mut self, bit: Bit) -> Bit {
        match bit {
            Bit { server: Some(half), client } => Bit { server: Some(self.flip_half(half)), client },
            Bit { server: None, client } => {
                let half = client.expect("a bit has at least one half");
                Bit { server: None, client: Some(self.flip_half(half)) }
            }
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Bit {
    /// Both halves, the server's first.
    ///
    /// # Panics
    /// If one is missing: the bit is one party's private bit.
    #[must_use]
    pub fn both(self) -> (Half, Half) {
        let both = self.server.zip(self.client);
        both.expect("a bit that enters this step has both halves")
    }
}
