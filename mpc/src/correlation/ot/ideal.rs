//! The ideal functionality of correlated OT, a test double, and the predicate that tests share.

use super::base::SessionId;
use super::coins::Subkeys;
use super::cots::{Cots, OtCount, ReceivedCots, SentCots, Spare};
use crate::party::Party;
use crate::primitive::block::{Block, Delta};
use rand::CryptoRng;
use sha2::{Digest, Sha256};

/// The key of the keys of the hashes of dealt OTs.
pub(crate) const PADS: Block = Block::new(0x7061_6473, 0);

/// Deals `need` correlated OTs, indices from zero: the client's halves, then the server's.
pub(crate) fn deal<R: CryptoRng>(need: OtCount, rng: &mut R) -> (Cots, Cots) {
    let (to_client, client_received) = direction(need.client_receives, rng);
    let (to_server, server_received) = direction(need.server_receives, rng);
    // Public here, and another for other keys, as that of a session.
    let session = SessionId(Sha256::digest(to_client.delta().block().to_bytes()).into());
    (
        Cots::new(Party::Client, session, to_server, client_received),
        Cots::new(Party::Server, session, to_client, server_received),
    )
}

fn direction<R: CryptoRng>(n: usize, rng: &mut R) -> (SentCots, ReceivedCots) {
    let delta = Delta::random(rng);
    let spare = Spare::default();
    let (mut sent, mut received) = (spare.take(0, n), spare.take(0, n));
    sent.room().fill_with(|| Block::random(rng).with_lsb(0));
    for (received, &sent) in received.room().iter_mut().zip(sent.as_slice()) {
        *received = sent ^ delta.times((rng.next_u32() & 1) as u8);
    }
    let pads = Subkeys::new(PADS);
    (SentCots::new(sent, delta, pads.clone()), ReceivedCots::new(received, pads))
}

/// Panics unless the halves of the two parties belong together.
pub(crate) fn assert_correlated(client: &Cots, server: &Cots) {
    assert_direction(&server.sent, &client.received);
    assert_direction(&client.sent, &server.received);
}

/// Panics unless the halves of one direction belong together.
pub(crate) fn assert_direction(sent: &SentCots, received: &ReceivedCots) {
    assert_eq!(sent.len(), received.len());
    assert_eq!(sent.first(), received.first());
    for (i, (&k, &m)) in sent.keys().iter().zip(received.keys()).enumerate() {
        assert_eq!(k.lsb(), 0, "choice bit of OT {i}");
        assert!(k ^ sent.delta().times(m.lsb()) == m, "correlation of OT {i}");
    }
}
