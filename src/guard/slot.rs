//! The seed of a slot, made by both parties, and the slot computed again from it.
//!
//! ```text
//!     client                                                     server
//!     part, fresh;  H(slot, part)             ------------->
//!                                             <-------------     nonce, fresh
//!     seed = H(slot, part, nonce)
//!     b*_0, bodies: functions of the seed     ------------->     keeps a hash of each
//!     corrections of c, xhat, P               ------------->
//!                              (the coin falls; where it asks)
//!     part, hash of the MACs                  ------------->     all of it again, compared hash by hash
//! ```
//!
//! The client commits before it sees the nonce and can choose neither secrets nor errors; what it can do is to give a slot up and
//! begin another, which counts against its slots per hour. The hashes bind a slot's name, so that nothing of one slot is good in
//! another. Parts of different slots are independent: an opened slot says nothing of the others.

use std::fmt;

use lowkey_mpc::erasing::OnceRng;
use lowkey_mpc::ot::base::SessionId;
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};
use crate::node::Halves;
use crate::offline::{Draws, Lattice, Message, SlotSeed};
use crate::plan::{ByNode, ByTensor};
use crate::publication::ClientModel;
use crate::share::RingShare;
use crate::slot::slot_name;
use crate::store::{Digest, SlotPart};

/// Bytes of what is sent: a [`Commitment`], a [`Nonce`], an [`AuditAnswer`].
pub(super) const COMMITMENT_BYTES: usize = 32;
pub(super) const NONCE_BYTES: usize = 32;
pub(super) const ANSWER_BYTES: usize = 64;

/// Which slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotName {
    /// Of its session.
    pub session: [u8; 32],
    /// In its session.
    pub number: u64,
    /// Of its model.
    pub model: Digest,
}

impl SlotName {
    /// A slot of this session and model.
    pub fn new(session: SessionId, number: u64, model: Digest) -> Self {
        Self { session: session.0, number, model }
    }

    fn hash(&self, label: &[u8]) -> Sha256 {
        let hash = Sha256::new_with_prefix((label.len() as u64).to_le_bytes()).chain_update(label);
        hash.chain_update(self.session).chain_update(self.number.to_le_bytes()).chain_update(self.model)
    }

    fn commitment(&self, part: &[u8; 32]) -> Commitment {
        Commitment(self.hash(b"lowkey/slot commitment/1").chain_update(part).finalize().into())
    }

    fn seed(&self, part: &[u8; 32], nonce: &Nonce) -> SlotSeed {
        let hash = self.hash(b"lowkey/slot seed/1").chain_update(part).chain_update(nonce.0);
        SlotSeed::new(Zeroizing::new(hash.finalize().into()))
    }
}

/// Client to server, first: what it commits to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment([u8; 32]);

/// Server to client: its part of the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonce([u8; 32]);

/// Client to server, where the coin asks: the slot is opened, and spent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAnswer {
    part: [u8; 32],
    /// Hash of the MACs of c and xhat.
    macs: [u8; 32],
}

impl Drop for AuditAnswer {
    fn drop(&mut self) {
        self.part.zeroize();
    }
}

impl fmt::Debug for AuditAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditAnswer([redacted])")
    }
}

/// Client: its part of a slot's seed, committed to.
pub struct Committed {
    slot: SlotName,
    part: Zeroizing<[u8; 32]>,
}

impl Committed {
    /// A fresh part, from a generator that nobody else has.
    pub fn new(slot: SlotName, rng: &mut OnceRng) -> Self {
        let mut part = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut part[..]);
        Self { slot, part }
    }

    /// What is sent.
    pub fn commitment(&self) -> Commitment {
        self.slot.commitment(&self.part)
    }

    /// The seed, now that the server's nonce is here, and what opens it.
    pub fn seed(self, nonce: &Nonce) -> (SlotSeed, Promise) {
        (self.slot.seed(&self.part, nonce), Promise { slot: self.slot, part: self.part })
    }
}

impl fmt::Debug for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        slot_name(f, "Committed", self.slot.number)
    }
}

/// Client: what opens a slot about which nothing was decided. Dropped, and wiped, before the slot is used; where the line is lost
/// first, the slot is dropped instead, and this is kept for the next connection.
pub struct Promise {
    slot: SlotName,
    part: Zeroizing<[u8; 32]>,
}

impl Promise {
    /// Which slot.
    pub fn slot(&self) -> &SlotName {
        &self.slot
    }

    /// Opens the slot, with the hash of the MACs that the client has of its bits. The same again, if it was lost.
    pub fn answer(&self, macs: [u8; 32]) -> AuditAnswer {
        AuditAnswer { part: *self.part, macs }
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        slot_name(f, "Promise", self.slot.number)
    }
}

/// Server: what arrived of a slot, a hash for each message of the lattice work.
#[derive(Clone, Debug)]
pub struct Arrived {
    slot: SlotName,
    commitment: Commitment,
    nonce: Nonce,
    messages: Vec<[u8; 32]>,
}

/// The client's values in a slot: its own, or as the server of an opened slot makes them of the seed.
pub struct ClientHalf {
    /// xhat by tensor.
    pub pads: ByTensor<RingShare>,
    /// c by node.
    pub shares: ByNode<RingShare>,
}

impl Arrived {
    /// Nothing yet. The nonce is drawn here.
    pub fn new(slot: SlotName, commitment: Commitment, rng: &mut OnceRng) -> Self {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        Self { slot, commitment, nonce: Nonce(nonce), messages: Vec::new() }
    }

    /// Which slot.
    pub fn slot(&self) -> &SlotName {
        &self.slot
    }

    /// What is sent.
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// The next message: all b*_0, or the bodies of the next upload of the plan.
    pub fn message(&mut self, bytes: &[u8]) {
        self.messages.push(Sha256::digest(bytes).into());
    }

    /// What it takes to keep it.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.messages[..])
    }

    /// Computes the slot again and compares it: all values of the client, or the first part that is not what the seed makes. The bits
    /// that the client authenticated are compared by [`Corrections`](super::Corrections).
    ///
    /// # Errors
    /// A bug of this program: it is the slot of another model, or the messages are not as many as the plan has.
    pub(super) fn open(&self, model: &ClientModel, answer: &AuditAnswer) -> Result<Result<ClientHalf, SlotPart>> {
        if self.slot.model != model.digest {
            return Err(Error::internal("a slot was decided upon under another model"));
        }
        if self.slot.commitment(&answer.part) != self.commitment {
            return Ok(Err(SlotPart::Opening));
        }
        let seed = self.slot.seed(&answer.part, &self.nonce);
        let mut lattice = Lattice::new(model, Draws::Seeded(&seed))?;
        let mut messages = self.messages.iter();
        while let Some((message, bytes)) = lattice.next()? {
            let arrived = messages.next().ok_or_else(too_few)?;
            if <[u8; 32]>::from(Sha256::digest(&bytes)) != *arrived {
                return Ok(Err(part(model, message)));
            }
        }
        if messages.next().is_some() {
            return Err(too_few());
        }
        let halves = lattice.finish()?;
        Ok(Ok(halves.into()))
    }
}

impl AuditAnswer {
    /// The hash of the MACs.
    pub(super) fn macs(&self) -> &[u8; 32] {
        &self.macs
    }
}

impl From<Halves> for ClientHalf {
    fn from(halves: Halves) -> Self {
        Self { pads: halves.shared, shares: halves.accumulators }
    }
}

impl fmt::Debug for ClientHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientHalf([redacted])")
    }
}

fn part(model: &ClientModel, message: Message) -> SlotPart {
    let plan = &model.plan;
    match message {
        Message::Keys => SlotPart::Keys,
        Message::Bodies(upload) => {
            let upload = &plan.uploads[upload];
            SlotPart::Bodies { node: plan.name(plan.linear[upload.linear].node).to_owned(), term: upload.term }
        }
    }
}

fn too_few() -> Error {
    Error::internal("a slot was decided upon before or after all of it was here")
}
