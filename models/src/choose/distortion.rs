//! How much each change of a network moves its answers: one change at a time, over inputs.
//!
//! The *distortion* of a change is the sum of the squared changes of all outputs, over their variance. Inputs are the same for all changes,
//! sums are whole numbers: a table is the same on every machine and with any number of threads.
//!
//! *A floor.* Whatever is changed early re-rolls the roundings behind it, however small the change. So each layer has a floor, what adding
//! 1 and -1 to the biases of every other channel does, and it is subtracted, for as many inputs as the change touched at all.
//!
//! *Rings* are declared by bits beyond what calibration needs, on other inputs than those that are measured.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::narrow::{LEAST_BITS, NarrowError};
use crate::bounds::linear_bounds;
use crate::declared::LEAST_ABOVE;
use crate::error::{InputError, ModelError};
use crate::interpret::Tensor;
use crate::limits::{MAX_ACTIVATION_BITS, MAX_RING};
use crate::network::{Architecture, Op, Range};
use crate::parallel;
use crate::rings::most_above;
use crate::weights::Network;

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
}

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

/// What is decided together: the ring of a linear node, or the widths of some requantisations.
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

impl Table {
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
            let same = |other: &&Variable| other.nodes == variable.nodes && other.above == variable.above;
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
        for variable in &self.variables {
            let ring = variable.above.is_some();
            if variable.nodes.is_empty() || (ring && variable.nodes.len() > 1) {
                return wrong(format!("a variable of {} nodes", variable.nodes.len()));
            }
            for name in &variable.nodes {
                let is_linear = matches!(architecture.nodes[index_of(architecture, name)?].op, Op::Linear { .. });
                if is_linear != ring {
                    return wrong(format!("{name:?} is another operation"));
                }
            }
            let fits = |entry: &Entry| match entry.change {
                Change::Spare(spare) => variable.above.is_some_and(|above| above <= MAX_RING) && spare.abs() <= 64,
                Change::Fewer(bits) => !ring && (1..=MAX_ACTIVATION_BITS).contains(&bits),
            };
            if !variable.options.iter().all(fits) {
                return wrong(format!("{:?} has a change that is none of its own", variable.nodes));
            }
        }
        Ok(())
    }

    /// The network with these changes; rings that it declares are chosen anew.
    ///
    /// # Errors
    /// A table of another network, or changes that exclude each other.
    pub fn apply(&self, network: &Network, selection: &[usize]) -> Result<Network, DistortionError> {
        self.check(network.architecture())?;
        let plain = network.with_rings(BTreeMap::new())?;
        let chosen = |variable: &Variable, option: usize| option.checked_sub(1).map(|at| variable.options[at].change);
        let (mut widths, mut spares) = (BTreeMap::new(), Vec::new());
        for (variable, &option) in self.variables.iter().zip(selection) {
            match chosen(variable, option) {
                None => {}
                Some(Change::Fewer(bits)) => {
                    widths.extend(variable.nodes.iter().map(|name| (name.clone(), bits)));
                }
                Some(Change::Spare(spare)) => spares.push((variable, spare)),
            }
        }
        let narrowed = plain.narrowed(&widths)?;
        let mut rings = BTreeMap::new();
        for (variable, spare) in spares {
            let name = &variable.nodes[0];
            let index = index_of(plain.architecture(), name)?;
            let above = i64::from(variable.above.unwrap_or(0)) + i64::from(spare);
            rings.extend(declared(&narrowed, index, above, &widths).map(|ring| (name.clone(), ring)));
        }
        Ok(narrowed.with_rings(rings)?)
    }
}

/// The ring of node `index` of a network whose activations were narrowed, for sums that need so many bits above the shift that was;
/// `None` where it would not be narrower than the weights need, or no reader could hold it.
fn declared(narrowed: &Network, index: usize, above: i64, widths: &BTreeMap<String, u32>) -> Option<Vec<u32>> {
    let architecture = narrowed.architecture();
    let shift = architecture.declarable(index).ok()?;
    let mut readers = architecture.consumers(index + 1);
    let fewer = readers.find_map(|reader| widths.get(&architecture.nodes[reader].name)).copied().unwrap_or(0);
    let above = (above - i64::from(fewer)).max(LEAST_ABOVE.into());
    let (terms, weights) = narrowed.linear(index)?;
    let worst = most_above(&linear_bounds(terms, weights, narrowed.tensors()), &shift);
    let ring: Option<Vec<u32>> = shift.iter().map(|&shift| u32::try_from(above + i64::from(shift)).ok()).collect();
    ring.filter(|ring| above < worst && ring.iter().all(|&ring| ring <= MAX_RING))
}

fn index_of(architecture: &Architecture, name: &str) -> Result<usize, DistortionError> {
    let at = architecture.nodes.iter().position(|node| node.name == name);
    at.ok_or_else(|| DistortionError::Table(format!("it has no {name:?}")))
}

/// A network, its answers to inputs, and what its sums need there.
pub struct Measuring {
    plain: Network,
    inputs: Vec<Tensor>,
    answers: Vec<Tensor>,
    /// By input and linear node, the bits above its shift.
    above: Vec<BTreeMap<usize, i64>>,
}

impl Measuring {
    /// Runs the network, without the rings that it declares, over inputs to `calibrate` with and others to measure on; the table has every
    /// change and no measurement. Activations give up at most `fewer` bits.
    ///
    /// # Errors
    /// No inputs, or some that are not the network's.
    pub fn start(
        network: &Network,
        calibrate: &[Tensor],
        inputs: Vec<Tensor>,
        fewer: u32,
    ) -> Result<(Measuring, Table), DistortionError> {
        if calibrate.is_empty() || inputs.is_empty() {
            return Err(DistortionError::NoInputs);
        }
        let plain = network.with_rings(BTreeMap::new())?;
        let calibration = sums(&plain, calibrate)?;
        let measured = sums(&plain, &inputs)?;
        let (answers, above): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
        let spread = spread(&answers);
        let measuring = Measuring { plain, inputs, answers, above };
        let mut needed: BTreeMap<usize, i64> = BTreeMap::new();
        for (index, above) in calibration.into_iter().flat_map(|(_, above)| above) {
            let known = needed.entry(index).or_insert(above);
            *known = above.max(*known);
        }
        let variables = measuring.variables(&needed, fewer);
        let (inputs, calibrated) = (measuring.inputs.len() as u64, calibrate.len() as u64);
        Ok((measuring, Table { inputs, calibrated, spread, variables }))
    }

    /// The rings and widths that can be chosen, in order of the nodes.
    fn variables(&self, needed: &BTreeMap<usize, i64>, fewer: u32) -> Vec<Variable> {
        let architecture = self.plain.architecture();
        let name = |index: usize| architecture.nodes[index].name.clone();
        let entry = |change| Entry { change, measured: None };
        let mut all: Vec<(usize, Variable)> = Vec::new();
        for (&index, &above) in needed {
            let Ok(above) = u32::try_from(above) else { continue };
            let narrower = |spare: &i32| {
                declared(&self.plain, index, i64::from(above) + i64::from(*spare), &BTreeMap::new()).is_some()
            };
            // Below the least ring all are one.
            let distinct = |spare: &i32| i64::from(above) + i64::from(*spare) >= LEAST_ABOVE.into();
            let spares = SPARES.into_iter().filter(|spare| narrower(spare) && distinct(spare));
            let options: Vec<Entry> = spares.map(|spare| entry(Change::Spare(spare))).collect();
            if !options.is_empty() {
                all.push((index, Variable { nodes: vec![name(index)], above: Some(above), floor: None, options }));
            }
        }
        for group in self.plain.narrowable() {
            let bits = |index: &usize| match &architecture.nodes[*index].op {
                Op::Requantise { bits, .. } => *bits,
                _ => LEAST_BITS,
            };
            let most = group.iter().map(bits).min().unwrap_or(LEAST_BITS) - LEAST_BITS;
            let options: Vec<Entry> = (1..=most.min(fewer)).map(|bits| entry(Change::Fewer(bits))).collect();
            if !options.is_empty() {
                let nodes = group.iter().map(|&index| name(index)).collect();
                all.push((group[0], Variable { nodes, above: None, floor: None, options }));
            }
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
                let floor = self.floor(&table.variables[variable])?;
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
            Change::Fewer(_) => (0..self.inputs.len()).collect(),
            Change::Spare(spare) => {
                let index = index_of(self.plain.architecture(), &of.nodes[0])?;
                let ring = (i64::from(of.above.unwrap_or(0)) + i64::from(spare)).max(LEAST_ABOVE.into());
                (0..self.inputs.len()).filter(|&at| self.above[at].get(&index).is_some_and(|&own| own > ring)).collect()
            }
        };
        self.compare(&changed, &touched)
    }

    /// What 1 and -1 do, added to every other channel of what the nodes read or sum up.
    fn floor(&self, variable: &Variable) -> Result<Measured, DistortionError> {
        let (architecture, mut weights) = self.plain.clone().into_parts();
        for name in &variable.nodes {
            let index = index_of(&architecture, name)?;
            let maker = match &architecture.nodes[index].op {
                Op::Requantise { input, .. } => input - 1,
                _ => index,
            };
            if let Some(own) = &mut weights.linear[maker] {
                own.bias.iter_mut().zip([1, -1].into_iter().cycle()).for_each(|(bias, by)| *bias += by);
            }
        }
        let all: Vec<usize> = (0..self.inputs.len()).collect();
        self.compare(&Network::new(architecture, weights)?, &all)
    }

    /// How a network's answers to some of the inputs differ.
    fn compare(&self, changed: &Network, inputs: &[usize]) -> Result<Measured, DistortionError> {
        let of_part = |part: &[usize]| -> Result<Measured, InputError> {
            let own: Vec<Tensor> = part.iter().map(|&at| self.inputs[at].clone()).collect();
            let mut sum = Measured::default();
            for (answer, &at) in changed.run_batch(&own)?.iter().zip(part) {
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

/// The answers to inputs, and the bits that the sums of each linear node that may have a ring need above its shift, input by input.
fn sums(network: &Network, inputs: &[Tensor]) -> Result<Vec<(Tensor, Above)>, InputError> {
    let architecture = network.architecture();
    let shifts: BTreeMap<usize, Vec<u32>> =
        (0..architecture.nodes.len()).filter_map(|index| Some((index, architecture.declarable(index).ok()?))).collect();
    let of_part = |part: &[Tensor]| -> Result<Vec<(Tensor, Above)>, InputError> {
        // Nodes come in order, input by input.
        let above: RefCell<Vec<(usize, i64)>> = RefCell::default();
        let seen = |index: usize, z: &Tensor| {
            let Some(shift) = shifts.get(&index) else { return };
            let ends = |plane: ArrayView2<'_, i64>| {
                plane.iter().fold(Range { lo: 0, hi: 0 }, |Range { lo, hi }, &z| Range { lo: lo.min(z), hi: hi.max(z) })
            };
            let ranges: Vec<Range> = z.outer_iter().map(ends).collect();
            above.borrow_mut().push((index, most_above(&ranges, shift)));
        };
        let answers = network.run_batch_with(part, |_, _| None, seen)?;
        let mut above = above.into_inner().into_iter();
        let own = |answer| (answer, above.by_ref().take(shifts.len()).collect());
        Ok(answers.into_iter().map(own).collect())
    };
    let parts: Result<Vec<Vec<_>>, _> = parallel::parts(inputs, of_part).into_iter().collect();
    Ok(parts?.into_iter().flatten().collect())
}

/// Squared distances of all outputs from their mean.
fn spread(answers: &[Tensor]) -> f64 {
    let values = || answers.iter().flatten().map(|&value| i128::from(value));
    let (count, sum) = (values().count() as i128, values().sum::<i128>());
    let squares: i128 = values().map(|value| value * value).sum();
    (squares - sum * sum / count.max(1)) as f64
}
