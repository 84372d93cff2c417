//! How much each change of a network moves its answers: one change at a time, over inputs.
//!
//! The *distortion* of a change is the sum of the squared changes of all outputs, over their variance. Inputs are the same for all changes,
//! sums are whole numbers: a table is the same on every machine and with any number of threads.
//!
//! *A floor.* Whatever is changed early re-rolls the roundings behind it, however small the change. So each layer has a floor, what adding
//! 1 and -1 to the biases of every other channel does, and it is subtracted, for as many inputs as the change touched at all.
//!
//! *Rings* are declared by bits beyond what calibration needs, on other inputs than those that are measured, with room for all coins that
//! may be chosen.
//!
//! *Coins* are tossed anew for each input, by whatever the caller tosses them with: the same coins make the same table.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::{Discriminant, discriminant};

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::narrow::{LEAST_BITS, NarrowError};
use crate::check::MAX_WEIGHT_BITS;
use crate::declared::LEAST_ABOVE;
use crate::error::{InputError, ModelError};
use crate::interpret::Tensor;
use crate::limits::{MAX_ACTIVATION_BITS, MAX_RING, MAX_SHIFT};
use crate::network::{Architecture, Op, Range};
use crate::parallel;
use crate::rings::most_above;
use crate::weights::Network;

/// How much less a wrap counts where the network will be trained: a loss term keeps sums within their rings, and most of what wraps broke
/// comes back in some hundred steps, sooner than what fewer bits of an activation broke.
const TRAINED: u64 = 10;

/// Bits to spare that rings are measured with.
const SPARES: [i32; 5] = [3, 2, 1, 0, -1];

/// A change of one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A declared ring, so many bits wider than calibration needs it.
    Spare(i32),
    /// So many bits fewer for activations.
    Fewer(u32),
    /// So many bits fewer for weights.
    Weights(u32),
    /// A coin of all bits of the shift but `left`, which the exact rounding keeps.
    Coin {
        /// How many.
        left: u32,
    },
}

/// Which kinds of changes are measured, beside rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Bits that activations give up at most.
    pub fewer: u32,
    /// Bits that weights give up at most.
    pub weights: u32,
    /// Bits of a shift that coins leave at least; `None` for no coins.
    pub coins: Option<u32>,
}

/// Tosses the coins of an input: asked for t, one of t bits, node by node and row-major.
pub type Toss = Box<dyn FnMut(u32) -> u64>;

/// What a change does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The squared changes of all outputs, added up.
    pub squared: u64,
    /// Inputs whose outputs changed.
    pub inputs: u64,
}

/// A change and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which.
    pub change: Change,
    /// `None` before it was measured.
    #[serde(flatten)]
    pub measured: Option<Measured>,
}

/// What is decided together: the ring of a linear node, the width of its weights, the widths of some requantisations, or the coin of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// Of a ring: bits above the shift that calibration needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<u32>,
    /// What the smallest change of the layer does; `None` before it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Measured>,
    /// Beside leaving it as it is.
    pub options: Vec<Entry>,
}

/// All changes of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Inputs that changes were measured on.
    pub inputs: u64,
    /// Inputs that rings were calibrated on.
    pub calibrated: u64,
    /// Squared distances of all outputs from their mean, added up.
    pub spread: f64,
    /// In the order of the network.
    pub variables: Vec<Variable>,
}

/// An option for each variable of a table: 0 leaves it as it is.
pub type Selection = Vec<usize>;

/// Why distortion was not measured, or changes not made.
#[derive(Debug, thiserror::Error)]
pub enum DistortionError {
    /// No inputs.
    #[error("there are not two inputs: one to calibrate rings with and one to measure on")]
    NoInputs,
    /// An input that is none of the network's.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A change that cannot be made.
    #[error(transparent)]
    Narrow(#[from] NarrowError),
    /// What came out breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A table of another network.
    #[error("the table is not of this network: {0}")]
    Table(String),
}

impl Variable {
    /// What its options change; `None` without any.
    fn kind(&self) -> Option<Discriminant<Change>> {
        self.options.first().map(|entry| discriminant(&entry.change))
    }

    /// True if it decides about the width of weights.
    fn is_weights(&self) -> bool {
        matches!(self.options.first(), Some(Entry { change: Change::Weights(_), .. }))
    }

    /// True if it decides about a coin; the options of a [checked](Table::check) table's variable are of one kind.
    pub fn is_coin(&self) -> bool {
        matches!(self.options.first(), Some(Entry { change: Change::Coin { .. }, .. }))
    }
}

impl Table {
    /// True if it has coins: those that the network declares are then chosen anew.
    fn has_coins(&self) -> bool {
        self.variables.iter().any(Variable::is_coin)
    }

    /// The distortion of an option of a variable: 0 for leaving it as it is, the floor subtracted; `None` if it was not measured.
    pub fn distortion(&self, variable: usize, option: usize) -> Option<f64> {
        let of = &self.variables[variable];
        let Some(entry) = option.checked_sub(1) else { return Some(0.0) };
        let (own, floor) = (of.options[entry].measured?, of.floor?);
        let floor = match floor.inputs {
            0 => 0.0,
            inputs => floor.squared as f64 * (own.inputs as f64 / inputs as f64).min(1.0),
        };
        Some((own.squared as f64 - floor).max(0.0) / self.spread.max(1.0))
    }

    /// The table to choose by where the network will be trained with its choices: what rings do counts a tenth.
    pub fn to_train(mut self) -> Table {
        for variable in self.variables.iter_mut().filter(|variable| variable.above.is_some()) {
            let measured = variable.options.iter_mut().filter_map(|entry| entry.measured.as_mut());
            measured.chain(&mut variable.floor).for_each(|measured| measured.squared /= TRAINED);
        }
        self
    }

    /// What the options of a selection do together, if distortions add up.
    pub fn sum(&self, selection: &[usize]) -> f64 {
        // The sum of no numbers is -0.
        let each = selection.iter().enumerate().filter_map(|(variable, &option)| self.distortion(variable, option));
        each.fold(0.0, |sum, own| sum + own)
    }

    /// How many measurements there are, and how many of them are done.
    pub fn progress(&self) -> (usize, usize) {
        let of = |v: &Variable| {
            let done = v.options.iter().filter(|entry| entry.measured.is_some()).count();
            (done + usize::from(v.floor.is_some()), v.options.len() + 1)
        };
        self.variables.iter().map(of).fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1))
    }

    /// Takes over what an older table of the same network and inputs has.
    pub fn resume(&mut self, older: &Table) {
        if (self.inputs, self.calibrated, self.spread) != (older.inputs, older.calibrated, older.spread) {
            return;
        }
        for variable in &mut self.variables {
            let same = |other: &&Variable| {
                (&other.nodes, other.above, other.kind()) == (&variable.nodes, variable.above, variable.kind())
            };
            let Some(known) = older.variables.iter().find(same) else { continue };
            variable.floor = variable.floor.or(known.floor);
            for entry in &mut variable.options {
                let known = known.options.iter().find(|other| other.change == entry.change);
                entry.measured = entry.measured.or(known.and_then(|known| known.measured));
            }
        }
    }

    /// Every variable is one of the network's, every change one that a table may hold.
    ///
    /// # Errors
    /// A table of another network, or with numbers that no measurement makes.
    pub fn check(&self, architecture: &Architecture) -> Result<(), DistortionError> {
        let wrong = |what: String| Err(DistortionError::Table(what));
        if !self.spread.is_finite() || self.spread < 0.0 {
            return wrong("the spread is no number".into());
        }
        let mut seen = BTreeSet::new();
        for variable in &self.variables {
            let ring = variable.above.is_some();
            let weights = variable.is_weights();
            if variable.nodes.is_empty() || (ring && variable.nodes.len() > 1) {
                return wrong(format!("a variable of {} nodes", variable.nodes.len()));
            }
            for name in &variable.nodes {
                let is_linear = matches!(architecture.nodes[index_of(architecture, name)?].op, Op::Linear { .. });
                if is_linear != (ring || weights) {
                    return wrong(format!("{name:?} is another operation"));
                }
            }
            let coin = variable.is_coin();
            if !variable.nodes.iter().all(|name| seen.insert((name, ring, coin))) {
                return wrong(format!("{:?} are decided twice", variable.nodes));
            }
            let fits = |entry: &Entry| match entry.change {
                Change::Spare(spare) => variable.above.is_some_and(|above| above <= MAX_RING) && spare.abs() <= 64,
                Change::Fewer(bits) => !ring && !coin && !weights && (1..=MAX_ACTIVATION_BITS).contains(&bits),
                Change::Weights(bits) => !ring && weights && (1..=MAX_WEIGHT_BITS).contains(&bits),
                Change::Coin { left } => !ring && !weights && coin && variable.nodes.len() == 1 && left <= MAX_SHIFT,
            };
            if !variable.options.iter().all(fits) {
                return wrong(format!("{:?} has a change that is none of its own", variable.nodes));
            }
        }
        Ok(())
    }

    /// The network with these changes; rings that it declares are chosen anew, and coins if the table has any.
    ///
    /// # Errors
    /// A table of another network, or changes that exclude each other.
    pub fn apply(&self, network: &Network, selection: &[usize]) -> Result<Network, DistortionError> {
        self.check(network.architecture())?;
        let plain = plain(network, self.has_coins())?;
        let chosen = |variable: &Variable, option: usize| option.checked_sub(1).map(|at| variable.options[at].change);
        let (mut widths, mut spares, mut coins) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (variable, &option) in self.variables.iter().zip(selection) {
            match chosen(variable, option) {
                None => {}
                Some(Change::Fewer(bits) | Change::Weights(bits)) => {
                    widths.extend(variable.nodes.iter().map(|name| (name.clone(), bits)));
                }
                Some(Change::Spare(spare)) => spares.push((variable, spare)),
                Some(Change::Coin { left }) => coins.push((&variable.nodes[0], left)),
            }
        }
        let mut narrowed = plain.narrowed(&widths)?;
        if !coins.is_empty() {
            let architecture = narrowed.architecture();
            let bits = |(name, left): (&String, u32)| -> Result<(String, u32), DistortionError> {
                let shift = architecture.tossable(index_of(architecture, name)?);
                let shift = shift.map_err(|why| DistortionError::Table(format!("{name:?} has no coin: {why}")))?;
                Ok((name.clone(), shift.saturating_sub(left)))
            };
            let bits: Result<BTreeMap<String, u32>, _> = coins.into_iter().map(bits).collect();
            narrowed = narrowed.with_coin_bits(bits?)?;
        }
        let mut rings = BTreeMap::new();
        for (variable, spare) in spares {
            let name = &variable.nodes[0];
            let index = index_of(plain.architecture(), name)?;
            let above = i64::from(variable.above.unwrap_or(0)) + i64::from(spare);
            // Of an activation that is narrower, fewer bits are above the shift.
            let mut readers = plain.architecture().consumers(index + 1);
            let fewer = readers.find_map(|reader| widths.get(&plain.architecture().nodes[reader].name)).copied();
            let ring = narrowed.ring_above(index, above - i64::from(fewer.unwrap_or(0)));
            rings.extend(ring.map(|ring| (name.clone(), ring)));
        }
        Ok(narrowed.with_rings(rings)?)
    }
}

/// The network without the rings that it declares, and without its coins if they are chosen anew.
fn plain(network: &Network, tossed: bool) -> Result<Network, ModelError> {
    let plain = network.with_rings(BTreeMap::new())?;
    if tossed { plain.with_coin_bits(BTreeMap::new()) } else { Ok(plain) }
}

fn index_of(architecture: &Architecture, name: &str) -> Result<usize, DistortionError> {
    architecture.position(name).ok_or_else(|| DistortionError::Table(format!("it has no {name:?}")))
}

/// A network, its answers to inputs, and what its sums need there.
pub struct Measuring {
    plain: Network,
    inputs: Vec<Tensor>,
    coins_of: Box<dyn Fn(usize) -> Toss + Sync>,
    answers: Vec<Tensor>,
    /// By input and linear node, the bits above its shift.
    above: Vec<Above>,
}

impl Measuring {
    /// Runs the network, without the rings that it declares, over inputs to `calibrate` with and others to measure on; the table has every
    /// change of some kinds and no measurement. `coins_of(i)` tosses the coins of input `i`. Coins that the network has stay, unless they
    /// are chosen.
    ///
    /// # Errors
    /// No inputs, or some that are not the network's.
    pub fn start(
        network: &Network,
        calibrate: &[Tensor],
        inputs: Vec<Tensor>,
        kinds: Kinds,
        coins_of: impl Fn(usize) -> Toss + Sync + 'static,
    ) -> Result<(Measuring, Table), DistortionError> {
        if calibrate.is_empty() || inputs.is_empty() {
            return Err(DistortionError::NoInputs);
        }
        let plain = plain(network, kinds.coins.is_some())?;
        let coins_of: Box<dyn Fn(usize) -> Toss + Sync> = Box::new(coins_of);
        let architecture = plain.architecture();
        let room = |index: usize| {
            let tossed = architecture.consumers(index + 1).filter_map(|reader| architecture.tossable(reader).ok());
            let most = kinds.coins.and_then(|left| tossed.map(|shift| shift.saturating_sub(left)).max()).unwrap_or(0);
            architecture.half_coin(index).max(1 << most >> 1)
        };
        let calibration = sums(&plain, calibrate, &coins_of, room)?;
        let measured = sums(&plain, &inputs, &coins_of, |index| architecture.half_coin(index))?;
        let (answers, above): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
        let spread = spread(&answers);
        let measuring = Measuring { plain, inputs, coins_of, answers, above };
        let mut needed = Above::new();
        for (index, above) in calibration.into_iter().flat_map(|(_, above)| above) {
            let known = needed.entry(index).or_insert(above);
            *known = above.max(*known);
        }
        let variables = measuring.variables(&needed, kinds);
        let (inputs, calibrated) = (measuring.inputs.len() as u64, calibrate.len() as u64);
        Ok((measuring, Table { inputs, calibrated, spread, variables }))
    }

    /// What can be chosen, in order of the nodes.
    fn variables(&self, needed: &Above, kinds: Kinds) -> Vec<Variable> {
        let architecture = self.plain.architecture();
        let name = |index: usize| architecture.nodes[index].name.clone();
        let entry = |change| Entry { change, measured: None };
        let mut all: Vec<(usize, Variable)> = Vec::new();
        let mut add = |nodes: &[usize], above, options: Vec<Entry>| {
            if !options.is_empty() {
                let names = nodes.iter().map(|&index| name(index)).collect();
                all.push((nodes[0], Variable { nodes: names, above, floor: None, options }));
            }
        };
        for (&index, &above) in needed {
            let Ok(above) = u32::try_from(above) else { continue };
            let bits = |spare: &i32| i64::from(above) + i64::from(*spare);
            let narrower = |spare: &i32| self.plain.ring_above(index, bits(spare)).is_some();
            // Below the least ring all are one.
            let distinct = |spare: &i32| bits(spare) >= LEAST_ABOVE.into();
            let spares = SPARES.into_iter().filter(|spare| narrower(spare) && distinct(spare));
            add(&[index], Some(above), spares.map(|spare| entry(Change::Spare(spare))).collect());
        }
        for group in self.plain.narrowable() {
            let bits = |index: &usize| match &architecture.nodes[*index].op {
                Op::Requantise { bits, .. } => *bits,
                _ => LEAST_BITS,
            };
            let most = group.iter().map(bits).min().unwrap_or(LEAST_BITS) - LEAST_BITS;
            add(&group, None, (1..=most.min(kinds.fewer)).map(|bits| entry(Change::Fewer(bits))).collect());
        }
        for index in if kinds.weights > 0 { self.plain.lighter() } else { Vec::new() } {
            let bits =
                (1..=kinds.weights).filter(|&bits| self.plain.narrowed(&self.plain.named(&[index], bits)).is_ok());
            add(&[index], None, bits.map(|bits| entry(Change::Weights(bits))).collect());
        }
        for index in 0..architecture.nodes.len() {
            let (Some(least), Ok(shift)) = (kinds.coins, architecture.tossable(index)) else { continue };
            let left = (least..=least.max(1)).rev().filter(|left| *left < shift);
            add(&[index], None, left.map(|left| entry(Change::Coin { left })).collect());
        }
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, variable)| variable).collect()
    }

    /// Measures everything that a table misses; `keep` is given the table after each measurement.
    ///
    /// # Errors
    /// A table of another network, or `keep`'s.
    pub fn fill<E: From<DistortionError>>(
        &self,
        table: &mut Table,
        mut keep: impl FnMut(&Table) -> Result<(), E>,
    ) -> Result<(), E> {
        for variable in 0..table.variables.len() {
            if table.variables[variable].floor.is_none() {
                let floor = self.floor(table, variable)?;
                table.variables[variable].floor = Some(floor);
                keep(table)?;
            }
            for option in 0..table.variables[variable].options.len() {
                if table.variables[variable].options[option].measured.is_none() {
                    let measured = self.measure(table, variable, option)?;
                    table.variables[variable].options[option].measured = Some(measured);
                    keep(table)?;
                }
            }
        }
        Ok(())
    }

    /// What one change does.
    fn measure(&self, table: &Table, variable: usize, option: usize) -> Result<Measured, DistortionError> {
        let mut selection = vec![0; table.variables.len()];
        selection[variable] = option + 1;
        let changed = table.apply(&self.plain, &selection)?;
        let of = &table.variables[variable];
        // Where no sum wraps, nothing changes.
        let touched: Vec<usize> = match of.options[option].change {
            Change::Fewer(_) | Change::Weights(_) | Change::Coin { .. } => (0..self.inputs.len()).collect(),
            Change::Spare(spare) => {
                let index = index_of(self.plain.architecture(), &of.nodes[0])?;
                let ring = (i64::from(of.above.unwrap_or(0)) + i64::from(spare)).max(LEAST_ABOVE.into());
                (0..self.inputs.len()).filter(|&at| self.above[at].get(&index).is_some_and(|&own| own > ring)).collect()
            }
        };
        self.compare(&changed, &touched)
    }

    /// What 1 and -1 do, added to every other channel of what the nodes read or sum up. Variables of the same sums have one floor.
    fn floor(&self, table: &Table, variable: usize) -> Result<Measured, DistortionError> {
        let makers = self.makers(&table.variables[variable])?;
        for other in table.variables.iter().filter(|other| other.floor.is_some()) {
            if let (Some(floor), true) = (other.floor, self.makers(other)? == makers) {
                return Ok(floor);
            }
        }
        let (architecture, mut weights) = self.plain.clone().into_parts();
        for maker in makers {
            if let Some(own) = &mut weights.linear[maker] {
                own.bias.iter_mut().zip([1, -1].into_iter().cycle()).for_each(|(bias, by)| *bias += by);
            }
        }
        let all: Vec<usize> = (0..self.inputs.len()).collect();
        self.compare(&Network::new(architecture, weights)?, &all)
    }

    /// The nodes that make what a variable's nodes read, or the nodes themselves.
    fn makers(&self, variable: &Variable) -> Result<BTreeSet<usize>, DistortionError> {
        let architecture = self.plain.architecture();
        let maker = |name: &String| {
            let index = index_of(architecture, name)?;
            Ok(match &architecture.nodes[index].op {
                Op::Requantise { input, .. } | Op::Block { input, .. } => input - 1,
                _ => index,
            })
        };
        variable.nodes.iter().map(maker).collect()
    }

    /// How a network's answers to some of the inputs differ.
    fn compare(&self, changed: &Network, inputs: &[usize]) -> Result<Measured, DistortionError> {
        let of_part = |part: &[usize]| -> Result<Measured, InputError> {
            let mut sum = Measured::default();
            let answers = answers(changed, &self.inputs, part, &self.coins_of, |_, _| {})?;
            for (answer, &at) in answers.iter().zip(part) {
                let pairs = answer.iter().zip(&self.answers[at]);
                let squared = pairs.fold(0u64, |sum, (a, b)| sum.saturating_add(a.abs_diff(*b).saturating_pow(2)));
                sum = Measured {
                    squared: sum.squared.saturating_add(squared),
                    inputs: sum.inputs + u64::from(squared > 0),
                };
            }
            Ok(sum)
        };
        let mut sum = Measured::default();
        for own in parallel::parts(inputs, of_part) {
            let own = own?;
            sum = Measured { squared: sum.squared.saturating_add(own.squared), inputs: sum.inputs + own.inputs };
        }
        Ok(sum)
    }
}

/// By linear node.
type Above = BTreeMap<usize, i64>;

/// The answers of a network to some of the inputs, with the coins of each; `seen` is shown all sums.
fn answers(
    network: &Network,
    inputs: &[Tensor],
    part: &[usize],
    coins_of: &(impl Fn(usize) -> Toss + ?Sized),
    seen: impl Fn(usize, &Tensor),
) -> Result<Vec<Tensor>, InputError> {
    let own: Vec<Tensor> = part.iter().map(|&at| inputs[at].clone()).collect();
    network.run_batch_with(&own, network.tossing(|at| coins_of(part[at])), seen)
}

/// The answers to inputs, and the bits that the sums of each linear node that may have a ring need above its shift, input by input, with
/// `room` for coins at both ends.
fn sums(
    network: &Network,
    inputs: &[Tensor],
    coins_of: &(impl Fn(usize) -> Toss + Sync + ?Sized),
    room: impl Fn(usize) -> i64,
) -> Result<Vec<(Tensor, Above)>, InputError> {
    let architecture = network.architecture();
    let of_node = |index: usize| Some((index, (architecture.declarable(index).ok()?, room(index))));
    let shifts: BTreeMap<usize, (Vec<u32>, i64)> = (0..architecture.nodes.len()).filter_map(of_node).collect();
    let of_part = |part: &[usize]| -> Result<Vec<(Tensor, Above)>, InputError> {
        // Nodes come in order, input by input.
        let above: RefCell<Vec<(usize, i64)>> = RefCell::default();
        let seen = |index: usize, z: &Tensor| {
            let Some((shift, room)) = shifts.get(&index) else { return };
            let ends = |plane: ArrayView2<'_, i64>| {
                plane.iter().fold(Range { lo: 0, hi: 0 }, |Range { lo, hi }, &z| Range { lo: lo.min(z), hi: hi.max(z) })
            };
            let ranges: Vec<Range> = z.outer_iter().map(ends).collect();
            above.borrow_mut().push((index, most_above(&ranges, shift, *room)));
        };
        let answers = answers(network, inputs, part, coins_of, seen)?;
        let mut above = above.into_inner().into_iter();
        let own = |answer| (answer, above.by_ref().take(shifts.len()).collect());
        Ok(answers.into_iter().map(own).collect())
    };
    let all: Vec<usize> = (0..inputs.len()).collect();
    let parts: Result<Vec<Vec<_>>, _> = parallel::parts(&all, of_part).into_iter().collect();
    Ok(parts?.into_iter().flatten().collect())
}

/// Squared distances of all outputs from their mean.
fn spread(answers: &[Tensor]) -> f64 {
    let values = || answers.iter().flatten().map(|&value| i128::from(value));
    let (count, sum) = (values().count() as i128, values().sum::<i128>());
    let squares: i128 = values().map(|value| value * value).sum();
    (squares - sum * sum / count.max(1)) as f64
}
