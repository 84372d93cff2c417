//! index of the largest logit, to the client alone; of equal ones the lowest.
//!
//! The guard bits go first, exactly, since they would break ties: z = (c >> 1) + (v >> 1) + c_0 v_0 modulo 2^ell, one
//! OLE. Then an ordered tournament: neighbours play, the right one wins iff
//!
//! ```text
//! b = msb(z_left - z_right) = 1
//! ```
//!
//! which needs every difference to fit ell bits: the last layer is planned one bit wider. A game selects the value
//! (additive shares) and the index within its subtree (XOR shares, whose new top bit is b itself); the last game selects
//! the index only, and the server sends its half of it. Games of one round are lanes of one program.

use crate::correlation::demand::Demand;
use crate::correlation::ot::Cots;
use crate::error::Result;
use crate::gadget::carry::ands;
use crate::gadget::compare::less_than;
use crate::gadget::select::multiply_bit;
use crate::gadget::widen::drop_guard;
use crate::party::Party;
use crate::primitive::bits::Planes;
use crate::program::{Bit, Builder, Cost, PreparedProgram, Program, ReadyProgram, Share, Time, Word, offline, online};
use crate::spec::{LayoutError, MAX_ELL, Part, check_parts, check_size};
use crate::transport::channel::Channel;
use std::sync::Arc;

/// Most classes.
pub const MAX_CLASSES: usize = 1 << 16;

/// The protocol for a number of classes.
#[derive(Debug)]
pub struct Argmax {
    ell: usize,
    classes: usize,
    /// The guard bits of all logits, then the rounds.
    stages: Vec<(Arc<Program>, usize)>,
}

/// One party's argmax with its OTs spent.
#[derive(Debug)]
pub struct ArgmaxPrepared {
    party: Party,
    ell: usize,
    classes: usize,
    stages: Vec<PreparedProgram>,
}

/// One party's argmax whose offline stage is over.
#[derive(Debug)]
pub struct ArgmaxReady {
    party: Party,
    ell: usize,
    classes: usize,
    stages: Vec<ReadyProgram>,
}

/// The ideal version.
#[must_use]
pub fn ideal(logits: &[i64]) -> usize {
    (0..logits.len()).rev().max_by_key(|i| logits[*i]).unwrap_or(0)
}

impl Argmax {
    /// The programs of all rounds. `chain` covers the ell - 1 bits below the top of a difference.
    ///
    /// # Errors
    /// [`LayoutError`] unless ell is from 2 to [`MAX_ELL`], there are 2 to [`MAX_CLASSES`] classes, and the chain fits.
    pub fn new(ell: usize, classes: usize, chain: &[Part]) -> std::result::Result<Self, LayoutError> {
        check_sizes(ell, classes)?;
        check_parts("comparison", chain, ell - 1)?;
        let mut b = Builder::new();
        let (mut client, mut server) = without_guard(&mut b, ell);
        let mut stages = vec![(Arc::new(b.finish()), classes)];
        let mut players = classes;
        for round in 0.. {
            let mut b = Builder::new();
            let last = players == 2;
            (client, server) = game(&mut b, ell, chain, round, last, client, server);
            stages.push((Arc::new(b.finish()), players / 2));
            players = players.div_ceil(2);
            if last {
                break;
            }
        }
        Ok(Self { ell, classes, stages })
    }

    /// What all rounds spend.
    #[must_use]
    pub fn demand(&self) -> Demand {
        self.stages.iter().map(|(program, lanes)| program.demand() * *lanes).sum()
    }

    /// Frames of all rounds, one round after the other; times count from the start of the online stage.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let frames = self.stages.iter().flat_map(|(program, lanes)| program.cost(*lanes).frames);
        Cost { frames: frames.collect(), demand: self.demand() }
    }

    /// Bytes of memory that a party holds from the preparation to the end of the online stage.
    #[must_use]
    pub fn held_bytes(&self, party: Party) -> usize {
        self.stages.iter().map(|(program, lanes)| program.held_bytes(party, *lanes)).sum()
    }

    /// Spends the OTs.
    ///
    /// # Errors
    /// [`crate::error::Error::Exhausted`] if there are fewer than those of [`Argmax::demand`].
    pub fn prepare(&self, mut cots: Cots) -> Result<ArgmaxPrepared> {
        let party = cots.party();
        let mut stages = Vec::new();
        for (program, lanes) in &self.stages {
            let share = cots.split_front(program.ots() * *lanes)?;
            stages.push(program.prepare(*lanes, share)?);
        }
        Ok(ArgmaxPrepared { party, ell: self.ell, classes: self.classes, stages })
    }
}

impl ArgmaxPrepared {
    /// The offline stage: the client gives c, ell + 1 bits, a lane for every class; the server nothing.
    ///
    /// # Errors
    /// Those of the channel, and of a malformed frame.
    pub async fn offline(self, channel: &mut Channel, c: Option<Planes>) -> Result<ArgmaxReady> {
        let mut stages = Vec::new();
        let mut inputs: Vec<Planes> = c.into_iter().collect();
        for prepared in self.stages {
            stages.push(offline(prepared, channel, std::mem::take(&mut inputs)).await?);
        }
        Ok(ArgmaxReady { party: self.party, ell: self.ell, classes: self.classes, stages })
    }
}

impl ArgmaxReady {
    /// Bytes of memory that it holds: those of [`Argmax::held_bytes`].
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.stages.iter().map(ReadyProgram::held_bytes).sum()
    }

    /// The online stage: the server gives v, ell + 1 bits, a lane for every class; the client nothing. The client gets the
    /// index, the server `None`.
    ///
    /// # Errors
    /// Those of the channel, and of a malformed frame.
    pub async fn online(self, channel: &mut Channel, v: Option<Planes>) -> Result<Option<usize>> {
        let mut stages = self.stages.into_iter();
        let guard = stages.next().expect("guard bits are dropped first");
        let shares = online(guard, channel, v.into_iter().collect()).await?;
        let mut players = Players { values: shares[0].to_lanes(), indices: vec![0; self.classes], index_bits: 0 };
        let rounds = stages.len();
        for (round, ready) in stages.enumerate() {
            let winners = online(ready, channel, players.pair_up(self.ell)).await?;
            if round + 1 < rounds {
                players.take(&winners);
            } else if self.party == Party::Client {
                return Ok(Some(winners[0].to_lanes::<u64>()[0] as usize));
            }
        }
        Ok(None)
    }
}

/// One party's shares of those still in the tournament.
struct Players {
    values: Vec<u64>,
    indices: Vec<u64>,
    index_bits: usize,
}

impl Players {
    /// The inputs of a round: values and indices of the left players, then of the right ones.
    fn pair_up(&self, ell: usize) -> Vec<Planes> {
        let pairs = self.values.len() / 2;
        let side = |side: usize, all: &[u64], width: usize| {
            let lanes: Vec<u64> = all.iter().copied().skip(side).step_by(2).take(pairs).collect();
            Planes::from_lanes(&lanes, width)
        };
        let mut inputs = Vec::new();
        for which in 0..2 {
            inputs.push(side(which, &self.values, ell));
            inputs.push(side(which, &self.indices, self.index_bits));
        }
        inputs
    }

    /// Replaces the players by the winners of a round; the last of an odd number stays, on the left of its next pair.
    fn take(&mut self, winners: &[Planes]) {
        let waiting = (self.values.len() % 2 == 1).then(|| self.values.len() - 1);
        let left_over = waiting.map(|i| (self.values[i], self.indices[i]));
        self.values = winners[0].to_lanes();
        self.indices = winners[1].to_lanes();
        if let Some((value, index)) = left_over {
            self.values.push(value);
            self.indices.push(index);
        }
        self.index_bits += 1;
    }
}

pub(crate) fn check_sizes(ell: usize, classes: usize) -> std::result::Result<(), LayoutError> {
    check_size("bits of a logit", ell, 2, MAX_ELL.into())?;
    check_size("the number of classes", classes, 2, MAX_CLASSES)
}

/// The program that drops the guard bits of all logits; returns when client and server know their shares.
fn without_guard(b: &mut Builder, ell: usize) -> (Time, Time) {
    let c = b.input(Party::Client, ell + 1, Time::OFFLINE);
    let v = b.input(Party::Server, ell + 1, Time::START);
    let z = drop_guard(b, &c, &v);
    b.output_share(&z);
    (z.client.time, z.server.time)
}

/// One round: left and right player, each a value and `index_bits` bits of index; returns when the winner is known.
fn game(
    b: &mut Builder,
    ell: usize,
    chain: &[Part],
    index_bits: usize,
    last: bool,
    client: Time,
    server: Time,
) -> (Time, Time) {
    let mut player = || (b.input_share(ell, client, server), b.input_share(index_bits, client, server));
    let (left, right) = (player(), player());
    let right_wins = less_than(b, chain, &left.0, &right.0);
    let value = (!last).then(|| {
        let change = b.sub_shares(&right.0, &left.0);
        let change = multiply_bit(b, right_wins, &change);
        b.add_shares(&left.0, &change)
    });
    let (lefts, rights) = (bits(b, &left.1), bits(b, &right.1));
    let changes: Vec<Bit> = lefts.iter().zip(&rights).map(|(left, right)| b.xor_bits(*left, *right)).collect();
    let changes = ands(b, right_wins, &changes);
    let mut index: Vec<Bit> = lefts.iter().zip(changes).map(|(left, change)| b.xor_bits(*left, change)).collect();
    index.push(right_wins);
    let index = words(b, &index);
    match value {
        Some(value) => {
            b.output_share(&value);
            b.output_share(&index);
            (value.client.time.max(index.client.time), value.server.time.max(index.server.time))
        }
        None => {
            let theirs = b.send(&index.server);
            let opened = b.xor(&index.client, &theirs);
            b.output(&opened);
            (opened.time, index.server.time)
        }
    }
}

/// The bits of an XOR-shared word.
fn bits(b: &mut Builder, word: &Share) -> Vec<Bit> {
    let (servers, clients) = (b.halves(&word.server), b.halves(&word.client));
    servers.into_iter().zip(clients).map(|(server, client)| b.bit(server, client)).collect()
}

/// XOR-shared bits as a word.
fn words(b: &Builder, bits: &[Bit]) -> Share {
    let parts: Vec<Share> = bits.iter().map(|bit| crate::gadget::compare::words(b, *bit)).collect();
    let join = |party: Party, side: &dyn Fn(&Share) -> &Word| Word {
        party,
        planes: parts.iter().flat_map(|part| side(part).planes.clone()).collect(),
        time: parts.iter().map(|part| side(part).time).max().unwrap_or(Time::START),
    };
    Share { client: join(Party::Client, &|part| &part.client), server: join(Party::Server, &|part| &part.server) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::ot::ideal as ideal_ot;
    use crate::layout::Search;
    use crate::party::Stage;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    /// Runs both parties over a channel in memory; also checks bytes and flights against the plan.
    async fn run(ell: usize, chain: &[Part], logits: &[i64], seed: u64) -> usize {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let argmax = Argmax::new(ell, logits.len(), chain).unwrap();
        let (client, server) = ideal_ot::deal(argmax.demand().ots, &mut rng);
        let noisy: Vec<u64> = logits.iter().map(|z| (*z as u64) << 1 | u64::from(rng.next_u32() & 1)).collect();
        let [c, v] = crate::program::testing::share(&noisy, ell + 1, &mut rng);
        let (mut to_server, mut to_client) = Channel::pair();
        let (prepared_c, prepared_s) = (argmax.prepare(client).unwrap(), argmax.prepare(server).unwrap());
        let client = async {
            to_server.enter(Stage::Offline);
            let ready = prepared_c.offline(&mut to_server, Some(c)).await.unwrap();
            to_server.enter(Stage::Online);
            ready.online(&mut to_server, None).await.unwrap()
        };
        let server = async {
            to_client.enter(Stage::Offline);
            let ready = prepared_s.offline(&mut to_client, None).await.unwrap();
            to_client.enter(Stage::Online);
            ready.online(&mut to_client, Some(v)).await.unwrap()
        };
        let (index, nothing) = tokio::join!(client, server);
        assert_eq!(nothing, None);
        let (cost, online) = (argmax.cost(), to_server.traffic().stage(Stage::Online));
        let planned: usize = [Party::Client, Party::Server].map(|party| cost.bytes(Stage::Online, party)).iter().sum();
        let frames = online.total().frames_sent + online.total().frames_received;
        let headers = frames as usize * crate::transport::channel::HEADER_BYTES;
        assert_eq!(online.total().bytes() as usize, planned + headers);
        assert_eq!(online.flights, u64::from(cost.flights()));
        index.expect("the client learns the index")
    }

    #[tokio::test]
    async fn finds_the_lowest_largest() {
        let ell = 9;
        for (seed, classes) in [2, 3, 4, 5, 7, 10, 33, 100].into_iter().enumerate() {
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            for choice in Search::new(0.73).argmax(ell, classes).unwrap() {
                // Few distinct values, so that ties are common.
                for spread in [2, 5, 256] {
                    let logits: Vec<i64> =
                        (0..classes).map(|_| i64::from(rng.next_u32() % spread) - i64::from(spread / 2)).collect();
                    let want = logits.iter().position(|z| z == logits.iter().max().unwrap()).unwrap();
                    assert_eq!(ideal(&logits), want);
                    assert_eq!(run(ell, &choice.layout, &logits, seed as u64).await, want, "{logits:?} seed {seed}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_thousand_classes() {
        let mut rng = ChaCha20Rng::seed_from_u64(9);
        let logits: Vec<i64> = (0..1000).map(|_| i64::from(rng.next_u32() >> 10) - (1 << 21)).collect();
        let choice = &Search::new(0.73).argmax(23, 1000).unwrap()[0];
        assert_eq!(run(23, &choice.layout, &logits, 9).await, ideal(&logits));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(Argmax::new(1, 10, &[]).is_err());
        assert!(Argmax::new(5, 1, &[Part::Digit(4)]).is_err());
        assert!(Argmax::new(5, 10, &[Part::Digit(3)]).is_err());
        assert!(Argmax::new(5, MAX_CLASSES + 1, &[Part::Digit(4)]).is_err());
    }
}
