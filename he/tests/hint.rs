//! Publication: what is published, what is refused, what is never repeated.

mod common;

use common::{ring, schoolbook, seeded, uniform};
use lowkey_he::hint::MAX_TRIES;
use lowkey_he::params::{T32N1024, T32N2048, T64N2048, T64N4096};
use lowkey_he::{
    EpochSeed, Evaluator, HeError, Hint, Mask, MaskId, ParameterSet, TorusWord, Window, publication_rng, publish,
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
    publish(&evaluated::<W>(set), &mask0(set), rng, 6, |_, _| true).unwrap().0.to_bytes()
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
    assert_eq!(refused, Err(HeError::SmallNorm { norm1: (1 << 31) + 1024, limit }));
    // Together, with u_o, and only together: the last weight leaves the exact range.
    let half = (limit - 1024) as i32 / 2;
    let terms = |last| [(&mask, vec![(0, half), (0, half - 1)]), (&mask, vec![(5, last)])];
    let mut total = |last| evaluator.evaluate(terms(last).iter().map(|(mask, w)| (*mask, w.as_slice())));
    assert!(total(1).is_ok());
    assert!(matches!(total(4), Err(HeError::SmallNorm { .. })));
    let foreign = Mask::expand(common::ring(&T32N2048), &EPOCH, MaskId { layer: 0, ciphertext: 0 });
    let error = HeError::ParameterSet { expected: "T32N1024", found: "T32N2048" };
    assert_eq!(evaluator.evaluate([(&foreign, &[][..])]), Err(error));
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
    assert_eq!(digest(&hint_bytes::<u32>(&T32N1024, &mut rng(0))), "289f51c51c531195");
    assert_eq!(digest(&hint_bytes::<u32>(&T32N2048, &mut rng(1))), "bb1065e8b3fec1fe");
    assert_eq!(digest(&hint_bytes::<u64>(&T64N2048, &mut rng(2))), "7c5f650c2ead4769");
    assert_eq!(digest(&hint_bytes::<u64>(&T64N4096, &mut rng(3))), "079d7ec7945427b1");
}

#[test]
fn the_check_sees_the_norms_and_decides() {
    let (evaluated, mask0) = (evaluated::<u32>(&T32N1024), mask0(&T32N1024));
    let mut seen = vec![];
    let (_, rerandomiser) = publish(&evaluated, &mask0, &mut seeded(11), 8, |u, delta| {
        seen.push((u, delta));
        seen.len() == 3
    })
    .unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!(rerandomiser.norm2(), seen[2].0);
    for (u, delta) in seen {
        assert!((u / (2.0 / 3.0 * 1024.0) - 1.0).abs() < 0.15, "{u}");
        let expected = 1024.0 * (T32N1024.sigma2() + 4f64.powi(8) / 12.0);
        assert!((delta / expected - 1.0).abs() < 0.2, "{delta}");
    }
    let refused = publish(&evaluated, &mask0, &mut seeded(12), 8, |_, _| false);
    assert_eq!(refused.err(), Some(HeError::NoiseCheck { tries: MAX_TRIES }));
}

#[test]
fn only_the_rerandomisers_mask_publishes() {
    let refused = publish(&evaluated::<u32>(&T32N1024), &mask(&T32N1024, 0, 0), &mut seeded(13), 8, |_, _| true);
    assert_eq!(refused.err(), Some(HeError::NotRerandomiser(MaskId { layer: 0, ciphertext: 0 })));
}

fn encoding<W: TorusWord>(set: &'static ParameterSet) {
    let ring = ring::<W>(set);
    for rh in [0, 1, 8, 13, W::BITS - 1] {
        let published = publish(&evaluated::<W>(set), &mask0(set), &mut seeded(14), rh, |_, _| true);
        let hint = published.unwrap().0;
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
        let published = publish(&evaluated::<W>(set), &mask0(set), &mut seeded(15), rh, |_, _| true);
        assert_eq!(published.err(), Some(error));
    }
}

#[test]
fn hints_survive_their_encoding_and_wrong_lengths_do_not() {
    for_every_set!(encoding);
}

#[test]
fn the_rerandomiser_multiplies_in_all_forms() {
    let mut rng = seeded(16);
    let ring = ring::<u32>(&T32N2048);
    let (_, rerandomiser) = publish(&evaluated::<u32>(&T32N2048), &mask0(&T32N2048), &mut rng, 4, |_, _| true).unwrap();
    let b0 = uniform::<u32>(&mut rng, 2048);
    let whole = rerandomiser.apply(&ring.forward(&b0));
    let mut acc = ring.zero();
    rerandomiser.apply_acc(&ring.forward(&b0), &mut acc);
    assert_eq!(ring.inverse(&acc), *whole);
    let positions = [0, 5, 2047];
    assert_eq!(*rerandomiser.apply_at(&Window::new(&b0), &positions), positions.map(|i| whole[i]));
    assert_eq!(format!("{rerandomiser:?}"), "Rerandomiser(T32N2048, [redacted])");
}
