//! Trainings between two parties, broken off and resumed, against the twin.

mod head;

use super::*;
use crate::error::Fault;
use crate::train::Net;
use crate::train::cost::Cost;
use crate::train::counts::Counts;
use crate::train::export;
use crate::train::format::Format;
use crate::train::input;
use crate::train::samples::Samples;
use crate::train::settings::{Progress, Told, Trained};
use crate::train::terms::Receivers;
use crate::train::terms::Wish;
use crate::train::training::train;
use crate::train::twin::{State, Twin};
use lowkey_models::{Inputs, Network};
use lowkey_mpc::channel::{HEADER_BYTES, Limits};
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
    let (epochs, rates, every) = (Some(2), Some(vec![2, 3]), Some(2));
    Wish { weights_to: Receivers::Both, epochs, rates, every, ..Wish::new(net()) }
}

fn settings(folder: &Path, name: &str, resume: bool) -> Settings {
    Settings { checkpoint: Some(folder.join(name)), resume, ..Settings::new(wish()) }
}

fn seeded(seed: u8) -> Erasing {
    Erasing::new([seed; 32])
}

type Party2 = (Run, Channel, Settings);

async fn one(
    folder: &Path,
    mut channel: Channel,
    part: Contribution,
    name: &str,
    resume: bool,
    seed: u8,
) -> Result<Party2> {
    let settings = settings(folder, name, resume);
    let kept = Kept::read(&part, &settings)?;
    let run = Run::open(&mut channel, part, &settings, kept, None, seeded(seed), true).await?;
    Ok((run, channel, settings))
}

async fn open(folder: &Path, resume: bool, seed: u8) -> [Result<Party2>; 2] {
    open_with(folder, resume, seed, Contribution::Model(None)).await
}

async fn open_with(folder: &Path, resume: bool, seed: u8, server: Contribution) -> [Result<Party2>; 2] {
    let (c, s) = Channel::pair();
    let client = one(folder, c, Contribution::Data(samples(420)), "c", resume, seed);
    let both = tokio::join!(client, one(folder, s, server, "s", resume, seed + 1));
    [both.0, both.1]
}

/// A step of both, and of the twin with the coins of the client; masters and momenta are equal.
async fn step([client, server]: &mut [Party2; 2], twin: &mut Twin) {
    let mut coins = Recorded::default();
    let rate = client.0.terms.rate(client.0.done().unwrap());
    let (inputs, labels) = match [client.0.batch().unwrap(), server.0.batch().unwrap()] {
        [Chosen::Batch(inputs, labels), Chosen::Nothing] | [Chosen::Nothing, Chosen::Batch(inputs, labels)] => {
            (inputs, labels)
        }
        _ => panic!("a batch of one party"),
    };
    let both = tokio::join!(client.0.step(&mut client.1, Some(&mut coins)), server.0.step(&mut server.1, None));
    both.0.and(both.1).unwrap();
    twin.step(Batch::new(&net(), &Format::NARROW, &inputs, &labels).unwrap(), rate, &mut coins);
    assert_eq!(twin.watch.overflows(), 0);
    assert!(sum(client, server) == twin.state, "step {}", client.0.done().unwrap());
}

fn sum(client: &Party2, server: &Party2) -> State {
    client.0.held().unwrap().sum(server.0.held().unwrap())
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

/// Both have samples: batches of both lie between one another, each party goes through its own in an order of its own, and a training goes on
/// from the checkpoints of both to the masters that the twin has. Samples other than those are refused by whose they are.
#[tokio::test]
async fn both_have_samples() {
    let folder = tempfile::tempdir().unwrap();
    let part = |count| Contribution::ModelAndData(None, samples(count));
    let mut both = open_with(folder.path(), false, 1, part(300)).await.map(Result::unwrap);
    assert_eq!(both[0].0.terms.samples, Counts { client: 420, server: 300 });
    let mut twin = Twin::new(net(), Format::NARROW, sum(&both[0], &both[1]));
    let mut owners = Vec::new();
    for done in 0..10 {
        if done == 3 {
            both.iter().for_each(|(run, _, settings)| run.keep(settings).unwrap());
            drop(both);
            both = open_with(folder.path(), true, 7, part(300)).await.map(Result::unwrap);
        }
        owners.push(both[0].0.terms.place(done).owner);
        let before = both[0].1.traffic();
        step(&mut both, &mut twin).await;
        let (traffic, rate) = (both[0].1.traffic().since(&before), both[0].0.terms.rate(done));
        let plan = both[0].0.plans[&(rate, *owners.last().unwrap())].clone();
        let products = plan.product_cost(cost::answers(&plan).unwrap().0).unwrap();
        let online = traffic.stage(Stage::Online).total();
        let headers = HEADER_BYTES * (online.frames_sent + online.frames_received) as usize;
        assert_eq!(online.bytes() as usize, plan.cost().bytes() + products.bytes() + headers, "step {done}");
    }
    use Party::{Client, Server};
    assert_eq!(owners, [Server, Client, Server, Client, Client].repeat(2));
    for (party, run) in [(Client, &both[0].0), (Server, &both[1].0)] {
        assert_eq!(run.about.samples.of(party), [420, 300][usize::from(party == Server)]);
    }
    assert!(both[0].0.about.order != both[1].0.about.order && both[1].0.about.order != [0; 32]);
    assert!(both[0].0.about.digest != both[1].0.about.digest && both[1].0.about.digest != [0; 32]);

    for wrong in [part(301), Contribution::Model(None)] {
        let refused = settings(folder.path(), "s", true).check(&wrong).unwrap_err();
        assert!(refused.to_string().contains("made with other samples"), "{refused}");
    }
    drop(both);
    let other = tempfile::tempdir().unwrap();
    for (run, _, settings) in open(other.path(), false, 11).await.map(Result::unwrap) {
        run.keep(&settings).unwrap();
    }
    let refused = settings(other.path(), "s", true).check(&part(300)).unwrap_err();
    assert!(refused.to_string().contains("made with other samples"), "{refused}");
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
    let both =
        tokio::join!(train(c, Contribution::Data(samples(1300)), client), train(s, Contribution::Model(None), server));
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
    for weights_to in [Receivers::Both, Receivers::Server, Receivers::Client, Receivers::None] {
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
        let planned = [2, 2, 3, 3].map(|rate| Cost::of_step(&net(), rate, Party::Client, false).unwrap());
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
    let server = Settings::new(Wish { weights_to: Receivers::Server, ..wish() });
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
            train(c, Contribution::Data(samples(130)), settings()),
            train(s, Contribution::Model(None), settings()),
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
    let part = Contribution::Model(Some(Box::new(first.clone())));
    let (client, server) = tokio::join!(
        one(folder.path(), c, Contribution::Data(samples(130)), "c", false, 1),
        one(folder.path(), s, part, "s", false, 2)
    );
    assert_eq!(sum(&client.unwrap(), &server.unwrap()), State::new(&net(), masters));
    // One of another shape is refused by its owner.
    let other = Settings::new(Wish { net: Net::new(&[9, 13, 10]).unwrap(), ..wish });
    assert_eq!(other.check(&Contribution::Model(Some(Box::new(first)))).unwrap_err().fault(), Fault::User);
}

/// In the clear the same network comes out as on shares, up to coins and first weights.
#[test]
fn a_rehearsal_tells_what_to_expect() {
    let wish = Wish { epochs: Some(4), rates: Some(vec![2, 2, 3, 3]), ..wish() };
    let told = std::cell::Cell::new((0, 0));
    let scores = std::cell::RefCell::new(Vec::new());
    let rehearsal = crate::train::rehearse(&wish, &samples(1300), |done, steps, score| {
        told.set((done, steps));
        scores.borrow_mut().extend(score);
    })
    .unwrap();
    assert_eq!((told.get(), rehearsal.steps, rehearsal.overflows), ((40, 40), 40, 0));
    assert!(rehearsal.spare_bits > 0.5, "{}", rehearsal.spare_bits);
    let scores = scores.into_inner();
    assert_eq!(scores.iter().map(|score| score.samples).collect::<Vec<_>>(), [1280; 4]);
    assert!(scores[3].loss < scores[0].loss && scores[3].right > scores[0].right, "{scores:?}");
    let right = right(&rehearsal.network);
    assert!(right > 90, "{right} of 128");
}

/// After each epoch whoever is named is told how many of its samples were right; the score does not change what is trained, and takes the
/// bytes of the plan.
#[tokio::test]
async fn a_score_goes_to_whom_the_terms_name() {
    for score_to in [Receivers::Client, Receivers::Server, Receivers::Both] {
        let wish = Wish { score_to, epochs: Some(3), rates: Some(vec![2]), every: None, ..wish() };
        let told = [(); 2].map(|()| Arc::new(std::sync::Mutex::new(Vec::new())));
        let of = |i: usize| {
            let tell = told[i].clone();
            let tell: Told = Arc::new(move |progress: &Progress| tell.lock().unwrap().push(*progress));
            Settings { told: Some(tell), ..Settings::new(wish.clone()) }
        };
        let [client, server] = trained(of(0), of(1)).await.map(Result::unwrap);
        assert!(client.score.is_none() && server.score.is_none(), "of evaluations alone");
        let scores = told.each_ref().map(|told| {
            let told = told.lock().unwrap();
            let with = told.iter().filter(|progress| progress.score.is_some());
            with.map(|progress| (progress.done, progress.score.unwrap())).collect::<Vec<_>>()
        });
        for (party, scores) in [Party::Client, Party::Server].into_iter().zip(&scores) {
            let epochs: &[u64] = if score_to.reaches(party) { &[10, 20, 30] } else { &[] };
            assert_eq!(scores.iter().map(|(done, _)| *done).collect::<Vec<_>>(), epochs, "{score_to}: {party:?}");
            assert!(scores.iter().all(|(_, score)| score.samples == 1280), "{scores:?}");
        }
        if score_to == Receivers::Both {
            assert_eq!(scores[0], scores[1]);
        }
        let of_epochs = scores.iter().flatten().map(|(_, score)| score).collect::<Vec<_>>();
        assert!(of_epochs[2].loss < of_epochs[0].loss && of_epochs[2].right > 900, "{of_epochs:?}");
        let plan = Cost::of_step(&net(), 2, Party::Client, true).unwrap();
        let receivers = [Party::Client, Party::Server].into_iter().filter(|party| score_to.reaches(*party)).count();
        // An opening between two comparisons of sums of 8 bytes, after each epoch.
        let opening = 4 * 16 + receivers as u64 * (8 + 10);
        assert_eq!(client.online.bytes(), 30 * plan.bytes + 3 * opening);
        assert_eq!(client.ots.ots, 30 * plan.ots);
    }
}

async fn evaluated(folder: &Path, count: usize, wishes: [Wish; 2]) -> [Result<Trained>; 2] {
    let (c, s) = tokio::io::duplex(1 << 20);
    let [client, server] = [("c", &wishes[0]), ("s", &wishes[1])].map(|(name, wish)| Settings {
        checkpoint: Some(folder.join(name)),
        resume: true,
        ..Settings::new(wish.clone())
    });
    let part = Contribution::Data(held_out(count));
    let both = tokio::join!(train(c, part, client), train(s, Contribution::Model(None), server));
    [both.0, both.1]
}

/// Samples that a training has not seen.
fn held_out(count: usize) -> Samples {
    let all = samples(1300 + count);
    let order: Vec<u32> =
        (1300..1300 + count as u32).chain(std::iter::repeat(0)).take(count.next_multiple_of(128)).collect();
    let mut idx = vec![0, 0, 8, 3];
    idx.extend([count as u32, 3, 3].map(u32::to_be_bytes).as_flattened());
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for batch in 0..count.div_ceil(128) {
        let (inputs, classes) = all.batch(&net(), &order, batch);
        pixels.extend(inputs.iter().map(|x| (x * 255 / 16) as u8));
        labels.extend(classes);
    }
    idx.extend(&pixels[..9 * count]);
    Samples::held_out(&net(), &Inputs::from_bytes(&idx, &input(&net())).unwrap(), &labels[..count]).unwrap()
}

/// Weights that nobody has are evaluated as shares; nothing in the checkpoints changes, and a training goes on from them.
#[tokio::test]
async fn shares_are_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let wish = Wish { weights_to: Receivers::None, epochs: Some(3), every: Some(0), ..wish() };
    let kept = |name: &str, wish: &Wish, resume| Settings {
        checkpoint: Some(folder.path().join(name)),
        resume,
        ..Settings::new(wish.clone())
    };
    for outcome in trained(kept("c", &wish, false), kept("s", &wish, false)).await {
        assert!(outcome.unwrap().network.is_none());
    }
    let files = || ["c", "s", "c.before", "s.before"].map(|name| std::fs::read(folder.path().join(name)).ok());
    let before = files();
    for (score_to, count) in [(Receivers::Client, 300), (Receivers::Server, 128), (Receivers::Both, 1)] {
        let evaluate = || Wish::to_evaluate(net(), score_to);
        let [client, server] = evaluated(folder.path(), count, [evaluate(), evaluate()]).await.map(Result::unwrap);
        let told = [(Party::Client, &client), (Party::Server, &server)].map(|(party, evaluated)| {
            assert!(evaluated.network.is_none() && evaluated.steps == 0);
            assert_eq!(evaluated.score.is_some(), score_to.reaches(party), "{score_to}: {party:?}");
            evaluated.score
        });
        let score = told[0].or(told[1]).unwrap();
        assert_eq!(score.samples, count as u64);
        assert!(score.right as f64 >= 0.7 * count as f64 && score.loss < 1.5, "{score:?}");
        let plan = Cost::of_evaluation(&net(), Party::Client).unwrap();
        let receivers = told.iter().flatten().count() as u64;
        assert_eq!(client.online.bytes(), count.div_ceil(128) as u64 * plan.bytes + 4 * 16 + receivers * (8 + 10));
    }
    assert!(files() == before, "checkpoints are as they were");

    // What is not an evaluation of both is none.
    let client = Wish::to_evaluate(net(), Receivers::Client);
    let other = Wish::to_evaluate(net(), Receivers::Both);
    let training = Wish { weights_to: Receivers::None, score_to: Receivers::Client, ..Wish::new(net()) };
    for (server, says) in [(other, "who is told a score"), (training, "what is done")] {
        for error in evaluated(folder.path(), 128, [client.clone(), server]).await.map(Result::unwrap_err) {
            assert!(matches!(error, Error::Terms { what, .. } if what == says), "{error}");
        }
    }
    assert!(files() == before, "checkpoints are as they were");

    // The shares are good for a training, to the weights.
    let more = Wish { weights_to: Receivers::Both, epochs: Some(3), ..wish };
    let [client, server] =
        trained(kept("c", &more, true), kept("s", &more, true)).await.map(|trained| trained.unwrap().network.unwrap());
    assert_eq!(client, server);
    assert!(right(&client) > 80);
}

/// What nobody is told, what has no checkpoint, and what would train is no evaluation; it is found before there is a connection.
#[test]
fn evaluations_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = |wish: Wish, checkpoint: Option<&str>| Settings {
        checkpoint: checkpoint.map(|name| folder.path().join(name)),
        resume: true,
        ..Settings::new(wish)
    };
    let evaluate = || Wish::to_evaluate(net(), Receivers::Client);
    for settings in [
        at(Wish { score_to: Receivers::None, ..evaluate() }, Some("c")),
        at(Wish { weights_to: Receivers::Server, ..evaluate() }, Some("c")),
        at(Wish { epochs: Some(2), ..evaluate() }, Some("c")),
        at(evaluate(), None),
        at(evaluate(), Some("absent")),
    ] {
        let error = settings.check(&Contribution::Data(samples(130))).unwrap_err();
        assert_eq!(error.fault(), Fault::User, "{error}");
    }
}
