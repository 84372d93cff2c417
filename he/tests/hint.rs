//! Publication: what is published, what is refused, what is never repeated.

mod common;

use common::{ring, schoolbook, seeded, signed, uniform};
use lowkey_he::hint::MAX_TRIES;
use lowkey_he::params::{T32N1024, T32N2048, T64N2048, T64N4096};
use lowkey_he::{
    Draw, Drawn, EpochSeed, Evaluator, HeError, Hint, Mask, MaskId, ParameterSet, Ring, Secret, TorusWord, Window,
    publication_rng, publish,
};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};

const EPOCH: EpochSeed = EpochSeed([42; 32]);

fn mask<W: TorusWord>(set: &'static ParameterSet, layer: u32, ciphertext: u32) -> Mask<W> {
    Mask::expand(ring(set), &EPOCH, MaskId { layer, ciphertext })
}

fn mask0<W: TorusWord>(set: &'static ParameterSet) -> Mask<W> {
    Mask::expand(ring(set), &EPOCH, MaskId::RERANDOMISER)
}

/// Some weights over two ciphertexts, one coefficient twice.
fn weights() -> [Vec<(usize, i32)>; 2] {
    [vec![(0, 5), (17, -7), (1000, 1), (17, 3)], vec![(3, -1), (1023, 8)]]
}

fn evaluated<W: TorusWord>(set: &'static ParameterSet) -> Vec<W> {
    let masks = [mask(set, 0, 0), mask(set, 0, 1)];
    let weights = weights();
    let terms = masks.iter().zip(weights.iter().map(Vec::as_slice));
    Evaluator::new(ring(set)).evaluate(terms).unwrap()
}

fn hint_bytes<W: TorusWord>(set: &'static ParameterSet, rng: &mut ChaCha20Rng) -> Vec<u8> {
    publish(&[evaluated::<W>(set)], &mask0(set), rng, 6, |_| true).unwrap()[0].0.to_bytes()
}

fn evaluation<W: TorusWord>(set: &'static ParameterSet) {
    let mut expected = vec![W::default(); set.degree];
    for (ciphertext, weights) in weights().iter().enumerate() {
        let mut dense = vec![0; set.degree];
        for &(index, weight) in weights {
            dense[index] += i64::from(weight);
        }
        let product = schoolbook(mask::<W>(set, 0, ciphertext as u32).coefficients(), &dense);
        expected.iter_mut().zip(product).for_each(|(sum, term)| *sum = sum.wrapping_add(term));
    }
    assert!(evaluated::<W>(set) == expected, "{}", set.name);
}

#[test]
fn evaluation_is_the_sum_of_the_products() {
    for_every_set!(evaluation);
}

#[test]
fn evaluation_refuses_what_it_cannot_compute() {
    let ring = ring::<u32>(&T32N1024);
    let mask = mask(&T32N1024, 0, 0);
    let mut evaluator = Evaluator::new(ring);
    let beyond = evaluator.evaluate([(&mask, &[(1024, 1)][..])]);
    assert_eq!(beyond, Err(HeError::Coefficient { index: 1024, degree: 1024 }));
    let (heavy, limit) = ([(0, i32::MIN)], ring.max_norm1());
    let refused = evaluator.evaluate([(&mask, &heavy[..])]);
    assert_eq!(refused, Err(HeError::SmallNorm { norm1: 1 << 31, limit }));
    let foreign = Mask::expand(common::ring(&T32N2048), &EPOCH, MaskId { layer: 0, ciphertext: 0 });
    let error = HeError::ParameterSet { expected: "T32N1024", found: "T32N2048" };
    assert_eq!(evaluator.evaluate([(&foreign, &[][..])]), Err(error));
}

/// A dense layer of 2048 inputs and 16-bit weights: more than one transform can sum up, within one ciphertext and over several.
fn heavy<W: TorusWord>(set: &'static ParameterSet) {
    let mut rng = seeded(17);
    let masks = [mask::<W>(set, 0, 0), mask(set, 0, 1), mask(set, 0, 2)];
    let dense: Vec<Vec<i64>> = [2048, 3, 2048].map(|count| signed(&mut rng, 1, count.min(set.degree))).to_vec();
    let dense: Vec<Vec<i64>> = dense.iter().map(|w| w.iter().map(|w| 32768 * w - 1).collect()).collect();
    let sparse: Vec<Vec<(usize, i32)>> =
        dense.iter().map(|w| w.iter().enumerate().map(|(i, &w)| (i, w as i32)).collect()).collect();
    let norm1: u64 = dense.iter().flatten().map(|w| w.unsigned_abs()).sum();
    assert!(norm1 > ring::<W>(set).max_norm1() || W::BITS == 32, "{norm1}");
    let terms = || masks.iter().zip(sparse.iter().map(Vec::as_slice));
    let found = Evaluator::new(ring(set)).evaluate(terms()).unwrap();
    let mut expected = vec![W::default(); set.degree];
    for (mask, weights) in masks.iter().zip(&dense) {
        let product = schoolbook(mask.coefficients(), weights);
        expected.iter_mut().zip(product).for_each(|(sum, term)| *sum = sum.wrapping_add(term));
    }
    assert!(found == expected, "{}", set.name);
    // Weights that each leave room for one more only after the sum before them has been taken.
    let largest = ring::<W>(set).max_norm1() as i32;
    let edge = [(0, largest), (1, -largest), (1, 5), (7, largest - 5), (9, 1)];
    let found = Evaluator::new(ring(set)).evaluate([(&masks[0], &edge[..])]).unwrap();
    let mut dense = vec![0; 10];
    edge.iter().for_each(|&(index, weight)| dense[index] += i64::from(weight));
    assert!(found == schoolbook(masks[0].coefficients(), &dense), "{}", set.name);
}

#[test]
fn evaluation_goes_beyond_one_exact_sum() {
    for_every_set!(heavy);
}

#[test]
fn two_publications_of_the_same_weights_differ() {
    let mut rng = seeded(10);
    let (first, second) = (hint_bytes::<u32>(&T32N2048, &mut rng), hint_bytes::<u32>(&T32N2048, &mut rng));
    let equal = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    assert!(equal < first.len() / 128, "{equal} of {} bytes are equal", first.len());
}

#[test]
fn a_recomputed_publication_is_the_same_and_any_change_gives_another() {
    let bytes = |key, digest, layer, output| {
        hint_bytes::<u64>(&T64N2048, &mut publication_rng(&[key; 32], &[digest; 32], layer, output))
    };
    let reference = bytes(1, 2, 3, 4);
    assert_eq!(bytes(1, 2, 3, 4), reference);
    for (key, digest, layer, output) in [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0), (1, 2, 4, 3)] {
        assert_ne!(bytes(key, digest, layer, output), reference);
    }
}

/// Masks, sampling order, rounding and packing in one number: a changed byte shows here.
#[test]
fn the_published_bytes_are_pinned() {
    let digest = |bytes: &[u8]| Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let rng = |output| publication_rng(&[1; 32], &[2; 32], 3, output);
    let digests = [
        digest(&hint_bytes::<u32>(&T32N1024, &mut rng(0))),
        digest(&hint_bytes::<u32>(&T32N2048, &mut rng(1))),
        digest(&hint_bytes::<u64>(&T64N2048, &mut rng(2))),
        digest(&hint_bytes::<u64>(&T64N4096, &mut rng(3))),
    ];
    assert_eq!(digests, ["974e1b00ef4bd0e2", "e29da6b73c601d10", "5e4a2b05336458b9", "61968326a7a21e4f"]);
}

#[test]
fn the_check_sees_the_norms_and_decides() {
    let (evaluated, mask0) = ([evaluated::<u32>(&T32N1024)], mask0(&T32N1024));
    let mut seen = vec![];
    let published = publish(&evaluated, &mask0, &mut seeded(11), 8, |draws| {
        seen.extend(draws.iter().map(Draw::drawn));
        seen.len() == 3
    });
    assert_eq!(seen.len(), 3);
    assert_eq!(published.unwrap()[0].1.norm2(), seen[2].rerandomiser_norm2);
    for Drawn { rerandomiser_norm2: u, hint_error_norm2: delta } in seen {
        assert!((u / (2.0 / 3.0 * 1024.0) - 1.0).abs() < 0.15, "{u}");
        let expected = 1024.0 * (T32N1024.sigma2() + 4f64.powi(8) / 12.0);
        assert!((delta / expected - 1.0).abs() < 0.2, "{delta}");
    }
    let refused = publish(&evaluated, &mask0, &mut seeded(12), 8, |_| false);
    assert_eq!(refused.err(), Some(HeError::NoiseCheck { tries: MAX_TRIES }));
}

/// All branches of an output are drawn together, and their scalar products are those of the products' coefficients: the
/// vector that multiplies E in coefficient k of u * E is X^i u at k, over all i.
#[test]
fn branches_are_drawn_together_and_their_products_are_those_of_the_definition() {
    let (set, ring) = (&T32N1024, ring::<u32>(&T32N1024));
    let (n, evaluated) = (set.degree, vec![evaluated::<u32>(set); 3]);
    let (mut seen, mut drawn) = (0, vec![]);
    let shifts = [0, 1, -1, 17, -300, 1023, -1023];
    let published = publish(&evaluated, &mask0(set), &mut seeded(18), 8, |draws| {
        assert_eq!(draws.len(), 3);
        seen += 1;
        drawn = shifts.map(|shift| draws[0].cross(&draws[2], shift)).to_vec();
        seen == 2
    });
    let published = published.unwrap();
    // u and delta again, from what is published: u * 1, and hint - sum w a - a0 u.
    let unit = ring.forward(&std::array::from_fn::<u32, 1024, _>(|i| u32::from(i == 0)));
    let parts = published.iter().zip(&evaluated).map(|((hint, u), evaluated)| {
        let exact = u.apply(mask0::<u32>(set).ntt());
        let error = (0..n).map(|i| hint.coefficients()[i].wrapping_sub(evaluated[i]).wrapping_sub(exact[i]).to_i64());
        let small = u.apply(&unit).iter().map(|u| u.to_i64()).collect::<Vec<_>>();
        (small, error.collect::<Vec<_>>())
    });
    let parts: Vec<_> = parts.collect();
    let turned = |v: &[i64], i: usize, k: usize| if i <= k { v[k - i] } else { -v[n + k - i] };
    let product = |v: &[i64], w: &[i64], k: usize, l: usize| -> f64 {
        (0..n).map(|i| (turned(v, i, k) * turned(w, i, l)) as f64).sum()
    };
    for (shift, cross) in shifts.into_iter().zip(drawn) {
        let k = if shift < 0 { n - 1 } else { 0 };
        let l = (k as isize + shift) as usize;
        assert_eq!(cross.rerandomisers, 2.0 * product(&parts[0].0, &parts[2].0, k, l), "{shift}");
        assert_eq!(cross.hint_errors, 2.0 * product(&parts[0].1, &parts[2].1, k, l), "{shift}");
    }
}

#[test]
fn only_the_rerandomisers_mask_publishes() {
    let refused = publish(&[evaluated::<u32>(&T32N1024)], &mask(&T32N1024, 0, 0), &mut seeded(13), 8, |_| true);
    assert_eq!(refused.err(), Some(HeError::NotRerandomiser(MaskId { layer: 0, ciphertext: 0 })));
}

fn encoding<W: TorusWord>(set: &'static ParameterSet) {
    let ring = ring::<W>(set);
    for rh in [0, 1, 8, 13, W::BITS - 1] {
        let published = publish(&[evaluated::<W>(set)], &mask0(set), &mut seeded(14), rh, |_| true);
        let hint = published.unwrap().remove(0).0;
        assert!(hint.coefficients().iter().all(|word| word.to_u64() % (1 << rh) == 0));
        let bytes = hint.to_bytes();
        assert_eq!(bytes.len(), set.degree * (W::BITS - rh) as usize / 8);
        assert_eq!(bytes.len(), Hint::byte_len(ring, rh));
        let decoded = Hint::from_bytes(ring, rh, &bytes).unwrap();
        assert_eq!(decoded.coefficients(), hint.coefficients());
        assert_eq!(decoded.ntt(), hint.ntt());
        for found in [0, bytes.len() - 1, bytes.len() + 1] {
            let mut wrong = bytes.clone();
            wrong.resize(found, 0);
            let error = HeError::Length { expected: bytes.len(), found };
            assert_eq!(Hint::from_bytes(ring, rh, &wrong).err(), Some(error));
        }
    }
    for rh in [W::BITS, u32::MAX] {
        let error = HeError::Rounding { bits: rh, torus_bits: W::BITS };
        assert_eq!(Hint::from_bytes(ring, rh, &[]).err(), Some(error.clone()));
        let published = publish(&[evaluated::<W>(set)], &mask0(set), &mut seeded(15), rh, |_| true);
        assert_eq!(published.err(), Some(error));
    }
}

#[test]
fn hints_survive_their_encoding_and_wrong_lengths_do_not() {
    for_every_set!(encoding);
}

/// On the torus of 64 bits what was rounded is multiplied in two residues instead of three, with the same result; what was not, in three.
#[test]
fn what_was_rounded_has_the_same_products_in_fewer_residues() {
    let mut rng = seeded(17);
    for set in [&T64N2048, &T64N4096] {
        let ring = ring::<u64>(set);
        let secret = Secret::generate(ring, &mut rng);
        for (zeros, primes) in [(0, 3), (16, if set.degree == 2048 { 2 } else { 3 }), (17, 2), (40, 2), (63, 2)] {
            assert_eq!(Ring::<u64>::primes_of_multiples(set, zeros), primes, "{} {zeros}", set.name);
            let mut words = uniform::<u64>(&mut rng, set.degree);
            // The ends of the range, too.
            words[..8].fill(1 << 63);
            words[8..16].fill(u64::MAX >> 1);
            words.iter_mut().for_each(|word| *word = *word >> zeros << zeros);
            let (short, whole) = (ring.forward_multiples(&words, zeros), ring.forward(&words));
            assert_eq!((ring.inverse(&short), ring.inverse(&whole)), (words.clone(), words.clone()));
            assert_eq!(secret.phase_share(&short), secret.phase_share(&whole));
            let (_, mut rerandomiser) =
                publish(&[evaluated::<u64>(set)], &mask0(set), &mut rng, 4, |_| true).unwrap().remove(0);
            let expected = rerandomiser.apply(&whole);
            assert_eq!(rerandomiser.apply(&short), expected);
            rerandomiser.shorten(zeros);
            assert_eq!(rerandomiser.apply(&short), expected);
            rerandomiser.compact();
            assert_eq!(rerandomiser.apply(&short), expected);
            // The largest sums: every coefficient near the end of the range, every factor -1.
            let word = (1u64 << 63).wrapping_add(1 << zeros);
            let ones = ring.forward_ternary(&vec![-1; set.degree]);
            let mut sums = ring.zero_like(&short);
            ring.mul_acc(&mut sums, &ring.forward_multiples(&vec![word; set.degree], zeros), &ones);
            let last = ring.inverse(&sums)[set.degree - 1];
            assert_eq!(last, word.wrapping_mul(set.degree as u64).wrapping_neg(), "{} {zeros}", set.name);
        }
    }
}

#[test]
#[should_panic(expected = "a sum of products of one form")]
fn products_of_two_forms_are_not_added_up() {
    let ring = ring::<u64>(&T64N2048);
    let mut acc = ring.zero();
    ring.mul_acc(&mut acc, &ring.forward_multiples(&vec![0; 2048], 40), &ring.forward_ternary(&[1; 2048]));
}

#[test]
fn the_rerandomiser_multiplies_in_all_forms() {
    let mut rng = seeded(16);
    let ring = ring::<u32>(&T32N2048);
    let mut published = publish(&[evaluated::<u32>(&T32N2048)], &mask0(&T32N2048), &mut rng, 4, |_| true).unwrap();
    let (_, mut rerandomiser) = published.remove(0);
    let b0 = uniform::<u32>(&mut rng, 2048);
    let whole = rerandomiser.apply(&ring.forward(&b0));
    let mut acc = ring.zero();
    rerandomiser.apply_acc(&ring.forward(&b0), &mut acc);
    assert_eq!(ring.inverse(&acc), *whole);
    let positions = [0, 5, 2047];
    assert_eq!(*rerandomiser.apply_at(&Window::new(&b0), &positions), positions.map(|i| whole[i]));
    rerandomiser.compact();
    assert_eq!(rerandomiser.apply(&ring.forward(&b0)), whole);
    assert_eq!(format!("{rerandomiser:?}"), "Rerandomiser(T32N2048, [redacted])");
}
