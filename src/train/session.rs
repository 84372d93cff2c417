//! What both parties agree on before the first step: that they mean the same training, and the seeds of what is public to both.
//!
//! ```text
//! both      32 random bytes, digest of network, format and steps done       -> peer
//! ```

use lowkey_he::mask::EpochSeed;
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::error::Error;
use lowkey_mpc::fixed::refresh::Refresh;
use lowkey_mpc::party::Party;
use sha2::{Digest, Sha256};

use super::format::{Format, Net};
use super::products::StepError;

/// Bytes of the message of either party.
const MESSAGE: usize = 64;

/// What a session agreed on. Public to both parties, of no use to others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Random bytes of the client and of the server.
    keys: [[u8; 32]; 2],
}

impl Agreed {
    /// The numbers that refresh shares before the truncations of a step.
    pub fn refresh(&self, step: u64) -> Refresh {
        Refresh::new(&self.keys[0], &self.keys[1], step)
    }

    /// The numbers that deal the first shares.
    pub fn deal(&self) -> Refresh {
        self.refresh(u64::MAX)
    }

    /// The seed of all masks.
    pub fn epoch(&self) -> EpochSeed {
        EpochSeed(hash(b"lowkey training: masks", &[&self.keys[0], &self.keys[1]]))
    }
}

impl std::fmt::Debug for Agreed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Agreed(..)")
    }
}

/// Agrees on a session of `net` in `format`, of which `done` steps are done. `random` are fresh random bytes of this party.
///
/// # Errors
/// Those of the channel; [`Error::Protocol`] if the peer means another training.
pub async fn agree(
    channel: &mut Channel,
    party: Party,
    net: &Net,
    format: &Format,
    done: u64,
    random: [u8; 32],
) -> Result<Agreed, StepError> {
    let own = digest(net, format, done);
    channel.send(FrameKind::Data, [random, own].concat()).await?;
    let message = channel.recv(FrameKind::Data, MESSAGE).await?;
    let (theirs, meant) = message.split_at(32);
    if meant != own {
        return Err(Error::protocol("the training that the peer means", hex::encode(own), hex::encode(meant)).into());
    }
    let mut peer = [0; 32];
    peer.copy_from_slice(theirs);
    let keys = match party {
        Party::Client => [random, peer],
        Party::Server => [peer, random],
    };
    Ok(Agreed { keys })
}

/// Everything public that a step depends on, but its rate.
fn digest(net: &Net, format: &Format, done: u64) -> [u8; 32] {
    let net: Vec<u64> = (0..net.layers())
        .flat_map(|i| [net.positions(i), net.inputs(i), net.outputs(i)].map(|size| size as u64))
        .collect();
    let words: Vec<[u8; 8]> = net.into_iter().chain([done]).map(u64::to_le_bytes).collect();
    hash(b"lowkey training: numbers", &[words.as_flattened(), &format.bytes()])
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

    async fn both(client: (Net, Format, u64), server: (Net, Format, u64)) -> [Result<Agreed, StepError>; 2] {
        let (mut c, mut s) = Channel::pair();
        let (a, b) = tokio::join!(
            agree(&mut c, Party::Client, &client.0, &client.1, client.2, [1; 32]),
            agree(&mut s, Party::Server, &server.0, &server.1, server.2, [2; 32])
        );
        [a, b]
    }

    #[tokio::test]
    async fn both_parties_have_the_same_streams() {
        let training = || (Net::a(), Format::NARROW, 7);
        let [client, server] = both(training(), training()).await.map(Result::unwrap);
        assert_eq!(client, server);
        assert_eq!(client.refresh(3).draw(4), server.refresh(3).draw(4));
        assert_ne!(client.refresh(3).draw(4), client.deal().draw(4));
        assert_eq!((client.epoch(), format!("{client:?}").as_str()), (server.epoch(), "Agreed(..)"));
    }

    #[tokio::test]
    async fn another_training_is_refused() {
        let others = [
            (Net::d(), Format::NARROW, 7),
            (Net::a(), Format { master: 14, ..Format::NARROW }, 7),
            (Net::a(), Format { map_gradient: 5, ..Format::NARROW }, 7),
            (Net::a(), Format::NARROW, 8),
        ];
        for other in others {
            let name = format!("{other:?}");
            for result in both((Net::a(), Format::NARROW, 7), other).await {
                assert!(matches!(result, Err(StepError::Protocol(Error::Protocol { .. }))), "{name}");
            }
        }
    }
}
