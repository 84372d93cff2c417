//! The offline stage of a circuit: what the client knows before there is an input, and the products that it proves.
//!
//! ```text
//! client   corrections of its early bits, and of the products that it proves     --> server
//! server   chi                                                                     --> client    if there are such products
//! client   the proof                                                               --> server
//! ```

use super::bits::{Bits, keys};
use super::circuit::{Circuit, Op, Origin};
use super::cost::ots_at_once;
use super::early::{self, Early, Values};
use super::kept::Triples;
use super::opened::Guard;
use super::prove::MASK_OTS;
use super::tag::Tag;
use crate::correlation::ot::base::SessionId;
use crate::correlation::ot::{Correlations, Cots, OtCount};
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::bits::Planes;
use crate::transport::channel::{Channel, FrameKind};
use rand::CryptoRng;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// One party's circuit whose offline stage is over. Either it runs ([`online`](super::online)) or it is [audited](Self::audit).
pub struct PreparedCircuit {
    pub(super) circuit: Arc<Circuit>,
    pub(super) session: SessionId,
    pub(super) lanes: usize,
    pub(super) values: Values,
    /// Random bits for late inputs.
    pub(super) late: Vec<Bits>,
    /// As many as the layers take that have not run.
    pub(super) triples: Triples,
}

/// The offline stage of circuits, one after the other, with one proof for all of their products: three flights in all. `early`: at the client,
/// the inputs of [`Origin::Early`] of each circuit, port by port; at the server nothing. `before` is called before the frame of each circuit with its
/// number, and before the proof with none, so that bytes are counted under what they are for. OTs, [`ots_at_once`](super::ots_at_once), are computed as
/// they are needed; triples, [`Circuit::triples`] for each lane, are taken out of the session's.
///
/// # Errors
/// Those of the channel, [`Error::Protocol`] for a malformed message; before anything is sent [`Error::Exhausted`] if there are too few of something,
/// and [`Error::OtherSession`] if something is not the guard's.
///
/// # Panics
/// If inputs do not fit the circuits.
pub async fn offline_all<R: CryptoRng>(
    circuits: &[(Arc<Circuit>, usize)],
    ch: &mut Channel,
    guard: &mut Guard,
    (pool, triples): (&mut Correlations, &mut Triples),
    (early, before): (Vec<Vec<Planes>>, impl FnMut(&mut Channel, Option<usize>)),
    rng: &mut R,
) -> Result<Vec<PreparedCircuit>> {
    guard.check(Some(pool.session()))?;
    let (need, have) = (ots_at_once(circuits).client_receives, pool.available().client_receives);
    if have < need {
        return Err(Error::Exhausted { received_by: Party::Client, need, have });
    }
    all_from(circuits, ch, guard, (|need| pool.take(need), triples), (early, before), rng).await
}

/// [`offline_all`] of one circuit, with the OTs of [`Circuit::ots`] and [`Circuit::triples`] triples for each lane.
#[cfg(test)]
pub(super) async fn offline<R: CryptoRng>(
    circuit: &Arc<Circuit>,
    lanes: usize,
    ch: &mut Channel,
    guard: &mut Guard,
    (mut cots, mut triples): (Cots, Triples),
    early: Vec<Planes>,
    rng: &mut R,
) -> Result<PreparedCircuit> {
    guard.check(Some(cots.session()))?;
    let own = (|need| cots.split_front(need), &mut triples);
    let all = all_from(&[(circuit.clone(), lanes)], ch, guard, own, (vec![early], |_, _| ()), rng).await?;
    Ok(all.into_iter().next().expect("as many as circuits"))
}

/// [`offline_all`] with OTs from anywhere.
pub(super) async fn all_from<R: CryptoRng>(
    circuits: &[(Arc<Circuit>, usize)],
    ch: &mut Channel,
    guard: &mut Guard,
    (mut take, triples): (impl FnMut(OtCount) -> Result<Cots>, &mut Triples),
    (early, mut before): (Vec<Vec<Planes>>, impl FnMut(&mut Channel, Option<usize>)),
    rng: &mut R,
) -> Result<Vec<PreparedCircuit>> {
    let mut own = triples.take(super::triples(circuits))?;
    own.check(guard)?;
    let mut all = Vec::with_capacity(circuits.len());
    let mut early = early.into_iter();
    for (number, (circuit, lanes)) in circuits.iter().enumerate() {
        before(ch, Some(number));
        let triples = own.take(circuit.triples() * lanes)?;
        let early = early.next().unwrap_or_default();
        all.push(Unproved::correct(circuit, *lanes, ch, guard, &mut take, triples, early).await?);
    }
    before(ch, None);
    prove(&all, ch, guard, &mut take, rng).await?;
    Ok(all.into_iter().map(|unproved| unproved.finish(guard)).collect())
}

/// One party's circuit between its corrections and the proof. It can't run.
struct Unproved {
    circuit: Arc<Circuit>,
    lanes: usize,
    early: Early,
    late: Vec<Bits>,
    triples: Triples,
}

impl Unproved {
    /// Gives or takes what the client knows.
    async fn correct(
        circuit: &Arc<Circuit>,
        lanes: usize,
        ch: &mut Channel,
        guard: &Guard,
        take: &mut impl FnMut(OtCount) -> Result<Cots>,
        triples: Triples,
        given: Vec<Planes>,
    ) -> Result<Self> {
        triples.check(guard)?;
        let (need, have) = (circuit.triples() * lanes, triples.len());
        if have < need {
            return Err(Error::Exhausted { received_by: Party::Client, need, have });
        }
        let mut random = |planes: usize| take(OtCount::received_by(Party::Client, planes * lanes));
        let (mut ports, mut late) = (Vec::new(), Vec::new());
        for port in circuit.inputs() {
            match port.of {
                Origin::Early => ports.push(keys(random(port.width)?)),
                Origin::Late => late.push(Bits::random(lanes, random(port.width)?)),
                Origin::Server | Origin::Shared | Origin::Public => {}
            }
        }
        let proved = if circuit.proved > 0 { Some(keys(random(circuit.proved)?)) } else { None };
        let mut early = Early::new(circuit.clone(), lanes);
        if guard.party() == Party::Client {
            let message = early.give(ports, &given, proved);
            if !message.is_empty() {
                ch.send(FrameKind::Data, message).await?;
            }
        } else if circuit.early_bytes(lanes) > 0 {
            let message = ch.recv(FrameKind::Data, circuit.early_bytes(lanes)).await?;
            early.take(guard, ports, proved, &message)?;
        }
        Ok(Self { circuit: circuit.clone(), lanes, early: early.settle(), late, triples })
    }

    /// Behind the proof.
    fn finish(self, guard: &Guard) -> PreparedCircuit {
        let Self { circuit, lanes, early, late, triples } = self;
        PreparedCircuit { circuit, session: guard.session(), lanes, values: early.keep(), late, triples }
    }
}

/// Proves the products of all circuits, if there are any.
async fn prove<R: CryptoRng>(
    all: &[Unproved],
    ch: &mut Channel,
    guard: &mut Guard,
    take: &mut impl FnMut(OtCount) -> Result<Cots>,
    rng: &mut R,
) -> Result<()> {
    if all.iter().all(|unproved| unproved.circuit.proved == 0) {
        return Ok(());
    }
    // All of these: fewer would mask less than a block.
    let mask = keys(take(OtCount::received_by(Party::Client, MASK_OTS))?);
    let early: Vec<&Early> = all.iter().map(|unproved| &unproved.early).collect();
    early::prove(&early, ch, guard, &mask, rng).await
}

impl PreparedCircuit {
    /// Lanes.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let values: usize = self.values.iter().flatten().map(|value| value.capacity() * Tag::BYTES).sum();
        values + self.late.iter().map(Bits::held_bytes).sum::<usize>() + self.triples.held_bytes()
    }

    /// The client's early inputs, in the order of the ports, copied: the very tags that the layers read and no others, so that what is
    /// claimed of these is true of what runs.
    #[must_use]
    pub fn early(&self) -> Vec<Bits> {
        let ports = self.circuit.inputs().iter().filter(|port| port.of == Origin::Early);
        ports.enumerate().map(|(number, _)| self.early_input(number)).collect()
    }

    fn early_input(&self, number: usize) -> Bits {
        let (node, width) = self.circuit.input_nodes(Origin::Early, number);
        let tags = (node..node + width).flat_map(|node| self.value(node as u32).iter().copied());
        Bits::of(Some(self.session), self.lanes, tags.collect())
    }

    /// Instead of the online stage: the client claims that its early inputs are these, which the server has computed from what the client
    /// showed of the slot; the next comparison says whether they are. At the client `early` is not read.
    ///
    /// For a session: call it at both ends for all circuits of a slot, in one order, with a [`Guard::apart`], and compare once. It moves the
    /// circuit, so a slot that was opened can't run; claims are of the tags that the layers would have read, [`PreparedCircuit::early`]. Where a client
    /// must let go of a slot before it opens it, `audit` there comes first and the digest is what is left of the slot. The triples come back,
    /// which nobody has used and no claim is about: they may feed another circuit of the session.
    ///
    /// # Panics
    /// If the guard is another session's; at the server, if the inputs do not fit the circuit.
    #[must_use]
    pub fn audit(self, guard: &mut Guard, early: &[Planes]) -> Triples {
        let (inputs, triples) = self.open();
        let none = Planes::default();
        if guard.party() == Party::Server {
            let shapes =
                |bits: &Bits, values: &Planes| (bits.lanes(), bits.width()) == (values.lanes(), values.width());
            let fits = inputs.len() == early.len() && inputs.iter().zip(early).all(|(bits, own)| shapes(bits, own));
            assert!(fits, "an input of its shape for every early port");
        }
        for (number, bits) in inputs.iter().enumerate() {
            guard.claim(bits, early.get(number).unwrap_or(&none));
        }
        triples
    }

    /// Instead of the online stage: the client's early inputs in order, the tags that the layers would have read, to be [claimed](Guard::claim) in
    /// an audit, and the triples, which nobody has used.
    #[must_use]
    pub fn open(self) -> (Vec<Bits>, Triples) {
        (self.early(), self.triples)
    }

    /// Puts the planes of input `number` of an origin where the circuit reads them.
    pub(super) fn place(&mut self, origin: Origin, number: usize, bits: &Bits) {
        let (node, width) = self.circuit.input_nodes(origin, number);
        assert_eq!((bits.lanes(), bits.width()), (self.lanes, width), "an input of the circuit's shape");
        for (plane, value) in self.values[node..node + width].iter_mut().enumerate() {
            *value = Some(Zeroizing::new(bits.plane(plane).to_vec()));
        }
    }

    /// The tags of a node.
    pub(super) fn value(&self, node: u32) -> &[Tag] {
        self.values[node as usize].as_ref().expect("a value is kept until its last use")
    }

    /// What takes no triple: a sum, or a product with a public bit.
    pub(super) fn local(&self, op: Op) -> Option<Zeroizing<Vec<Tag>>> {
        let all =
            |a, b, f: fn(Tag, Tag) -> Tag| self.value(a).iter().zip(self.value(b)).map(|(a, b)| f(*a, *b)).collect();
        match op {
            Op::Xor(a, b) => Some(Zeroizing::new(all(a, b, |a, b| a ^ b))),
            Op::Times(p, x) => Some(Zeroizing::new(all(p, x, |p, x| p & x))),
            Op::Input { .. } | Op::And(..) | Op::Known(..) => None,
        }
    }
}

impl fmt::Debug for PreparedCircuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedCircuit({} lanes, ..)", self.lanes)
    }
}
