//! Noise forced to the ends of what the layers allow: requantisation on top of the converted shares stays exact, by the protocol
//! itself; one step beyond the ends it does not.
//!
//! The client's torus share p_c is arbitrary, the server's is p_v = scaling z - p_c + e. `lowkey_bridge` measures the noise of
//! real layers and has the derivation of the bound.

use std::sync::Arc;

use lowkey_bridge::{LayerParameters, convert};
use lowkey_he::params::{self, ParameterSet};
use lowkey_he::word::TorusWord;
use lowkey_he::{Rounding, with_word};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::extend::Finish;
use lowkey_mpc::layout::Search;
use lowkey_mpc::ot::{Correlations, OtCount};
use lowkey_mpc::party::{Party, Stage};
use lowkey_mpc::program::{self, Program};
use lowkey_mpc::requantise::{self, Spec};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// A layer's arithmetic and what follows it.
struct Case {
    parameters: LayerParameters,
    spec: Spec,
    program: Arc<Program>,
}

impl Case {
    fn new(set: &'static ParameterSet, [ell, shift, bits]: [u8; 3], layout: usize) -> Self {
        let parameters = LayerParameters { set, ell: ell.into(), rounding: Rounding::default() };
        assert!(parameters.consistent());
        let spec = Spec { ell, shift, bits, guard: 1 };
        let finish = Finish::Upload { ring: ell };
        let layouts = Search::new(0.73).requantise(spec, finish).expect("the layer exists");
        let layout = &layouts[layout.min(layouts.len() - 1)].layout;
        let program = Arc::new(requantise::program(spec, layout, finish).expect("the layout fits"));
        Self { parameters, spec, program }
    }

    /// U.
    fn unit(&self) -> i64 {
        1 << self.parameters.log_unit()
    }

    /// What the server subtracts from z where only the sign counts; z - lowered is in the ring too.
    fn lowered(&self) -> i64 {
        if self.spec.is_sign().expect("valid") { 1 << self.spec.shift } else { 0 }
    }

    /// The ring shares of one split.
    fn convert<W: TorusWord>(&self, z: i64, e: i64, client: u64) -> (u64, u64) {
        let client = W::from_u64(client);
        let server =
            W::from_i64(z).shl(self.parameters.log_scaling()).wrapping_add(W::from_i64(e)).wrapping_sub(client);
        let c = convert::client_share(&self.parameters, &[client])[0];
        let v = convert::server_share(&self.parameters, &[server])[0];
        (c, v.wrapping_sub(2 * self.lowered() as u64) & ((1 << self.spec.width()) - 1))
    }

    fn shares(&self, lane: &Lane) -> (u64, u64) {
        with_word!(self.parameters.set, W => self.convert::<W>(lane.z, lane.e, lane.client))
    }

    /// Accumulators at both sides of every step of y, or of as many as a test can afford, and at the ends of the ring.
    fn accumulators(&self, rng: &mut ChaCha20Rng) -> Vec<i64> {
        let (half, step) = (1i64 << (self.spec.ell - 1), 1i64 << self.spec.shift);
        let lowest = self.lowered() - half;
        let steps = (0..=20).chain([1 << (self.spec.bits - 1), (1 << self.spec.bits) - 1, 1 << self.spec.bits]);
        let edges = steps.flat_map(|k| [k * step - 1, k * step]).filter(|z| (lowest..half).contains(z));
        let random: Vec<i64> = (0..10).map(|_| rng.random_range(lowest..half)).collect();
        edges.chain([lowest, lowest + 1, -1, half - 1]).chain(random).collect()
    }

    /// Within the bound: every accumulator, both ends of the noise, extreme and random splits.
    fn within(&self, rng: &mut ChaCha20Rng) -> Vec<Lane> {
        let unit = self.unit();
        let mut lanes = Vec::new();
        for z in self.accumulators(rng) {
            for e in [-unit / 2, 0, unit / 2] {
                for fraction in [0, 1, unit / 2 - 1, unit / 2, unit - 2, unit - 1, rng.random_range(0..unit)] {
                    let client = (rng.next_u64() << self.parameters.log_unit()).wrapping_add(fraction as u64);
                    lanes.push(Lane { z, e, client });
                }
            }
        }
        lanes
    }

    /// One step beyond each end, with the split that fails, at a step of y that must be missed.
    fn beyond(&self, rng: &mut ChaCha20Rng) -> Vec<Lane> {
        let (unit, step) = (self.unit(), 1i64 << self.spec.shift);
        let turns = rng.next_u64() << self.parameters.log_unit();
        vec![
            Lane { z: step, e: -unit / 2 - 1, client: turns.wrapping_add(unit as u64 - 1) },
            Lane { z: step - 1, e: unit / 2 + 1, client: turns },
        ]
    }
}

/// One element: its accumulator, its noise, and how the phase is split.
struct Lane {
    z: i64,
    e: i64,
    client: u64,
}

/// Runs the programs one after the other, offline stage and online stage, over silent OT.
async fn party(
    mut channel: Channel,
    programs: &[Arc<Program>],
    inputs: Vec<(usize, Vec<Planes>, Vec<Planes>)>,
) -> Vec<Vec<Planes>> {
    let mut rng = ChaCha20Rng::from_seed(rand::random());
    let mut pool = Correlations::setup(&mut channel, &mut rng).await.expect("set up");
    let need: OtCount = programs.iter().zip(&inputs).map(|(program, (lanes, _, _))| program.ots() * *lanes).sum();
    channel.enter(Stage::Offline);
    pool.ensure(&mut channel, need).await.expect("OTs");
    let mut outputs = Vec::new();
    for (program, (lanes, early, late)) in programs.iter().zip(inputs) {
        let cots = pool.take(program.ots() * lanes).expect("ensured");
        let ready = program::offline(program.prepare(lanes, cots).expect("enough"), &mut channel, early).await;
        outputs.push(program::online(ready.expect("offline"), &mut channel, late).await.expect("online"));
    }
    channel.close().await.expect("closes");
    outputs
}

/// y of every lane of every case, by the protocol.
fn requantised(cases: &[Case], lanes: &[Vec<Lane>], rng: &mut ChaCha20Rng) -> Vec<Vec<u64>> {
    let programs: Vec<Arc<Program>> = cases.iter().map(|case| case.program.clone()).collect();
    let (mut client, mut server, mut pads) = (Vec::new(), Vec::new(), Vec::new());
    for (case, lanes) in cases.iter().zip(lanes) {
        let (c, v): (Vec<u64>, Vec<u64>) = lanes.iter().map(|lane| case.shares(lane)).unzip();
        let planes = |shares: &[u64]| Planes::from_lanes(shares, case.spec.width());
        let xhat = Planes::random(lanes.len(), case.spec.ell.into(), rng);
        client.push((lanes.len(), vec![planes(&c), xhat.clone()], vec![]));
        server.push((lanes.len(), vec![], vec![planes(&v)]));
        pads.push(xhat);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let masked = runtime.block_on(async {
        let (here, there) = Channel::pair();
        assert_eq!(here.party(), Party::Client);
        tokio::join!(party(here, &programs, client), party(there, &programs, server)).1
    });
    let open = |((xhat, m), case): ((&Planes, &Vec<Planes>), &Case)| {
        let pairs = xhat.to_lanes::<u64>().into_iter().zip(m[0].to_lanes::<u64>());
        pairs.map(|(xhat, m)| (xhat + m) & ((1 << case.spec.ell) - 1)).collect()
    };
    pads.iter().zip(&masked).zip(cases).map(open).collect()
}

#[test]
fn requantisation_is_exact_at_both_ends_of_the_noise_and_wrong_one_step_beyond() {
    let seed = std::env::var("LOWKEY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("LOWKEY_SEED={seed}");
    let rng = &mut ChaCha20Rng::seed_from_u64(seed);
    let cases = [
        Case::new(&params::T32N2048, [13, 7, 4], 1),
        Case::new(&params::T32N2048, [15, 8, 4], 0),
        Case::new(&params::T32N1024, [12, 7, 3], 2),
        Case::new(&params::T32N1024, [10, 6, 2], 0),
        Case::new(&params::T32N2048, [9, 7, 1], 1),
        Case::new(&params::T32N2048, [24, 12, 8], 1),
        Case::new(&params::T64N2048, [23, 12, 8], 0),
        Case::new(&params::T64N4096, [36, 20, 8], 3),
    ];
    let lanes: Vec<Vec<Lane>> = cases.iter().map(|case| case.within(rng)).collect();
    for ((case, lanes), found) in cases.iter().zip(&lanes).zip(requantised(&cases, &lanes, rng)) {
        for (Lane { z, e, client }, y) in lanes.iter().zip(found) {
            let context = format!("LOWKEY_SEED={seed}, {:?}: z = {z}, e = {e}, p_c = {client}", case.spec);
            assert_eq!(y, requantise::ideal(case.spec, *z), "{context}");
        }
    }
    let lanes: Vec<Vec<Lane>> = cases.iter().map(|case| case.beyond(rng)).collect();
    for ((case, lanes), found) in cases.iter().zip(&lanes).zip(requantised(&cases, &lanes, rng)) {
        let right: Vec<u64> = lanes.iter().map(|lane| requantise::ideal(case.spec, lane.z)).collect();
        assert_eq!((right, found), (vec![1, 0], vec![0, 1]), "LOWKEY_SEED={seed}, {:?}", case.spec);
    }
}
