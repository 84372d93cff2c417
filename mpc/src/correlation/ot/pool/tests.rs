//! Tests of both directions together, over a channel.

use super::*;
use crate::correlation::ot::coins::Nonce;
use crate::correlation::ot::ideal;
use crate::correlation::ot::price::{self, OTS_OF_SETUP, OTS_PER_BATCH};
use crate::party::Stage;
use crate::transport::channel::Limits;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

fn rng(party: Party, seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(2 * seed + party as u64)
}

async fn set_up(ch: &mut Channel, seed: u64) -> Correlations {
    let rng = &mut rng(ch.party(), seed);
    Correlations::setup(ch, rng).await.unwrap()
}

/// Both parties after the set-up, in the offline stage.
async fn pools(mut channels: (Channel, Channel), seed: u64) -> [(Channel, Correlations); 2] {
    let (client, server) = tokio::join!(set_up(&mut channels.0, seed), set_up(&mut channels.1, seed));
    channels.0.enter(Stage::Offline);
    channels.1.enter(Stage::Offline);
    [(channels.0, client), (channels.1, server)]
}

async fn ensure([client, server]: &mut [(Channel, Correlations); 2], need: OtCount) {
    let (a, b) = tokio::join!(client.1.ensure(&mut client.0, need), server.1.ensure(&mut server.0, need));
    a.unwrap();
    b.unwrap();
}

fn take([client, server]: &mut [(Channel, Correlations); 2], need: OtCount) {
    assert_eq!(client.1.next_index(), server.1.next_index());
    let halves = [client.1.take(need).unwrap(), server.1.take(need).unwrap()];
    assert_eq!(halves[0].count(), need);
    ideal::assert_correlated(&halves[0], &halves[1]);
}

fn count(client_receives: usize, server_receives: usize) -> OtCount {
    OtCount { client_receives, server_receives }
}

#[tokio::test]
async fn many_batches_both_ways_cost_what_the_price_says() {
    let mut parties = pools(Channel::pair(), 1).await;
    for (ch, pool) in &parties {
        let setup = ch.traffic().stage(Stage::Setup);
        assert_eq!(setup.ot_batches.bytes_sent, price::SETUP_BYTES as u64);
        assert_eq!(setup.ot_batches.bytes_received, price::SETUP_BYTES as u64);
        assert_eq!((setup.other.bytes(), setup.flights), (0, 6));
        assert_eq!(pool.available(), count(OTS_OF_SETUP, OTS_OF_SETUP));
    }

    let need = count(OTS_OF_SETUP + 2 * OTS_PER_BATCH - 5, OTS_OF_SETUP + 10);
    ensure(&mut parties, need).await;
    let [(ch, pool), _] = &parties;
    assert_eq!(pool.available(), count(OTS_OF_SETUP + 2 * OTS_PER_BATCH, OTS_OF_SETUP + OTS_PER_BATCH));
    let offline = ch.traffic().stage(Stage::Offline);
    assert_eq!(offline.ot_batches.bytes() as usize, price::bytes(need));
    let (batch, reply) = (price::BATCH_BYTES - price::REPLY_FRAME_BYTES, price::REPLY_FRAME_BYTES);
    assert_eq!(offline.ot_batches.bytes_received as usize, 2 * batch + reply);
    assert_eq!(offline.ot_batches.bytes_sent as usize, batch + 2 * reply);
    assert_eq!(offline.flights, 3);
    take(&mut parties, need);
    assert_eq!(parties[0].1.next_index().client_receives, need.client_receives as u64);

    // What is left counts: nothing is sent for it, and the next batch joins it.
    let bytes = |parties: &[(Channel, Correlations); 2]| parties[0].0.traffic().total().bytes();
    let before = bytes(&parties);
    ensure(&mut parties, count(5, OTS_PER_BATCH - 10)).await;
    assert_eq!(bytes(&parties), before);
    let need = count(6, OTS_PER_BATCH);
    ensure(&mut parties, need).await;
    assert_eq!(bytes(&parties) - before, 2 * price::BATCH_BYTES as u64);
    take(&mut parties, need);
    take(&mut parties, count(OTS_PER_BATCH - 1, OTS_PER_BATCH - 10));
    assert_eq!(parties[1].1.available(), OtCount::ZERO);
}

/// What a party holds is counted, grows with each batch, and stays within what was planned for inferences of so many OTs.
#[tokio::test]
async fn what_is_held_is_within_the_plan() {
    let mut parties = pools(Channel::pair(), 5).await;
    let need = count(OTS_OF_SETUP - 30_000, OTS_PER_BATCH);
    let layer = count(200_000, 300_000);
    let most = Correlations::most_held_bytes(need, layer);
    let held = |parties: &[(Channel, Correlations); 2]| [0, 1].map(|party| parties[party].1.held_bytes());
    let setup = held(&parties);
    // Two seeds of 2^18 keys and more, and two tables.
    assert!(setup.iter().all(|&bytes| bytes > 4 * (16 << 18) && bytes < most), "{setup:?} of {most}");
    let mut largest = 0;
    for _ in 0..3 {
        let before = held(&parties);
        ensure(&mut parties, need).await;
        assert!(held(&parties)[0] >= before[0] + (16 << 18), "a batch came");
        let mut left = need;
        while left != OtCount::ZERO {
            let now =
                count(left.client_receives.min(layer.client_receives), left.server_receives.min(layer.server_receives));
            take(&mut parties, now);
            left = count(left.client_receives - now.client_receives, left.server_receives - now.server_receives);
            largest = largest.max(held(&parties)[0]).max(held(&parties)[1]);
        }
    }
    assert!(largest <= most, "{largest} of {most}");
    // Not by a factor: a server can be filled up to it.
    assert!(2 * largest > most, "{largest} of {most}");
}

/// As sessions run: each party on its own blocking thread, over TCP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_over_tcp_on_blocking_threads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    let need = count(OTS_OF_SETUP + 1, 1);
    let party = |socket: TcpStream, party| {
        tokio::task::spawn_blocking(move || {
            Handle::current().block_on(async {
                let mut ch = Channel::new(socket, party, Limits::default());
                let mut pool = set_up(&mut ch, 2).await;
                ch.enter(Stage::Offline);
                pool.ensure(&mut ch, need).await.unwrap();
                let total = ch.traffic().total();
                ch.close().await.unwrap();
                (pool.take(need).unwrap(), total)
            })
        })
    };
    let (client, server) = tokio::join!(party(client.unwrap(), Party::Client), party(server.unwrap().0, Party::Server));
    let ((client, at_client), (server, at_server)) = (client.unwrap(), server.unwrap());
    ideal::assert_correlated(&client, &server);
    assert_eq!(at_client.bytes_sent, at_server.bytes_received);
    assert_eq!(at_client.bytes_received, at_server.bytes_sent);
}

#[tokio::test]
async fn taking_too_many_is_refused_and_spends_nothing() {
    let mut parties = pools(Channel::pair(), 3).await;
    let pool = &mut parties[0].1;
    let refused = |result: Result<Cots>, party, have| matches!(result, Err(Error::Exhausted { received_by, have: h, .. }) if (received_by, h) == (party, have));
    assert!(refused(pool.take(count(OTS_OF_SETUP + 1, 0)), Party::Client, OTS_OF_SETUP));
    assert!(refused(pool.take(count(0, OTS_OF_SETUP + 1)), Party::Server, OTS_OF_SETUP));
    assert_eq!(pool.available(), count(OTS_OF_SETUP, OTS_OF_SETUP));
    take(&mut parties, count(OTS_OF_SETUP, OTS_OF_SETUP));
}

#[tokio::test]
async fn diverging_indices_are_found() {
    let mut parties = pools(Channel::pair(), 4).await;
    ensure(&mut parties, count(1, 1)).await;
    let [(_, client), (_, server)] = &mut parties;
    client.check_next_index(server.next_index()).unwrap();
    drop(server.take(count(0, 1)).unwrap());
    let error = client.check_next_index(server.next_index()).unwrap_err();
    assert!(error.is_peer_fault());
    assert_eq!(error.to_string(), "the peer broke the protocol: index of the next OTs is 0 and 1, expected 0 and 0");
}

#[tokio::test]
async fn parties_that_disagree_on_the_need_fail_with_a_typed_error_or_wait() {
    let limits = Limits { timeout: std::time::Duration::from_secs(1), ..Limits::default() };
    let (client, server) = tokio::io::duplex(1 << 20);
    let channels = (Channel::new(client, Party::Client, limits), Channel::new(server, Party::Server, limits));
    let [(mut client, mut pool), (_server, _)] = pools(channels, 5).await;
    // The server sends nothing although the client waits for a batch.
    let error = pool.ensure(&mut client, count(OTS_OF_SETUP + 1, 0)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    // The failed batch ends the pool.
    assert!(matches!(pool.ensure(&mut client, count(1, 0)).await, Err(Error::Disconnected)));
    assert!(matches!(pool.take(OtCount::ZERO), Err(Error::Disconnected)));
}

/// What a client makes of a peer that sends these frames in the set-up.
async fn hostile_setup(frames: Vec<Vec<u8>>) -> Error {
    let (mut client, mut server) = Channel::pair();
    let attack = async {
        for frame in frames {
            server.send(FrameKind::OtBatch, frame).await.unwrap();
            // Take in what the client sends, so that depths stay plausible.
            let _ = server.recv_at_most(FrameKind::OtBatch, 1 << 20).await;
        }
        server.close().await.unwrap();
    };
    let mut rng = rng(Party::Client, 6);
    let (result, ()) = tokio::join!(
        async {
            let result = Correlations::setup(&mut client, &mut rng).await;
            client.close().await.unwrap();
            result
        },
        attack
    );
    result.unwrap_err()
}

#[tokio::test]
async fn hostile_set_ups_end_in_typed_errors() {
    let nonce = Nonce::random(Party::Server, &mut rng(Party::Server, 6));
    let hello = [&[2; 33][..], &nonce.commitment()].concat();
    let points = 12_288;
    let with_nonce = |points: Vec<u8>| [&points[..], nonce.opening()].concat();
    for frames in [
        vec![vec![1; 65]],
        vec![vec![2; 64]],
        vec![vec![]],
        vec![hello.clone(), vec![0; points]],
        // A nonce that was not committed to.
        vec![hello.clone(), vec![0; points + 32]],
        vec![hello.clone(), with_nonce(vec![0; points])],
        vec![hello.clone(), with_nonce(vec![255; points])],
    ] {
        let error = hostile_setup(frames).await;
        assert!(error.is_peer_fault(), "{error}");
    }
    assert!(matches!(hostile_setup(vec![hello]).await, Error::Disconnected));
}

/// Wrong sums end the session before the client has an OT, and all that the server hears of it is that it ends.
#[tokio::test]
async fn a_sender_with_wrong_sums_is_told_only_that_it_was_caught() {
    let mut answers = Vec::new();
    for (tree, level, bit) in [(0, 0, 1), (5, 4, 100), (511, 10, 3)] {
        let (mut client, mut server) = Channel::pair();
        let cheat = async {
            let rng = &mut rng(Party::Server, 8);
            let roles = setup::set_up(&mut server, rng).await.unwrap();
            let (_, sent, message, check) = roles.sender.start(&mut Prg::from_rng(rng));
            let mut bytes = message.encode();
            bytes[12 + 16 * (tree * silent::DEPTH + level) + bit / 8] ^= 1 << (bit % 8);
            server.send(FrameKind::OtBatch, bytes).await.unwrap();
            let message = server.recv(FrameKind::OtBatch, silent::FIRST.message_bytes()).await.unwrap();
            let (_, unchecked) = roles.receiver.start(BatchMessage::decode(&message, 0).unwrap());
            server.send(FrameKind::OtBatch, unchecked.reply().to_vec()).await.unwrap();
            let reply = server.recv(FrameKind::OtBatch, REPLY_BYTES).await.unwrap();
            let proof = check.hash(&sent).prove(reply.first_chunk().unwrap());
            server.send(FrameKind::OtBatch, proof.to_vec()).await.unwrap();
            // The client's own proof was on its way.
            let proof = server.recv(FrameKind::OtBatch, PROOF_BYTES).await.unwrap();
            unchecked.check(proof.first_chunk().unwrap()).unwrap();
            server.recv_at_most(FrameKind::OtBatch, 1 << 20).await.unwrap_err()
        };
        let honest = async {
            let error = Correlations::setup(&mut client, &mut rng(Party::Client, 8)).await.unwrap_err();
            let sent = client.traffic().total().bytes_sent;
            client.close().await.unwrap();
            (error, sent)
        };
        let (heard, (error, sent)) = tokio::join!(cheat, honest);
        assert!(matches!(heard, Error::Disconnected), "{heard}");
        assert!(error.is_peer_fault());
        answers.push((error.to_string(), sent));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].1, price::SETUP_BYTES as u64);
}

#[test]
fn prices_are_what_the_parameters_give() {
    assert_eq!((OTS_OF_SETUP, OTS_PER_BATCH), (767_256, 3_241_240));
    assert_eq!(price::BATCH_BYTES, 8 + 12 + 1720 * 11 * 16 + 2 * (8 + 32));
    let correction = 16 * 14 * 16 + 17 * 32 + 15 * (2_094 + 2) * 16 + 129 * 32;
    assert_eq!(price::SETUP_BYTES, 6 * 8 + 65 + 12_288 + 32 + correction + 12 + 512 * 11 * 16 + 2 * 32);
    assert_eq!(price::bytes(count(OTS_OF_SETUP, OTS_OF_SETUP + 2 * OTS_PER_BATCH + 1)), 3 * price::BATCH_BYTES);
    assert!((price::BYTES_PER_OT * 8.0 - 0.7474).abs() < 0.0002);
}
