//! One party's shares of masters and momenta: dealt at the start, kept between steps, opened at the end.

use std::{fmt, mem};

use lowkey_bridge::BridgeError;
use lowkey_he::pack;
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::party::Party;
use zeroize::Zeroizing;

use super::error::StepError;
use super::format::{Format, Net};
use super::session::{Agreed, History, Moment};
use super::twin::State;
use crate::share::{Ring, RingShare};

/// One party's shares of masters and momenta, modulo 2^held of the format.
#[derive(Clone)]
pub struct WeightShares {
    /// Which sessions led to them.
    pub(super) history: History,
    /// Steps done.
    pub(super) done: u64,
    /// Of each layer inputs + 1 rows, the last that of the bias.
    pub(super) masters: Vec<RingShare>,
    /// As many.
    pub(super) momenta: Vec<RingShare>,
}

/// Bytes of history and steps done in what is kept.
const HEADER: usize = 40;

impl WeightShares {
    /// Shares of the server's first masters, without momentum. The server gives them, the client nothing; both take their shares from
    /// one public stream of the session: a share has to be uniform, for it is the operand of products.
    ///
    /// # Panics
    /// If the masters are not those of the network.
    pub fn first(party: Party, net: &Net, format: &Format, masters: Option<&[Vec<i64>]>, agreed: &Agreed) -> Self {
        let zeros = |i| RingShare::zeros(net.weights(i), ring(format.held));
        let zeros = || (0..net.layers()).map(zeros).collect();
        let mut refresh = agreed.deal();
        let mut held = Self { history: agreed.history(), done: 0, masters: zeros(), momenta: zeros() };
        if let Some(masters) = masters.filter(|_| party == Party::Server) {
            let state = State::new(net, masters.to_vec());
            for (share, w) in held.masters.iter_mut().zip(state.masters) {
                share.change(|words| words.iter_mut().zip(w).for_each(|(share, w)| *share = w.cast_unsigned()));
            }
        }
        held.masters.iter_mut().chain(&mut held.momenta).for_each(|share| {
            share.change(|words| refresh.apply(party, words));
        });
        held
    }

    /// Whether there are as many as `net` has.
    pub(super) fn is_of(&self, net: &Net) -> bool {
        self.masters.iter().map(|w| w.words().len()).eq((0..net.layers()).map(|i| net.weights(i)))
    }

    /// Which shares they are.
    pub(super) fn moment(&self) -> Moment {
        Moment { history: self.history, done: self.done }
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// What is kept between sessions: history, steps done, then all masters, then all momenta, as many bits each as their ring has.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let all = || self.masters.iter().chain(&self.momenta);
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + packed_len(all())));
        bytes.extend(self.history.0);
        bytes.extend(self.done.to_le_bytes());
        append(&mut bytes, all());
        bytes
    }

    /// Bytes of [`WeightShares::encode`].
    pub fn encoded_len(net: &Net, width: u8) -> usize {
        HEADER + pack::packed_len(2 * weights(net), width.into())
    }

    /// The shares that were kept.
    ///
    /// # Errors
    /// [`BridgeError`] if these are not as many bytes as [`WeightShares::encoded_len`], or the last one is filled up with ones.
    pub fn decode(net: &Net, width: u8, bytes: &[u8]) -> Result<Self, BridgeError> {
        let expected = Self::encoded_len(net, width);
        let header = bytes.split_first_chunk().and_then(|(history, rest)| Some((history, rest.split_first_chunk()?)));
        let Some((history, (done, packed))) = header.filter(|_| bytes.len() == expected) else {
            return Err(BridgeError::Length { what: "kept shares", expected, found: bytes.len() });
        };
        let all = Zeroizing::new(pack::read(packed, 2 * weights(net), width.into())?);
        let mut rest = &all[..];
        let mut take = || split(&mut rest, (0..net.layers()).map(|i| net.weights(i)), ring(width));
        Ok(Self { history: History(*history), done: u64::from_le_bytes(*done), masters: take(), momenta: take() })
    }

    /// Opens the masters to one party, which gets them; the other one sends its shares.
    ///
    /// # Errors
    /// Those of the channel, and of a message that is malformed.
    pub async fn open(
        &self,
        party: Party,
        to: Party,
        channel: &mut Channel,
    ) -> Result<Option<Vec<Vec<i64>>>, StepError> {
        exchange(&self.masters, party, to, channel).await
    }

    /// What both shares stand for, signed numbers.
    #[cfg(test)]
    pub(super) fn sum(&self, other: &Self) -> State {
        State { masters: sum(&self.masters, &other.masters), momenta: sum(&self.momenta, &other.momenta) }
    }
}

/// Opens shares of all layers to one party.
async fn exchange(
    own: &[RingShare],
    party: Party,
    to: Party,
    channel: &mut Channel,
) -> Result<Option<Vec<Vec<i64>>>, StepError> {
    let len = packed_len(own.iter());
    if party != to {
        let mut bytes = Zeroizing::new(Vec::with_capacity(len));
        append(&mut bytes, own.iter());
        channel.send(FrameKind::Data, mem::take(&mut *bytes)).await?;
        return Ok(None);
    }
    let Some(ring) = own.first().map(RingShare::ring) else { return Ok(Some(Vec::new())) };
    let bytes = Zeroizing::new(channel.recv(FrameKind::Data, len).await?);
    let sizes = own.iter().map(|x| x.words().len());
    let theirs = pack::read(&bytes, sizes.clone().sum(), ring.bits()).map_err(BridgeError::from)?;
    let theirs = split(&mut &Zeroizing::new(theirs)[..], sizes, ring);
    Ok(Some(sum(own, &theirs)))
}

/// The ring of masters and momenta of `width` bits.
fn ring(width: u8) -> Ring {
    Ring::plain(width.into())
}

/// The next layers of these sizes.
fn split(rest: &mut &[u64], sizes: impl Iterator<Item = usize>, ring: Ring) -> Vec<RingShare> {
    let take = |size| {
        let (own, after) = rest.split_at(size);
        *rest = after;
        RingShare::new(own.to_vec(), ring)
    };
    sizes.map(take).collect()
}

/// Bytes of shares of one ring.
fn packed_len<'a>(shares: impl Iterator<Item = &'a RingShare>) -> usize {
    let (count, bits) = shares.fold((0, 0), |(count, _), x| (count + x.words().len(), x.ring().bits()));
    pack::packed_len(count, bits)
}

/// Weights of all layers.
fn weights(net: &Net) -> usize {
    (0..net.layers()).map(|i| net.weights(i)).sum()
}

/// Appends shares of one ring, as many bits each as it has.
fn append<'a>(bytes: &mut Vec<u8>, shares: impl Iterator<Item = &'a RingShare> + Clone) {
    let bits = shares.clone().map(|x| x.ring().bits()).next().unwrap_or(0);
    // As long as it becomes, so that nothing is moved and left behind.
    let mut all = Zeroizing::new(Vec::with_capacity(shares.clone().map(|x| x.words().len()).sum()));
    shares.for_each(|x| all.extend_from_slice(x.words()));
    pack::append(bytes, &all, bits);
}

/// Signed numbers from both shares.
fn sum(own: &[RingShare], theirs: &[RingShare]) -> Vec<Vec<i64>> {
    let of = |(own, theirs): (&RingShare, &RingShare)| {
        let unused = 64 - own.ring().bits();
        let word = |(c, v): (&u64, &u64)| (c.wrapping_add(*v) << unused).cast_signed() >> unused;
        own.words().iter().zip(theirs.words()).map(word).collect()
    };
    own.iter().zip(theirs).map(of).collect()
}

impl fmt::Debug for WeightShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WeightShares({} layers, ..)", self.masters.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowkey_mpc::channel::HEADER_BYTES;

    fn dealt() -> (Net, Vec<Vec<i64>>, [WeightShares; 2]) {
        let agreed = Agreed::of_test([[1; 32], [2; 32]]);
        let net = Net::new(&[3, 2, 10]).unwrap();
        let masters: Vec<Vec<i64>> =
            (0..net.layers()).map(|i| (0..net.weights(i)).map(|w| w as i64 * 7 - 100).collect()).collect();
        let first = |party, masters| WeightShares::first(party, &net, &Format::NARROW, masters, &agreed);
        let held = [first(Party::Client, None), first(Party::Server, Some(&masters))];
        (net, masters, held)
    }

    #[test]
    fn first_shares_are_uniform_and_add_up() {
        let (net, masters, [client, server]) = dealt();
        assert_eq!(client.sum(&server), State::new(&net, masters));
        let ones = |held: &WeightShares| held.encode()[HEADER..].iter().map(|byte| byte.count_ones()).sum::<u32>();
        let bits = 8 * (WeightShares::encoded_len(&net, 25) - HEADER) as u32;
        for held in [&client, &server] {
            assert!(ones(held).abs_diff(bits / 2) < 5 * bits.isqrt() / 2, "{} of {bits}", ones(held));
        }
        assert_eq!(format!("{client:?}"), "WeightShares(2 layers, ..)");
    }

    #[test]
    fn what_is_kept_comes_back() {
        let (net, _, [client, server]) = dealt();
        let client = WeightShares { done: 9, ..client };
        let bytes = client.encode();
        assert_eq!(bytes.len(), WeightShares::encoded_len(&net, 25));
        let again = WeightShares::decode(&net, 25, &bytes).unwrap();
        assert_eq!(again.sum(&server), client.sum(&server));
        assert_eq!((again.done(), again.history), (9, client.history));
        assert!((0..bytes.len()).all(|from| WeightShares::decode(&net, 25, &bytes[from + 1..]).is_err()));
        let mut padded = bytes.to_vec();
        *padded.last_mut().unwrap() |= 0x80;
        assert!(WeightShares::decode(&net, 25, &padded).is_err());
    }

    /// Masters alone: momenta say more.
    #[tokio::test]
    async fn opens_to_one_party() {
        let (net, masters, [client, server]) = dealt();
        let (mut c, mut s) = Channel::pair();
        let (nothing, opened) = tokio::join!(
            client.open(Party::Client, Party::Server, &mut c),
            server.open(Party::Server, Party::Server, &mut s)
        );
        assert!(nothing.unwrap().is_none());
        assert_eq!(opened.unwrap().as_ref(), Some(&masters));
        let sent = c.traffic().total().bytes_sent as usize;
        assert_eq!(sent, pack::packed_len(weights(&net), 25) + HEADER_BYTES);
    }
}
