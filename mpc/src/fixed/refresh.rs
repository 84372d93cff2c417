//! c' = c + r, v' = v - r modulo 2^width: the same number under other shares, for an r that both parties draw alike.
//!
//! A truncation takes its coin from the client's share. Two truncations of one share would toss one coin; after a refresh each has its own,
//! uniform and independent of the number. r is known to both parties and hides nothing: it decides how coins are distributed, not who
//! knows them.

use crate::party::Party;
use crate::primitive::bits::Planes;
use crate::primitive::block::Block;
use crate::primitive::prg::Prg;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Separates these streams from everything else that is hashed.
const LABEL: &[u8] = b"lowkey fixed point: refresh";

/// The numbers r of one step, each drawn once and in one order by both parties.
#[derive(Debug)]
pub struct Refresh(Prg);

impl Refresh {
    /// The stream of a step of a session. Each party contributes half of the session's key, at random; `step` never repeats within a
    /// session, not even after a resumption from a checkpoint.
    #[must_use]
    pub fn new(client: &[u8; 32], server: &[u8; 32], step: u64) -> Self {
        let hash = Sha256::new().chain_update(LABEL).chain_update(client).chain_update(server);
        Self(Prg::new(&hash.chain_update(step.to_le_bytes()).finalize().into()))
    }

    /// The next `count` numbers, of 64 bits each.
    #[must_use]
    pub fn draw(&mut self, count: usize) -> Zeroizing<Vec<u64>> {
        let mut blocks = Zeroizing::new(vec![Block::ZERO; count.div_ceil(2)]);
        self.0.fill(&mut blocks);
        let words: &[u64] = bytemuck::cast_slice(&blocks);
        Zeroizing::new(words[..count].to_vec())
    }

    /// The next `lanes` numbers as the input of a program that refreshes shares of `width` bits.
    #[must_use]
    pub fn planes(&mut self, lanes: usize, width: usize) -> Planes {
        Planes::from_lanes(&self.draw(lanes), width)
    }

    /// Moves the shares of a party. Bits above the ring's width are left undefined.
    pub fn apply(&mut self, party: Party, shares: &mut [u64]) {
        let numbers = self.draw(shares.len());
        for (share, r) in shares.iter_mut().zip(numbers.iter()) {
            *share = match party {
                Party::Client => share.wrapping_add(*r),
                Party::Server => share.wrapping_sub(*r),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parties_move_alike() {
        let streams = || Refresh::new(&[1; 32], &[2; 32], 7);
        let (mut client, mut server) = (streams(), streams());
        let (mut c, mut v) = ([5_u64, 6, 7], [10_u64, 20, 30]);
        for _ in 0..3 {
            let before = c;
            client.apply(Party::Client, &mut c);
            server.apply(Party::Server, &mut v);
            assert_ne!(before, c);
            assert_eq!([0, 1, 2].map(|i| c[i].wrapping_add(v[i])), [15, 26, 37]);
        }
        assert_eq!(client.draw(5), server.draw(5));
    }

    #[test]
    fn steps_and_sessions_have_streams_of_their_own() {
        let first = |client, server, step| Refresh::new(&[client; 32], &[server; 32], step).draw(2).to_vec();
        let all = [first(1, 2, 0), first(1, 2, 1), first(2, 1, 0), first(1, 3, 0), first(3, 2, 0)];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b), "stream {i}");
        }
    }
}
