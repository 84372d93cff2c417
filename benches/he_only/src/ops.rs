//! What both layouts need of BFV beyond the library: sums with small weights, squares, noise left, numbers from residues.

use std::sync::Arc;
use std::time::Duration;

use fhe::bfv::{BfvParameters, Ciphertext, Encoding, Plaintext, RelinearizationKey, SecretKey};
use fhe_math::rq::traits::TryConvertFrom;
use fhe_math::rq::{Poly, Representation};
use fhe_traits::{FheDecoder, FheDecrypter, FheEncoder};
use ndarray::Array2;
use num_bigint::BigInt;
use rayon::prelude::*;

/// What an evaluation costs, over all plaintext moduli.
#[derive(Default, Clone)]
pub struct Cost {
    /// The client's.
    pub encrypt: Duration,
    /// The server's.
    pub evaluate: Duration,
    pub decrypt: Duration,
    /// Ciphertexts, client to server and back, as the library writes them.
    pub up: usize,
    pub down: usize,
    /// Of relinearisation and of rotations: once per client.
    pub relinearisation: usize,
    pub galois: usize,
    /// Bits of noise that the answer's ciphertexts have left, the fewest.
    pub budget: f64,
}

/// Coefficients of one block of a sum: those of some hundred ciphertexts fit the second-level cache.
const BLOCK: usize = 128;

/// Sums of ciphertexts with small weights: each of `taps` has the inputs of one result with their weights. The coefficients are added in
/// 64 bits and reduced once; sum |w| < 2^(63 - word), which `Choice` sees to. The library's product with a plaintext would lift -1 to
/// t - 1, and multiply the noise by it.
pub fn sums(inputs: &[Ciphertext], taps: &[Vec<(usize, i64)>], parameters: &Arc<BfvParameters>) -> Vec<Ciphertext> {
    let context = inputs[0][0].ctx().clone();
    let (moduli, degree) = (context.moduli().to_vec(), parameters.degree());
    let lanes: Vec<(usize, usize)> = (0..2).flat_map(|part| (0..moduli.len()).map(move |word| (part, word))).collect();
    let results: Vec<Vec<u64>> = lanes
        .par_iter()
        .map(|&(part, word)| {
            let coefficients: Vec<_> = inputs.iter().map(|input| input[part].coefficients()).collect();
            let rows: Vec<&[u64]> = coefficients.iter().map(|all| row(all, word, degree)).collect();
            lane(&rows, taps, moduli[word], degree)
        })
        .collect();
    (0..taps.len())
        .into_par_iter()
        .map(|result| {
            let part = |part: usize| {
                let mut values = Array2::zeros((moduli.len(), degree));
                for (word, mut row) in values.outer_iter_mut().enumerate() {
                    let lane = &results[part * moduli.len() + word][result * degree..][..degree];
                    row.as_slice_mut().expect("contiguous").copy_from_slice(lane);
                }
                Poly::try_convert_from(values, &context, true, Representation::Ntt).expect("of this shape")
            };
            Ciphertext::new(vec![part(0), part(1)], parameters).expect("of this context")
        })
        .collect()
}

fn row<'a>(all: &'a ndarray::ArrayView2<'_, u64>, word: usize, degree: usize) -> &'a [u64] {
    &all.as_slice().expect("contiguous")[word * degree..][..degree]
}

/// The sums of one modulus, result after result.
fn lane(rows: &[&[u64]], taps: &[Vec<(usize, i64)>], modulus: u64, degree: usize) -> Vec<u64> {
    let mut out = vec![0; taps.len() * degree];
    for start in (0..degree).step_by(BLOCK) {
        for (result, taps) in taps.iter().enumerate() {
            let mut sum = [0i64; BLOCK];
            for &(input, weight) in taps {
                let values: &[u64; BLOCK] = rows[input][start..][..BLOCK].try_into().expect("whole blocks");
                for (sum, &value) in sum.iter_mut().zip(values) {
                    *sum += weight * value as i64;
                }
            }
            let out = &mut out[result * degree + start..][..BLOCK];
            for (out, sum) in out.iter_mut().zip(sum) {
                *out = sum.rem_euclid(modulus as i64) as u64;
            }
        }
    }
    out
}

/// Squares each in place, relinearised, and leaves `drop` words behind.
pub fn squares(ciphertexts: &mut [Ciphertext], key: &RelinearizationKey, drop: usize) {
    ciphertexts.par_iter_mut().for_each(|ciphertext| {
        let mut square = &*ciphertext * &*ciphertext;
        key.relinearizes(&mut square).expect("of the key's level");
        for _ in 0..drop {
            square.switch_down().expect("there is a smaller modulus");
        }
        *ciphertext = square;
    });
}

/// A number in every slot, at a level.
pub fn constant(value: &BigInt, level: usize, parameters: &Arc<BfvParameters>) -> Plaintext {
    let value = [residue(value, parameters.plaintext())];
    Plaintext::try_encode(&value, Encoding::poly_at_level(level), parameters).expect("one number")
}

/// A number for each slot, at a level.
pub fn slots(values: &[u64], level: usize, parameters: &Arc<BfvParameters>) -> Plaintext {
    Plaintext::try_encode(values, Encoding::simd_at_level(level), parameters).expect("as many as there are slots")
}

/// The numbers of all slots.
pub fn decrypted(ciphertext: &Ciphertext, secret: &SecretKey) -> Vec<u64> {
    let plain = secret.try_decrypt(ciphertext).expect("of this key");
    Vec::<u64>::try_decode(&plain, Encoding::simd_at_level(level_of(ciphertext))).expect("slots")
}

fn level_of(ciphertext: &Ciphertext) -> usize {
    ciphertext.max_switchable_level() + 1 - ciphertext[0].ctx().moduli().len()
}

/// Bits between the ciphertext's noise and where decryption fails.
pub fn budget(ciphertext: &Ciphertext, secret: &SecretKey, plain: u64) -> f64 {
    // SAFETY: variable time matters where somebody measures it; this is a benchmark with keys of its own.
    let noise = unsafe { secret.measure_noise(ciphertext) }.expect("of this key");
    let modulus: f64 = ciphertext[0].ctx().moduli().iter().map(|&word| (word as f64).log2()).sum();
    modulus - (plain as f64).log2() - 1.0 - noise as f64
}

/// Modulo t, from 0.
pub fn residue(value: &BigInt, plain: u64) -> u64 {
    let modulus = BigInt::from(plain);
    (((value % &modulus) + &modulus) % &modulus).try_into().expect("below the modulus")
}

/// The number of the smallest magnitude with these residues.
pub fn from_residues(residues: &[u64], plain: &[u64]) -> BigInt {
    let product: BigInt = plain.iter().map(|&t| BigInt::from(t)).product();
    let mut sum = BigInt::from(0);
    for (&residue, &t) in residues.iter().zip(plain) {
        let (modulus, others) = (BigInt::from(t), &product / t);
        let inverse = (&others % &modulus).modpow(&(&modulus - 2), &modulus);
        sum += others * inverse * residue;
    }
    sum %= &product;
    if &sum * 2 > product { sum - product } else { sum }
}
