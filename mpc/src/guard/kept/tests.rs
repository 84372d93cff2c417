//! Triples as they move, and what they take.

use super::*;
use crate::guard::testing::deal;

fn session(seed: u64) -> (SessionId, Guard) {
    let [_, (cots, guard)] = deal(1, seed);
    (cots.session(), guard)
}

/// Triples of a piece.
const PIECE: usize = 1000;

fn triples(session: SessionId, n: usize) -> Triples {
    let all: Vec<Triple> = (0..n).map(|i| [0, 1, 2].map(|part| Tag::new((3 * i + part) as u64))).collect();
    let mut triples = Triples::default();
    all.chunks(PIECE).for_each(|piece| triples.append(Triples::of(session, Zeroizing::new(piece.to_vec()))));
    triples
}

fn all(triples: Triples) -> Vec<Triple> {
    triples.flatten().to_vec()
}

#[test]
fn the_last_are_taken_in_order_across_pieces() {
    let (session, _) = session(1);
    let n = 2 * PIECE + 100;
    let want = all(triples(session, n));
    for take in [0, 1, 99, 100, 101, PIECE, PIECE + 100, PIECE + 150, n] {
        let mut kept = triples(session, n);
        let taken = kept.take(take).unwrap();
        assert_eq!((taken.len(), kept.len()), (take, n - take));
        assert_eq!((all(taken), all(kept)), (want[n - take..].to_vec(), want[..n - take].to_vec()));
    }
    let mut kept = triples(session, 6);
    assert!(matches!(kept.take(7), Err(Error::Exhausted { need: 7, have: 6, .. })));
    let taken = kept.take(4).unwrap();
    kept.append(taken);
    assert_eq!((kept.len(), format!("{kept:?}")), (6, "Triples(6, ..)".to_owned()));
    assert_eq!(all(kept), want[..6].to_vec());
}

/// 24 bytes each, and what is taken is given back, but for less than a piece.
#[test]
fn a_triple_takes_24_bytes_until_it_is_used() {
    let n = 10 * PIECE;
    let mut kept = triples(session(1).0, n);
    assert_eq!((Triples::BYTES, kept.held_bytes()), (24, 24 * n));
    while !kept.is_empty() {
        drop(kept.take(300.min(kept.len())).unwrap());
        assert!(kept.held_bytes() < 24 * (kept.len() + PIECE), "{} bytes for {}", kept.held_bytes(), kept.len());
    }
    assert_eq!(kept.held_bytes(), 0);
}

#[test]
fn triples_of_another_session_are_refused_whatever_they_lie_among() {
    let [(own, guard), (other, _)] = [session(1), session(2)];
    let mut kept = triples(own, 5);
    kept.check(&guard).unwrap();
    kept.append(triples(other, 1));
    assert!(matches!(kept.check(&guard), Err(Error::OtherSession)));
    drop(kept.take(1).unwrap());
    kept.check(&guard).unwrap();
}
