//! An equivalent network with one shift per requantisation and small biases.
//!
//! Let y = clamp(z >> s_c, 0, 2^a - 1) on channel c, z in the reachable interval of `bounds.rs`. Every activation of the folded
//! network equals the original one on every input:
//!
//! - *One shift.* With s the largest shift of a channel that is not constant, weights and bias of channel c are multiplied by
//!   2^(s - s_c), and floor(2^(s - s_c) z / 2^s) = floor(z / 2^s_c). An identity term whose channels need different factors becomes
//!   a depthwise 1x1 convolution.
//! - *Constant channels.* If y is the same at both ends of the reachable interval, it is the same everywhere, since y is monotone
//!   in z. The weights become 0 and the bias y 2^s. Where an identity term stays, the bias instead keeps the sum on the constant's
//!   side: at most 2^s - 1 for y = 0, at least y 2^s for y = 2^a - 1.
//!
//! Hence |bias| <= max |z| + 2^(a + s) on all channels. Where several nodes read an accumulator (or one node and the caller, as
//! the output) and one of them has different shifts for different channels, the linear node is repeated for each
//! (`separate.rs`); if all have the same shift everywhere, it stays as it is.

use ndarray::{Array4, Axis};

use crate::bounds::{linear_bounds, term_bounds};
use crate::check::MAX_WEIGHT_BITS;
use crate::error::{ModelError, Place, Problem};
use crate::network::{Op, Range, Term, Window};
use crate::separate::separate;
use crate::shape::of_channel;
use crate::weights::{LinearWeights, Network, weight_fits};

impl Network {
    /// The equivalent network with one shift per requantisation (see the module's text).
    ///
    /// # Errors
    /// If shifts are so far apart that a folded weight needs more than 16 bits, or a bias leaves its limits.
    pub fn folded(&self) -> Result<Network, ModelError> {
        match separate(self)? {
            Some(separated) => separated.fold_each(),
            None => self.fold_each(),
        }
    }

    /// Folds every accumulator that one requantisation reads and nothing else.
    fn fold_each(&self) -> Result<Network, ModelError> {
        let (mut architecture, mut weights) = self.clone().into_parts();
        for index in 0..architecture.nodes.len() {
            let Op::Requantise { input, bits, shift, top, .. } = architecture.nodes[index].op.clone() else {
                continue;
            };
            // An accumulator is never tensor 0.
            let (accumulator, source, top) = (input, input - 1, top.unwrap_or((1 << bits) - 1));
            let alone = architecture.consumers(accumulator).count() == 1 && architecture.output != accumulator;
            let channels = self.tensors()[accumulator].shape[0];
            let shifts: Vec<u32> = (0..channels).map(|channel| of_channel(&shift, channel)).collect();
            let place = Place::Node { index: source, name: architecture.nodes[source].name.clone() };
            let ring = self.architecture().ring(source).map(|ring| of_channel(ring, 0));
            let folded_shift = if let (true, Op::Scale { multiplier, .. }) = (alone, &mut architecture.nodes[source].op)
            {
                let own = weights.linear[source].as_mut().expect("a scale has biases");
                vec![fold_scale(multiplier, &mut own.bias, &shifts)]
            } else if alone {
                let (terms, linear) = self.linear(source).expect("only linear nodes and scales make accumulators");
                let folding = Folding::plan(
                    self,
                    terms,
                    linear,
                    &shifts,
                    top,
                    ring.is_some() || self.architecture().coin(index) > 0,
                );
                let (terms, linear) = folding.apply(terms, linear).map_err(|problem| problem.at(&place))?;
                architecture.nodes[source].op = Op::Linear { terms };
                weights.linear[source] = Some(linear);
                if let Some(ring) = ring {
                    // All channels have as many bits above their shifts.
                    let ring = vec![ring + folding.shift - shifts[0]];
                    architecture.declared.entry(architecture.nodes[source].name.clone()).or_default().ring = ring;
                }
                vec![folding.shift]
            } else {
                // Several readers: separated unless all shifts of each are the same.
                vec![shift[0]]
            };
            if let Op::Requantise { shift, .. } = &mut architecture.nodes[index].op {
                *shift = folded_shift;
            }
        }
        Network::new(architecture, weights)
    }
}

/// One shift for all channels of a scale: multipliers and biases of the others are multiplied by the power of two that is
/// missing. A result beyond the limits is refused by [`Network::new`].
fn fold_scale(multiplier: &mut Vec<i64>, bias: &mut [i64], shifts: &[u32]) -> u32 {
    let largest = shifts.iter().copied().max().unwrap_or(0);
    if shifts.iter().all(|&shift| shift == largest) {
        return largest;
    }
    if multiplier.len() == 1 {
        *multiplier = vec![multiplier[0]; shifts.len()];
    }
    for ((m, b), shift) in multiplier.iter_mut().zip(bias).zip(shifts) {
        *m = m.saturating_mul(1 << (largest - shift));
        *b = b.saturating_mul(1 << (largest - shift));
    }
    largest
}

/// What happens to one channel.
enum Channel {
    /// Weights and bias are multiplied by 2^factor.
    Scaled { factor: u32 },
    /// All weights become 0; `bias` keeps y constant.
    Constant { bias: i64 },
}

struct Folding {
    /// The one shift.
    shift: u32,
    /// True if identity terms become depthwise convolutions.
    depthwise: bool,
    channels: Vec<Channel>,
}

impl Folding {
    /// Of a node with a declared ring or a coin behind it no channel is constant: the range of its sums says less of its results.
    fn plan(
        network: &Network,
        terms: &[Term],
        linear: &LinearWeights,
        shifts: &[u32],
        top: i64,
        declared: bool,
    ) -> Folding {
        let bounds = linear_bounds(terms, linear, network.tensors());
        let identity = identity_range(network, terms, linear);
        let constants = |beside_identity: bool| -> Vec<Option<i64>> {
            let constant = |(z, s): (&Range, &u32)| {
                let (y, at_hi) = ((z.lo >> s).clamp(0, top), (z.hi >> s).clamp(0, top));
                // Next to an identity term a constant between 0 and the top needs its place: leave such a channel alone.
                (!declared && y == at_hi && (!beside_identity || y == 0 || y == top)).then_some(y)
            };
            bounds.iter().zip(shifts).map(constant).collect()
        };
        let largest = |constants: &[Option<i64>]| -> Option<(u32, bool)> {
            let live = || constants.iter().zip(shifts).filter(|(constant, _)| constant.is_none()).map(|(_, &s)| s);
            let shift = live().max()?;
            Some((shift, live().all(|s| s == shift)))
        };
        let mut constant = constants(identity.is_some());
        let depthwise = identity.is_some() && largest(&constant).is_some_and(|(_, same)| !same);
        if depthwise {
            constant = constants(false);
        }
        let shift = largest(&constant).map_or(shifts[0], |(shift, _)| shift);
        let beside = identity.filter(|_| !depthwise);
        let channels = constant
            .iter()
            .zip(shifts)
            .map(|(constant, s)| match (*constant, beside) {
                (None, _) => Channel::Scaled { factor: shift - s },
                (Some(y), None) => Channel::Constant { bias: y << shift },
                (Some(0), Some(x)) => Channel::Constant { bias: ((1 << shift) - 1 - x.hi).min(0) },
                (Some(y), Some(x)) => Channel::Constant { bias: (y << shift) - x.lo },
            })
            .collect();
        Folding { shift, depthwise, channels }
    }

    fn apply(&self, terms: &[Term], linear: &LinearWeights) -> Result<(Vec<Term>, LinearWeights), Problem> {
        let mut folded = (Vec::new(), LinearWeights { terms: Vec::new(), bias: Vec::new() });
        for (term, array) in terms.iter().zip(&linear.terms) {
            let (term, array) = match (term, array) {
                (Term::Identity { input, multiplier }, None) if self.depthwise => {
                    let channels = self.channels.len();
                    let multiplier = i32::try_from(*multiplier)
                        .map_err(|_| Problem::WeightValue { value: *multiplier, bits: MAX_WEIGHT_BITS })?;
                    let array = self.scale(&Array4::from_elem([channels, 1, 1, 1], multiplier))?;
                    let weight_bits = width(&array, 2)?;
                    let (input, window) = (*input, Window::POINT);
                    let term = Term::Conv { input, out_channels: channels, groups: channels, window, weight_bits };
                    (term, Some(array))
                }
                (term, None) => (term.clone(), None),
                (term, Some(array)) => {
                    let array = self.scale(array)?;
                    let mut term = term.clone();
                    if let Term::Conv { weight_bits, .. } | Term::Dense { weight_bits, .. } = &mut term {
                        *weight_bits = width(&array, *weight_bits)?;
                    }
                    (term, Some(array))
                }
            };
            folded.0.push(term);
            folded.1.terms.push(array);
        }
        for (channel, &bias) in self.channels.iter().zip(&linear.bias) {
            folded.1.bias.push(match channel {
                // Saturated biases are far over the limit that the new network is checked against.
                Channel::Scaled { factor } => bias.saturating_mul(1 << factor),
                Channel::Constant { bias } => *bias,
            });
        }
        Ok(folded)
    }

    fn scale(&self, array: &Array4<i32>) -> Result<Array4<i32>, Problem> {
        let mut scaled = array.clone();
        for (mut row, channel) in scaled.axis_iter_mut(Axis(0)).zip(&self.channels) {
            let factor = match channel {
                Channel::Scaled { factor } => 1i64 << factor,
                Channel::Constant { .. } => 0,
            };
            for w in &mut row {
                let value = i64::from(*w).saturating_mul(factor);
                *w = i32::try_from(value).map_err(|_| Problem::WeightValue { value, bits: MAX_WEIGHT_BITS })?;
            }
        }
        Ok(scaled)
    }
}

/// The values that the identity terms add to every channel; `None` without such terms.
fn identity_range(network: &Network, terms: &[Term], linear: &LinearWeights) -> Option<Range> {
    terms
        .iter()
        .enumerate()
        .filter(|(_, term)| matches!(term, Term::Identity { .. }))
        .map(|(position, _)| term_bounds(position, terms, linear, network.tensors())[0])
        .reduce(|sum, range| Range { lo: sum.lo + range.lo, hi: sum.hi + range.hi })
}

/// The declared width if it holds the weights, else the smallest that does.
fn width(array: &Array4<i32>, declared: u32) -> Result<u32, Problem> {
    let holds = |&bits: &u32| array.iter().all(|&w| weight_fits(w, bits));
    if holds(&declared) {
        return Ok(declared);
    }
    (2..=MAX_WEIGHT_BITS).find(holds).ok_or_else(|| {
        let value = array.iter().copied().max_by_key(|w| w.unsigned_abs()).expect("there are weights").into();
        Problem::WeightValue { value, bits: MAX_WEIGHT_BITS }
    })
}
