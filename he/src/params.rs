//! The parameter sets: ring, noise, and the evidence that each is hard enough.
//!
//! A peer names a set by its number and nothing else (SECURITY.md, rule 15): [`ParameterSet::by_id`] knows this table
//! only, and no other crate can construct a [`ParameterSet`].
//!
//! Every set satisfies two independent estimates at 128 bits or more for a uniform ternary secret and GLWE dimension 1:
//!
//! * the lattice estimator [APS15], BDGL16 cost model, unbounded samples: log2 of the cheapest operation count of the
//!   primal uSVP and the dual hybrid attack. The rows quoted have *less* noise than the set, or a binary secret, so they
//!   are lower bounds for it;
//! * the curve that `tfhe` publishes for 132 bits, [`minimal_glwe_bound_for_132_bits_security_tuniform`], for binary
//!   secrets. It returns 0 where a cast underflows; the smallest bound that `tfhe` uses is 3, and so is ours.
//!
//! | set | N | log2 q | TUniform bound | sigma | quoted row (q, sigma, secret) | uSVP / dual hybrid | `tfhe` asks for |
//! |---|---|---|---|---|---|---|---|
//! | [`T32N1024`] | 1024 | 32 | 2^11 | 2^10.2 | 2^32, 2^7.7, ternary | 137.2 / 133.7 | 2^11 |
//! | [`T32N2048`] | 2048 | 32 | 2^3 | 2^2.2 | 2^32, 2^1.68, binary | 226.1 / 214.2 | 2^3 |
//! | [`T64N2048`] | 2048 | 64 | 2^17 | 2^16.2 | 2^64, 2^13, ternary | 133.3 / 131.5 | 2^17 |
//! | [`T64N4096`] | 4096 | 64 | 2^3 | 2^2.2 | 2^64, 2^1.68, binary | 230.0 / 222.8 | 2^3 |
//!
//! [`minimal_glwe_bound_for_132_bits_security_tuniform`]:
//!     tfhe::core_crypto::commons::noise_formulas::secure_noise::minimal_glwe_bound_for_132_bits_security_tuniform
//! [APS15]: crate#references

use tfhe::core_crypto::prelude::{GlweDimension, PolynomialSize, TUniform, UnsignedInteger};

/// A ring Z_q\[X\]/(X^N+1) with q a power of two, and the noise of its ciphertexts. The GLWE dimension is 1, secrets are
/// uniform ternary.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParameterSet {
    /// Number of the set on the wire.
    pub id: u8,
    /// Name for people.
    pub name: &'static str,
    /// log2 q: 32 or 64.
    pub torus_bits: u32,
    /// The ring degree N.
    pub degree: usize,
    /// b of the noise distribution TUniform(b): uniform on (-2^b, 2^b), both ends included with half the weight.
    pub noise_bound: u32,
}

/// N = 1024 on the 32-bit torus: the smallest hint, for layers with few products.
pub static T32N1024: ParameterSet =
    ParameterSet { id: 1, name: "T32N1024", torus_bits: 32, degree: 1024, noise_bound: 11 };
/// N = 2048 on the 32-bit torus: the default.
pub static T32N2048: ParameterSet =
    ParameterSet { id: 2, name: "T32N2048", torus_bits: 32, degree: 2048, noise_bound: 3 };
/// N = 2048 on the 64-bit torus: wide accumulators.
pub static T64N2048: ParameterSet =
    ParameterSet { id: 3, name: "T64N2048", torus_bits: 64, degree: 2048, noise_bound: 17 };
/// N = 4096 on the 64-bit torus: wide accumulators with little noise.
pub static T64N4096: ParameterSet =
    ParameterSet { id: 4, name: "T64N4096", torus_bits: 64, degree: 4096, noise_bound: 3 };

/// All parameter sets, by ascending id.
pub static ALL: [&ParameterSet; 4] = [&T32N1024, &T32N2048, &T64N2048, &T64N4096];

impl ParameterSet {
    /// The set with this number, or `None`: a peer can name nothing that is not in this table.
    pub fn by_id(id: u8) -> Option<&'static Self> {
        ALL.into_iter().find(|set| set.id == id)
    }

    /// Variance of one noise coefficient, in units of the smallest torus step: (2^(2b+1) + 1) / 6.
    pub fn sigma2(&self) -> f64 {
        (2f64.powi(2 * self.noise_bound as i32 + 1) + 1.0) / 6.0
    }

    /// The noise distribution in the vocabulary of `tfhe`.
    pub fn noise<T: UnsignedInteger>(&self) -> TUniform<T> {
        TUniform::new(self.noise_bound)
    }

    /// The ring degree in the vocabulary of `tfhe`.
    pub fn polynomial_size(&self) -> PolynomialSize {
        PolynomialSize(self.degree)
    }

    /// The GLWE dimension k in the vocabulary of `tfhe`: 1 in every set.
    pub fn glwe_dimension(&self) -> GlweDimension {
        GlweDimension(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tfhe::core_crypto::commons::noise_formulas::secure_noise::minimal_glwe_bound_for_132_bits_security_tuniform;

    #[test]
    fn every_set_meets_the_132_bit_curve_of_tfhe() {
        for set in ALL {
            let modulus = 2f64.powi(set.torus_bits as i32);
            let minimum =
                minimal_glwe_bound_for_132_bits_security_tuniform(set.glwe_dimension(), set.polynomial_size(), modulus);
            assert_eq!(set.noise_bound, minimum.max(3), "{}", set.name);
        }
    }

    #[test]
    fn sigma2_is_the_variance_that_tfhe_states() {
        for set in ALL {
            let stated = set.noise::<u64>().variance(1.0).0;
            assert!((set.sigma2() / stated - 1.0).abs() < 1e-12, "{}", set.name);
        }
    }

    #[test]
    fn ids_are_unique_and_nothing_else_is_known() {
        let known: Vec<u8> = (0..=255).filter(|&id| ParameterSet::by_id(id).is_some()).collect();
        assert_eq!(known, [1, 2, 3, 4]);
        for set in ALL {
            assert_eq!(ParameterSet::by_id(set.id), Some(set));
        }
    }
}
