//! What both parties agree on before the first step: that they mean the same training, and the seeds of what is public to both.
//!
//! ```text
//! both      32 random bytes, digest of network, format, history, steps done and terms       -> peer
//! ```
//!
//! A history names the sessions that led to shares, by a hash of the random bytes of each. Shares of both parties add up to weights only if
//! they are of one history and as many steps: two sessions that went on from one checkpoint leave different ones.

use lowkey_he::mask::EpochSeed;
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::error::Error;
use lowkey_mpc::fixed::refresh::Refresh;
use lowkey_mpc::party::Party;
use sha2::{Digest, Sha256};

use super::error::StepError;
use super::format::{Format, Net};
use super::plan::StepPlan;

/// Bytes of the message of either party.
const MESSAGE: usize = 64;

/// The history of shares: which sessions led to them. Public to both parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History(pub(super) [u8; 32]);

/// Which shares: where they come from, and how many steps they have seen. Public to both parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub(super) history: History,
    pub(super) done: u64,
}

/// What a session agreed on. Public to both parties, of no use to others. It is used up by one trainer, so that no two of them share
/// its numbers.
#[derive(PartialEq, Eq)]
pub struct Agreed {
    /// Random bytes of the client and of the server.
    keys: [[u8; 32]; 2],
    /// Of the shares that the session goes on with; none if it begins.
    before: Option<History>,
    /// Steps done before.
    done: u64,
}

impl Agreed {
    /// The numbers that refresh shares before the truncations of a step.
    pub(super) fn refresh(&self, step: u64) -> Refresh {
        Refresh::new(&self.keys[0], &self.keys[1], step)
    }

    /// The numbers that deal the first shares.
    pub(super) fn deal(&self) -> Refresh {
        self.refresh(u64::MAX)
    }

    /// The seed of all masks.
    pub(super) fn epoch(&self) -> EpochSeed {
        EpochSeed(hash(b"lowkey training: masks", &[&self.keys[0], &self.keys[1]]))
    }

    /// The seed of an order that both parties know: of samples whose features are shared.
    pub(super) fn order(&self) -> [u8; 32] {
        hash(b"lowkey training: common order", &[&self.keys[0], &self.keys[1]])
    }

    /// The history of the shares that this session leaves.
    pub(super) fn history(&self) -> History {
        let before = self.before.as_ref().map_or(&[][..], |history| &history.0);
        History(hash(b"lowkey training: history", &[before, &self.keys[0], &self.keys[1]]))
    }

    /// Whether this session goes on with the shares of `moment`: its first ones, or those that both parties meant.
    pub(super) fn goes_on_with(&self, moment: &Moment) -> bool {
        let first = self.done == 0 && self.before.is_none() && moment.history == self.history();
        moment.done == self.done && (first || self.before == Some(moment.history))
    }

    /// What step `step` is, for both parties to compare.
    pub(super) fn opening(&self, plan: &StepPlan, step: u64) -> Opening {
        let StepPlan { net, format, rate, owner, flights, aim, layers: _, softmax: _, score: _ } = plan;
        let words = [step, flights[0].into(), flights[1].into()].map(u64::to_le_bytes);
        let of = [self.history().0, numbers(net, format)];
        let parts: [&[u8]; 4] =
            [of.as_flattened(), words.as_flattened(), &[*rate, u8::from(*owner == Party::Server)], &aim.bytes()];
        Opening(hash(b"lowkey training: step", &parts))
    }
}

#[cfg(test)]
impl Agreed {
    /// A session that begins, of these random bytes.
    pub(super) fn of_test(keys: [[u8; 32]; 2]) -> Self {
        Self { keys, before: None, done: 0 }
    }
}

impl std::fmt::Debug for Agreed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Agreed(..)")
    }
}

/// What a step is: its session, its number, its plan. It goes before the first message of a step; the peer's has to be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening([u8; 32]);

impl Opening {
    /// Bytes of the message of either party.
    pub const BYTES: usize = 32;

    /// The same of products that are computed in a way of several.
    #[must_use]
    pub fn with(self, way: &[u8]) -> Self {
        Self(hash(b"lowkey training: products", &[&self.0, way]))
    }

    /// Sends it.
    ///
    /// # Errors
    /// Those of the channel.
    pub async fn send(self, channel: &mut Channel) -> Result<(), StepError> {
        Ok(channel.send(FrameKind::Data, self.0.to_vec()).await?)
    }

    /// Receives the peer's.
    ///
    /// # Errors
    /// Those of the channel; [`Error::Protocol`] if the peer means another step.
    pub async fn compare(self, channel: &mut Channel) -> Result<(), StepError> {
        let theirs = channel.recv(FrameKind::Data, Self::BYTES).await?;
        same("the step that the peer means", &self.0, &theirs)
    }
}

/// Agrees on a session of `net` in `format`, which goes on with the shares of the moment `kept`, or begins. `terms` is a digest of whatever
/// else both have to mean; `random` are fresh random bytes of this party.
///
/// # Errors
/// Those of the channel; [`Error::Protocol`] if the peer means another training, or shares of another moment of it.
pub async fn agree(
    channel: &mut Channel,
    party: Party,
    net: &Net,
    format: &Format,
    kept: Option<Moment>,
    terms: &[u8; 32],
    random: [u8; 32],
) -> Result<Agreed, StepError> {
    let (before, done) = (kept.map(|kept| kept.history), kept.map_or(0, |kept| kept.done));
    let history = before.as_ref().map_or(&[][..], |history| &history.0);
    let own = hash(b"lowkey training: session", &[&numbers(net, format), history, &done.to_le_bytes(), terms]);
    channel.send(FrameKind::Data, [random, own].concat()).await?;
    let message = channel.recv(FrameKind::Data, MESSAGE).await?;
    let (theirs, meant) = message.split_at(32);
    same("the training that the peer means", &own, meant)?;
    let mut peer = [0; 32];
    peer.copy_from_slice(theirs);
    let keys = match party {
        Party::Client => [random, peer],
        Party::Server => [peer, random],
    };
    Ok(Agreed { keys, before, done })
}

fn same(what: &'static str, own: &[u8; 32], theirs: &[u8]) -> Result<(), StepError> {
    if own[..] == *theirs {
        return Ok(());
    }
    Err(Error::protocol(what, hex::encode(own), hex::encode(theirs)).into())
}

/// Network and format.
pub(super) fn numbers(net: &Net, format: &Format) -> [u8; 32] {
    let sizes: Vec<[u8; 8]> = (0..net.layers())
        .flat_map(|i| [net.positions(i), net.inputs(i), net.outputs(i)].map(|size| (size as u64).to_le_bytes()))
        .collect();
    let kind = [u8::from(net.is_on_features())];
    hash(b"lowkey training: numbers", &[sizes.as_flattened(), &kind, &format.bytes()])
}

fn hash(label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let hash = Sha256::new().chain_update([label.len() as u8]).chain_update(label);
    parts
        .iter()
        .fold(hash, |hash, part| hash.chain_update((part.len() as u64).to_le_bytes()).chain_update(part))
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::plan::Aim;

    type Training = (Net, Format, Option<([u8; 32], u64)>);

    async fn both(client: Training, server: Training) -> [Result<Agreed, StepError>; 2] {
        let (mut c, mut s) = Channel::pair();
        let kept =
            |kept: Option<([u8; 32], u64)>| kept.map(|(history, done)| Moment { history: History(history), done });
        let [own, theirs] = [client.2, server.2].map(kept);
        let (a, b) = tokio::join!(
            agree(&mut c, Party::Client, &client.0, &client.1, own, &[0; 32], [1; 32]),
            agree(&mut s, Party::Server, &server.0, &server.1, theirs, &[0; 32], [2; 32])
        );
        [a, b]
    }

    #[tokio::test]
    async fn both_parties_have_the_same_streams() {
        let training = || (Net::a(), Format::NARROW, Some(([3; 32], 7)));
        let [client, server] = both(training(), training()).await.map(Result::unwrap);
        assert_eq!(client, server);
        assert_eq!(client.refresh(3).draw(4), server.refresh(3).draw(4));
        assert_ne!(client.refresh(3).draw(4), client.deal().draw(4));
        assert_eq!((client.epoch(), format!("{client:?}").as_str()), (server.epoch(), "Agreed(..)"));
        assert_eq!((client.history(), client.done), (server.history(), 7));
    }

    #[tokio::test]
    async fn another_training_is_refused() {
        let kept = Some(([3; 32], 7));
        let others = [
            (Net::d(), Format::NARROW, kept),
            (Net::a(), Format { master: 14, ..Format::NARROW }, kept),
            (Net::a(), Format { map_gradient: 5, ..Format::NARROW }, kept),
            (Net::a(), Format::NARROW, Some(([3; 32], 8))),
            (Net::a(), Format::NARROW, Some(([4; 32], 7))),
            (Net::a(), Format::NARROW, None),
        ];
        for other in others {
            let name = format!("{other:?}");
            for result in both((Net::a(), Format::NARROW, kept), other).await {
                assert!(matches!(result, Err(StepError::Protocol(Error::Protocol { .. }))), "{name}");
            }
        }
    }

    /// Every session leaves a history of its own, be it the first or one that goes on.
    #[tokio::test]
    async fn histories_tell_sessions_apart() {
        let kept = [None, Some([0; 32]), Some([3; 32])];
        let mut seen = Vec::new();
        for before in kept {
            for client in [1, 5] {
                let agreed = Agreed { keys: [[client; 32], [2; 32]], before: before.map(History), done: 0 };
                assert!(!seen.contains(&agreed.history()), "{before:?}");
                seen.push(agreed.history());
            }
        }
    }

    #[test]
    fn openings_tell_steps_and_plans_apart() {
        let agreed = |client| Agreed::of_test([[client; 32], [2; 32]]);
        let (net, client) = (Net::head(4).unwrap(), Party::Client);
        let plan = |rate, flights, aim| StepPlan::new(&net, Format::NARROW, rate, client, flights, aim).unwrap();
        let aim = Aim { coins: true, ..Aim::default() };
        let one = plan(4, [8, 40], aim);
        let openings = [
            agreed(1).opening(&one, 0),
            agreed(1).opening(&one, 1),
            agreed(3).opening(&one, 0),
            agreed(1).opening(&plan(5, [8, 40], aim), 0),
            agreed(1).opening(&plan(4, [9, 40], aim), 0),
            agreed(1).opening(&plan(4, [8, 30], aim), 0),
            agreed(1).opening(&plan(4, [8, 40], Aim::default()), 0),
            agreed(1).opening(&StepPlan { owner: Party::Server, ..one.clone() }, 0),
            agreed(1).opening(&plan(4, [8, 40], Aim { score: true, ..aim }), 0),
            agreed(1).opening(&plan(4, [8, 40], Aim { score: true, evaluates: true, ..aim }), 0),
            agreed(1).opening(&one, 0).with(&[0]),
            agreed(1).opening(&one, 0).with(&[1]),
        ];
        for (i, opening) in openings.iter().enumerate() {
            assert!(!openings[..i].contains(opening), "opening {i}");
        }
        assert_eq!(agreed(1).opening(&one, 5), agreed(1).opening(&one.clone(), 5));
    }
}
