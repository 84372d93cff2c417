//! What (u_o, e_o) of one output is a function of: everything that is evaluated.
//!
//! Two hints with one (u_o, e_o) subtract to the difference of their evaluated masks, hence of the weights. A digest of
//! weights and plan is not enough: a program that packs otherwise evaluates other polynomials under the same plan. So the
//! digest covers the weight polynomials and the evaluated masks themselves: equal randomness means equal hints.

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::evaluate::WeightPolynomial;
use crate::mask::{EpochSeed, Mask};
use crate::torus::Rounding;
use crate::word::TorusWord;

/// The accumulator width and the roundings of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    /// ell.
    pub ell: u32,
    /// rb, r0 and rh.
    pub rounding: Rounding,
}

/// A digest in the making. Every list is preceded by its length, so that different contents are different inputs. Holds
/// weights: never leaves the server.
#[derive(Clone)]
pub struct OutputContext(Sha256);

impl OutputContext {
    /// What all outputs of a layer share: `publication`, a digest of weights and plan; the version of the code that packs;
    /// parameter set, masks (`mask0` is a*_0) and widths.
    pub fn new<W: TorusWord>(
        publication: &[u8; 32],
        packing_version: u32,
        epoch: &EpochSeed,
        mask0: &Mask<W>,
        widths: Widths,
    ) -> Self {
        let Widths { ell, rounding: Rounding { body, b0, hint } } = widths;
        let mut hash = Sha256::new_with_prefix(b"lowkey-he/output-context/v1");
        hash.update(publication);
        hash.update(epoch.0);
        hash.update([mask0.ring().set().id]);
        [packing_version, ell, body, b0, hint].iter().for_each(|number| hash.update(number.to_le_bytes()));
        let mut context = Self(hash);
        context.words(mask0.coefficients());
        context
    }

    /// One branch of the output: the domain of its masks, its weight polynomials, and what the masks evaluate to.
    pub fn branch<W: TorusWord>(&mut self, layer: u32, polynomials: &[WeightPolynomial], evaluated: &[W]) -> &mut Self {
        self.0.update(layer.to_le_bytes());
        self.number(polynomials.len());
        let mut bytes = Zeroizing::new(Vec::new());
        for WeightPolynomial { ciphertext, terms } in polynomials {
            self.number(*ciphertext);
            self.number(terms.len());
            bytes.zeroize();
            for (coefficient, weight) in terms {
                bytes.extend_from_slice(&(*coefficient as u32).to_le_bytes());
                bytes.extend_from_slice(&weight.to_le_bytes());
            }
            self.0.update(&*bytes);
        }
        self.words(evaluated);
        self
    }

    /// The digest.
    pub fn finish(self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.finalize().into())
    }

    fn number(&mut self, value: usize) {
        self.0.update((value as u64).to_le_bytes());
    }

    fn words<W: TorusWord>(&mut self, words: &[W]) {
        self.number(words.len());
        let mut bytes = Zeroizing::new(Vec::with_capacity(8 * words.len()));
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_u64().to_le_bytes()));
        self.0.update(&*bytes);
    }
}

/// Hashes weights.
impl std::fmt::Debug for OutputContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OutputContext([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::MaskId;
    use crate::params::{T64N2048, T64N4096};
    use crate::ring::Ring;

    fn digest(change: &str) -> [u8; 32] {
        let is = |name: &str| change == name;
        let set = if is("set") { &T64N4096 } else { &T64N2048 };
        let epoch = EpochSeed([u8::from(is("epoch")); 32]);
        let mask0 = Mask::expand(Ring::<u64>::shared(set).unwrap(), &epoch, MaskId::RERANDOMISER);
        let widths = Widths {
            ell: 13 + u32::from(is("ell")),
            rounding: Rounding {
                body: 9 + u32::from(is("rb")),
                b0: 8 + u32::from(is("r0")),
                hint: 7 + u32::from(is("rh")),
            },
        };
        let publication = [2 + u8::from(is("publication")); 32];
        let mut context = OutputContext::new(&publication, u32::from(is("version")), &epoch, &mask0, widths);
        let polynomial = |ciphertext, terms: &[_]| WeightPolynomial { ciphertext, terms: terms.to_vec() };
        let mut polynomials = vec![polynomial(0, &[(5, 1), (6, -2)]), polynomial(1, &[(5, 3)])];
        match change {
            "order" => polynomials[0].terms.swap(0, 1),
            "position" => polynomials[0].terms[0].0 = 4,
            "weight" => polynomials[1].terms[0].1 = -3,
            "ciphertext" => polynomials[1].ciphertext = 2,
            "cut" => {
                polynomials = vec![polynomial(0, &[(5, 1)]), polynomial(0, &[(6, -2)]), polynomial(1, &[(5, 3)])];
            }
            _ => {}
        }
        let evaluated = vec![u64::from(is("evaluated")); 4];
        context.branch(u32::from(is("layer")), &polynomials, &evaluated);
        if !is("branch") {
            context.branch(7, &polynomials, &evaluated);
        }
        *context.finish()
    }

    #[test]
    fn every_part_counts() {
        let changes =
            "- publication version set epoch ell rb r0 rh layer order position weight ciphertext cut evaluated branch";
        let mut digests: Vec<[u8; 32]> = changes.split(' ').map(digest).collect();
        let count = digests.len();
        assert_eq!(digest("-"), digests[0]);
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }
}
