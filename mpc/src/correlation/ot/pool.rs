//! One party's correlated OTs of one session: agreed on in batches, spent once, in the order of their index.
//!
//! ```text
//! ensure, each party:   as sender:    seed -> message (one per batch), next seed            flight 1
//!                       as receiver:  seed, message of the peer -> next seed, reply       2
//!                       as sender:    reply of the peer -> proof                          3
//!                       as receiver:  the proof is right, or the session ends
//! take, no message:     as both:      seed, trees -> keys
//! ```
//!
//! In every flight both parties first do all that they send and then all that they receive, so they work at the same time and a call
//! takes three flights, however many batches it makes; none if it makes none. No OT of the peer's batches is ready before its check.
//! A reply to a later batch of the same call goes out before: it is hidden by choices, which do not depend on what the peer sends.

use super::base::SessionId;
use super::coins::{Coins, Subkeys};
use super::cots::{self, Cots, OtCount, ReceivedCots, SentCots};
use super::setup;
use super::silent::{self, BatchMessage, PROOF_BYTES, Preset, REPLY_BYTES};
use super::source::OtSource;
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::block::Delta;
use crate::primitive::prg::Prg;
use crate::transport::channel::{Channel, FrameKind};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The indices of the next OTs to be taken. Equal on both sides, and public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextIndex {
    /// Where the client receives.
    pub client_receives: u64,
    /// Where the server receives.
    pub server_receives: u64,
}

/// One party's halves of the OTs of both directions.
pub struct Correlations {
    party: Party,
    session: SessionId,
    /// Secret roots of the sender's trees.
    roots: Prg,
    /// `None` after a batch failed, which ends the session.
    sender: Option<silent::Sender>,
    /// As `sender`.
    receiver: Option<silent::Receiver>,
    sent: OtSource,
    received: OtSource,
    /// Of the direction in which this party sends.
    sends: Coins,
    /// Of the other.
    receives: Coins,
}

impl Correlations {
    /// Sets up OT extension in both directions and makes the first batch, [`OTS_OF_SETUP`](super::price::OTS_OF_SETUP) each way:
    /// [`SETUP_BYTES`](super::price::SETUP_BYTES) each way, six flights. Both parties call it at the same time.
    ///
    /// # Errors
    /// Those of [`Channel::recv`], and [`Error::Protocol`] if the peer's messages are malformed.
    pub async fn setup<R: CryptoRng>(ch: &mut Channel, rng: &mut R) -> Result<Self> {
        Self::agree(ch, rng).await?.begin(ch).await
    }

    /// The first half of [`setup`](Self::setup), three flights: what the peer sent was checked, so that it has computed its part. It
    /// holds little memory.
    ///
    /// # Errors
    /// As [`setup`](Self::setup).
    pub async fn agree<R: CryptoRng>(ch: &mut Channel, rng: &mut R) -> Result<Self> {
        let setup::Roles { sender, receiver, session, sends, receives } = setup::set_up(ch, rng).await?;
        Ok(Self {
            party: ch.party(),
            session,
            roots: Prg::from_rng(rng),
            sender: Some(sender),
            receiver: Some(receiver),
            sent: OtSource::default(),
            received: OtSource::default(),
            sends,
            receives,
        })
    }

    /// The second half: the first batch, and the memory that comes with it.
    ///
    /// # Errors
    /// As [`setup`](Self::setup).
    pub async fn begin(mut self, ch: &mut Channel) -> Result<Self> {
        self.ensure(ch, OtCount { client_receives: 1, server_receives: 1 }).await?;
        Ok(self)
    }

    /// The party that holds these halves.
    #[must_use]
    pub fn party(&self) -> Party {
        self.party
    }

    /// A public value, unique to the session and known to both parties.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// OTs that are ready to be taken.
    #[must_use]
    pub fn available(&self) -> OtCount {
        OtCount::of_halves(self.party, self.sent.len(), self.received.len())
    }

    /// Bytes of memory that it holds: seeds of batches, tables of the matrix, OTs that were expanded and not taken.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let sender = self.sender.as_ref().map_or(0, silent::Sender::held_bytes);
        let receiver = self.receiver.as_ref().map_or(0, silent::Receiver::held_bytes);
        sender + receiver + self.sent.held_bytes() + self.received.held_bytes()
    }

    /// Most bytes that a party holds for inferences that take `need` OTs each, at most `largest` of them at a time.
    #[must_use]
    pub fn most_held_bytes(need: OtCount, largest: OtCount) -> usize {
        let of = |party| {
            Preset::MOST_SEED_BYTES
                + OtSource::most_held_bytes(need.where_receives(party), largest.where_receives(party))
        };
        of(Party::Client) + of(Party::Server)
    }

    /// The indices of the next OTs that [`Correlations::take`] gives.
    #[must_use]
    pub fn next_index(&self) -> NextIndex {
        let (sent, received) = (self.sent.first(), self.received.first());
        match self.party {
            Party::Client => NextIndex { client_receives: received, server_receives: sent },
            Party::Server => NextIndex { client_receives: sent, server_receives: received },
        }
    }

    /// Compares the peer's indices with ours; a session does so before it spends OTs.
    ///
    /// # Errors
    /// [`Error::Protocol`] if they differ.
    pub fn check_next_index(&self, peer: NextIndex) -> Result<()> {
        let ours = self.next_index();
        if peer != ours {
            let show = |index: NextIndex| format!("{} and {}", index.client_receives, index.server_receives);
            return Err(Error::protocol("index of the next OTs", show(ours), show(peer)));
        }
        Ok(())
    }

    /// Agrees on OTs until `need` are available, in whole batches; what is left stays for later. Both parties call it with
    /// the same `need`. Holds a seed for each batch; the OTs are computed when they are taken.
    ///
    /// # Errors
    /// Those of [`Channel::recv`], [`Error::Protocol`] if a batch is malformed, out of order or fails its check, and
    /// [`Error::Disconnected`] if an earlier call failed.
    pub async fn ensure(&mut self, ch: &mut Channel, need: OtCount) -> Result<()> {
        let missing = |party, have: &OtSource| need.where_receives(party).saturating_sub(have.len());
        let mut sender = self.sender.take().ok_or(Error::Disconnected)?;
        let mut receiver = self.receiver.take().ok_or(Error::Disconnected)?;
        let to_send = batches(sender.first(), missing(self.party.other(), &self.sent));
        let to_receive = batches(receiver.first(), missing(self.party, &self.received));

        let mut provers = Vec::with_capacity(to_send.len());
        for _ in &to_send {
            let (next, batch, message, check) = sender.start(&mut self.roots);
            ch.send(FrameKind::OtBatch, message.encode()).await?;
            provers.push(check.hash(&batch));
            self.sent.push(batch);
            sender = next;
        }

        let mut unchecked = Vec::with_capacity(to_receive.len());
        for preset in &to_receive {
            let message = ch.recv(FrameKind::OtBatch, preset.message_bytes()).await?;
            let message = BatchMessage::decode(&message, receiver.first())?;
            let (next, batch) = receiver.start(message);
            unchecked.push(batch);
            receiver = next;
        }

        for batch in &unchecked {
            ch.send(FrameKind::OtBatch, batch.reply().to_vec()).await?;
        }
        let mut proofs = Vec::with_capacity(provers.len());
        for prover in provers {
            let reply = ch.recv(FrameKind::OtBatch, REPLY_BYTES).await?;
            proofs.push(prover.prove(reply.first_chunk().expect("the length was checked")));
        }
        for proof in proofs {
            ch.send(FrameKind::OtBatch, proof.to_vec()).await?;
        }
        for batch in unchecked {
            let proof = ch.recv(FrameKind::OtBatch, PROOF_BYTES).await?;
            self.received.push(batch.check(proof.first_chunk().expect("the length was checked"))?);
        }
        (self.sender, self.receiver) = (Some(sender), Some(receiver));
        Ok(())
    }

    /// Computes the next `need` OTs and moves them out, for one layer. Both parties call it with the same `need`.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if fewer are available; nothing is moved then. [`Error::Disconnected`] if
    /// [`Correlations::ensure`] failed before.
    pub fn take(&mut self, need: OtCount) -> Result<Cots> {
        Ok(self.take_in_parts(need)?.next(need))
    }

    /// As [`take`](Self::take), to be computed and moved out a part at a time, so that the keys of a large layer are never in memory together.
    /// The parts make the pads that the whole would make.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_in_parts(&mut self, need: OtCount) -> Result<CotParts<'_>> {
        cots::check(need, self.available())?;
        let (Some(sender), Some(_)) = (&self.sender, &self.receiver) else {
            return Err(Error::Disconnected);
        };
        let delta = sender.delta().clone();
        let own = [pads(&self.sends, self.sent.first()), pads(&self.receives, self.received.first())];
        Ok(CotParts { delta, pads: own, left: need, correlations: self })
    }
}

/// The OTs of one layer, in the order of their index in each direction.
pub struct CotParts<'a> {
    correlations: &'a mut Correlations,
    delta: Delta,
    /// Of those that are sent, and of those that are received.
    pads: [Subkeys; 2],
    left: OtCount,
}

impl CotParts<'_> {
    /// The party that holds these halves.
    #[must_use]
    pub fn party(&self) -> Party {
        self.correlations.party
    }

    /// Computes the next `need` OTs and moves them out.
    ///
    /// # Panics
    /// If fewer are left.
    pub fn next(&mut self, need: OtCount) -> Cots {
        let party = self.party();
        let [sent, received] = [party.other(), party].map(|receiver| need.where_receives(receiver));
        self.left = self.left.less(need).expect("no more than was asked for");
        let (sent, received) = (self.correlations.sent.take(sent), self.correlations.received.take(received));
        let [sent_pads, received_pads] = self.pads.clone();
        let sent = SentCots::new(sent, self.delta.clone(), sent_pads);
        Cots::new(party, self.correlations.session, sent, ReceivedCots::new(received, received_pads))
    }
}

/// OTs of a layer that were not moved out are spent all the same: both parties count alike.
impl Drop for CotParts<'_> {
    fn drop(&mut self) {
        if self.left != OtCount::ZERO {
            drop(self.next(self.left));
        }
    }
}

impl fmt::Debug for CotParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CotParts({:?} left)", self.left)
    }
}

/// The keys of the hashes that make pads of the OTs of one layer, from number `first` on: each layer has its own.
fn pads(coins: &Coins, first: u64) -> Subkeys {
    Subkeys::new(coins.key("pads", first))
}

/// The batches from the one of index `next` on that yield at least `missing` OTs.
fn batches(mut next: u64, mut missing: usize) -> Vec<Preset> {
    let mut batches = Vec::new();
    while missing > 0 {
        let preset = Preset::at(next);
        next += preset.usable() as u64;
        missing = missing.saturating_sub(preset.usable());
        batches.push(preset);
    }
    batches
}

impl fmt::Debug for Correlations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Correlations")
            .field("party", &self.party)
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
