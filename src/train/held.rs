//! One party's shares of masters and momenta: dealt at the start, kept between steps, opened at the end.

use std::{fmt, mem};

use lowkey_bridge::BridgeError;
use lowkey_he::pack;
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::party::Party;
use zeroize::Zeroizing;

use super::error::StepError;
use super::format::Net;
use super::session::{Agreed, History, Moment};
use super::twin::State;

/// Shares of a matrix, row by row, wiped when dropped. Bits above the ring are undefined.
pub(super) type Words = Zeroizing<Vec<u64>>;

/// One party's shares of masters and momenta.
#[derive(Clone)]
pub struct Held {
    /// Which sessions led to them.
    pub(super) history: History,
    /// Steps done.
    pub(super) done: u64,
    /// Of each layer inputs + 1 rows, the last that of the bias.
    pub(super) masters: Vec<Words>,
    /// As many.
    pub(super) momenta: Vec<Words>,
}

/// Bytes of history and steps done in what is kept.
const HEADER: usize = 40;

impl Held {
    /// Shares of the server's first masters, without momentum. The server gives them, the client nothing; both take their shares from
    /// one public stream of the session: a share has to be uniform, for it is the operand of products.
    ///
    /// # Panics
    /// If the masters are not those of the network.
    pub fn first(party: Party, net: &Net, masters: Option<&[Vec<i64>]>, agreed: &Agreed) -> Self {
        let zeros = || (0..net.layers()).map(|i| Zeroizing::new(vec![0; net.weights(i)])).collect::<Vec<Words>>();
        let mut refresh = agreed.deal();
        let mut held = Self { history: agreed.history(), done: 0, masters: zeros(), momenta: zeros() };
        if let Some(masters) = masters.filter(|_| party == Party::Server) {
            let state = State::new(net, masters.to_vec());
            for (share, w) in held.masters.iter_mut().zip(state.masters) {
                share.iter_mut().zip(w).for_each(|(share, w)| *share = w.cast_unsigned());
            }
        }
        held.masters.iter_mut().chain(&mut held.momenta).for_each(|share| refresh.apply(party, share));
        held
    }

    /// Whether there are as many as `net` has.
    pub(super) fn is_of(&self, net: &Net) -> bool {
        self.masters.iter().map(|w| w.len()).eq((0..net.layers()).map(|i| net.weights(i)))
    }

    /// Which shares they are.
    pub(super) fn moment(&self) -> Moment {
        Moment { history: self.history, done: self.done }
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// What is kept between sessions: history, steps done, then all masters, then all momenta, `width` bits each.
    pub fn encode(&self, width: u8) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + self.packed_len(width)));
        bytes.extend(self.history.0);
        bytes.extend(self.done.to_le_bytes());
        append(&mut bytes, &[&self.masters, &self.momenta], width);
        bytes
    }

    /// Bytes of [`Held::encode`].
    pub fn encoded_len(net: &Net, width: u8) -> usize {
        HEADER + pack::packed_len(2 * weights(net), width.into())
    }

    fn packed_len(&self, width: u8) -> usize {
        pack::packed_len(self.masters.iter().chain(&self.momenta).map(|x| x.len()).sum(), width.into())
    }

    /// The shares that were kept.
    ///
    /// # Errors
    /// [`BridgeError`] if these are not as many bytes as [`Held::encoded_len`], or the last one is filled up with ones.
    pub fn decode(net: &Net, width: u8, bytes: &[u8]) -> Result<Self, BridgeError> {
        let expected = Self::encoded_len(net, width);
        let header = bytes.split_first_chunk().and_then(|(history, rest)| Some((history, rest.split_first_chunk()?)));
        let Some((history, (done, packed))) = header.filter(|_| bytes.len() == expected) else {
            return Err(BridgeError::Length { what: "kept shares", expected, found: bytes.len() });
        };
        let all: Words = Zeroizing::new(pack::read(packed, 2 * weights(net), width.into())?);
        let mut rest = &all[..];
        let mut take = || split(&mut rest, (0..net.layers()).map(|i| net.weights(i)));
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
        width: u8,
        channel: &mut Channel,
    ) -> Result<Option<Vec<Vec<i64>>>, StepError> {
        exchange(&self.masters, party, to, width, channel).await
    }

    /// What both shares stand for, signed numbers of `width` bits.
    #[cfg(test)]
    pub(super) fn sum(&self, other: &Self, width: u8) -> State {
        State { masters: sum(&self.masters, &other.masters, width), momenta: sum(&self.momenta, &other.momenta, width) }
    }
}

/// Opens shares of all layers to one party.
async fn exchange(
    own: &[Words],
    party: Party,
    to: Party,
    width: u8,
    channel: &mut Channel,
) -> Result<Option<Vec<Vec<i64>>>, StepError> {
    let sizes = own.iter().map(|x| x.len());
    let values = sizes.clone().sum();
    let len = pack::packed_len(values, width.into());
    if party != to {
        let mut bytes = Zeroizing::new(Vec::with_capacity(len));
        append(&mut bytes, &[own], width);
        channel.send(FrameKind::Data, mem::take(&mut *bytes)).await?;
        return Ok(None);
    }
    let bytes = Zeroizing::new(channel.recv(FrameKind::Data, len).await?);
    let theirs: Words = Zeroizing::new(pack::read(&bytes, values, width.into()).map_err(BridgeError::from)?);
    let theirs = split(&mut &theirs[..], sizes);
    Ok(Some(sum(own, &theirs, width)))
}

/// The next layers of these sizes.
fn split(rest: &mut &[u64], sizes: impl Iterator<Item = usize>) -> Vec<Words> {
    let take = |size| {
        let (own, after) = rest.split_at(size);
        *rest = after;
        Zeroizing::new(own.to_vec())
    };
    sizes.map(take).collect()
}

/// Weights of all layers.
fn weights(net: &Net) -> usize {
    (0..net.layers()).map(|i| net.weights(i)).sum()
}

/// Appends shares, `width` bits each.
fn append(bytes: &mut Vec<u8>, shares: &[&[Words]], width: u8) {
    let words = shares.iter().flat_map(|layers| layers.iter()).flat_map(|x| x.iter().copied());
    let all: Words = Zeroizing::new(words.collect());
    pack::append(bytes, &all, width.into());
}

/// Signed numbers of `width` bits from both shares.
fn sum(own: &[Words], theirs: &[Words], width: u8) -> Vec<Vec<i64>> {
    let unused = 64 - u32::from(width);
    let word = |(c, v): (&u64, &u64)| (c.wrapping_add(*v) << unused).cast_signed() >> unused;
    own.iter().zip(theirs).map(|(c, v)| c.iter().zip(v.iter()).map(word).collect()).collect()
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({} layers, ..)", self.masters.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowkey_mpc::channel::HEADER_BYTES;

    fn dealt() -> (Net, Vec<Vec<i64>>, [Held; 2]) {
        let agreed = Agreed::of_test([[1; 32], [2; 32]]);
        let net = Net::new(&[3, 2, 10]).unwrap();
        let masters: Vec<Vec<i64>> =
            (0..net.layers()).map(|i| (0..net.weights(i)).map(|w| w as i64 * 7 - 100).collect()).collect();
        let first = |party, masters| Held::first(party, &net, masters, &agreed);
        let held = [first(Party::Client, None), first(Party::Server, Some(&masters))];
        (net, masters, held)
    }

    #[test]
    fn first_shares_are_uniform_and_add_up() {
        let (net, masters, [client, server]) = dealt();
        assert_eq!(client.sum(&server, 25), State::new(&net, masters));
        let ones = |held: &Held| held.encode(25)[HEADER..].iter().map(|byte| byte.count_ones()).sum::<u32>();
        let bits = 8 * (Held::encoded_len(&net, 25) - HEADER) as u32;
        for held in [&client, &server] {
            assert!(ones(held).abs_diff(bits / 2) < 5 * bits.isqrt() / 2, "{} of {bits}", ones(held));
        }
        assert_eq!(format!("{client:?}"), "Held(2 layers, ..)");
    }

    #[test]
    fn what_is_kept_comes_back() {
        let (net, _, [client, server]) = dealt();
        let client = Held { done: 9, ..client };
        let bytes = client.encode(25);
        assert_eq!(bytes.len(), Held::encoded_len(&net, 25));
        let again = Held::decode(&net, 25, &bytes).unwrap();
        assert_eq!(again.sum(&server, 25), client.sum(&server, 25));
        assert_eq!((again.done(), again.history), (9, client.history));
        assert!((0..bytes.len()).all(|from| Held::decode(&net, 25, &bytes[from + 1..]).is_err()));
        let mut padded = bytes.to_vec();
        *padded.last_mut().unwrap() |= 0x80;
        assert!(Held::decode(&net, 25, &padded).is_err());
    }

    /// Masters alone: momenta say more.
    #[tokio::test]
    async fn opens_to_one_party() {
        let (net, masters, [client, server]) = dealt();
        let (mut c, mut s) = Channel::pair();
        let (nothing, opened) = tokio::join!(
            client.open(Party::Client, Party::Server, 25, &mut c),
            server.open(Party::Server, Party::Server, 25, &mut s)
        );
        assert!(nothing.unwrap().is_none());
        assert_eq!(opened.unwrap().as_ref(), Some(&masters));
        let sent = c.traffic().total().bytes_sent as usize;
        assert_eq!(sent, pack::packed_len(weights(&net), 25) + HEADER_BYTES);
    }
}
