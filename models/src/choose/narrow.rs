//! Activations and weights of fewer bits.
//!
//! A requantisation that gives up k bits makes y' = clamp((z + r) >> (s + k), 0, top'), where r = 2^(s + k - 1) - 2^(s - 1) moves its rounding
//! constant to the new step. Its values count units of 2^k: whatever reads them computes as if it read 2^k y', exactly.
//!
//! - *Linear nodes.* Let 2^c divide every term, by the unit of what it reads and, of an identity, by its multiplier. Where requantisations
//!   alone read z, z' = floor(z / 2^c) is computed instead, with biases floor(b / 2^c), and their shifts are c smaller:
//!   floor(floor(z / 2^c) / 2^(s - c)) = floor(z / 2^s). What is left of a unit multiplies the weights. A declared ring loses c bits.
//! - *Weights* that give up k bits are rounded to multiples of 2^k, ties of a filter down and up in turn, so that they do not add up; where
//!   all that is summed divides by 2^k, as above, the weights are that much smaller, and else multiples of it.
//! - *Coins* leave as many bits of the shift as they did.
//! - *Average pools* take the unit off their shift, or multiply by it. *Max pools, sum pools, other orders* pass it on.
//! - *Concatenations* need one unit for all that they read; *tables* and the answer of a network need 1.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array4;

use crate::check::{MAX_ACTIVATION_BITS, MAX_WEIGHT_BITS};
use crate::error::ModelError;
use crate::network::{Architecture, Declared, Op, TensorId, Term};
use crate::shape::of_channel;
use crate::weights::{LinearWeights, Network};

/// Fewest bits of a narrowed activation or weight: a ring is declared for sums that become two bits at least.
pub const LEAST_BITS: u32 = 2;

/// Why activations or weights cannot be narrowed.
#[derive(Debug, thiserror::Error)]
pub enum NarrowError {
    /// Of this node.
    #[error("{node:?} cannot be narrowed: {why}")]
    Node {
        /// Its name.
        node: String,
        /// What is in the way.
        why: &'static str,
    },
    /// What came out breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Network {
    /// The network with fewer bits, by name: of a requantisation for its results, of a linear node for its weights.
    ///
    /// # Errors
    /// A name that is neither's, results that cannot have another unit (see the module's text), weights that have not so many bits.
    pub fn narrowed(&self, by: &BTreeMap<String, u32>) -> Result<Network, NarrowError> {
        let architecture = self.architecture();
        let mut narrowing = Narrowing {
            network: self,
            by: vec![0; architecture.nodes.len()],
            units: vec![0],
            new: self.clone().into_parts().0,
            linear: self.weights().linear.clone(),
        };
        for (name, &bits) in by.iter().filter(|(_, bits)| **bits > 0) {
            let at = architecture.position(name);
            let index = at.filter(|&at| matches!(architecture.nodes[at].op, Op::Requantise { .. } | Op::Linear { .. }));
            let index = index.ok_or_else(|| refused(name, "there is no such requantisation or linear node"))?;
            if bits > MAX_ACTIVATION_BITS {
                return Err(refused(name, "it has not so many bits"));
            }
            narrowing.by[index] = bits;
        }
        for index in 0..architecture.nodes.len() {
            narrowing.node(index).map_err(|why| refused(&architecture.nodes[index].name, why))?;
        }
        if narrowing.units[architecture.output] > 0 {
            return Err(refused(&architecture.nodes[architecture.output - 1].name, "it is the network's answer"));
        }
        Ok(Network::new(narrowing.new, crate::Weights { linear: narrowing.linear })?)
    }

    /// The requantisations that can give up a bit, in groups that must give up as many: more than one where a concatenation reads them.
    pub fn narrowable(&self) -> Vec<Vec<usize>> {
        let architecture = self.architecture();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, node) in architecture.nodes.iter().enumerate() {
            match &node.op {
                Op::Requantise { .. } => groups.push(vec![index]),
                Op::Concat { inputs } => {
                    let makers: BTreeSet<usize> =
                        inputs.iter().flat_map(|&input| origins(architecture, input)).collect();
                    let joined = |group: &Vec<usize>| group.iter().any(|index| makers.contains(index));
                    let (joined, mut others): (Vec<_>, Vec<_>) = groups.into_iter().partition(joined);
                    others.push(joined.concat());
                    groups = others;
                }
                _ => {}
            }
        }
        groups.iter_mut().for_each(|group| group.sort_unstable());
        groups.sort();
        groups.retain(|group| !group.is_empty() && self.narrowed(&self.named(group, 1)).is_ok());
        groups
    }

    /// The linear nodes whose sums get smaller when their weights give up a bit.
    pub(super) fn lighter(&self) -> Vec<usize> {
        let gives = |&index: &usize| {
            let Op::Linear { terms } = &self.architecture().nodes[index].op else { return false };
            let units = units_of_terms(terms, &vec![0; index + 1], 1);
            let by = vec![0; self.architecture().nodes.len()];
            common(self.architecture(), index, &units, &by) > 0 && self.narrowed(&self.named(&[index], 1)).is_ok()
        };
        (0..self.architecture().nodes.len()).filter(gives).collect()
    }

    /// So many bits fewer for each of these nodes.
    pub(super) fn named(&self, group: &[usize], bits: u32) -> BTreeMap<String, u32> {
        group.iter().map(|&index| (self.architecture().nodes[index].name.clone(), bits)).collect()
    }
}

/// The requantisations whose values a tensor holds, in whatever order.
pub fn origins(architecture: &Architecture, tensor: TensorId) -> BTreeSet<usize> {
    let (mut found, mut seen, mut waiting) = (BTreeSet::new(), BTreeSet::new(), vec![tensor]);
    while let Some(tensor) = waiting.pop() {
        let Some(index) = tensor.checked_sub(1).filter(|&index| seen.insert(index)) else { continue };
        match &architecture.nodes[index].op {
            Op::Requantise { .. } => drop(found.insert(index)),
            Op::MaxPool { input, .. }
            | Op::SumPool { input, .. }
            | Op::Flatten { input }
            | Op::Select { input, .. } => {
                waiting.push(*input);
            }
            Op::Concat { inputs } => waiting.extend(inputs),
            Op::Linear { .. } | Op::Scale { .. } | Op::Block { .. } | Op::AvgPool { .. } | Op::Table { .. } => {}
        }
    }
    found
}

fn refused(node: &str, why: &'static str) -> NarrowError {
    NarrowError::Node { node: node.to_owned(), why }
}

/// The network while its nodes are rewritten, in order.
struct Narrowing<'a> {
    network: &'a Network,
    /// Bits to give up, by node.
    by: Vec<u32>,
    /// log2 of the unit of each tensor so far.
    units: Vec<u32>,
    new: Architecture,
    linear: Vec<Option<LinearWeights>>,
}

impl Narrowing<'_> {
    fn node(&mut self, index: usize) -> Result<(), &'static str> {
        let architecture = self.network.architecture();
        let unit = match &architecture.nodes[index].op {
            Op::Linear { terms } => self.linear(index, terms)?,
            Op::Scale { .. } => self.round(index, 0)?,
            Op::Requantise { input, bits, shift, top, zero_point } => {
                let (by, common) = (self.by[index], self.units[*input]);
                if by > 0 && *zero_point != 0 {
                    return Err("its values have a zero point");
                }
                if by > 0 && bits.saturating_sub(by) < LEAST_BITS {
                    return Err("it has two bits at least");
                }
                let bits = bits - by;
                let top = top.map(|top| ((top + (1 << by >> 1)) >> by).clamp(1, (1 << bits) - 1));
                let shift = shift.iter().map(|shift| shift + by - common).collect();
                self.coin(index, i64::from(by) - i64::from(common));
                self.new.nodes[index].op = Op::Requantise { input: *input, bits, shift, top, zero_point: *zero_point };
                by
            }
            // Nothing divides what it reads.
            Op::Block { .. } => 0,
            Op::MaxPool { input, .. }
            | Op::SumPool { input, .. }
            | Op::Flatten { input }
            | Op::Select { input, .. } => self.units[*input],
            Op::AvgPool { input, window, multiplier, offset, shift, floats } => {
                let unit = self.units[*input];
                if floats.is_some() && unit > 0 {
                    return Err("an average that sums of floats decide reads narrowed values");
                }
                let (multiplier, offset, shift) = match shift.checked_sub(unit) {
                    Some(shift) => (*multiplier, offset >> unit, shift),
                    None => (multiplier << unit, *offset, *shift),
                };
                let (input, window, floats) = (*input, *window, floats.clone());
                self.new.nodes[index].op = Op::AvgPool { input, window, multiplier, offset, shift, floats };
                0
            }
            Op::Concat { inputs } => {
                let unit = self.units[inputs[0]];
                if inputs.iter().any(|&input| self.units[input] != unit) {
                    return Err("it joins values of different units");
                }
                unit
            }
            Op::Table { input, .. } => match self.units[*input] {
                0 => 0,
                _ => return Err("a table reads narrowed values"),
            },
        };
        self.units.push(unit);
        Ok(())
    }

    /// Divides what can be divided, and multiplies what is left; returns log2 of the unit of the sums.
    fn linear(&mut self, index: usize, terms: &[Term]) -> Result<u32, &'static str> {
        let units = units_of_terms(terms, &self.units, self.by[index]);
        let common = common(self.network.architecture(), index, &units, &self.by);
        self.round(index, common)?;
        if units.iter().all(|&unit| unit == 0) && common == 0 {
            return Ok(0);
        }
        let weights = self.linear[index].as_mut().expect("a linear node has weights");
        let mut new = terms.to_vec();
        for ((term, array), unit) in new.iter_mut().zip(&mut weights.terms).zip(units) {
            match (term, array) {
                (Term::Identity { multiplier, .. }, _) => *multiplier = (*multiplier << unit) >> common,
                (Term::Conv { weight_bits, .. } | Term::Dense { weight_bits, .. }, Some(array)) => {
                    *weight_bits = rounded(array, *weight_bits, self.by[index])?;
                    *weight_bits = multiply(array, *weight_bits, unit - common)?;
                }
                (Term::Conv { .. } | Term::Dense { .. }, None) => {
                    unreachable!("a network has weights exactly where its terms ask for them")
                }
            }
        }
        self.new.nodes[index].op = Op::Linear { terms: new };
        if let Some(declared) = self.new.declared.get_mut(&self.new.nodes[index].name) {
            declared.ring.iter_mut().for_each(|ring| *ring -= common);
        }
        Ok(common)
    }

    /// The coin of a requantisation whose shift has so many bits more: it leaves as many as before.
    fn coin(&mut self, index: usize, more: i64) {
        let name = &self.new.nodes[index].name;
        let Some(declared) = self.new.declared.get_mut(name).filter(|declared| declared.coin > 0) else { return };
        declared.coin = u32::try_from(i64::from(declared.coin) + more).unwrap_or(0);
        if *declared == Declared::default() {
            self.new.declared.remove(name);
        }
    }

    /// The biases of an accumulator: with the rounding constant of a narrower requantisation, over 2^common.
    fn round(&mut self, index: usize, common: u32) -> Result<u32, &'static str> {
        let architecture = self.network.architecture();
        let requantises = |&reader: &usize| matches!(architecture.nodes[reader].op, Op::Requantise { .. });
        let narrower = architecture.consumers(index + 1).filter(requantises).find(|&reader| self.by[reader] > 0);
        let alone = architecture.consumers(index + 1).count() == 1 && architecture.output != index + 1;
        if narrower.is_some() && !alone {
            return Err("others read the sums that a narrower requantisation reads");
        }
        let weights = self.linear[index].as_mut().expect("an accumulator has biases");
        for (channel, bias) in weights.bias.iter_mut().enumerate() {
            if let Some(reader) = narrower
                && let Op::Requantise { shift, .. } = &architecture.nodes[reader].op
            {
                let shift = of_channel(shift, channel);
                *bias += (1i64 << (shift + self.by[reader]) >> 1) - (1i64 << shift >> 1);
            }
            *bias >>= common;
        }
        Ok(common)
    }
}

/// log2 of the unit of each term's weights or multiplier: of what it reads, and of weights that give up `by` bits.
pub(super) fn units_of_terms(terms: &[Term], units: &[u32], by: u32) -> Vec<u32> {
    let unit = |term: &Term| match term {
        Term::Identity { input, .. } => units[*input],
        Term::Conv { input, .. } | Term::Dense { input, .. } => units[*input] + by,
    };
    terms.iter().map(unit).collect()
}

/// log2 of what divides all terms of linear node `index`, which have these units; 0 where others than requantisations read the sums.
pub(super) fn common(architecture: &Architecture, index: usize, units: &[u32], by: &[u32]) -> u32 {
    let Op::Linear { terms } = &architecture.nodes[index].op else { return 0 };
    let factor = |(term, unit): (&Term, &u32)| match term {
        Term::Identity { multiplier, .. } => unit + multiplier.trailing_zeros().min(32),
        Term::Conv { .. } | Term::Dense { .. } => *unit,
    };
    let least = |reader: usize| match &architecture.nodes[reader].op {
        Op::Requantise { shift, .. } => shift.iter().min().copied().unwrap_or(0) + by[reader],
        _ => 0,
    };
    if architecture.output == index + 1 || units.iter().all(|&unit| unit == 0) {
        return 0;
    }
    let of_terms = terms.iter().zip(units).map(factor).min().unwrap_or(0);
    architecture.consumers(index + 1).map(least).fold(of_terms, u32::min)
}

/// Weights over 2^by, to the nearest, ties of each filter down and up in turn, as far down as up; and the width that they have then.
fn rounded(array: &mut Array4<i32>, bits: u32, by: u32) -> Result<u32, &'static str> {
    if by == 0 {
        return Ok(bits);
    }
    if bits < LEAST_BITS + by {
        return Err("its weights have two bits at least");
    }
    let bits = bits - by;
    let (half, end) = (1 << by >> 1, 1 << (bits - 1));
    for mut filter in array.outer_iter_mut() {
        let mut up = 0;
        for w in &mut filter {
            let tie = *w & ((1 << by) - 1) == half;
            *w = ((*w + half - i32::from(tie && up == 0)) >> by).clamp(1 - end, end - 1);
            up ^= i32::from(tie);
        }
    }
    Ok(bits)
}

/// Weights times 2^by, and the width that they have then.
fn multiply(array: &mut Array4<i32>, bits: u32, by: u32) -> Result<u32, &'static str> {
    if by == 0 {
        return Ok(bits);
    }
    // One bit stands for -1 and 1.
    let wider = bits.max(2) + by;
    if wider > MAX_WEIGHT_BITS {
        return Err("its weights would have more than 16 bits");
    }
    array.mapv_inplace(|w| w << by);
    Ok(wider)
}

#[cfg(all(test, feature = "random"))]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::interpret::Tensor;
    use crate::network::Node;
    use crate::random::{self, Size};

    /// Requantisations by definition, in the units of the network that was: the values of fewer bits times 2^k.
    fn narrower(network: &Network, by: &BTreeMap<String, u32>, inputs: &[Tensor]) -> Vec<Tensor> {
        let architecture = network.architecture();
        let other = |index: usize, z: &Tensor| {
            let node = &architecture.nodes[index];
            let (Op::Requantise { bits, shift, top, .. }, Some(&k)) = (&node.op, by.get(&node.name)) else {
                return None;
            };
            let most = (1i64 << (bits - k)) - 1;
            let top = top.map_or(most, |top| most.min((2 * top + (1 << k)) / (2 << k)).max(1));
            Some(Tensor::from_shape_fn(z.dim(), |at| {
                let s = of_channel(shift, at.0);
                // Twice z without its rounding constant, rounded at the new step.
                let doubled = 2 * z[at] - if s == 0 { 0 } else { 1 << s };
                let y = (doubled + (1 << (s + k))) >> (s + k + 1);
                y.clamp(0, top) << k
            }))
        };
        network.run_batch_with(inputs, other, |_, _| {}).unwrap()
    }

    #[test]
    fn narrower_values_are_read_as_what_they_stand_for() {
        let (mut narrowed, mut groups, mut together) = (0, 0, 0);
        for seed in 0..300 {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let size = Size { blocks: 4, clips: seed % 2 == 0, ..Size::default() };
            let network = random::network(&mut rng, &size);
            let inputs: Vec<Tensor> = (0..3).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
            let mut all = BTreeMap::new();
            for (at, group) in network.narrowable().into_iter().enumerate() {
                groups += 1;
                for k in 1..=2 {
                    let by = network.named(&group, k);
                    let Ok(own) = network.narrowed(&by) else { continue };
                    assert_eq!(
                        own.run_batch(&inputs).unwrap(),
                        narrower(&network, &by, &inputs),
                        "seed {seed}, {by:?}"
                    );
                    narrowed += 1;
                }
                all.extend(network.named(&group, 1 + at as u32 % 2));
            }
            // Several at once, as far as all of them can.
            if let Ok(own) = network.narrowed(&all) {
                assert_eq!(own.run_batch(&inputs).unwrap(), narrower(&network, &all, &inputs), "seed {seed}, {all:?}");
                together += usize::from(all.len() > 1);
            }
        }
        assert!(groups > 200 && narrowed > 200 && together > 50, "{groups} groups, {narrowed} and {together} networks");
    }

    /// Weights by definition: multiples of 2^k, in the units of the network that was.
    fn lighter(network: &Network, by: &BTreeMap<String, u32>) -> Network {
        let (architecture, mut weights) = network.clone().into_parts();
        for (node, own) in architecture.nodes.iter().zip(&mut weights.linear) {
            let (Op::Linear { terms }, Some(own), Some(&k)) = (&node.op, own, by.get(&node.name)) else { continue };
            for (term, array) in terms.iter().zip(&mut own.terms) {
                let (Term::Conv { weight_bits, .. } | Term::Dense { weight_bits, .. }, Some(array)) = (term, array)
                else {
                    continue;
                };
                let most = (1 << (weight_bits - k - 1)) - 1;
                for mut filter in array.outer_iter_mut() {
                    let mut ties = 0;
                    for w in &mut filter {
                        let (below, rest) = (w.div_euclid(1 << k), w.rem_euclid(1 << k));
                        ties += usize::from(2 * rest == 1 << k);
                        let up = 2 * rest > 1 << k || (2 * rest == 1 << k && ties % 2 == 0);
                        *w = (below + i32::from(up)).clamp(-most, most) << k;
                    }
                }
            }
        }
        Network::new(architecture, weights).unwrap()
    }

    #[test]
    fn weights_that_give_up_bits_are_multiples_of_them() {
        let (mut alone, mut together, mut divided) = (0, 0, 0);
        for seed in 0..300 {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let network = random::network(&mut rng, &Size { blocks: 4, clips: seed % 2 == 0, ..Size::default() });
            let inputs: Vec<Tensor> = (0..3).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
            let mut all = BTreeMap::new();
            for index in network.lighter() {
                for k in 1..=2 {
                    let by = network.named(&[index], k);
                    let Ok(own) = network.narrowed(&by) else { continue };
                    let expected = lighter(&network, &by).run_batch(&inputs).unwrap();
                    assert_eq!(own.run_batch(&inputs).unwrap(), expected, "seed {seed}, {by:?}");
                    alone += 1;
                    let bits =
                        |network: &Network| network.bounds()[index].as_ref().map(|bounds| bounds.accumulator_bits());
                    divided += usize::from(bits(&own) < bits(&network));
                }
                all.extend(network.named(&[index], 1));
            }
            let weights = all.clone();
            for (at, group) in network.narrowable().into_iter().enumerate() {
                all.extend(network.named(&group, 1 + at as u32 % 2));
            }
            let Ok(own) = network.narrowed(&all) else { continue };
            let expected = narrower(&lighter(&network, &weights), &all, &inputs);
            assert_eq!(own.run_batch(&inputs).unwrap(), expected, "seed {seed}, {all:?}");
            together += usize::from(!weights.is_empty() && all.len() > weights.len());
        }
        assert!(alone > 200 && divided > 100 && together > 30, "{alone}, of them {divided}, and {together} networks");
    }

    /// A coin leaves as many bits of its shift as before; a shift that has no more has no coin.
    #[test]
    fn coins_leave_as_many_bits() {
        let (mut compared, mut gone) = (0, 0);
        for seed in 0..300 {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let plain = random::network(&mut rng, &Size::default());
            let network = random::coins(&mut rng, &plain);
            let left = |network: &Network, index: usize| {
                let coin = network.architecture().coin(index);
                (coin > 0).then(|| network.architecture().tossable(index).unwrap() - coin)
            };
            for group in network.narrowable() {
                let Ok(own) = network.narrowed(&network.named(&group, 1)) else { continue };
                for index in 0..network.architecture().nodes.len() {
                    match (left(&network, index), left(&own, index)) {
                        (Some(_), None) => {
                            assert_eq!(network.architecture().coin(index), 1, "seed {seed}");
                            gone += 1;
                        }
                        (before, after) => {
                            assert_eq!(before, after, "seed {seed}");
                            compared += usize::from(before.is_some());
                        }
                    }
                }
            }
        }
        assert!(compared > 100 && gone > 0, "{compared} coins, {gone} gone");
    }

    /// Concatenations of a tensor with itself, one after the other: as many ways as 2^100, and each node is looked at once.
    #[test]
    fn many_ways_back() {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let mut architecture = random::network(&mut rng, &Size::default()).into_parts().0;
        let at = architecture.nodes.iter().position(|node| matches!(node.op, Op::Requantise { .. })).unwrap();
        architecture.nodes.truncate(at + 1);
        for _ in 0..100 {
            let inputs = vec![architecture.nodes.len(); 2];
            architecture.nodes.push(Node { name: String::new(), op: Op::Concat { inputs } });
        }
        for input in architecture.nodes.len()..60_000 {
            architecture.nodes.push(Node { name: String::new(), op: Op::Flatten { input } });
        }
        assert_eq!(origins(&architecture, architecture.nodes.len()), BTreeSet::from([at]));
    }

    #[test]
    fn what_cannot_have_another_unit_is_refused_by_name() {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let network = random::network(&mut rng, &Size::default());
        let unknown = BTreeMap::from([("nobody".to_owned(), 1)]);
        assert!(network.narrowed(&unknown).unwrap_err().to_string().contains("nobody"));
        assert_eq!(network.narrowed(&BTreeMap::new()).unwrap(), network);
    }
}
