//! The coin of an audit: an opened slot is spent, and only one that was not opened can be used.
//!
//! ```text
//!     Undecided  --coin-->  Usable  --begin-->  the slot, once
//!                           Audit   --answer->  nothing: the identity goes on, or is shut out
//! ```
//!
//! Each arrow moves its value. So there is one verdict per slot; what was opened is gone before it is asked for; and from a slot that
//! is in use no way leads back to a coin.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rand::CryptoRng;

use super::case::{Case, Corrections};
use super::registry::{Presence, Registry, Turn};
use super::slot::{Arrived, AuditAnswer, SlotName};
use super::{Denied, Result};
use crate::admission::Room;
use crate::policy::Identity;
use crate::publication::ClientModel;

/// With what probability a slot is opened: neither never nor always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditRate(u32);

impl AuditRate {
    /// The probability, in parts of 2^32, for that is how the coin falls.
    const HALF: u32 = 1 << 31;

    /// A probability of this; `None` below 1/100 and above 99/100.
    pub fn new(probability: f64) -> Option<Self> {
        (0.01..=0.99).contains(&probability).then(|| Self((probability * 2f64.powi(32)) as u32))
    }

    /// The probability.
    pub fn probability(self) -> f64 {
        f64::from(self.0) / 2f64.powi(32)
    }

    /// True: the slot is opened.
    fn falls(self, rng: &mut impl CryptoRng) -> bool {
        rng.next_u32() < self.0
    }
}

impl Default for AuditRate {
    fn default() -> Self {
        Self(Self::HALF)
    }
}

impl FromStr for AuditRate {
    type Err = String;

    /// 0.5, or 1/2.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let probability = match text.split_once('/') {
            Some((over, under)) => number(over).zip(number(under)).map(|(over, under)| over / under),
            None => number(text),
        };
        probability.and_then(Self::new).ok_or_else(|| "expected a probability between 0.01 and 0.99, or 1/2".into())
    }
}

/// A slot of which all offline bytes are here and no online byte.
pub struct Undecided<S> {
    arrived: Arrived,
    model: Arc<ClientModel>,
    slot: S,
}

/// What the coin said.
pub enum Verdict<S, R> {
    /// The slot may be used.
    Use(Usable<S>),
    /// The slot is gone, and its client has to open it; with what is left of it.
    Audit(Audit, R),
}

/// A slot that was not opened.
pub struct Usable<S>(S);

/// An audit that is not answered. Until it is, nothing of its identity goes on; dropped without an answer, the identity is shut out,
/// and may answer on another connection for a while.
pub struct Audit {
    case: Option<Box<Case>>,
    turn: Turn,
}

impl<S> Undecided<S> {
    /// All of it is here, for an inference with this model.
    pub fn new(arrived: Arrived, model: Arc<ClientModel>, slot: S) -> Self {
        Self { arrived, model, slot }
    }

    /// What the slot is for; it can't be used yet.
    pub(super) fn slot(&self) -> &S {
        &self.slot
    }

    /// Lets the coin fall, from a generator that the client does not know, once no other audit of the identity is open, here or at
    /// another server of the folder. Before an audit is asked for it stands in the state folder that it was. A slot that is asked for is
    /// taken apart by `open`, which gives the bits that are compared, those that its circuits would have read, and what is left of it.
    ///
    /// # Errors
    /// When the identity is shut out by now, or that cannot be read, or the session has to leave: no coin falls. When it cannot be written: then the identity is
    /// shut out as one that has not answered, and may answer on another connection for a while.
    pub async fn decide<R>(
        self,
        presence: &Presence,
        rate: AuditRate,
        rng: &mut impl CryptoRng,
        open: impl FnOnce(S) -> (Box<dyn Corrections>, R),
    ) -> Result<Verdict<S, R>> {
        let Self { arrived, model, slot } = self;
        let turn = presence.turn_for_coin().await?;
        let mut opened = false;
        let begun = turn.begin(|| {
            opened = rate.falls(rng);
            opened
        });
        if !opened {
            begun?;
            return Ok(Verdict::Use(Usable(slot)));
        }
        let (corrections, rest) = open(slot);
        let case = Box::new(Case { arrived, corrections, model });
        // From here on it is an audit: where its line could not be written, one without an answer.
        let audit = Audit { case: Some(case), turn };
        begun?;
        Ok(Verdict::Audit(audit, rest))
    }
}

impl<S> Usable<S> {
    /// The slot, for its online stage, once no audit of the identity is open.
    ///
    /// # Errors
    /// When the identity is shut out by now.
    pub async fn begin(self, presence: &Presence) -> Result<S> {
        presence.turn().await?;
        Ok(self.0)
    }
}

impl Registry {
    /// The audit that an identity has not answered, if it still may: one that it was pardoned is none. While one is open, or is being answered
    /// on another connection, whose line may be lost as well, this waits for its end.
    ///
    /// # Errors
    /// [`Denied::Nameless`] without a certificate, or the record cannot be read.
    pub async fn owed(self: &Arc<Self>, client: &Identity) -> Result<Option<Audit>> {
        self.owed_in(client, &Room::default()).await
    }

    /// The same on a connection that may be cut: not while the audit is open. One that has to leave is asked for nothing, and still owes.
    pub(super) async fn owed_in(self: &Arc<Self>, client: &Identity, room: &Room) -> Result<Option<Audit>> {
        let owed = self.owing(client, room).await?;
        Ok(owed.map(|(case, turn)| Audit { case: Some(case), turn }))
    }
}

impl Audit {
    /// Which slot is to be opened.
    pub fn slot(&self) -> &SlotName {
        self.case.as_ref().expect("until it is answered").arrived.slot()
    }

    /// The longest silence until the answer is here.
    pub fn limit(&self) -> Duration {
        self.turn.limit()
    }

    /// Waits for the answer and compares. After this the identity goes on, or all its sessions have ended.
    ///
    /// # Errors
    /// [`Denied::Failed`] if a part is wrong; what `answer` says, or [`Denied::Silent`], if there is none: then the identity is shut
    /// out, and [can answer](super::Registry::owed) on another connection for a while.
    pub async fn answer(mut self, answer: impl Future<Output = crate::Result<AuditAnswer>>) -> Result<()> {
        let limit = self.limit();
        let answer = tokio::time::timeout(limit, answer).await.map_err(|_| Denied::Silent { after: limit })??;
        let case = self.case.as_ref().expect("until it is answered");
        match case.open(&answer)? {
            None => self.turn.passed()?,
            Some(part) => {
                self.case = None;
                self.turn.failed(part.clone())?;
                return Err(Denied::Failed(part));
            }
        }
        self.case = None;
        Ok(())
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if let Some(case) = self.case.take() {
            self.turn.unanswered(case);
        }
    }
}
