//! Bits that one party knows, sums and openings, and what becomes of lies.

use super::*;
use crate::error::Error;
use crate::guard::testing::{deal, lie, rng, value};
use crate::guard::{DIGEST_BYTES, Guard};
use crate::program::testing::ODD_LANES;

const WIDTH: usize = 3;

/// Both parties with bits of the client's, their values, and the guards.
fn given(lanes: usize, seed: u64) -> ([Bits; 2], Planes, [Guard; 2]) {
    let [(client, client_guard), (server, server_guard)] = deal(lanes * WIDTH, seed);
    let values = Planes::random(lanes, WIDTH, &mut rng(!seed));
    let (client, message) = correct(Bits::random(lanes, client), &values);
    let server = apply(&server_guard, Bits::random(lanes, server), &message).unwrap();
    ([client, server], values, [client_guard, server_guard])
}

fn lanes_of(planes: &Planes) -> Vec<u8> {
    planes.to_lanes()
}

#[test]
fn bits_are_what_their_owner_says_and_add_up() {
    for lanes in ODD_LANES {
        let ([client, server], values, [_, guard]) = given(lanes, lanes as u64);
        assert_eq!(lanes_of(&value(&guard, &client, &server)), lanes_of(&values));
        let v = Planes::random(lanes, WIDTH, &mut rng(7));
        let (zero, v_bits) = (of_server(lanes, WIDTH, None), of_server(lanes, WIDTH, Some(&v)));
        let sum = value(&guard, &client.xor(&zero), &server.xor(&v_bits));
        let want: Vec<u8> = lanes_of(&values).iter().zip(lanes_of(&v)).map(|(a, b)| a ^ b).collect();
        assert_eq!(lanes_of(&sum), want);
    }
}

#[test]
fn a_complement_is_flipped_by_one_party() {
    let ([client, server], values, [own, guard]) = given(65, 1);
    let flipped = value(&guard, &own.not(&client), &guard.not(&server));
    assert!(lanes_of(&flipped).iter().zip(lanes_of(&values)).all(|(a, b)| a ^ b == 7));
}

#[test]
fn honest_openings_pass() {
    for lanes in ODD_LANES {
        let ([client, server], values, [mut own, mut guard]) = given(lanes, 9);
        let message = own.open(&client);
        assert_eq!(message.len(), packed::bytes(lanes * WIDTH));
        let opened = guard.opened(&server, &message).unwrap();
        assert_eq!(lanes_of(&opened), lanes_of(&values));
        guard.compare(&own.digest()).unwrap();
        own.claim(&client, &values);
        guard.claim(&server, &values);
        guard.compare(&own.digest()).unwrap();
        assert!(guard.opened(&server, &message[1..]).unwrap_err().is_peer_fault());
    }
}

/// Every way to lie about an opening, each from a fresh start, at many places.
#[test]
fn lies_are_found_by_the_next_comparison() {
    let lanes = 21;
    type Lie = fn(&mut Bits, &mut Vec<u8>, usize);
    let lies: [(&str, Lie); 5] = [
        ("a wrong bit in the message", |_, message, i| message[i / 8] ^= 1 << (i % 8)),
        ("a wrong bit, and its MAC with it", |bits, _, i| lie(&mut bits.tags_mut()[i])),
        ("a wrong MAC", |bits, _, i| bits.tags_mut()[i] ^= Tag::new(2 << (i % 63))),
        ("two MACs in the other order", |bits, _, i| bits.tags_mut().swap(i, (i + 1) % (lanes_times_width()))),
        ("two wrong bits, whose errors would cancel in a sum", |bits, _, i| {
            lie(&mut bits.tags_mut()[i]);
            lie(&mut bits.tags_mut()[(i + 5) % lanes_times_width()]);
        }),
    ];
    fn lanes_times_width() -> usize {
        21 * WIDTH
    }
    for (name, lie) in lies {
        for i in 0..lanes_times_width() {
            let ([mut client, server], _, [mut own, mut guard]) = given(lanes, i as u64);
            let mut honest = own.apart();
            let mut message = honest.open(&client);
            lie(&mut client, &mut message, i);
            if name.contains("wrong bit,") || name.contains("wrong bits") {
                message = packed::halves(client.tags());
            }
            own.open(&client);
            guard.opened(&server, &message).unwrap();
            assert!(matches!(guard.compare(&own.digest()), Err(Error::Cheated)), "{name} at {i}");
        }
    }
}

#[test]
fn replayed_and_reordered_openings_are_found() {
    let ([client, server], _, [mut own, mut guard]) = given(8, 3);
    let mut other = Guard::new(&deal(1, 3)[1].0);
    let parts = |bits: &Bits| [bits.planes(0..1), bits.planes(1..2)];
    let ([a, b], [a_s, b_s]) = (parts(&client), parts(&server));
    let (first, second) = (own.open(&a), own.open(&b));
    let old = own.digest();
    // The second before the first.
    other.opened(&a_s, &second).unwrap();
    other.opened(&b_s, &first).unwrap();
    assert!(matches!(other.compare(&old), Err(Error::Cheated)));
    // Honest, then the hash of before.
    guard.opened(&a_s, &first).unwrap();
    guard.opened(&b_s, &second).unwrap();
    guard.compare(&old).unwrap();
    guard.opened(&a_s, &first).unwrap();
    assert!(matches!(guard.compare(&old), Err(Error::Cheated)));
    assert!(matches!(guard.compare(&[0; DIGEST_BYTES]), Err(Error::Cheated)));
}

/// Windows that reach beyond what they read have zeros there, which are authenticated as everything else.
#[test]
fn bits_move_to_other_lanes_and_zeros_come_in() {
    let ([client, server], values, [_, guard]) = given(10, 6);
    let from = |to: usize| [Some(3), None, Some(9), Some(3)][to];
    let moved = value(&guard, &client.gather_or_zero(4, from), &server.gather_or_zero(4, from));
    let lanes = lanes_of(&values);
    assert_eq!(lanes_of(&moved), [lanes[3], 0, lanes[9], lanes[3]]);
    let same = value(&guard, &client.gather(2, |to| 7 - to), &server.gather(2, |to| 7 - to));
    assert_eq!(lanes_of(&same), [lanes[7], lanes[6]]);
}

#[test]
fn a_claim_of_other_values_is_found() {
    let ([client, server], values, [mut own, mut guard]) = given(70, 4);
    let mut wrong = values.clone();
    wrong.plane_mut(1)[1] ^= 1 << 3;
    own.claim(&client, &values);
    guard.claim(&server, &wrong);
    assert!(matches!(guard.compare(&own.digest()), Err(Error::Cheated)));
}
