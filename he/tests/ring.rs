//! The ring against the schoolbook product: random and extreme factors, up to the stated bound and beyond it.

mod common;

use common::{ring, schoolbook, seeded, signed, uniform};
use lowkey_he::params::{self, T32N1024, T64N2048};
use lowkey_he::{HeError, ParameterSet, Ring, TorusWord};

/// One product through the transforms.
fn product<W: TorusWord>(ring: &Ring<W>, torus: &[W], small: &[i64]) -> Vec<W> {
    let mut acc = ring.zero();
    ring.mul_acc(&mut acc, &ring.forward(torus), &ring.forward_small(small).unwrap());
    ring.inverse(&acc)
}

fn random_products<W: TorusWord>(set: &'static ParameterSet) {
    let (ring, mut rng) = (ring::<W>(set), seeded(1));
    for bound in [1, 7, 127, 1 << 12] {
        let (torus, small) = (uniform(&mut rng, set.degree), signed(&mut rng, bound, set.degree));
        assert!(product(ring, &torus, &small) == schoolbook(&torus, &small), "{} {bound}", set.name);
    }
}

#[test]
fn products_are_exact() {
    for_every_set!(random_products);
}

/// Every factor that reaches the bound (q-1) * max_norm1 in magnitude, of either sign.
fn extreme_products<W: TorusWord>(set: &'static ParameterSet) {
    let (ring, n) = (ring::<W>(set), set.degree);
    let (limit, largest) = (ring.max_norm1() as i64, W::from_i64(-1));
    let share = limit / n as i64;
    let mut smalls = vec![vec![0; n], vec![1; n], vec![-1; n]];
    for sign in [1, -1] {
        for index in [0, 1, n / 2, n - 1] {
            let mut concentrated = vec![0; n];
            concentrated[index] = sign * limit;
            smalls.push(concentrated);
        }
        let mut spread = vec![sign * share; n];
        spread[n - 1] += sign * (limit - share * n as i64);
        smalls.push(spread.clone());
        // Alternating signs meet alternating torus coefficients in phase.
        smalls.push(spread.iter().enumerate().map(|(i, x)| if i % 2 == 0 { *x } else { -x }).collect());
    }
    let alternating = (0..n).map(|i| if i % 2 == 0 { largest } else { W::default() }).collect();
    for torus in [vec![largest; n], vec![W::default(); n], vec![W::from_u64(1).shl(W::BITS - 1); n], alternating] {
        for small in &smalls {
            assert!(product(ring, &torus, small) == schoolbook(&torus, small), "{}", set.name);
        }
    }
}

#[test]
fn products_are_exact_at_the_bound() {
    for_every_set!(extreme_products);
}

fn sums<W: TorusWord>(set: &'static ParameterSet) {
    let (ring, mut rng) = (ring::<W>(set), seeded(2));
    let (mut acc, mut expected) = (ring.zero(), vec![W::default(); set.degree]);
    for _ in 0..5 {
        let (torus, small) = (uniform(&mut rng, set.degree), signed(&mut rng, 9, set.degree));
        ring.mul_acc(&mut acc, &ring.forward(&torus), &ring.forward_small(&small).unwrap());
        for (sum, term) in expected.iter_mut().zip(schoolbook::<W>(&torus, &small)) {
            *sum = sum.wrapping_add(term);
        }
    }
    let mut out = vec![W::default(); set.degree];
    ring.inverse_into(&mut acc, &mut out);
    assert!(out == expected, "{}", set.name);
    assert!(acc == ring.zero(), "the accumulator is used up");
}

#[test]
fn products_accumulate() {
    for_every_set!(sums);
}

fn round_trip<W: TorusWord>(set: &'static ParameterSet) {
    let (ring, mut rng) = (ring::<W>(set), seeded(3));
    let torus = uniform::<W>(&mut rng, set.degree);
    assert!(ring.inverse(&ring.forward(&torus)) == torus, "{}", set.name);
    let ternary: Vec<i8> = signed(&mut rng, 1, set.degree).iter().map(|&x| x as i8).collect();
    let wide: Vec<i64> = ternary.iter().map(|&x| x.into()).collect();
    let mut acc = ring.zero();
    ring.mul_acc(&mut acc, &ring.forward(&torus), &ring.forward_ternary(&ternary));
    assert!(ring.inverse(&acc) == schoolbook(&torus, &wide), "{}", set.name);
}

#[test]
fn transforms_invert() {
    for_every_set!(round_trip);
}

fn single_coefficients<W: TorusWord>(set: &'static ParameterSet) {
    let (ring, mut rng, n) = (ring::<W>(set), seeded(4), set.degree);
    let torus = uniform::<W>(&mut rng, n);
    let all: Vec<usize> = (0..n).collect();
    for bound in [1, 127] {
        let small = signed(&mut rng, bound, n);
        let bytes: Vec<i8> = small.iter().map(|&x| x as i8).collect();
        let expected = schoolbook(&torus, &small);
        assert!(ring.product_at(&torus, &bytes, &all) == expected, "{}", set.name);
        assert_eq!(ring.product_at(&torus, &bytes, &[n - 1, 0, 0]), [expected[n - 1], expected[0], expected[0]]);
    }
    assert!(ring.product_at(&torus, &vec![-128; n], &all) == schoolbook(&torus, &vec![-128; n]));
}

#[test]
fn coefficients_by_inner_products_are_those_of_the_product() {
    for_every_set!(single_coefficients);
}

fn too_large<W: TorusWord>(set: &'static ParameterSet) {
    let (ring, limit) = (ring::<W>(set), ring::<W>(set).max_norm1());
    for (first, second) in [(limit as i64, 1), (-(limit as i64), -1), (limit as i64 + 1, 0), (i64::MIN, 0)] {
        let mut small = vec![0; set.degree];
        (small[0], small[1]) = (first, second);
        let norm1 = first.unsigned_abs() + second.unsigned_abs();
        assert_eq!(ring.forward_small(&small), Err(HeError::SmallNorm { norm1, limit }));
    }
    assert!(ring.forward_small(&vec![i64::MAX; set.degree]).is_err(), "the norm saturates");
}

#[test]
fn factors_beyond_the_bound_are_refused() {
    for_every_set!(too_large);
}

#[test]
fn the_bounds_are_those_of_the_documentation() {
    let log2 = |x: u64| (x as f64).log2();
    assert!((log2(ring::<u32>(&T32N1024).max_norm1()) - 26.97).abs() < 0.01);
    assert!((log2(ring::<u64>(&T64N2048).max_norm1()) - 24.96).abs() < 0.01);
}

#[test]
#[should_panic(expected = "in one sum")]
fn sums_beyond_the_bound_are_a_bug() {
    let ring = ring::<u32>(&T32N1024);
    let mut small = vec![0; 1024];
    small[0] = ring.max_norm1() as i64;
    let (torus, small) = (ring.forward(&[1; 1024]), ring.forward_small(&small).unwrap());
    let mut acc = ring.zero();
    ring.mul_acc(&mut acc, &torus, &small);
    ring.mul_acc(&mut acc, &torus, &small);
}

#[test]
fn a_set_has_one_word() {
    fn check<W: TorusWord>(set: &'static ParameterSet) {
        let error = HeError::TorusWidth { set: set.name, expected: set.torus_bits, found: W::BITS };
        assert_eq!(Ring::<W>::shared(set).err(), (W::BITS != set.torus_bits).then_some(error));
    }
    for set in params::ALL {
        check::<u32>(set);
        check::<u64>(set);
    }
}
