//! Trainings between two parties, broken off and resumed, against the twin.

mod head;

use super::*;
use crate::error::Fault;
use crate::train::Net;
use crate::train::cost::Cost;
use crate::train::export;
use crate::train::format::Format;
use crate::train::input;
use crate::train::samples::Samples;
use crate::train::settings::{Progress, Told, Trained};
use crate::train::terms::WeightsTo;
use crate::train::terms::Wish;
use crate::train::training::train;
use crate::train::twin::{State, Twin};
use lowkey_models::{Inputs, Network};
use lowkey_mpc::channel::Limits;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Images of 3 x 3 pixels whose brightest pixel is the class; the tenth class is dark.
fn samples(count: usize) -> Samples {
    let labels: Vec<u8> = (0..count).map(|i| (i * 7 % 10) as u8).collect();
    let mut idx = vec![0, 0, 8, 3];
    idx.extend([count as u32, 3, 3].map(u32::to_be_bytes).as_flattened());
    let pixel = |i: usize, at: usize| if at == usize::from(labels[i]) { 240 } else { (i * 31 + at * 17) % 60 };
    idx.extend((0..count).flat_map(|i| (0..9).map(move |at| (i, at))).map(|(i, at)| pixel(i, at) as u8));
    let inputs = Inputs::from_bytes(&idx, &input(&net())).unwrap();
    Samples::new(&net(), &inputs, &labels).unwrap()
}

fn net() -> Net {
    Net::new(&[9, 12, 10]).unwrap()
}

fn wish() -> Wish {
    Wish {
        net: net(),
        weights_to: WeightsTo::Both,
        epochs: Some(2),
        rates: Some(vec![2, 3]),
        every: Some(2),
        reopen: false,
    }
}

fn settings(folder: &Path, name: &str, resume: bool) -> Settings {
    Settings { checkpoint: Some(folder.join(name)), resume, ..Settings::new(wish()) }
}

fn seeded(seed: u8) -> Erasing {
    Erasing::new([seed; 32])
}

type Party2 = (Run, Channel, Settings);

async fn one(folder: &Path, mut channel: Channel, part: Part, name: &str, resume: bool, seed: u8) -> Result<Party2> {
    let settings = settings(folder, name, resume);
    let kept = Kept::read(&part, &settings)?;
    let run = Run::open(&mut channel, part, &settings, kept, None, seeded(seed), true).await?;
    Ok((run, channel, settings))
}

async fn open(folder: &Path, resume: bool, seed: u8) -> [Result<Party2>; 2] {
    let (c, s) = Channel::pair();
    let client = one(folder, c, Part::Data(samples(420)), "c", resume, seed);
    let both = tokio::join!(client, one(folder, s, Part::Model(None), "s", resume, seed + 1));
    [both.0, both.1]
}

/// A step of both, and of the twin with the coins of the client; masters and momenta are equal.
async fn step([client, server]: &mut [Party2; 2], twin: &mut Twin) {
    let mut coins = Recorded::default();
    let rate = client.0.terms.rate(client.0.done().unwrap());
    let Chosen::Batch(inputs, labels) = client.0.batch().unwrap() else { panic!("a batch") };
    let both = tokio::join!(client.0.step(&mut client.1, Some(&mut coins)), server.0.step(&mut server.1, None));
    both.0.and(both.1).unwrap();
    twin.step(Batch::new(&net(), &Format::NARROW, &inputs, &labels).unwrap(), rate, &mut coins);
    assert_eq!(twin.watch.overflows(), 0);
    assert!(sum(client, server) == twin.state, "step {}", client.0.done().unwrap());
}

fn sum(client: &Party2, server: &Party2) -> State {
    client.0.held().unwrap().sum(server.0.held().unwrap(), Format::NARROW.held)
}

/// A party is killed in mid-step, after a checkpoint that the other one has not written; both go on from the one before, to the masters that
/// the twin has.
#[tokio::test]
async fn a_killed_party_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let mut both = open(folder.path(), false, 1).await.map(Result::unwrap);
    let first = sum(&both[0], &both[1]);
    let mut twin = Twin::new(net(), Format::NARROW, first);
    let mut kept = None;
    for done in 1..=4 {
        step(&mut both, &mut twin).await;
        if done == 2 {
            both.iter().for_each(|(run, _, settings)| run.keep(settings).unwrap());
            kept = Some(twin.clone());
        }
        if done == 4 {
            both[0].0.keep(&both[0].2).unwrap();
        }
    }
    // The server goes, and the client's step fails.
    let [(mut client, mut channel, _), server] = both;
    drop(server);
    assert_eq!(client.step(&mut channel, None).await.unwrap_err().fault(), Fault::Peer);
    assert!(client.held().is_err());

    let mut both = open(folder.path(), true, 7).await.map(Result::unwrap);
    let mut twin = kept.unwrap();
    assert_eq!([both[0].0.done().unwrap(), both[1].0.done().unwrap()], [2, 2]);
    assert!(sum(&both[0], &both[1]) == twin.state);
    // Once more, between both parties' writing: the client's checkpoint of step 4 must not have taken the place of the common one.
    step(&mut both, &mut twin.clone()).await;
    both[0].0.keep(&both[0].2).unwrap();
    drop(both);
    let mut both = open(folder.path(), true, 9).await.map(Result::unwrap);
    assert_eq!([both[0].0.done().unwrap(), both[1].0.done().unwrap()], [2, 2]);
    while both[0].0.done().unwrap() < both[0].0.terms.steps() {
        step(&mut both, &mut twin).await;
    }
    assert_eq!(both[0].0.done().unwrap(), 6);
    let [(client, mut c, _), (server, mut s, _)] = both;
    let closed = tokio::join!(client.close(&mut c), server.close(&mut s));
    let [(.., own), (.., theirs)] = [closed.0.unwrap(), closed.1.unwrap()];
    assert_eq!((own.as_ref(), theirs.as_ref()), (Some(&twin.state.masters), Some(&twin.state.masters)));
}

/// Shares of different sessions, or of one party alone, go nowhere.
#[tokio::test]
async fn checkpoints_that_do_not_belong_together_are_refused() {
    let [one, two] = [1, 11].map(|seed| (tempfile::tempdir().unwrap(), seed));
    for (folder, seed) in [&one, &two] {
        for (run, _, settings) in open(folder.path(), false, *seed).await.map(Result::unwrap) {
            run.keep(&settings).unwrap();
        }
    }
    // A new training does not replace it.
    for error in open(one.0.path(), false, 1).await.map(|outcome| outcome.err().unwrap()) {
        assert_eq!(error.fault(), Fault::User, "{error}");
    }
    std::fs::copy(two.0.path().join("s"), one.0.path().join("s")).unwrap();
    for error in open(one.0.path(), true, 1).await.map(|outcome| outcome.err().unwrap()) {
        assert!(matches!(error, Error::Terms { what: "the checkpoint to go on from", .. }), "{error}");
    }
    std::fs::copy(two.0.path().join("c"), one.0.path().join("s")).unwrap();
    let [client, server] = open(one.0.path(), true, 1).await;
    assert!(server.err().unwrap().to_string().contains("the other party's"));
    assert_eq!(client.err().unwrap().fault(), Fault::Peer);
}

async fn trained(client: Settings, server: Settings) -> [Result<Trained>; 2] {
    let (c, s) = tokio::io::duplex(1 << 20);
    let both = tokio::join!(train(c, Part::Data(samples(1300)), client), train(s, Part::Model(None), server));
    [both.0, both.1]
}

/// How many of 128 images a network is right about.
fn right(network: &Network) -> usize {
    let order: Vec<u32> = (0..200).collect();
    let (inputs, labels) = samples(200).batch(&net(), &order, 0);
    let is_right = |(image, label): &(&[i64], u8)| {
        let image = lowkey_models::Tensor::from_shape_vec([1, 3, 3], image.to_vec()).unwrap();
        lowkey_models::argmax(&network.run(&image).unwrap()) == usize::from(*label)
    };
    inputs.chunks_exact(9).zip(labels).filter(is_right).count()
}

/// From terms to a network that knows the classes; each party has it if the terms say so.
#[tokio::test]
async fn a_training_ends_in_a_network() {
    let wish = |weights_to| Wish { weights_to, epochs: Some(4), rates: Some(vec![2, 2, 3, 3]), every: None, ..wish() };
    for weights_to in [WeightsTo::Both, WeightsTo::Server, WeightsTo::Client, WeightsTo::None] {
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tell = told.clone();
        let tell: Told = Arc::new(move |progress: &Progress| tell.lock().unwrap().push(*progress));
        let client = Settings { told: Some(tell), ..Settings::new(wish(weights_to)) };
        let [client, server] = trained(client, Settings::new(wish(weights_to))).await.map(Result::unwrap);
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(told.iter().map(|progress| progress.done).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
        assert!(told[39].bytes > told[38].bytes && told[39].seconds_left() == 0.0);
        assert_eq!((client.steps, &client.terms), (40, &server.terms));
        let online = [&client.online, &server.online];
        assert_eq!(online[0].socket_bytes_sent, online[1].socket_bytes_received);
        let planned = [2, 2, 3, 3].map(|rate| Cost::of_step(&net(), rate).unwrap());
        for (report, closing) in online.into_iter().zip([&client.closing, &server.closing]) {
            assert_eq!(report.bytes(), 10 * planned.iter().map(|cost| cost.bytes).sum::<u64>());
            let most = 10 * planned.iter().map(|cost| cost.flights).sum::<u64>();
            assert!((most - 40..=most).contains(&report.flights), "{} flights, at most {most}", report.flights);
            let opened = [Party::Client, Party::Server].into_iter().filter(|party| weights_to.reaches(*party)).count();
            assert_eq!(closing.bytes(), 4 * 16 + opened as u64 * (8 + (250 * 25_u64).div_ceil(8)));
        }
        assert_eq!(client.ots.ots, 10 * planned.iter().map(|cost| cost.ots).sum::<u64>());
        let got = [client.network, server.network];
        assert_eq!(
            got.each_ref().map(Option::is_some),
            [Party::Client, Party::Server].map(|party| weights_to.reaches(party)),
            "{weights_to}"
        );
        for network in got.into_iter().flatten() {
            let right = right(&network);
            assert!(right > 90, "{right} of 128");
        }
    }
}

/// What they do not both ask for ends before the first product, at both.
#[tokio::test]
async fn no_training_without_terms() {
    let server = Settings::new(Wish { weights_to: WeightsTo::Server, ..wish() });
    for error in trained(Settings::new(wish()), server).await.map(Result::unwrap_err) {
        assert!(matches!(error, Error::Terms { what: "who gets the weights", .. }), "{error}");
    }
    let wrong = Settings::new(Wish { rates: Some(vec![30]), ..wish() });
    let [client, server] = trained(wrong, Settings::new(wish())).await;
    assert_eq!(client.unwrap_err().fault(), Fault::User);
    assert!(matches!(server.unwrap_err(), Error::Session(_)));
}

/// Passes bytes on, one of them changed.
async fn damage(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, at: Option<usize>) {
    let (mut bytes, mut passed) = ([0; 4096], 0);
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if let Some(byte) = at.and_then(|at| bytes[..count].get_mut(at.checked_sub(passed)?)) {
            *byte ^= 0x10;
        }
        passed += count;
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// A byte that changes on the way, wherever that is: an error that says so or blames the other end, and never a panic.
#[tokio::test]
async fn damage_on_the_way_is_found() {
    let wish = Wish { epochs: Some(1), every: Some(1), rates: None, ..wish() };
    let offsets: Vec<usize> = (0..10).map(|i| 3 + 29 * i).chain((0..8).map(|i| 700 << i)).collect();
    for (at, from_client) in offsets.iter().flat_map(|at| [(*at, true), (*at, false)]) {
        let settings = || Settings {
            limits: Limits { timeout: Duration::from_secs(20), ..Limits::default() },
            ..Settings::new(wish.clone())
        };
        let [(c, near), (s, far)] = [tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20)];
        let [(from_c, to_c), (from_s, to_s)] = [tokio::io::split(near), tokio::io::split(far)];
        let both = tokio::join!(
            train(c, Part::Data(samples(130)), settings()),
            train(s, Part::Model(None), settings()),
            damage(from_c, to_s, Some(at).filter(|_| from_client)),
            damage(from_s, to_c, Some(at).filter(|_| !from_client)),
        );
        let errors: Vec<Error> = [both.0.err(), both.1.err()].into_iter().flatten().collect();
        assert!(!errors.is_empty(), "byte {at} was changed, from the client: {from_client}");
        for error in errors {
            assert!(matches!(error.fault(), Fault::Peer | Fault::User), "{at}: {error}");
        }
    }
}

/// A training goes on from the weights of another one's network.
#[tokio::test]
async fn a_network_is_trained_further() {
    let wish = Wish { epochs: Some(1), rates: Some(vec![3]), every: Some(0), ..wish() };
    let [_, server] = trained(Settings::new(wish.clone()), Settings::new(wish.clone())).await.map(Result::unwrap);
    let first = server.network.unwrap();
    let masters = export::masters(&net(), &Format::NARROW, &first).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (c, s) = Channel::pair();
    let part = Part::Model(Some(Box::new(first.clone())));
    let (client, server) = tokio::join!(
        one(folder.path(), c, Part::Data(samples(130)), "c", false, 1),
        one(folder.path(), s, part, "s", false, 2)
    );
    assert_eq!(sum(&client.unwrap(), &server.unwrap()), State::new(&net(), masters));
    // One of another shape is refused by its owner.
    let other = Settings::new(Wish { net: Net::new(&[9, 13, 10]).unwrap(), ..wish });
    assert_eq!(other.check(&Part::Model(Some(Box::new(first)))).unwrap_err().fault(), Fault::User);
}

/// In the clear the same network comes out as on shares, up to coins and first weights.
#[test]
fn a_rehearsal_tells_what_to_expect() {
    let wish = Wish { epochs: Some(4), rates: Some(vec![2, 2, 3, 3]), ..wish() };
    let told = std::cell::Cell::new((0, 0));
    let rehearsal = crate::train::rehearse(&wish, &samples(1300), |done, steps| told.set((done, steps))).unwrap();
    assert_eq!((told.get(), rehearsal.steps, rehearsal.overflows), ((40, 40), 40, 0));
    assert!(rehearsal.spare_bits > 0.5, "{}", rehearsal.spare_bits);
    let right = right(&rehearsal.network);
    assert!(right > 90, "{right} of 128");
}
