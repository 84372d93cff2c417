//! Senders whose sums fit no tree, at one batch.

use super::*;
use crate::correlation::ot::silent::{BatchMessage, tests};
use crate::correlation::ot::silent::{FIRST, LATER, Receiver, Sender};
use crate::primitive::hash::CcrHash;
use crate::primitive::prg::Prg;

const COINS: Coins = tests::COINS;

/// The first batch of a sender, and its receiver.
struct Started {
    receiver: Receiver,
    /// Of the sender.
    batch: Batch,
    message: BatchMessage,
    check: SenderCheck,
}

fn start(seed: u64) -> Started {
    let (sender, receiver, mut roots): (Sender, Receiver, Prg) = tests::pair(seed);
    let (_, batch, message, check) = sender.start(&mut roots);
    Started { receiver, batch, message, check }
}

/// The places of all trees, and the receiver's batch before its check.
fn receive(receiver: Receiver, sums: Vec<Block>) -> (Vec<usize>, Unchecked) {
    let (_, unchecked) = receiver.start(BatchMessage { first: 0, sums });
    let Half::Received { keys, .. } = &unchecked.batch.half else { panic!("a receiver's batch") };
    let place = |keys: &[Block]| keys.iter().rev().fold(0, |bits, key| bits << 1 | usize::from(1 - key.lsb()));
    (keys.chunks(DEPTH).map(place).collect(), unchecked)
}

/// What a sender proves that sent `sums`, and hashes `hashed`.
fn prove(check: SenderCheck, sums: &[Block], hashed: Hashed, reply: &Reply) -> Proof {
    let check = SenderCheck { context: Context::new(COINS, 0, sums), ..check };
    Prover { check, hashed: Zeroizing::new(hashed) }.prove(reply)
}

#[test]
fn products_are_those_of_one_field() {
    let one = Block::from(1 << 127 | 1 << 126 | 1 << 121 | 1u128);
    let [a, b, c] = [Block::new(3, 9), Block::new(1 << 63, 77), Block::new(0x1234_5678, 5)];
    assert_eq!(times(a, one), a);
    assert_eq!(times(a, b), times(b, a));
    assert_eq!(times(times(a, b), c), times(a, times(b, c)));
    assert_eq!(times(a ^ b, c), times(a, c) ^ times(b, c));
}

/// The power of a place is the hash of a vector that is zero but there.
#[test]
fn powers_are_those_of_the_leaves() {
    let (key, value) = (Block::new(5, 1 << 60), Block::new(7, 8));
    for alpha in [0, 1, 2, 1000, 1024, LEAVES - 1] {
        let keys: [Block; DEPTH] = std::array::from_fn(|i| Block::new(!(alpha >> i) as u64, 3));
        let mut leaves = vec![Block::ZERO; LEAVES];
        leaves[alpha] = value;
        assert_eq!(polyval(key, &leaves), times(power(key, &keys), value), "{alpha}");
    }
}

#[test]
fn the_check_has_a_fixed_size() {
    assert_eq!((CHECK_OTS, REPLY_BYTES, PROOF_BYTES), (256, 32, 32));
    assert_eq!([FIRST, LATER].map(|preset| preset.seed() - preset.trees * DEPTH), [262_144 + 256; 2]);
}

/// A sender that keeps to the challenge of what it sent, and hashes the leaves that it grew.
#[test]
fn every_flipped_bit_that_matters_is_refused() {
    let mut texts = Vec::new();
    for (tree, level, bit) in
        [(0, 0, 0), (0, 0, 127), (3, 1, 64), (200, 5, 1), (300, 9, 0), (511, 10, 1), (511, 10, 127), (40, 10, 0)]
    {
        let Started { receiver, batch, mut message, check } = start(21);
        message.sums[tree * DEPTH + level] ^= Block::from(1u128 << bit);
        let (_, unchecked) = receive(receiver, message.sums.clone());
        let hashed = Context::new(COINS, 0, &message.sums).of_leaves(&batch);
        let proof = prove(check, &message.sums, hashed, unchecked.reply());
        let result = unchecked.check(&proof);
        // Nobody reads the lowest bits of leaves.
        assert_eq!(result.is_ok(), (level, bit) == (10, 0), "tree {tree}, level {level}, bit {bit}");
        texts.extend(result.err().map(|error| (error.is_peer_fault(), error.to_string())));
    }
    assert_eq!(texts.len(), 7);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    assert_eq!(
        texts[0],
        (true, "the peer broke the protocol: check of an OT batch is another, expected that of the sums".to_owned())
    );
}

/// Sums changed on the way change the challenge; so does another reply, proof, or session.
#[test]
fn what_is_changed_on_the_way_is_refused() {
    for changed in 0..5 {
        let Started { receiver, batch, mut message, check } = start(22);
        // Does not reach the leaves.
        message.sums[DEPTH - 1] ^= Block::from(u128::from(changed == 1));
        let (_, unchecked) = receive(receiver, message.sums);
        let mut reply = *unchecked.reply();
        reply[17] ^= u8::from(changed == 2);
        let mut prover = check.hash(&batch);
        if changed == 3 {
            prover.check.context.coins = Coins::fixed([9; 32], crate::party::Party::Client);
        }
        let mut proof = prover.prove(&reply);
        proof[31] ^= u8::from(changed == 4) << 7;
        assert_eq!(unchecked.check(&proof).is_ok(), changed == 0, "{changed}");
    }
}

/// A tree with `error` on both children of node `guess` of the first level: its leaves, and the left sums from the second level on.
fn grow(hash: &CcrHash, root: Block, delta: &Delta, guess: usize, error: Block) -> (Vec<Block>, Vec<Block>) {
    let mut nodes = vec![root, root ^ delta.block()];
    let mut sums = Vec::new();
    for level in 1..DEPTH {
        let mut hashes = vec![Block::ZERO; nodes.len()];
        for (node, hashed) in nodes.chunks(CcrHash::BATCH).zip(hashes.chunks_mut(CcrHash::BATCH)) {
            hash.hash(node, hashed);
        }
        let right: Vec<_> = nodes.iter().zip(&hashes).map(|(&node, &hash)| node ^ hash).collect();
        nodes = [hashes, right].concat();
        if level == 1 {
            nodes[guess] ^= error;
            nodes[guess | 2] ^= error;
        }
        if level == DEPTH - 1 {
            nodes.iter_mut().for_each(|node| *node = node.with_lsb(0));
        }
        sums.push(nodes[..1 << level].iter().fold(Block::ZERO, |sum, &node| sum ^ node));
    }
    (nodes, sums)
}

/// Sums that fit a tree for one value of a bit of the place: they pass for that value alone, and then all keys are right.
#[test]
fn wrong_sums_are_guesses_of_places() {
    let mut passed = [0; 2];
    for trial in 0..12 {
        let Started { receiver, batch, message, check } = start(30 + trial);
        let honest = message.sums;
        let mut sums = honest.clone();
        let Half::Sent { delta, roots } = &batch.half else { panic!("a sender's batch") };
        let trees = &[0, 7, 511][..1 + trial as usize % 2];
        let guess = trial as usize / 2 % 2;
        let grown: Vec<_> = trees
            .iter()
            .map(|&tree| {
                let hash = CcrHash::new(batch.hashes.at(tree as u64));
                let (leaves, plain) = grow(&hash, roots[tree], delta, guess, Block::ZERO);
                let (bad, wrong) = grow(&hash, roots[tree], delta, guess, Block::new(2, 1 << trial));
                for (level, (plain, wrong)) in plain.iter().zip(&wrong).enumerate() {
                    sums[tree * DEPTH + 1 + level] ^= *plain ^ *wrong;
                }
                (tree, leaves, bad)
            })
            .collect();
        assert!(sums != honest);
        let context = Context::new(COINS, 0, &sums);
        let mut hashed = context.of_leaves(&batch);
        for (tree, leaves, bad) in &grown {
            let key = context.keys(*tree);
            hashed = std::array::from_fn(|h| hashed[h] ^ polyval(key[h], leaves) ^ polyval(key[h], bad));
        }
        let (places, unchecked) = receive(receiver, sums.clone());
        let right = trees.iter().all(|&tree| places[tree] & 1 == guess);
        let delta = delta.clone();
        let proof = prove(check, &sums, hashed, unchecked.reply());
        let result = unchecked.check(&proof);
        assert_eq!(result.is_ok(), right, "trial {trial}");
        if let Ok(received) = result {
            for (tree, _, bad) in &grown {
                let mut leaves = vec![Block::ZERO; LEAVES];
                received.leaves(*tree, &mut leaves);
                assert!(bad.iter().zip(&leaves).all(|(&v, &w)| v ^ delta.times(w.lsb()) == w));
            }
        }
        passed[usize::from(right)] += 1;
    }
    assert!(passed[0] > 2 && passed[1] > 2, "{passed:?}");
}

/// X of many batches: the choices of the check hide it.
#[test]
fn replies_are_hidden_by_choices_of_the_check_alone() {
    let Started { receiver, message, .. } = start(23);
    let own = choices(&receiver.common.check_keys());
    let places = Context::new(COINS, 0, &message.sums).of_places(receiver.common.tree_keys());
    let (_, unchecked) = receive(receiver, message.sums);
    assert_eq!(bytemuck::cast_slice::<_, u8>(&xor(places, own)), unchecked.reply());
    assert!(own[0] != own[1] && own.iter().all(|bits| *bits != Block::ZERO && *bits != Block::ONES));
}
