//! The client's view of a publication: hint_o - sum_j w_oj a_j = a*_0 u_o + e_o looks uniform, and is fresh in every publication.

use std::sync::Arc;

use lowkey::{Link, ServerModel};
use lowkey_bridge::{Kept, LayerPlan, Publisher, keys, publish_layer};
use lowkey_he::{EpochSeed, Evaluator, Hint, Mask, MaskId, Ring, TorusWord, with_word};
use lowkey_models::{Network, zoo};

use crate::common;
use crate::statistics::{LIMIT, balance, uniformity};

fn digits() -> Network {
    zoo::find("digits").expect("bundled").network().folded().expect("it folds")
}

fn publish(network: &Network, key: u8) -> Arc<ServerModel> {
    ServerModel::publish(network, Link::Lan, &[key; 32].into(), &|_, _| {}).expect("the network can be planned")
}

/// The network with one weight of node `node` changed by one.
fn changed(network: Network, node: usize) -> Network {
    let (architecture, mut weights) = network.into_parts();
    let array = weights.linear[node].as_mut().and_then(|linear| linear.terms[0].as_mut()).expect("weights");
    let weight = &mut array[[0, 0, 0, 0]];
    *weight += if *weight > 0 { -1 } else { 1 };
    Network::new(architecture, weights).expect("still in range")
}

/// One output ciphertext of a publication, of the torus scaled to 64 bits: the hint, and the hint without the evaluated masks.
struct Output {
    hint: Vec<u64>,
    remainder: Vec<u64>,
}

fn outputs_of<W: TorusWord>(layer: &LayerPlan, hint: &[u8], epoch: &EpochSeed, weights: &[&[i32]]) -> Vec<Output> {
    let ring = Ring::<W>::shared(layer.parameters.set).expect("the set's own word");
    let rounding = layer.parameters.rounding.hint;
    let mut hints = hint.chunks_exact(Hint::byte_len(ring, rounding));
    let mut outputs = Vec::new();
    for (term, weights) in layer.terms.iter().zip(weights) {
        let id = |ciphertext| MaskId { layer: term.layer, ciphertext };
        let masks: Vec<Mask<W>> =
            (0..term.packing.ciphertexts() as u32).map(|c| Mask::expand(ring, epoch, id(c))).collect();
        for o in 0..layer.output_ciphertexts() {
            let polynomials = term.packing.weight_polynomials(o, weights);
            let products = polynomials.iter().map(|own| (&masks[own.ciphertext], own.terms.as_slice()));
            let evaluated = Evaluator::new(ring).evaluate(products).expect("small weights");
            let hint = Hint::from_bytes(ring, rounding, hints.next().expect("a hint each")).expect("its own length");
            let widen = |word: W| word.to_u64() << (64 - W::BITS);
            outputs.push(Output {
                hint: hint.coefficients().iter().map(|&h| widen(h)).collect(),
                remainder: hint.coefficients().iter().zip(&evaluated).map(|(h, e)| widen(h.wrapping_sub(*e))).collect(),
            });
        }
    }
    outputs
}

fn outputs(layer: &LayerPlan, hint: &[u8], epoch: &EpochSeed, weights: &[&[i32]]) -> Vec<Output> {
    with_word!(layer.parameters.set, W => outputs_of::<W>(layer, hint, epoch, weights))
}

/// All output ciphertexts of a published model.
fn published(model: &ServerModel, network: &Network) -> Vec<Output> {
    let epoch = EpochSeed(model.package.epoch);
    let mut rest = model.package.hint.as_slice();
    let mut all = Vec::new();
    for node in &model.plan.linear {
        let Some(layer) = &node.encrypted else { continue };
        let (hint, after) = rest.split_at(layer.hint_len());
        rest = after;
        let (_, own) = network.linear(node.node.index()).expect("a linear node");
        let arrays: Vec<_> = own.terms.iter().flatten().map(|array| array.as_standard_layout()).collect();
        let weights: Vec<&[i32]> = arrays.iter().map(|array| array.as_slice().expect("standard layout")).collect();
        all.extend(outputs(layer, hint, &epoch, &weights));
    }
    assert!(rest.is_empty());
    all
}

/// The largest deviation of the top byte, and of each of its bits, from uniform.
fn deviation(words: impl IntoIterator<Item = u64>) -> f64 {
    let (mut counts, mut ones, mut n) = ([0; 256], [0; 8], 0);
    for word in words {
        let top = (word >> 56) as u8;
        counts[usize::from(top)] += 1;
        (0..8).for_each(|bit| ones[bit] += u64::from(top >> bit & 1));
        n += 1;
    }
    assert!(n >= 5120, "{n} are too few");
    ones.into_iter().map(|ones| balance(ones, n).abs()).fold(uniformity(&counts).abs(), f64::max)
}

fn differences<'a>(a: &'a [u64], b: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
    a.iter().zip(b).map(|(a, b)| a.wrapping_sub(*b))
}

fn of_pairs(a: &[Output], b: &[Output]) -> f64 {
    deviation(a.iter().zip(b).flat_map(|(a, b)| differences(&a.remainder, &b.remainder)))
}

#[test]
fn a_hint_without_the_evaluated_masks_looks_uniform() {
    let network = digits();
    let all = published(&common::publish(&network), &network);
    let remainders = || all.iter().flat_map(|output| output.remainder.iter().copied());
    let between_outputs = all.windows(2).flat_map(|pair| differences(&pair[0].remainder, &pair[1].remainder));
    let neighbours = all.iter().flat_map(|output| differences(&output.remainder, &output.remainder[1..]));
    for (what, deviation) in [
        ("all coefficients", deviation(remainders())),
        ("between outputs", deviation(between_outputs)),
        ("between neighbours", deviation(neighbours)),
    ] {
        println!("{what}: {deviation:.2}");
        assert!(deviation < LIMIT, "{what}: {deviation:.2}");
    }
    // A publication that forgets a*_0 u_o leaves small noise, which is anything but uniform.
    assert!(deviation(remainders().map(|word| (word as i64 >> 40) as u64)) > 100.0 * LIMIT);
}

#[test]
fn publications_are_independent_and_reproducible() {
    let network = digits();
    let first = publish(&network, 1);
    let again = publish(&network, 1);
    assert!(first.package == again.package && first.digest == again.digest, "one key, one publication");

    let other_key = publish(&network, 2);
    let node =
        first.plan.linear.iter().rfind(|node| node.encrypted.is_some()).expect("an encrypted layer").node.index();
    let changed = changed(network.clone(), node);
    let other_weights = publish(&changed, 1);
    let of_first = published(&first, &network);
    for (what, model, network) in
        [("another key", &other_key, &network), ("a changed weight", &other_weights, &changed)]
    {
        assert_ne!(model.package.epoch, first.package.epoch, "{what}");
        assert_eq!(model.package.hint.len(), first.package.hint.len(), "{what}");
        let all = published(model, network);
        for (a, b) in of_first.iter().zip(&all) {
            let equal = a.hint.iter().zip(&b.hint).filter(|(a, b)| a == b).count();
            assert!(equal < 16, "{what}: {equal} equal coefficients in one hint");
        }
        let deviation = of_pairs(&of_first, &all);
        println!("{what}: {deviation:.2}");
        assert!(deviation < LIMIT, "{what}: {deviation:.2}");
    }
}

/// With the same masks too, and even under the same digest of plan and weights: a changed weight is another evaluation, and
/// comes with another u_o. If it did not, the difference of two hints would be the difference of the weights, applied to public
/// masks.
#[test]
fn a_changed_weight_takes_fresh_randomness_under_the_same_masks() {
    let network = digits();
    let model = publish(&network, 1);
    let node = &model.plan.linear[0];
    let layer = node.encrypted.clone().expect("the first layer is encrypted");
    let epoch = EpochSeed(model.package.epoch);
    let masks = keys::rerandomiser_masks(&model.plan.sets, &epoch).expect("masks");
    let publish = |network: &Network, context: u8| {
        let (_, own) = network.linear(node.node.index()).expect("a linear node");
        let array = own.terms[0].as_ref().expect("weights").as_standard_layout();
        let weights = array.as_slice().expect("standard layout");
        let publisher = Publisher {
            epoch: &epoch,
            masks: &masks,
            server_key: &[1; 32],
            context: &[context; 32],
            kept: Kept::Ready,
        };
        let (_, hint) = publish_layer(layer.clone(), &[weights], &publisher).expect("it fits");
        outputs(&layer, &hint, &epoch, &[weights])
    };
    let changed = changed(network.clone(), node.node.index());
    let (first, again, fresh, same) =
        (publish(&network, 1), publish(&network, 1), publish(&changed, 2), publish(&changed, 1));
    for (what, all) in [("another digest", &fresh), ("the same digest", &same)] {
        // The outputs whose weights did not change are the same evaluation under the same digest.
        let count = if what == "the same digest" { 1 } else { first.len() };
        assert!(first.iter().zip(all).take(count).all(|(a, b)| a.hint != b.hint), "{what}");
    }
    let deviation = of_pairs(&first, &fresh);
    assert!(deviation < LIMIT, "{deviation:.2}");
    let equal = first[0].remainder.iter().zip(&same[0].remainder).filter(|(a, b)| a == b).count();
    assert!(equal < 16, "{equal} equal coefficients");
    assert!(of_pairs(&first, &again) > 100.0 * LIMIT, "reused randomness shows");
}
