//! Heads of the bundled network of digits: features by private inference, steps on their shares.

use super::*;
use crate::train::backbone::Features;
use crate::train::coins::{Coins, Site, Value};
use crate::train::features::FeatureCost;
use crate::train::samples::{Pictures, chosen, shuffled};
use lowkey_models::network::{Node, Op, Term, Window};
use lowkey_models::{LinearWeights, Tensor, zoo};
use lowkey_mpc::fixed::truncate;
use ndarray::Array4;

fn digits() -> Box<Network> {
    Box::new(zoo::find("digits").unwrap().network())
}

/// The first layer of it, all of whose sums of a channel are one feature, of ten bits.
fn pooled() -> Box<Network> {
    let (mut architecture, mut weights) = digits().into_parts();
    let window = Window { kernel: [8, 8], stride: [8, 8], padding: [0; 4], dilation: [1, 1] };
    let dense = Term::Dense { input: 4, outputs: 10, weight_bits: 4 };
    let more = [
        ("pool", Op::SumPool { input: 2, window }),
        ("flatten", Op::Flatten { input: 3 }),
        ("dense", Op::Linear { terms: vec![dense] }),
    ];
    architecture.nodes.truncate(2);
    architecture.nodes.extend(more.map(|(name, op)| Node { name: name.to_owned(), op }));
    architecture.output = 5;
    weights.linear.truncate(2);
    let last = LinearWeights { terms: vec![Some(Array4::zeros((10, 8, 1, 1)))], bias: vec![0; 10] };
    weights.linear.extend([None, None, Some(last)]);
    Box::new(Network::new(architecture, weights).unwrap())
}

/// The bundled images, which the network reads.
fn images() -> Inputs {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/zoo/digits-images.npy");
    Inputs::read(file, &digits().architecture().input).unwrap()
}

/// The classes of the first images, in another sense than the network has been trained for: the digit after each.
fn labels(count: usize) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/zoo/digits-labels.npy");
    lowkey_models::data::read_labels(file).unwrap()[..count].iter().map(|digit| (digit + 1) % 10).collect()
}

fn pictures(count: usize) -> Pictures {
    let read = move |input: &lowkey_models::Input| {
        assert_eq!(*input, digits().architecture().input);
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 8, 8), }}\n");
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.bytes());
        npy.extend(images().stored().take(count).flatten());
        Ok(Inputs::from_bytes(&npy, input).unwrap())
    };
    Pictures::held_out(labels(count), Arc::new(read)).unwrap()
}

fn wish(epochs: u32, weights_to: Receivers) -> Wish {
    let net = Net::on_features(0);
    Wish { weights_to, epochs: Some(epochs), rates: Some(vec![3]), every: Some(0), ..Wish::new(net) }
}

async fn party(mut channel: Channel, part: Contribution, seed: u8) -> Result<(Run, Channel)> {
    let settings = Settings::new(wish(3, Receivers::None));
    let kept = Kept::read(&part, &settings)?;
    let run = Run::open(&mut channel, part, &settings, kept, None, seeded(seed), true).await?;
    Ok((run, channel))
}

fn rows(run: &Run) -> &RingShare {
    &run.batches.material.shared.as_ref().unwrap().rows
}

/// Shares of features are those of the network's, given their coins; each party's alone is noise. Steps on them are the twin's, and so are those on
/// samples of the server, of which nothing is shared.
#[tokio::test]
async fn features_and_steps_equal_the_twin() {
    follows(digits(), Features { count: 64, lowest: 0, dropped: 0 }).await;
    follows(pooled(), Features { count: 8, lowest: 0, dropped: 5 }).await;
}

async fn follows(network: Box<Network>, expected: Features) {
    const COUNT: usize = 130;
    /// The server's own.
    const OWN: usize = 140;
    let (c, s) = Channel::pair();
    let both = tokio::join!(
        party(c, Contribution::Pictures(pictures(COUNT)), 1),
        party(s, Contribution::ModelAndPictures(network, pictures(OWN)), 2)
    );
    let [(mut client, mut c), (mut server, mut s)] = [both.0.unwrap(), both.1.unwrap()];
    let (format, net) = (Format::NARROW, server.terms.net.clone());
    assert_eq!((&client.terms.net, net.inputs(0)), (&net, expected.count));

    let backbone = server.backbone.clone().unwrap();
    assert_eq!(backbone.features(), expected);
    let Features { count, lowest, dropped } = expected;
    let order = secret_order(&pictures(COUNT), &client.about);
    assert_ne!(order[..], (0..COUNT as u32).collect::<Vec<_>>()[..]);
    let site = Site { value: Value::Feature, layer: 0 };
    let mut coins = client.feature_coins.toss(site, dropped, COUNT * count).into_iter();
    let mask = (1 << format.operand()) - 1;
    let sums: Vec<i64> = rows(&client)
        .words()
        .iter()
        .zip(rows(&server).words())
        .map(|(c, v)| (c.wrapping_add(*v) & mask) as i64)
        .collect();
    let images = images();
    for (at, row) in order.iter().zip(sums.chunks_exact(count)) {
        let image: Tensor = images.get(*at as usize).unwrap();
        let features = backbone.before().run(&image).unwrap();
        for (x, t) in features.iter().zip(row) {
            assert_eq!(truncate::ideal(dropped, x - lowest, coins.next().unwrap()), *t);
        }
    }
    for share in [rows(&client), rows(&server)].map(RingShare::words) {
        // A bit of a share is one as often as not.
        for bit in 0..8 {
            let ones = share.iter().filter(|x| **x >> bit & 1 == 1).count() as f64;
            let n = share.len() as f64;
            assert!((ones - n / 2.0).abs() < 5.0 * (n / 4.0).sqrt(), "bit {bit}: {ones} of {n}");
        }
    }

    let first = client.held().unwrap().sum(server.held().unwrap());
    assert_eq!(first.masters, [vec![0; net.weights(0)]]);
    let mut twin = Twin::new(net.clone(), format, first);
    let labels = labels(OWN);
    for step in 0..4 {
        let (inputs, classes) = match server.terms.place(step).owner {
            Party::Client => {
                let common = shuffled(COUNT, &server.about.common, step / 2);
                let chosen: Vec<usize> = chosen(&common, 0).collect();
                let row = |at: &usize| sums[at * count..][..count].iter().copied();
                let classes = chosen.iter().map(|at| labels[order[*at] as usize]).collect();
                (chosen.iter().flat_map(row).collect::<Vec<i64>>(), classes)
            }
            Party::Server => {
                let Chosen::Batch(inputs, classes) = server.batch().unwrap() else { panic!("the server's") };
                assert!(matches!(client.batch().unwrap(), Chosen::Nothing));
                let own = shuffled(OWN, &server.about.order, step / 2);
                for ((at, row), class) in chosen(&own, 0).zip(inputs.chunks_exact(count)).zip(&classes) {
                    assert_eq!(*class, labels[at]);
                    let features = backbone.before().run(&images.get(at).unwrap()).unwrap();
                    let near = |(x, t): (&i64, &i64)| ((x - lowest) - (t << dropped)).abs() < 1 << dropped;
                    assert!(features.iter().zip(row).all(near));
                }
                (inputs, classes)
            }
        };
        let mut coins = Recorded::default();
        let both = tokio::join!(client.step(&mut c, Some(&mut coins)), server.step(&mut s, None));
        both.0.and(both.1).unwrap();
        twin.step(Batch::new(&net, &format, &inputs, &classes).unwrap(), 3, &mut coins);
        assert!(coins.is_empty() && twin.watch.overflows() == 0);
        assert!(client.held().unwrap().sum(server.held().unwrap()) == twin.state, "step {step}");
    }
}

/// A head comes to know the classes of its data owner; broken off in the middle, it goes on from the features that were kept, and the plan
/// says what they cost.
#[tokio::test]
async fn a_head_becomes_the_last_layer() {
    const COUNT: usize = 140;
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, epochs, weights_to, resume| Settings {
        checkpoint: Some(folder.path().join(name)),
        resume,
        ..Settings::new(wish(epochs, weights_to))
    };
    let run = async |epochs, weights_to, resume| {
        let (c, s) = tokio::io::duplex(1 << 20);
        let both = tokio::join!(
            train(c, Contribution::Pictures(pictures(COUNT)), of("c", epochs, weights_to, resume)),
            train(s, Contribution::Model(Some(digits())), of("s", epochs, weights_to, resume))
        );
        [both.0.unwrap(), both.1.unwrap()]
    };
    let [client, server] = run(2, Receivers::None, false).await;
    let cost = FeatureCost::of(&digits()).unwrap();
    for trained in [&client, &server] {
        assert!(trained.network.is_none());
        let features = trained.features.as_ref().unwrap();
        let samples = COUNT as u64;
        assert_eq!(features.ots, samples * cost.ots);
        // One program scales all of them: its frames have two headers.
        let planned = cost.package + samples * (cost.sample + cost.scaling);
        let batches = features.ot_batch_bytes_sent + features.ot_batch_bytes_received;
        let sockets = features.socket_bytes_sent + features.socket_bytes_received - batches;
        assert!((planned..planned + 64).contains(&sockets), "{sockets} for {planned}");
    }
    // Features of one network are no features of another one that has as many.
    let (architecture, mut weights) = digits().into_parts();
    let [bias, last] = [0, architecture.nodes.len() - 1].map(|at| {
        move |weights: &mut lowkey_models::Weights| {
            weights.linear[at].as_mut().unwrap().bias[0] += 1;
        }
    });
    let other =
        |weights: &lowkey_models::Weights| Box::new(Network::new(architecture.clone(), weights.clone()).unwrap());
    last(&mut weights);
    of("s", 2, Receivers::None, true).check(&Contribution::Model(Some(other(&weights)))).unwrap();
    bias(&mut weights);
    let refused = of("s", 2, Receivers::None, true).check(&Contribution::Model(Some(other(&weights)))).unwrap_err();
    assert!(refused.to_string().contains("of the head of another network"), "{refused}");

    let [client, server] = run(30, Receivers::Server, true).await;
    assert!(client.features.is_none() && server.features.is_none() && client.network.is_none());
    assert_eq!((client.steps, server.steps), (28, 28));
    let network = server.network.unwrap();
    assert_eq!(network.architecture().nodes.len(), digits().architecture().nodes.len());
    let images = images();
    let is_right = |(at, label): &(usize, u8)| {
        lowkey_models::argmax(&network.run(&images.get(*at).unwrap()).unwrap()) == usize::from(*label)
    };
    let right = labels(COUNT).into_iter().enumerate().filter(is_right).count();
    assert!(right > 100, "{right} of {COUNT}");

    // On shares the head does what the network does, but for roundings; its samples go through the network first, and are not kept.
    const FEW: usize = 50;
    let files = || ["c", "s"].map(|name| std::fs::read(folder.path().join(name)).unwrap());
    let (before, (c, s)) = (files(), tokio::io::duplex(1 << 20));
    let [own, theirs] = ["c", "s"].map(|name| Settings {
        wish: Wish::to_evaluate(Net::on_features(0), Receivers::Client),
        ..of(name, 1, Receivers::None, true)
    });
    let few = pictures(FEW);
    let both =
        tokio::join!(train(c, Contribution::Pictures(few), own), train(s, Contribution::Model(Some(digits())), theirs));
    let [client, server] = [both.0.unwrap(), both.1.unwrap()];
    let score = client.score.unwrap();
    let wanted = labels(FEW).into_iter().enumerate().filter(is_right).count() as u64;
    assert!(score.samples == FEW as u64 && score.right.abs_diff(wanted) <= 4, "{score:?}, the network {wanted}");
    assert!(server.score.is_none() && server.features.is_some());
    assert!(files() == before);
}

/// What a head cannot be is refused by whose it is.
#[tokio::test]
async fn no_head_without_a_network() {
    let settings = |weights_to| Settings::new(wish(1, weights_to));
    let error = settings(Receivers::Server).check(&Contribution::Model(None)).unwrap_err();
    assert!(error.fault() == Fault::User && error.to_string().contains("no network"), "{error}");
    for weights_to in [Receivers::Client, Receivers::Both] {
        let error = settings(weights_to).check(&Contribution::Pictures(pictures(130))).unwrap_err();
        assert!(error.fault() == Fault::User && error.to_string().contains("of a head"), "{error}");
    }
    // A data owner that means another training.
    let (c, s) = tokio::io::duplex(1 << 20);
    let other = Wish { net: Net::new(&[64, 10]).unwrap(), ..super::wish() };
    let both = tokio::join!(
        train(c, Contribution::Pictures(pictures(130)), settings(Receivers::Server)),
        train(s, Contribution::Model(None), Settings::new(Wish { weights_to: Receivers::Server, ..other }))
    );
    for error in [both.0.unwrap_err(), both.1.unwrap_err()] {
        assert!(matches!(error, Error::Terms { what: "the network", .. }), "{error}");
    }
}

/// Whoever has network and samples tries a head in the clear: the ranges of its steps, and what it learns.
#[test]
fn a_head_is_rehearsed() {
    const COUNT: usize = 140;
    let (counted, told) = (std::cell::Cell::new(0), std::cell::RefCell::new(Vec::new()));
    let rehearsal = crate::train::rehearse_head(
        &wish(30, Receivers::Server),
        &digits(),
        &pictures(COUNT),
        |done, _| counted.set(done),
        |_, _, score| told.borrow_mut().extend(score),
    );
    let rehearsal = rehearsal.unwrap();
    assert_eq!((counted.get(), rehearsal.steps, rehearsal.overflows), (COUNT as u64, 30, 0));
    assert!(rehearsal.spare_bits > 1.0, "{}", rehearsal.spare_bits);
    let told = told.into_inner();
    assert!(told.len() == 30 && told[29].loss < told[0].loss && told[29].right > 90, "{told:?}");
    let images = images();
    let is_right = |(at, label): &(usize, u8)| {
        lowkey_models::argmax(&rehearsal.network.run(&images.get(*at).unwrap()).unwrap()) == usize::from(*label)
    };
    let right = labels(COUNT).into_iter().enumerate().filter(is_right).count();
    assert!(right > 100, "{right} of {COUNT}");
    let alone = crate::train::rehearse(&wish(1, Receivers::Server), &samples(130), |_, _, _| ());
    assert_eq!(alone.unwrap_err().fault(), Fault::User);
}
