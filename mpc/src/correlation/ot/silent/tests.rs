//! Tests of several batches in a row, both roles.

use super::*;
use crate::error::Error;
use crate::party::Party;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

pub(super) const COINS: Coins = Coins::fixed([3; 32], Party::Client);

/// Both roles after an ideal set-up, and the roots of the sender's trees.
pub(super) fn pair(seed: u64) -> (Sender, Receiver, Prg) {
    let rng = &mut ChaCha20Rng::seed_from_u64(seed);
    let delta = Delta::random(rng);
    let k: Vec<_> = (0..SEED).map(|_| Block::random(rng).with_lsb(0)).collect();
    let m: Vec<_> = k.iter().map(|&k| k ^ delta.times(Block::random(rng).lsb())).collect();
    (Sender::new(delta, &k, COINS), Receiver::new(&m, COINS), Prg::from_rng(rng))
}

/// A batch at both ends, checked.
fn batch(sender: Sender, receiver: Receiver, roots: &mut Prg) -> ((Sender, Batch), (Receiver, Batch)) {
    let (sender, sent, message, check) = sender.start(roots);
    let (receiver, unchecked) = receiver.start(message);
    let proof = check.hash(&sent).prove(unchecked.reply());
    ((sender, sent), (receiver, unchecked.check(&proof).unwrap()))
}

/// All usable keys of a batch, a few trees at a time and then many.
fn keys(mut batch: Batch) -> Vec<Block> {
    let mut keys = vec![Block::ZERO; batch.left().next_multiple_of(Batch::TREE)];
    let mut len = 0;
    for trees in [1, 3, usize::MAX] {
        let end = trees.saturating_mul(Batch::TREE).min(keys.len() - len) + len;
        let left = batch.left();
        let made = batch.expand(&mut keys[len..end]);
        assert_eq!(batch.left(), left - made);
        len += made;
    }
    assert_eq!(batch.expand(&mut [Block::ONES; Batch::TREE]), 0);
    keys.truncate(len);
    keys
}

fn broken(k: &[Block], m: &[Block], delta: &Delta) -> usize {
    k.iter().zip(m).filter(|&(&k, &m)| k ^ delta.times(m.lsb()) != m).count()
}

#[test]
fn presets_are_those_of_the_table() {
    assert_eq!((FIRST.outputs(), FIRST.seed(), FIRST.usable()), (1_048_576, 268_032, 767_256));
    assert_eq!((LATER.outputs(), LATER.seed(), LATER.usable()), (3_522_560, 281_320, 3_241_240));
    let bits = |preset: Preset| 8.0 * preset.message_bytes() as f64 / preset.usable() as f64;
    assert!((bits(FIRST) - 0.939).abs() < 0.001 && (bits(LATER) - 0.7471).abs() < 0.0002);
}

#[test]
fn every_output_of_several_batches_is_correlated() {
    let (mut sender, mut receiver, mut roots) = pair(1);
    let (mut k, mut m) = (Vec::new(), Vec::new());
    for batch in 0..3 {
        let preset = if batch == 0 { FIRST } else { LATER };
        let (next, sent, message, check) = sender.start(&mut roots);
        sender = next;
        let bytes = message.encode();
        assert_eq!(bytes.len(), preset.message_bytes());
        let message = BatchMessage::decode(&bytes, receiver.first()).unwrap();
        let (next, unchecked) = receiver.start(message);
        receiver = next;
        let proof = check.hash(&sent).prove(unchecked.reply());
        let received = unchecked.check(&proof).unwrap();
        assert_eq!((sent.left(), received.left()), (preset.usable(), preset.usable()));
        k.extend(keys(sent));
        m.extend(keys(received));
        let usable = FIRST.usable() + batch * LATER.usable();
        assert_eq!((k.len(), m.len()), (usable, usable));
        assert_eq!((sender.first(), receiver.first()), (usable as u64, usable as u64));
    }
    assert_eq!(broken(&k, &m, sender.delta()), 0);
    assert!(k.iter().all(|k| k.lsb() == 0));
    let ones = m.iter().filter(|m| m.lsb() == 1).count() as f64;
    let sigma = (m.len() as f64).sqrt() / 2.0;
    assert!((ones - m.len() as f64 / 2.0).abs() < 6.0 * sigma, "{ones} ones");
    let mut sorted: Vec<_> = k.iter().map(|&k| u128::from(k)).collect();
    sorted.sort_unstable();
    assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "a key occurs twice");
}

/// What a batch keeps does not give the OTs that it gave.
#[test]
fn spent_trees_are_forgotten() {
    const SPENT: usize = 3;
    let (sender, receiver, mut roots) = pair(4);
    let ((_, mut sent), (_, mut received)) = batch(sender, receiver, &mut roots);
    let mut out = vec![Block::ZERO; SPENT * Batch::TREE];
    for batch in [&mut sent, &mut received] {
        assert_eq!(batch.expand(&mut out), out.len());
        let (grown, of_tree) = match &batch.half {
            Half::Sent { roots, .. } => (roots, 1),
            Half::Received { keys, .. } => (keys, DEPTH),
        };
        let (spent, left) = grown.split_at(SPENT * of_tree);
        assert!(spent.iter().all(|block| *block == Block::ZERO));
        assert!(left.iter().all(|block| *block != Block::ZERO));
    }
}

/// Nothing public is shared by two sessions, two directions or two batches: neither the permutation of the trees nor the matrix.
#[test]
fn sessions_share_neither_permutation_nor_matrix() {
    let rng = &mut ChaCha20Rng::seed_from_u64(4);
    let delta = Delta::random(rng);
    let k: Vec<_> = (0..SEED).map(|_| Block::random(rng).with_lsb(0)).collect();
    let batch = |coins| {
        let (_, mut batch, message, _) = Sender::new(delta.clone(), &k, coins).start(&mut Prg::new(&[1; 32]));
        let mut keys = vec![Block::ZERO; LEAVES];
        batch.expand(&mut keys);
        (message.sums, keys)
    };
    let (sums, keys) = batch(COINS);
    for other in [Coins::fixed([4; 32], Party::Client), Coins::fixed([3; 32], Party::Server)] {
        let (other_sums, other_keys) = batch(other);
        // The root of a tree is the same, what grows from it is not.
        let equal = sums.iter().zip(&other_sums).filter(|(a, b)| a == b).count();
        assert_eq!(equal, FIRST.trees);
        assert!(keys.iter().zip(&other_keys).all(|(a, b)| a != b));
    }
    assert_ne!(COINS.key("half trees", 0), COINS.key("half trees", 1));
    assert_ne!(COINS.key("LPN matrix", 0), COINS.key("LPN matrix", 1));
}

/// From one root, two trees of a batch grow different nodes: their permutations differ, so no guess at a node is one for all trees.
#[test]
fn trees_of_a_batch_share_no_permutation() {
    let delta = Delta::random(&mut ChaCha20Rng::seed_from_u64(5));
    let hashes = Subkeys::new(COINS.key("half trees", 0));
    let sums = batch::sums(&hashes, &delta, &[Block::new(3, 4); 3], &[Block::ZERO; 3 * DEPTH]);
    let trees = sums.as_chunks::<DEPTH>().0;
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        // The root is all that they share.
        assert_eq!(trees[a].iter().zip(&trees[b]).filter(|(a, b)| a == b).count(), 1, "trees {a} and {b}");
    }
}

/// Several batches can start before the first is checked.
#[test]
fn a_later_batch_is_checked_by_itself() {
    for wrong in [None, Some(0), Some(1)] {
        let (mut sender, mut receiver, mut roots) = pair(2);
        let mut outcomes = Vec::new();
        let mut ends = Vec::new();
        for number in 0..2 {
            let (next, sent, mut message, check) = sender.start(&mut roots);
            sender = next;
            message.sums[100 * DEPTH + 4] ^= Block::new(0, u64::from(wrong == Some(number)));
            let (next, unchecked) = receiver.start(message);
            receiver = next;
            ends.push((sent, check, unchecked));
        }
        for (sent, check, unchecked) in ends {
            let proof = check.hash(&sent).prove(unchecked.reply());
            outcomes.push(unchecked.check(&proof).is_ok());
        }
        assert_eq!(outcomes, [0, 1].map(|number| wrong != Some(number)), "{wrong:?}");
    }
}

/// Whatever a sender sends, the choices of this batch and of the next are what they are.
#[test]
fn choices_do_not_depend_on_what_the_sender_sends() {
    let rng = &mut ChaCha20Rng::seed_from_u64(6);
    let m: Vec<_> = (0..SEED).map(|_| Block::random(rng)).collect();
    let mut message = |preset: Preset, first| BatchMessage {
        first,
        sums: (0..preset.trees * DEPTH).map(|_| Block::random(rng)).collect(),
    };
    let zeros = |preset: Preset, first| BatchMessage { first, sums: vec![Block::ZERO; preset.trees * DEPTH] };
    let later = FIRST.usable() as u64;
    let mut all = Vec::new();
    for messages in [[zeros(FIRST, 0), zeros(LATER, later)], [message(FIRST, 0), message(LATER, later)]] {
        let (mut receiver, mut bits) = (Receiver::new(&m, COINS), Vec::new());
        for message in messages {
            let (next, unchecked) = receiver.start(message);
            receiver = next;
            // As one that passed.
            bits.extend(keys(unchecked.batch()).iter().map(|m| m.lsb()));
        }
        all.push(bits);
    }
    assert_eq!(all[0].len(), FIRST.usable() + LATER.usable());
    assert!(all[0] == all[1]);
}

#[test]
fn the_header_of_a_message_is_checked() {
    let (sender, _, mut roots) = pair(3);
    let (_, _, message, _) = sender.start(&mut roots);
    let good = message.encode();
    assert_eq!(BatchMessage::decode(&good, 0).unwrap(), message);
    let fault = |bytes: &[u8], first| match BatchMessage::decode(bytes, first) {
        Err(Error::Protocol { what, .. }) => what,
        other => panic!("{:?}", other.map(|_| "accepted")),
    };
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    assert_eq!(fault(&good[1..], 0), "length of an OT batch");
    assert_eq!(fault(&[&good[..], &[0]].concat(), 0), "length of an OT batch");
    assert_eq!(fault(&[], 0), "length of an OT batch");
    assert_eq!(fault(&with(0, 1), 0), "version of an OT batch");
    assert_eq!(fault(&with(1, 1), 0), "version of an OT batch");
    assert_eq!(fault(&with(3, 1), 0), "check length of an OT batch");
    assert_eq!(fault(&with(11, 1), 0), "first index of an OT batch");
    assert_eq!(fault(&good, FIRST.usable() as u64), "length of an OT batch");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn garbage_is_refused_without_panic(seed: u64, prefix: [u8; PREFIX_BYTES]) {
        for first in [0, seed] {
            let mut bytes = vec![seed as u8; Preset::at(first).message_bytes()];
            bytes[..PREFIX_BYTES].copy_from_slice(&prefix);
            if let Ok(message) = BatchMessage::decode(&bytes, first) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
