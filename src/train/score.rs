//! How a network does on samples: how many are right, and the mean loss. Sums of both stay shares until they are opened to whom the terms name.

use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::fixed::score::{LOSS_WIDTH, RIGHT_WIDTH};
use lowkey_mpc::fixed::softmax::LOG_BITS;
use lowkey_mpc::party::Party;
use zeroize::ZeroizeOnDrop;

use super::error::StepError;

/// Bytes of both sums.
const RIGHT: usize = RIGHT_WIDTH as usize / 8;
const LOSS: usize = LOSS_WIDTH as usize / 8;

/// How a network did on samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// How many samples there were.
    pub samples: u64,
    /// On how many of them the network was right: their class had the first of the largest logits.
    pub right: u64,
    /// Softmax cross-entropy, the mean of these samples.
    pub loss: f64,
}

impl Score {
    /// Percent that were right.
    pub fn accuracy(&self) -> f64 {
        100.0 * self.right as f64 / self.samples.max(1) as f64
    }
}

/// One party's shares of the sums over some samples; in the clear, the sums themselves. Wiped when dropped, prints redacted.
#[derive(Clone, Default, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Tally {
    samples: u64,
    /// Modulo 2^32.
    right: u64,
    /// Modulo 2^48, in steps of 2^-6.
    loss: u64,
}

impl Tally {
    /// Adds those of `samples` samples, one by one or in sums.
    pub fn add(&mut self, samples: usize, right: &[u64], loss: &[u64]) {
        let sum = |words: &[u64], width: u8| words.iter().fold(0, |sum: u64, x| sum.wrapping_add(*x)) & low(width);
        self.samples += samples as u64;
        self.right = self.right.wrapping_add(sum(right, RIGHT_WIDTH)) & low(RIGHT_WIDTH);
        self.loss = self.loss.wrapping_add(sum(loss, LOSS_WIDTH)) & low(LOSS_WIDTH);
    }

    /// What both shares stand for, or one in the clear.
    pub fn score(&self) -> Score {
        let mean = self.loss as f64 / self.samples.max(1) as f64;
        Score { samples: self.samples, right: self.right, loss: mean / f64::from(1 << LOG_BITS) }
    }

    /// Bytes of the message that opens it to one party.
    pub const BYTES: usize = RIGHT + LOSS;

    /// Opens it to one party, which gets it; the other one sends its shares.
    ///
    /// # Errors
    /// Those of the channel; [`ProtocolError::Protocol`] if more samples are right than there are.
    pub async fn open(&self, party: Party, to: Party, channel: &mut Channel) -> Result<Option<Score>, StepError> {
        if party != to {
            let bytes = [&self.right.to_le_bytes()[..RIGHT], &self.loss.to_le_bytes()[..LOSS]].concat();
            channel.send(FrameKind::Data, bytes).await?;
            return Ok(None);
        }
        let bytes = channel.recv(FrameKind::Data, Self::BYTES).await?;
        let (right, loss) = bytes.split_at(RIGHT);
        let mut sum = self.clone();
        sum.add(0, &[word(right)], &[word(loss)]);
        let score = sum.score();
        if score.right > score.samples {
            let expected = format!("at most {} samples that are right", score.samples);
            return Err(ProtocolError::protocol("a score", expected, score.right).into());
        }
        Ok(Some(score))
    }

    /// What both shares stand for.
    #[cfg(test)]
    pub fn sum(&self, other: &Self) -> Self {
        assert_eq!(self.samples, other.samples);
        let mut sum = self.clone();
        sum.add(0, &[other.right], &[other.loss]);
        sum
    }
}

fn low(width: u8) -> u64 {
    (1 << width) - 1
}

/// A word of a few bytes, the lowest first.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tally({} samples, redacted)", self.samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowkey_mpc::channel::HEADER_BYTES;

    fn shares(samples: usize, right: u64, loss: u64) -> [Tally; 2] {
        let (c, v) = (0xdead_beef_u64, 0x1234_5678_9abc_u64);
        let mut client = Tally::default();
        let mut server = Tally::default();
        client.add(samples, &[c, 5], &[v]);
        server.add(samples, &[right.wrapping_sub(c), 0_u64.wrapping_sub(5)], &[loss.wrapping_sub(v)]);
        [client, server]
    }

    async fn opened(samples: usize, right: u64, loss: u64, to: Party) -> [Result<Option<Score>, StepError>; 2] {
        let [client, server] = shares(samples, right, loss);
        let (mut c, mut s) = Channel::pair();
        let both = tokio::join!(client.open(Party::Client, to, &mut c), server.open(Party::Server, to, &mut s));
        let sent = [&c, &s].map(|channel| channel.traffic().total().bytes_sent as usize);
        let bytes = Tally::BYTES + HEADER_BYTES;
        assert_eq!(sent, if to == Party::Client { [0, bytes] } else { [bytes, 0] });
        [both.0, both.1]
    }

    #[tokio::test]
    async fn opens_to_one_party() {
        for to in [Party::Client, Party::Server] {
            let [client, server] = opened(300, 120, 64 * 450, to).await.map(Result::unwrap);
            let [told, other] = if to == Party::Client { [client, server] } else { [server, client] };
            assert_eq!((told, other), (Some(Score { samples: 300, right: 120, loss: 1.5 }), None));
            assert_eq!(told.unwrap().accuracy(), 40.0);
        }
        assert_eq!(format!("{:?}", shares(9, 1, 1)[0]), "Tally(9 samples, redacted)");
    }

    #[tokio::test]
    async fn more_right_ones_than_samples_are_refused() {
        let [client, server] = opened(300, 301, 0, Party::Client).await;
        assert!(matches!(client, Err(StepError::Protocol(ProtocolError::Protocol { .. }))), "{client:?}");
        assert!(server.unwrap().is_none());
    }
}
