//! The planner's bytes of every node under every combination of the choices that they depend on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lowkey_bridge::Schedule;
use lowkey_models::choose::distortion::Table;
use lowkey_models::choose::knapsack::{Factor, Unsolved};
use lowkey_models::choose::narrow;
use lowkey_models::choose::skeleton::{Skeleton, Skeletons};
use lowkey_models::{Architecture, Network, parallel};
use lowkey_mpc::party::Stage;

use super::signature::{self, Signature};
use super::{OptimiseError, Planned};
use crate::node::{Link, NodeId};
use crate::plan::Step;
use crate::report::charged_bytes;
use crate::scope::INPUT;

/// Most combinations that one node may depend on.
const MAX_COMBINATIONS: usize = 1 << 17;

/// The prices of a network's nodes, the input's last.
pub struct Prices {
    nodes: Vec<Priced>,
    plans: usize,
}

/// A node whose bytes depend on choices.
struct Priced {
    /// In ascending order.
    variables: Vec<usize>,
    /// How many options each has.
    sizes: Vec<usize>,
    /// By combination of their options, the last one counting fastest.
    signatures: Vec<usize>,
    /// All different ones: a combination that has it, and the bytes once they are known.
    known: Vec<(usize, Known)>,
    /// Their places.
    places: HashMap<Signature, usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Not,
    Bytes(u64),
    /// There is no such network, or it has no plan.
    Impossible,
}

/// Bytes by node, and of the input last.
pub(super) fn by_node(Planned { plan, prediction }: &Planned) -> Vec<u64> {
    let mut scopes: HashMap<&str, u64> = HashMap::new();
    for frame in prediction.frames.iter().filter(|frame| matches!(frame.stage, Stage::Offline | Stage::Online)) {
        *scopes.entry(&frame.scope).or_default() += frame.bytes;
    }
    let of_scope = |scope: &str| scopes.get(scope).copied().unwrap_or(0);
    let of_step = |(node, step): (NodeId, &Step)| {
        let demand = step.nonlinear().map(|step| step.programs.of(Schedule::Prepared).demand() * step.lanes);
        of_scope(plan.name(node)) + demand.map_or(0, charged_bytes)
    };
    plan.steps.pairs().map(of_step).chain([of_scope(INPUT)]).collect()
}

impl Prices {
    /// Plans until all are known.
    pub(super) fn ask(
        network: &Network,
        table: &Table,
        options: &[Vec<usize>],
        link: Link,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, OptimiseError> {
        let architecture = network.architecture();
        let skeletons = Skeletons::new(table, architecture);
        let scopes = Scopes::new(architecture, &skeletons, table);
        let count = architecture.nodes.len();
        let mut nodes = Vec::with_capacity(count + 1);
        for node in (0..count).map(Some).chain([None]) {
            nodes.push(Priced::new(architecture, &skeletons, options, scopes.of(node), node)?);
        }
        let mut prices = Self { nodes, plans: 0 };
        let all: usize = prices.nodes.iter().map(|node| node.known.len()).sum();
        loop {
            let missing = prices.missing();
            progress(all - missing, all);
            if missing == 0 {
                return Ok(prices);
            }
            let selections = prices.selections(options, 4 * parallel::cores());
            let tried = |chosen: &Vec<usize>| {
                let selection: Vec<usize> = chosen.iter().zip(options).map(|(&at, of)| of[at]).collect();
                let network = table.apply(network, &selection).ok()?;
                let planned = Planned::new(&network, link).ok()?;
                Some((skeletons.of(&selection), by_node(&planned)))
            };
            let found = parallel::each(&selections, tried);
            prices.plans += found.len();
            for (chosen, found) in selections.iter().zip(found) {
                if let Some((skeleton, bytes)) = found {
                    prices.learn(architecture, &skeleton, &bytes);
                    continue;
                }
                // Which of the nodes that it was meant for cannot have it?
                for (node, place) in prices.asked_by(chosen) {
                    let alone = prices.nodes[node].alone(place, options);
                    prices.plans += 1;
                    match tried(&alone) {
                        Some((skeleton, bytes)) => prices.learn(architecture, &skeleton, &bytes),
                        None => prices.nodes[node].known[place].1 = Known::Impossible,
                    }
                }
            }
        }
    }

    /// Plans that were asked for.
    pub(super) fn plans(&self) -> usize {
        self.plans
    }

    /// For the knapsack.
    pub(super) fn factors(&self) -> Vec<Factor> {
        let bytes = |node: &Priced| {
            let of = |&signature: &usize| match node.known[signature].1 {
                Known::Bytes(bytes) => Some(bytes),
                Known::Not | Known::Impossible => None,
            };
            node.signatures.iter().map(of).collect()
        };
        self.nodes.iter().map(|node| Factor { variables: node.variables.clone(), bytes: bytes(node) }).collect()
    }

    fn missing(&self) -> usize {
        let of = |node: &Priced| node.known.iter().filter(|(_, known)| *known == Known::Not).count();
        self.nodes.iter().map(of).sum()
    }

    /// Selections that have many signatures of which nothing is known.
    fn selections(&self, options: &[Vec<usize>], most: usize) -> Vec<Vec<usize>> {
        let mut waiting: Vec<Vec<usize>> = self.nodes.iter().map(Priced::unknown).collect();
        let mut all = Vec::new();
        while all.len() < most && waiting.iter().any(|of| !of.is_empty()) {
            let mut chosen: Vec<Option<usize>> = vec![None; options.len()];
            // The node with the most to ask goes first.
            let mut order: Vec<usize> = (0..waiting.len()).collect();
            order.sort_by_key(|&node| std::cmp::Reverse(waiting[node].len()));
            for node in order {
                let own = &self.nodes[node];
                let fits = |&combination: &usize| {
                    let digits = own.digits(combination);
                    own.variables.iter().zip(digits).all(|(&v, digit)| chosen[v].is_none_or(|known| known == digit))
                };
                let Some(at) = waiting[node].iter().position(fits) else { continue };
                let combination = waiting[node].swap_remove(at);
                for (&variable, digit) in own.variables.iter().zip(own.digits(combination)) {
                    chosen[variable] = Some(digit);
                }
            }
            all.push(chosen.into_iter().map(|option| option.unwrap_or(0)).collect());
        }
        all
    }

    fn learn(&mut self, architecture: &Architecture, skeleton: &Skeleton, bytes: &[u64]) {
        let count = architecture.nodes.len();
        for (at, (own, &bytes)) in self.nodes.iter_mut().zip(bytes).enumerate() {
            let signature = signature::of(architecture, skeleton, (at < count).then_some(at));
            let Some(&place) = own.places.get(&signature) else { continue };
            if own.known[place].1 == Known::Not {
                own.known[place].1 = Known::Bytes(bytes);
            }
        }
    }

    /// The nodes and signatures of which a selection would tell something.
    fn asked_by(&self, chosen: &[usize]) -> Vec<(usize, usize)> {
        let of = |(node, own): (usize, &Priced)| {
            let digits = own.variables.iter().zip(&own.sizes);
            let combination = digits.fold(0, |at, (&variable, size)| at * size + chosen[variable]);
            let place = own.signatures[combination];
            (own.known[place].1 == Known::Not).then_some((node, place))
        };
        self.nodes.iter().enumerate().filter_map(of).collect()
    }
}

impl Priced {
    /// The signatures of a node that depends on no more than `variables`.
    fn new(
        architecture: &Architecture,
        skeletons: &Skeletons<'_>,
        options: &[Vec<usize>],
        variables: Vec<usize>,
        node: Option<usize>,
    ) -> Result<Self, OptimiseError> {
        let sizes: Vec<usize> = variables.iter().map(|&variable| options[variable].len()).collect();
        let states = sizes.iter().fold(1usize, |all, &size| all.saturating_mul(size));
        if states > MAX_COMBINATIONS {
            return Err(OptimiseError::Unsolved(Unsolved::TooWide { states }));
        }
        let mut selection = vec![0; options.len()];
        let signature = |combination: usize| {
            for (&variable, digit) in variables.iter().zip(digits(combination, &sizes)) {
                selection[variable] = options[variable][digit];
            }
            signature::of(architecture, &skeletons.of(&selection), node)
        };
        let all: Vec<Signature> = (0..states).map(signature).collect();
        let (variables, sizes, all) = needed(variables, sizes, all);
        let (mut places, mut known) = (HashMap::new(), Vec::new());
        let place = |(combination, signature): (usize, Signature)| {
            *places.entry(signature).or_insert_with(|| {
                known.push((combination, Known::Not));
                known.len() - 1
            })
        };
        let signatures = all.into_iter().enumerate().map(place).collect();
        Ok(Self { variables, sizes, signatures, known, places })
    }

    fn digits(&self, combination: usize) -> Vec<usize> {
        digits(combination, &self.sizes)
    }

    /// A combination of each signature of which nothing is known.
    fn unknown(&self) -> Vec<usize> {
        self.known.iter().filter(|(_, known)| *known == Known::Not).map(|(combination, _)| *combination).collect()
    }

    /// A selection with a signature and no other change.
    fn alone(&self, place: usize, options: &[Vec<usize>]) -> Vec<usize> {
        let mut chosen = vec![0; options.len()];
        let digits = self.digits(self.known[place].0);
        self.variables.iter().zip(digits).for_each(|(&variable, digit)| chosen[variable] = digit);
        chosen
    }
}

/// The options in a combination.
fn digits(mut combination: usize, sizes: &[usize]) -> Vec<usize> {
    let mut digits = vec![0; sizes.len()];
    for (digit, size) in digits.iter_mut().zip(sizes).rev() {
        (*digit, combination) = (combination % size, combination / size);
    }
    digits
}

/// Leaves out the variables on which no signature depends.
fn needed(
    mut variables: Vec<usize>,
    mut sizes: Vec<usize>,
    mut all: Vec<Signature>,
) -> (Vec<usize>, Vec<usize>, Vec<Signature>) {
    let mut at = 0;
    while at < variables.len() {
        // Combinations that differ in this variable alone are `stride` apart.
        let (size, stride) = (sizes[at], sizes[at + 1..].iter().product::<usize>());
        let first = |combination: usize| combination - combination / stride % size * stride;
        if (0..all.len()).any(|combination| all[combination] != all[first(combination)]) {
            at += 1;
            continue;
        }
        let mut combination = 0;
        all.retain(|_| {
            combination += 1;
            first(combination - 1) == combination - 1
        });
        variables.remove(at);
        sizes.remove(at);
    }
    (variables, sizes, all)
}

/// The variables by the nodes that they are of; coins apart.
struct Scopes<'a> {
    architecture: &'a Architecture,
    variables: BTreeMap<usize, Vec<usize>>,
    coins: BTreeMap<usize, usize>,
}

impl<'a> Scopes<'a> {
    fn new(architecture: &'a Architecture, skeletons: &Skeletons<'_>, table: &Table) -> Self {
        let mut scopes = Self { architecture, variables: BTreeMap::new(), coins: BTreeMap::new() };
        for variable in 0..table.variables.len() {
            for &node in skeletons.nodes(variable) {
                match table.variables[variable].is_coin() {
                    true => drop(scopes.coins.insert(node, variable)),
                    false => scopes.variables.entry(node).or_default().push(variable),
                }
            }
        }
        scopes
    }

    /// All variables that the signature of a node, of the input for `None`, may depend on.
    fn of(&self, node: Option<usize>) -> Vec<usize> {
        let linear = signature::linear(self.architecture, node);
        let mut nodes: BTreeSet<usize> = linear.clone();
        let mut coins: BTreeSet<usize> = BTreeSet::new();
        for &own in &linear {
            // The widths of its inputs make its factors, those of its readers and their coins its ring.
            let inputs = self.architecture.nodes[own].op.inputs().into_iter();
            nodes.extend(inputs.flat_map(|input| narrow::origins(self.architecture, input)));
            nodes.extend(self.architecture.consumers(own + 1));
            coins.extend(self.architecture.consumers(own + 1).filter_map(|reader| self.coins.get(&reader)));
        }
        let widths = nodes.iter().filter_map(|node| self.variables.get(node)).flatten();
        let all: BTreeSet<usize> = widths.copied().chain(coins).collect();
        all.into_iter().collect()
    }
}
