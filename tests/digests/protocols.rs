//! What client and server send in each protocol, over oblivious transfers of its own: setup and batches in rows of their own, both
//! stages of a program in one.

use std::sync::Arc;

use lowkey_mpc::average::Floats;
use lowkey_mpc::bits::Planes;
use lowkey_mpc::carry::Part;
use lowkey_mpc::channel::{Channel, FrameKind, Recorded, Way};
use lowkey_mpc::dither::Dither;
use lowkey_mpc::extend::Finish;
use lowkey_mpc::fixed::refresh::Refresh;
use lowkey_mpc::layout::{HighBits, Layout, PoolLayout};
use lowkey_mpc::maxpool;
use lowkey_mpc::ot::price::OTS_OF_SETUP;
use lowkey_mpc::ot::{Correlations, OtCount};
use lowkey_mpc::party::{Party, Stage};
use lowkey_mpc::patch::Chains;
use lowkey_mpc::program::{Program, Time, offline, online};
use lowkey_mpc::requantise::{Clip, Spec};
use lowkey_mpc::{
    argmax, average, compare, convert, dither, fixed, output, patch, pooled, requantise, rescale, select, table,
    truncate, widen,
};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sha2::Digest as _;

use super::common::block_on;
use super::{Row, Sum};

const LANES: usize = 100;

/// What the client and the server sent, from what the client saw: stage, kind, length and payload of every frame.
fn directions(frames: &[Recorded]) -> [Sum; 2] {
    [Way::Sent, Way::Received].map(|way| {
        let mut sum = Sum::default();
        for frame in frames.iter().filter(|frame| frame.way == way) {
            sum.hash.update([frame.stage.code(), frame.kind.code()]);
            sum.hash.update((frame.payload.len() as u64).to_le_bytes());
            sum.update(&frame.payload);
        }
        sum
    })
}

fn row(name: &str, frames: &[Recorded]) -> Row {
    Row::new(format!("protocol {name}"), ["client", "server"], directions(frames))
}

fn rng(party: Party) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(party as u64)
}

/// Set-up, and OTs for what is needed.
async fn pool(ch: &mut Channel, need: OtCount) -> Correlations {
    let mut pool = Correlations::setup(ch, &mut rng(ch.party())).await.unwrap();
    ch.enter(Stage::Offline);
    pool.ensure(ch, need).await.unwrap();
    pool
}

/// The set-up, and a second batch in either direction, which starts from outputs of the first.
async fn transfers() -> Vec<Row> {
    let (mut client, mut server) = Channel::pair();
    let view = client.record();
    let need = OtCount { client_receives: OTS_OF_SETUP + 1, server_receives: OTS_OF_SETUP + 1 };
    tokio::join!(pool(&mut client, need), pool(&mut server, need));
    let (setup, batches): (Vec<_>, Vec<_>) = view.take().into_iter().partition(|frame| frame.stage == Stage::Setup);
    vec![row("transfers setup", &setup), row("transfers batch", &batches)]
}

/// One party: both stages of each program, with any inputs.
async fn run(mut ch: Channel, programs: &[Arc<Program>], lanes: usize) -> Channel {
    let (party, mut rng) = (ch.party(), ChaCha20Rng::seed_from_u64(2 + ch.party() as u64));
    let mut pool = pool(&mut ch, programs.iter().map(|program| program.ots() * lanes).sum()).await;
    let mut inputs = |program: &Program, stage| -> Vec<Planes> {
        let own = program.inputs().iter().filter(|port| port.party == party && port.time.stage() == stage);
        own.map(|port| Planes::random(lanes, port.width, &mut rng)).collect()
    };
    let mut ready = Vec::new();
    for program in programs {
        let prepared = program.prepare(lanes, pool.take(program.ots() * lanes).unwrap()).unwrap();
        ready.push(offline(prepared, &mut ch, inputs(program, Stage::Offline)).await.unwrap());
    }
    ch.enter(Stage::Online);
    for (program, ready) in programs.iter().zip(ready) {
        online(ready, &mut ch, inputs(program, Stage::Online)).await.unwrap();
    }
    ch
}

async fn programs(name: &str, programs: Vec<Program>) -> Row {
    let programs: Vec<Arc<Program>> = programs.into_iter().map(Arc::new).collect();
    let (mut client, server) = Channel::pair();
    let view = client.record();
    let (client, server) = tokio::join!(run(client, &programs, LANES), run(server, &programs, LANES));
    let mut frames = view.take();
    frames.retain(|frame| frame.kind == FrameKind::Data);
    drop((client, server));
    row(name, &frames)
}

/// The index of the largest of eleven.
async fn largest() -> Row {
    const ELL: usize = 9;
    let argmax = argmax::Argmax::new(ELL, 11, &[Part::Digit(3), Part::Block(vec![2, 3])]).unwrap();
    let argmax = &argmax;
    let party = async |mut ch: Channel| {
        let any = Planes::random(11, ELL + 1, &mut rng(ch.party()));
        let [early, late] = if ch.party() == Party::Client { [Some(any), None] } else { [None, Some(any)] };
        let mut pool = pool(&mut ch, argmax.demand().ots).await;
        let prepared = argmax.prepare(pool.take(argmax.demand().ots).unwrap()).unwrap();
        let ready = prepared.offline(&mut ch, early).await.unwrap();
        ch.enter(Stage::Online);
        ready.online(&mut ch, late).await.unwrap();
        ch
    };
    let (mut client, server) = Channel::pair();
    let view = client.record();
    let both = tokio::join!(party(client), party(server));
    let mut frames = view.take();
    frames.retain(|frame| frame.kind == FrameKind::Data);
    drop(both);
    row("argmax", &frames)
}

/// Digits of two bits, the last two in a block.
fn chain(bits: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = (0..bits / 2 - 1).map(|_| Part::Digit(2)).collect();
    parts.push(Part::Block(vec![1; 2 + bits % 2]));
    parts
}

fn recorded() -> Vec<(&'static str, Vec<Program>)> {
    let (early, start) = (Time::OFFLINE, Time::START);
    let late = (Time::Online(2), Time::Online(1));
    let [small, share, upload] = [Finish::Small, Finish::Share { ring: 13 }, Finish::Upload { ring: 13 }];
    let spec = Spec { ell: 13, shift: 7, bits: 4, guard: 1 };
    let clip = Clip { top: 11, spare: true };
    let low = vec![Part::Digit(4), Part::Digit(2), Part::Block(vec![2])];
    let mid = vec![Part::Digit(2), Part::Digit(1), Part::Digit(1)];
    let tabled = Layout { low, mid, high: vec![], high_bits: HighBits::Table, joined: false };
    let chained = Layout { high: vec![1], high_bits: HighBits::Chain, ..tabled.clone() };
    let joined = Layout { joined: true, ..chained.clone() };
    let skipped = Layout { high_bits: HighBits::Skip, ..tabled.clone() };
    let sign = Layout { low: chain(9), mid: vec![], high: vec![], high_bits: HighBits::Chain, joined: false };
    let requantise = |layout: &Layout, finish| vec![requantise::program(spec, layout, finish).unwrap()];
    let clipped =
        |layout: &Layout, finish, (c, v)| vec![requantise::program_clipped(spec, clip, layout, finish, c, v).unwrap()];
    let rescaled = Spec { ell: 14, shift: 8, guard: 0, ..spec };
    // What is left of it without its low bits is requantised as the last.
    let tossed = Dither { spec: Spec { ell: 17, shift: 11, bits: 4, guard: 1 }, coin: 3 };
    assert_eq!(tossed.cut().unwrap(), rescaled);
    let patched = patch::Spec { ell: 15, shift: 7, guard: 1, bits: 7, pixels: 3, gated: true };
    let pooled = pooled::Spec { layer: spec, clip, window: 3 };
    let pool = |bits| maxpool::Spec { bits, window: 4, client: start, server: start };
    let between =
        PoolLayout::Between { low: chain(8), game: chain(5), clip: Layout { low: vec![], ..chained.clone() } };
    let between = between.programs(pooled, upload).unwrap();
    let mean = truncate::Spec { width: 12, shift: 4, bits: 6 };
    let floats = Floats {
        unit: 0xb5_04f3,
        values: [-2, 61],
        count: 2,
        reach: 500,
        near_powers: true,
        least: vec![[3, -4], [7, 9]],
    };
    let squares: Vec<i64> = (0..16).map(|i| i * i - 40).collect();
    vec![
        ("compare", vec![compare::program(8, &chain(7), early, start).unwrap()]),
        ("convert", vec![convert::program(9, early, start).unwrap()]),
        ("select", vec![select::program(9, late.0, late.1).unwrap()]),
        ("widen", vec![widen::program(9, 13).unwrap()]),
        ("requantise small", requantise(&tabled, small)),
        ("requantise share", requantise(&skipped, share)),
        ("requantise upload", requantise(&joined, upload)),
        ("requantise clipped", clipped(&chained, upload, (early, start))),
        ("requantise late", clipped(&chained, share, late)),
        (
            "requantise sign",
            vec![requantise::program(Spec { ell: 9, shift: 5, bits: 1, guard: 1 }, &sign, upload).unwrap()],
        ),
        ("rescale", vec![rescale::program(rescaled, Clip::default(), &tabled, upload).unwrap()]),
        ("dither", vec![dither::program(tossed, clip, &chained, upload).unwrap()]),
        ("block", vec![patch::program(patched, &Chains { low: chain(8), gate: chain(8) }, upload).unwrap()]),
        ("max pool", vec![maxpool::program(pool(4), &chain(4), upload).unwrap()]),
        ("max pool of bits", vec![maxpool::program(pool(1), &[], share).unwrap()]),
        ("max pool before the clip", between.values.into_iter().chain([between.windows]).collect()),
        ("truncate", vec![truncate::program(mean, &chain(4), share, start).unwrap()]),
        ("average", vec![average::program(mean, &floats, &chain(4), share).unwrap()]),
        ("table", vec![table::program(4, &squares, upload).unwrap()]),
        ("logits", vec![output::logits(13).unwrap()]),
        ("reveal", vec![output::reveal(13).unwrap()]),
    ]
}

/// Fixed point on shares.
fn of_training() -> Vec<(&'static str, Vec<Program>)> {
    let start = Time::START;
    let extended = fixed::extend::Spec { from: 10, to: 18, signed: true };
    let rectified = fixed::relu::Spec { from: 10, to: 18 };
    let pooled = fixed::pool::Spec { window: 4, rings: rectified };
    let softmax = fixed::softmax::Spec { classes: 3, width: 16, fraction: 8, result: 10, to: 18 };
    let coins = fixed::softmax::More { coins: true, score: false };
    let scored = fixed::score::Spec { classes: 3, width: 13, fraction: 4, owner: Party::Client };
    let chains = fixed::softmax::Chains { game: chain(softmax.compared()), bound: chain(softmax.bounded()) };
    vec![
        ("fixed extend", vec![fixed::extend::program(extended, start, start).unwrap()]),
        ("fixed rectifier", vec![fixed::relu::program(rectified, &chain(9), start, start).unwrap()]),
        ("fixed rectifier back", vec![fixed::relu::program_back(rectified, start, start).unwrap()]),
        ("fixed product", vec![fixed::multiply::program(24, 10, 2, start, start).unwrap()]),
        ("fixed join", vec![fixed::join::program(16, 2).unwrap()]),
        ("fixed pool", vec![fixed::pool::program(pooled, &chain(9), start, start).unwrap()]),
        ("fixed pool back", vec![fixed::pool::program_back(pooled, start, start).unwrap()]),
        ("fixed softmax", vec![fixed::softmax::program(softmax, &chains, coins).unwrap()]),
        ("fixed score", vec![fixed::score::program(scored, &chain(scored.compared())).unwrap()]),
    ]
}

/// What parties make of their shares and send nothing for: both have to draw the same numbers, in the same order.
fn local() -> Vec<Row> {
    let sums = |step: &dyn Fn(Party, &mut [u64], &mut Refresh)| {
        [Party::Client, Party::Server].map(|party| {
            let mut shares: Vec<u64> = (0..LANES as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            step(party, &mut shares, &mut Refresh::new(&[1; 32], &[2; 32], 3));
            Sum::of(&shares.iter().flat_map(|share| share.to_le_bytes()).collect::<Vec<u8>>())
        })
    };
    let spec = fixed::truncate::Spec { width: 18, dropped: 8 };
    let refreshed = sums(&|party, shares, refresh| refresh.apply(party, shares));
    let truncated = sums(&|party, shares, refresh| spec.apply(party, shares, refresh));
    let columns = ["client's shares", "server's shares"];
    vec![
        Row::new("protocol fixed refresh", columns, refreshed),
        Row::new("protocol fixed truncate", columns, truncated),
    ]
}

pub fn rows() -> Vec<Row> {
    block_on(async {
        let mut rows = transfers().await;
        for (name, recorded) in recorded().into_iter().chain(of_training()) {
            rows.push(programs(name, recorded).await);
        }
        rows.push(largest().await);
        rows.extend(local());
        rows
    })
}
