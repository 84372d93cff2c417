//! Requantisation and logits end to end, as a session runs them: silent OT, one channel, both stages, nothing ideal.

mod common;

use common::{Given, LANES, RING, SPEC};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::{Channel, HEADER_BYTES};
use lowkey_mpc::extend::Finish;
use lowkey_mpc::layout::Search;
use lowkey_mpc::ot::{Correlations, OtCount, price};
use lowkey_mpc::output;
use lowkey_mpc::party::{Party, Stage};
use lowkey_mpc::program::{Program, offline, online};
use lowkey_mpc::requantise::{self, Spec};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;

/// One party: its OTs, then both programs, each stage of both before the next. Inputs by program and stage.
async fn party(
    mut ch: Channel,
    programs: [Arc<Program>; 2],
    early: [Vec<Planes>; 2],
    late: [Vec<Planes>; 2],
) -> (Vec<Planes>, Channel) {
    let mut rng = ChaCha20Rng::seed_from_u64(ch.party() as u64);
    let mut pool = Correlations::setup(&mut ch, &mut rng).await.unwrap();
    let need: OtCount = programs.iter().map(|program| program.ots() * LANES).sum();
    ch.enter(Stage::Offline);
    pool.ensure(&mut ch, need).await.unwrap();
    // A new visit, so that the traffic below is that of the programs.
    ch.enter(Stage::Offline);
    let mut ready = Vec::new();
    for (program, inputs) in programs.iter().zip(early) {
        let prepared = program.prepare(LANES, pool.take(program.ots() * LANES).unwrap()).unwrap();
        ready.push(offline(prepared, &mut ch, inputs).await.unwrap());
    }
    ch.enter(Stage::Online);
    let mut outputs = Vec::new();
    for (ready, inputs) in ready.into_iter().zip(late) {
        outputs.extend(online(ready, &mut ch, inputs).await.unwrap());
    }
    (outputs, ch)
}

#[tokio::test]
async fn requantise_and_logits_over_silent_ot() {
    let finish = Finish::Upload { ring: RING };
    let layout = Search::new(0.73).requantise(SPEC, finish).unwrap()[1].layout.clone();
    let programs =
        [requantise::program(SPEC, &layout, finish).unwrap(), output::logits(SPEC.ell.into()).unwrap()].map(Arc::new);
    let given = Given::random();
    let (client, server) = Channel::pair();
    let client = party(client, programs.clone(), given.early(), [vec![], vec![]]);
    let server = party(server, programs.clone(), [vec![], vec![]], given.late());
    let ((logits, client), (m, server)) = tokio::join!(client, server);

    given.check(&m[0], &logits[0]);

    // The plan's bytes and flights are those of the sockets.
    for (channel, sender) in [(client, Party::Client), (server, Party::Server)] {
        let online = channel.traffic().stage(Stage::Online);
        let frames = programs.iter().flat_map(|program| program.cost(LANES).frames);
        let frames = frames.filter(|frame| frame.time.stage() == Stage::Online && frame.sender == sender);
        let planned: usize = frames.map(|frame| frame.bytes + HEADER_BYTES).sum();
        assert_eq!(online.total().bytes_sent as usize, planned);
        // The logits do not wait for the client's last word: the server learns of it, then answers.
        assert_eq!(online.flights, u64::from(programs[0].cost(LANES).flights() + programs[1].cost(LANES).flights()));
    }
}

/// Bytes per activation of a requantisation that ends as the next layer's input, OTs at the price of a batch, with the low bits of
/// the body (`low_width` bits, offline) on top; the limits are what the layers should cost at most.
#[test]
fn bytes_per_activation() {
    let low_width = 14.0;
    for (spec, flights, limit) in [
        (Spec { ell: 13, shift: 7, bits: 4, guard: 1 }, 10, 19.0),
        (Spec { ell: 10, shift: 6, bits: 2, guard: 1 }, 8, 14.5),
        (Spec { ell: 9, shift: 7, bits: 1, guard: 1 }, 6, 11.0),
    ] {
        let found = Search::new(8.0 * price::BYTES_PER_OT).requantise(spec, Finish::Upload { ring: spec.ell }).unwrap();
        let choice =
            found.iter().take_while(|choice| choice.flights <= flights).last().expect("few flights are enough");
        let bytes = (choice.price + low_width) / 8.0;
        let (least, slowest) = found.last().map(|c| ((c.price + low_width) / 8.0, c.flights)).unwrap();
        let Spec { bits, ell, .. } = spec;
        println!("a={bits} ell={ell}: {bytes:.1} bytes in {} flights, {least:.1} in {slowest}", choice.flights);
        assert!(bytes <= limit, "{spec:?}: {bytes}");
    }
}
