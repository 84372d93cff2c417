//! One party's shares of masters and momenta: dealt at the start, kept between steps, opened at the end.

use std::fmt;

use lowkey_bridge::BridgeError;
use lowkey_he::pack;
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::fixed::refresh::Refresh;
use lowkey_mpc::party::Party;
use zeroize::Zeroizing;

use super::format::Net;
use super::products::StepError;
use super::twin::State;

/// Shares of a matrix, row by row, wiped when dropped. Bits above the ring are undefined.
pub(super) type Words = Zeroizing<Vec<u64>>;

/// One party's shares of masters and momenta.
#[derive(Clone)]
pub struct Held {
    /// Of each layer inputs + 1 rows, the last that of the bias.
    pub masters: Vec<Words>,
    /// As many.
    pub momenta: Vec<Words>,
}

impl Held {
    /// Shares of the server's first masters, without momentum. The server gives them, the client nothing; both take their shares from
    /// one stream `refresh`, of a step that never comes: a share has to be uniform, for it is the operand of products.
    ///
    /// # Panics
    /// If the masters are not those of the network.
    pub fn first(party: Party, net: &Net, masters: Option<&[Vec<i64>]>, refresh: &mut Refresh) -> Self {
        let zeros = || (0..net.layers()).map(|i| Zeroizing::new(vec![0; net.weights(i)])).collect::<Vec<Words>>();
        let mut held = Self { masters: zeros(), momenta: zeros() };
        if let Some(masters) = masters.filter(|_| party == Party::Server) {
            let state = State::new(net, masters.to_vec());
            for (share, w) in held.masters.iter_mut().zip(state.masters) {
                share.iter_mut().zip(w).for_each(|(share, w)| *share = w.cast_unsigned());
            }
        }
        held.masters.iter_mut().chain(&mut held.momenta).for_each(|share| refresh.apply(party, share));
        held
    }

    /// What is kept between sessions: all masters, then all momenta, `width` bits each.
    pub fn encode(&self, width: u8) -> Zeroizing<Vec<u8>> {
        let all: Words =
            Zeroizing::new(self.masters.iter().chain(&self.momenta).flat_map(|x| x.iter().copied()).collect());
        let mut bytes = Zeroizing::new(Vec::with_capacity(pack::packed_len(all.len(), width.into())));
        pack::append(&mut bytes, &all, width.into());
        bytes
    }

    /// Bytes of [`Held::encode`].
    pub fn encoded_len(net: &Net, width: u8) -> usize {
        pack::packed_len(2 * (0..net.layers()).map(|i| net.weights(i)).sum::<usize>(), width.into())
    }

    /// The shares that were kept.
    ///
    /// # Errors
    /// [`BridgeError`] if these are not as many bytes as [`Held::encoded_len`], or the last one is filled up with ones.
    pub fn decode(net: &Net, width: u8, bytes: &[u8]) -> Result<Self, BridgeError> {
        let sizes: Vec<usize> = (0..net.layers()).map(|i| net.weights(i)).collect();
        let all: Words = Zeroizing::new(pack::read(bytes, 2 * sizes.iter().sum::<usize>(), width.into())?);
        let mut rest = &all[..];
        let mut take = |size: &usize| {
            let (own, after) = rest.split_at(*size);
            rest = after;
            Zeroizing::new(own.to_vec())
        };
        Ok(Self { masters: sizes.iter().map(&mut take).collect(), momenta: sizes.iter().map(&mut take).collect() })
    }

    /// Opens masters and momenta to one party, which gets them; the other one sends its shares.
    ///
    /// # Errors
    /// Those of the channel, and of a message that is malformed.
    pub async fn open(
        &self,
        party: Party,
        to: Party,
        net: &Net,
        width: u8,
        channel: &mut Channel,
    ) -> Result<Option<State>, StepError> {
        if party != to {
            channel.send(FrameKind::Data, self.encode(width).to_vec()).await?;
            return Ok(None);
        }
        let bytes = Zeroizing::new(channel.recv(FrameKind::Data, Self::encoded_len(net, width)).await?);
        let theirs = Self::decode(net, width, &bytes)?;
        Ok(Some(self.sum(&theirs, width)))
    }

    /// What both shares stand for, signed numbers of `width` bits.
    pub(super) fn sum(&self, other: &Self, width: u8) -> State {
        let unused = 64 - u32::from(width);
        let word = |(c, v): (&u64, &u64)| (c.wrapping_add(*v) << unused).cast_signed() >> unused;
        let layers = |c: &[Words], v: &[Words]| {
            c.iter().zip(v).map(|(c, v)| c.iter().zip(v.iter()).map(word).collect()).collect()
        };
        State { masters: layers(&self.masters, &other.masters), momenta: layers(&self.momenta, &other.momenta) }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({} layers, ..)", self.masters.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt() -> (Net, Vec<Vec<i64>>, [Held; 2]) {
        let net = Net::new(&[3, 2, 10]).unwrap();
        let masters: Vec<Vec<i64>> =
            (0..net.layers()).map(|i| (0..net.weights(i)).map(|w| w as i64 * 7 - 100).collect()).collect();
        let first = |party, masters| Held::first(party, &net, masters, &mut Refresh::new(&[1; 32], &[2; 32], u64::MAX));
        let held = [first(Party::Client, None), first(Party::Server, Some(&masters))];
        (net, masters, held)
    }

    #[test]
    fn first_shares_are_uniform_and_add_up() {
        let (net, masters, [client, server]) = dealt();
        assert_eq!(client.sum(&server, 25), State::new(&net, masters));
        let ones = |held: &Held| held.encode(25).iter().map(|byte| byte.count_ones()).sum::<u32>();
        let bits = 8 * Held::encoded_len(&net, 25) as u32;
        for held in [&client, &server] {
            assert!(ones(held).abs_diff(bits / 2) < 5 * bits.isqrt() / 2, "{} of {bits}", ones(held));
        }
        assert_eq!(format!("{client:?}"), "Held(2 layers, ..)");
    }

    #[test]
    fn what_is_kept_comes_back() {
        let (net, _, [client, server]) = dealt();
        let bytes = client.encode(25);
        assert_eq!(bytes.len(), Held::encoded_len(&net, 25));
        let again = Held::decode(&net, 25, &bytes).unwrap();
        assert_eq!(again.sum(&server, 25), client.sum(&server, 25));
        assert!(Held::decode(&net, 25, &bytes[1..]).is_err());
        let mut padded = bytes.to_vec();
        *padded.last_mut().unwrap() |= 0x80;
        assert!(Held::decode(&net, 25, &padded).is_err());
    }

    #[tokio::test]
    async fn opens_to_one_party() {
        let (net, masters, [client, server]) = dealt();
        let (mut c, mut s) = Channel::pair();
        let (nothing, state) = tokio::join!(
            client.open(Party::Client, Party::Server, &net, 25, &mut c),
            server.open(Party::Server, Party::Server, &net, 25, &mut s)
        );
        assert!(nothing.unwrap().is_none());
        assert_eq!(state.unwrap(), Some(State::new(&net, masters)));
    }
}
