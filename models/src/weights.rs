//! The private half of a network, and the two halves together.

use std::fmt;

use ndarray::Array4;

use crate::check::{MAX_ACCUMULATOR, MAX_REACHED, TensorInfo, weight_range};
use crate::error::{ModelError, Place, Problem};
use crate::network::{Architecture, Op, Term};

/// Weights and biases of a network: one entry per node, `Some` for linear nodes and (biases only) for scales. Prints redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Weights {
    /// By node.
    pub linear: Vec<Option<LinearWeights>>,
}

/// Weights and biases of one linear node. Prints redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct LinearWeights {
    /// By term: `[out_channels, in_channels / groups, kernel h, kernel w]`, a matrix as `[outputs, inputs, 1, 1]`, `None` for an
    /// identity.
    pub terms: Vec<Option<Array4<i32>>>,
    /// By output channel. The rounding constant of the requantisation that follows is part of it.
    pub bias: Vec<i64>,
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weights {{ {} nodes, redacted }}", self.linear.len())
    }
}

impl fmt::Debug for LinearWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinearWeights {{ {} terms, {} channels, redacted }}", self.terms.len(), self.bias.len())
    }
}

/// A network whose parts fit together: every value of this type has passed [`Architecture::check`] and the rules of
/// [`Network::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    architecture: Architecture,
    weights: Weights,
    tensors: Vec<TensorInfo>,
}

impl Network {
    /// Puts the halves together.
    ///
    /// # Errors
    /// The first rule broken: those of [`Architecture::check`]; weights of the shapes that the terms ask for and within their
    /// width ({-1, +1} for one bit, two's complement for more); one bias per channel, at most [`MAX_ACCUMULATOR`] in magnitude, of a scale
    /// [`MAX_REACHED`]; values of blocks within their bits.
    pub fn new(architecture: Architecture, weights: Weights) -> Result<Network, ModelError> {
        let tensors = architecture.check()?;
        let (found, wanted) = (weights.linear.len(), architecture.nodes.len());
        if found != wanted {
            return Err(Problem::WeightNodes { found, wanted }.at(&Place::Network));
        }
        for (index, (node, weights)) in architecture.nodes.iter().zip(&weights.linear).enumerate() {
            let place = Place::Node { index, name: node.name.clone() };
            match (node.op.terms(), weights) {
                (Some(terms), Some(weights)) => check_linear(index, &node.name, terms, weights, &tensors)?,
                (Some(_), None) => {
                    return Err(Problem::WeightPresence { found: false }.at(&place));
                }
                (_, Some(_)) => return Err(Problem::WeightPresence { found: true }.at(&place)),
                (_, None) => {}
            }
        }
        let network = Network { architecture, weights, tensors };
        network.check_scales()?;
        network.check_block_values()?;
        Ok(network)
    }

    /// The multiplied accumulators of every scale fit, with the actual weights and biases.
    fn check_scales(&self) -> Result<(), ModelError> {
        if !self.architecture.nodes.iter().any(|node| matches!(node.op, Op::Scale { .. })) {
            return Ok(());
        }
        for (index, (node, bounds)) in self.architecture.nodes.iter().zip(self.bounds()).enumerate() {
            let (Op::Scale { .. }, Some(bounds)) = (&node.op, bounds) else { continue };
            let limit = i128::from(MAX_REACHED);
            for value in [bounds.range().lo, bounds.range().hi] {
                if !(-limit..=limit).contains(&value.into()) {
                    let (lo, hi) = (-limit, limit);
                    let problem =
                        Problem::OutOfRange { what: "a reachable multiplied sum", value: value.into(), lo, hi };
                    return Err(problem.at(&Place::Node { index, name: node.name.clone() }));
                }
            }
        }
        Ok(())
    }

    /// The public half.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The private half.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What [`Architecture::check`] found: one entry per tensor.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Terms and weights of node `index`; `None` if it is not linear.
    pub fn linear(&self, index: usize) -> Option<(&[Term], &LinearWeights)> {
        match (&self.architecture.nodes.get(index)?.op, &self.weights.linear[index]) {
            (Op::Linear { terms }, Some(weights)) => Some((terms, weights)),
            _ => None,
        }
    }

    /// Takes the halves apart.
    pub fn into_parts(self) -> (Architecture, Weights) {
        (self.architecture, self.weights)
    }
}

fn check_linear(
    index: usize,
    name: &str,
    terms: &[Term],
    weights: &LinearWeights,
    tensors: &[TensorInfo],
) -> Result<(), ModelError> {
    let node = Place::Node { index, name: name.to_owned() };
    if weights.terms.len() != terms.len() {
        return Err(Problem::WeightTerms { found: weights.terms.len(), wanted: terms.len() }.at(&node));
    }
    for (position, (term, array)) in terms.iter().zip(&weights.terms).enumerate() {
        check_term(term, array.as_ref(), tensors)
            .map_err(|problem| problem.at(&Place::Term { index, name: name.to_owned(), term: position }))?;
    }
    let channels = tensors[index + 1].shape[0];
    if weights.bias.len() != channels {
        return Err(Problem::BiasCount { found: weights.bias.len(), wanted: channels }.at(&node));
    }
    // A scale has biases and no terms.
    let limit = if terms.is_empty() { MAX_REACHED } else { MAX_ACCUMULATOR };
    match weights.bias.iter().find(|&&bias| !(-limit..=limit).contains(&bias)) {
        None => Ok(()),
        Some(&bias) => {
            let (lo, hi) = (i128::from(-limit), i128::from(limit));
            Err(Problem::OutOfRange { what: "a bias", value: bias.into(), lo, hi }.at(&node))
        }
    }
}

fn check_term(term: &Term, array: Option<&Array4<i32>>, tensors: &[TensorInfo]) -> Result<(), Problem> {
    let wanted = term.weight_shape(tensors[term.input()].shape);
    let (Some(wanted), Some(array)) = (wanted, array) else {
        return if wanted.is_none() && array.is_none() {
            Ok(())
        } else {
            Err(Problem::WeightPresence { found: array.is_some() })
        };
    };
    if array.shape() != wanted {
        return Err(Problem::WeightShape { found: array.shape().to_vec(), wanted });
    }
    let bits = term.weight_bits().expect("the term has weights");
    match array.iter().find(|&&w| !weight_fits(w, bits)) {
        None => Ok(()),
        Some(&w) => Err(Problem::WeightValue { value: w.into(), bits }),
    }
}

/// True if a weight of `bits` bits can be `w`: {-1, +1} for one bit, two's complement for more.
pub(crate) fn weight_fits(w: i32, bits: u32) -> bool {
    weight_range(bits).contains(w.into()) && (bits > 1 || w != 0)
}
