//! The programs of a step, and what they cost: both parties make the same ones from public numbers.

use std::sync::Arc;

use lowkey_mpc::fixed::{extend, join, pool, relu, score, softmax, truncate};
use lowkey_mpc::layout::{Choice, LayoutError, Search};
use lowkey_mpc::ot::OtCount;
use lowkey_mpc::party::Party;
use lowkey_mpc::program::{Program, Time};

use super::format::{BATCH, DECAY_DROP, Format, FormatError, Net};
use super::maps::{PLACES, Windows};

/// Flights that a rectifier and the softmax may take: those of least bytes within them.
pub(super) const FLIGHTS: [u32; 2] = [8, 40];

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The network does not train in the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A protocol has no program for it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Which of a layer's products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Inputs times weights.
    Forward,
    /// Inputs, transposed, times gradients.
    Update,
    /// Gradients times weights, transposed.
    Back,
}

/// A product L R of a left (rows x inner) and a right matrix (inner x columns), modulo 2^ell, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Of which layer.
    pub layer: usize,
    /// Which of its products.
    pub kind: Kind,
    /// Rows of L.
    pub rows: usize,
    /// Columns of L, rows of R.
    pub inner: usize,
    /// Columns of R.
    pub columns: usize,
    /// Bits of the ring.
    pub ell: u8,
    /// Where a party knows L, and the other's share of it is zero. Else L is shared.
    pub known: Option<Known>,
}

/// A matrix that one party knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Known {
    /// Which party.
    pub to: Party,
    /// The largest magnitude.
    pub most: u32,
}

impl Product {
    /// Elements of the result.
    #[cfg(test)]
    pub fn outputs(&self) -> usize {
        self.rows * self.columns
    }

    /// Terms in which the parties meet: one where a party knows L, else two.
    #[cfg(test)]
    pub fn crosses(&self) -> usize {
        if self.known.is_some() { 1 } else { 2 }
    }
}

/// A program, and on how many values it runs.
#[derive(Clone, Debug)]
pub struct Run {
    /// The program.
    pub program: Arc<Program>,
    /// Its lanes.
    pub lanes: usize,
}

/// What a layer runs. Of the first, `back` and `passed` are missing; of the last, `rectify`; of an evaluation, the whole way back.
#[derive(Clone, Debug)]
pub struct LayerRuns {
    /// Guard bits of X W.
    pub forward: Run,
    /// The rectifier, with the max pool before it.
    pub rectify: Option<Run>,
    /// Guard bits of X^T D.
    pub update: Option<Run>,
    /// Guard bits of D W^T, summed over patches.
    pub back: Option<Run>,
    /// The way back through the rectifier and the pool of the layer before.
    pub passed: Option<Run>,
    /// The extensions of the gradient of the weights, and of what momenta lose.
    pub widen: Option<Run>,
}

/// What a step is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aim {
    /// Whether it goes forward alone, to a score.
    pub evaluates: bool,
    /// Whether it sums up right samples and losses.
    pub score: bool,
    /// Whether the client gets the coins of the softmax.
    pub coins: bool,
}

impl Aim {
    /// For the parties to compare.
    pub fn bytes(self) -> [u8; 3] {
        [self.evaluates, self.score, self.coins].map(u8::from)
    }
}

/// What both parties know of a step at one rate, on samples of one party.
#[derive(Clone, Debug)]
pub struct StepPlan {
    /// The network.
    pub net: Net,
    /// Its numbers.
    pub format: Format,
    /// j of the rate 2^-j.
    pub rate: u8,
    /// Whose samples the batch has.
    pub owner: Party,
    /// Flights that rectifiers and the softmax may take.
    pub flights: [u32; 2],
    /// What it is for.
    pub aim: Aim,
    /// Of each layer.
    pub layers: Vec<LayerRuns>,
    /// The softmax, one lane per sample.
    pub softmax: Run,
    /// The score, one lane per sample, where one is wanted.
    pub score: Option<Run>,
}

/// Payload bytes of a step without its products, by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCost {
    /// Guard bits of products.
    pub joins: usize,
    /// Rectifiers and their way back.
    pub rectifiers: usize,
    /// Extensions of gradients and momenta of weights.
    pub extensions: usize,
    /// The softmax.
    pub softmax: usize,
    /// The score.
    pub score: usize,
    /// Random OTs.
    pub ots: OtCount,
    /// Frames, of both parties.
    pub frames: usize,
    /// Flights, one program after the other.
    pub flights: u32,
}

impl StepCost {
    /// Payload bytes of all protocols.
    pub fn bytes(&self) -> usize {
        self.joins + self.rectifiers + self.extensions + self.softmax + self.score
    }
}

/// The cheapest of at most `flights` flights, else the quickest.
fn pick<L: Clone>(choices: &[Choice<L>], flights: u32) -> L {
    let within = choices.iter().take_while(|choice| choice.flights <= flights).last();
    within.unwrap_or(&choices[0]).layout.clone()
}

/// A pool of these windows.
fn pooled(windows: Windows, rings: relu::Spec) -> pool::Spec {
    pool::Spec { window: u8::try_from(windows.size()).unwrap_or(u8::MAX), rings }
}

impl StepPlan {
    /// The programs of a step on samples of `owner`. `flights` bounds those of a rectifier and of the softmax, where fewer cost more bytes.
    ///
    /// # Errors
    /// [`PlanError`] if the network does not train in the format at this rate.
    pub fn new(
        net: &Net,
        format: Format,
        rate: u8,
        owner: Party,
        flights: [u32; 2],
        aim: Aim,
    ) -> Result<Self, PlanError> {
        format.check(net, rate)?;
        let (mut search, at) = (Search::new(0.73), Time::START);
        let run = |program: Program, lanes| Run { program: Arc::new(program), lanes };
        let spec = format.softmax(net);
        let chains = pick(&search.softmax(spec)?, flights[1]);
        let more = softmax::More { score: aim.score, coins: aim.coins };
        let softmax = run(softmax::program(spec, &chains, more)?, BATCH);
        let score = match aim.score {
            false => None,
            true => {
                let spec = format.score(net, owner);
                Some(run(score::program(spec, &pick(&search.score(spec)?, flights[0]))?, BATCH))
            }
        };
        let mut layers = Vec::new();
        for i in 0..net.layers() {
            let [first, last] = [i == 0, i + 1 == net.layers()];
            let (rows, k, n) = (net.rows(i), net.inputs(i), net.outputs(i));
            let join = |ell: u8, values| {
                let terms = if net.known_to(i, owner).is_some() { 1 } else { 2 };
                join::program(ell.into(), terms).map(|program| run(program, values))
            };
            let extend = |from| extend::Spec { from, to: format.held, signed: true };
            let (operand, ring) = (format.operand_of(net), format.update_of(net, i));
            let rectifier = |from| relu::Spec { from, to: operand };
            let rectify = if last {
                None
            } else {
                let rings = rectifier(format.forward - format.forward_drop(net, i));
                let chain = pick(&search.rectify(rings, at, at)?, flights[0]);
                let program = match net.windows(i) {
                    None => relu::program(rings, &chain, at, at),
                    Some(windows) => pool::program(pooled(windows, rings), &chain, at, at),
                };
                Some(run(program?, net.activations(i)))
            };
            let (mut passed, mut back) = (None, None);
            if !first && !aim.evaluates {
                let (rings, values) = (rectifier(format.back - format.back_drop(net, i)), net.activations(i - 1));
                let program = match net.windows(i - 1) {
                    None => relu::program_back(rings, at, at),
                    Some(windows) => pool::program_back(pooled(windows, rings), at, at),
                };
                passed = Some(run(program?, values));
                back = Some(join(format.back, values)?);
            }
            let widened = [ring - format.update_drop(net, i, rate), format.held - DECAY_DROP].map(extend);
            let (mut update, mut widen) = (None, None);
            if !aim.evaluates {
                update = Some(join(ring, k * n)?);
                widen = Some(run(extend::joint_program(&widened, at, at)?, net.weights(i)));
            }
            layers.push(LayerRuns { forward: join(format.forward, rows * n)?, rectify, update, back, passed, widen });
        }
        Ok(Self { net: net.clone(), format, rate, owner, flights, aim, layers, softmax, score })
    }

    /// A product of layer `i`. The samples' owner knows the inputs of the first, unless these are shared features.
    pub fn product(&self, layer: usize, kind: Kind) -> Product {
        let (rows, format) = (self.net.rows(layer), &self.format);
        let (k, n) = (self.net.inputs(layer), self.net.outputs(layer));
        let (rows, inner, columns, ell) = match kind {
            Kind::Forward => (rows, k, n, format.forward),
            Kind::Update => (k, rows, n, format.update_of(&self.net, layer)),
            Kind::Back => match self.net.maps(layer) {
                None => (rows, n, k, format.back),
                // A convolution of the gradients.
                Some(maps) => (BATCH * maps.side * maps.side, PLACES * n, maps.channels, format.back),
            },
        };
        let most = self.net.most_input(format) as u32;
        let known = self.net.known_to(layer, self.owner).map(|to| Known { to, most });
        Product { layer, kind, rows, inner, columns, ell, known }
    }

    /// All products of a step, in their order.
    pub fn products(&self) -> Vec<Product> {
        let layers = 0..self.net.layers();
        let forward = layers.clone().map(|layer| self.product(layer, Kind::Forward));
        let back = |layer| (layer > 0).then(|| self.product(layer, Kind::Back));
        let backwards = if self.aim.evaluates { 0..0 } else { layers };
        let update = backwards.rev().flat_map(|layer| [Some(self.product(layer, Kind::Update)), back(layer)]);
        forward.chain(update.flatten()).collect()
    }

    /// Truncation of a master.
    pub fn weight(&self) -> truncate::Spec {
        truncate::Spec { width: self.format.held, dropped: self.format.weight_drop() }
    }

    /// Truncation of three times a momentum.
    pub fn decay(&self) -> truncate::Spec {
        truncate::Spec { width: self.format.held, dropped: DECAY_DROP }
    }

    /// Truncation of a product of layer `i`.
    pub fn truncation(&self, layer: usize, kind: Kind) -> truncate::Spec {
        let format = &self.format;
        let (width, dropped) = match kind {
            Kind::Forward => (format.forward, format.forward_drop(&self.net, layer)),
            Kind::Update => (format.update_of(&self.net, layer), format.update_drop(&self.net, layer, self.rate)),
            Kind::Back => (format.back, format.back_drop(&self.net, layer)),
        };
        truncate::Spec { width, dropped }
    }

    /// What the programs cost, from their records.
    pub fn cost(&self) -> StepCost {
        let mut cost = StepCost::default();
        let mut add = |run: &Run| {
            let of = run.program.cost(run.lanes);
            cost.ots += of.demand.ots;
            cost.frames += of.frames.len();
            cost.flights += of.flights();
            of.total_bytes()
        };
        let (mut joins, mut rectifiers, mut extensions) = (0, 0, 0);
        for layer in &self.layers {
            joins += add(&layer.forward) + layer.update.iter().chain(&layer.back).map(&mut add).sum::<usize>();
            rectifiers += layer.rectify.iter().chain(&layer.passed).map(&mut add).sum::<usize>();
            extensions += layer.widen.as_ref().map_or(0, &mut add);
        }
        let (softmax, score) = (add(&self.softmax), self.score.as_ref().map_or(0, &mut add));
        StepCost { joins, rectifiers, extensions, softmax, score, ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowkey_bridge::product::Answers;

    /// The design's figures, in kB of a step of 784-128-128-10: rectifiers 490, extensions of weights 350 and more, softmax 310; random OTs are
    /// counted at 0.73 bits.
    #[test]
    fn costs_what_the_design_says() {
        let plan = StepPlan::new(&Net::a(), Format::NARROW, 4, Party::Client, [99, 99], Aim::default()).unwrap();
        let cost = plan.cost();
        let [joins, rectifiers, extensions, softmax] =
            [cost.joins, cost.rectifiers, cost.extensions, cost.softmax].map(|bytes| bytes / 1000);
        let ots = cost.ots.total() * 73 / 800_000;
        assert!(joins < 640 && rectifiers < 480 && extensions < 400 && softmax < 300 && ots < 160, "{cost:?}");
        assert!(cost.flights < 140, "{cost:?}");
    }

    #[test]
    fn products_are_those_of_the_design() {
        let plan = StepPlan::new(&Net::a(), Format::NARROW, 4, Party::Client, [8, 40], Aim::default()).unwrap();
        let sizes: Vec<_> = plan.products().iter().map(|p| (p.rows, p.inner, p.columns, p.ell, p.crosses())).collect();
        let want = [
            (128, 784, 128, 18, 1),
            (128, 128, 128, 18, 2),
            (128, 128, 10, 18, 2),
            (128, 128, 10, 19, 2),
            (128, 10, 128, 18, 2),
            (128, 128, 128, 19, 2),
            (128, 128, 128, 18, 2),
            (784, 128, 128, 19, 1),
        ];
        assert_eq!(sizes, want);
        assert_eq!(plan.products().iter().map(|p| p.outputs() * p.crosses()).sum::<usize>(), 252_928);
    }

    /// Gradients of a convolution's inputs are a convolution of those of its outputs: one output of the product for each value.
    #[test]
    fn products_of_a_convolution() {
        let plan = StepPlan::new(&Net::c(), Format::NARROW, 4, Party::Client, [8, 40], Aim::default()).unwrap();
        let of = |layer, kind| {
            let p = plan.product(layer, kind);
            (p.rows, p.inner, p.columns, p.crosses())
        };
        assert_eq!(of(0, Kind::Forward), (73_728, 25, 20, 1));
        assert_eq!(of(1, Kind::Forward), (8192, 500, 50, 2));
        assert_eq!(of(1, Kind::Update), (500, 8192, 50, 2));
        assert_eq!(of(1, Kind::Back), (18_432, 1250, 20, 2));
        assert_eq!(of(2, Kind::Back), (128, 500, 800, 2));
        let lanes = |run: &Option<Run>| run.as_ref().map(|run| run.lanes);
        let runs = |i: usize| [&plan.layers[i].rectify, &plan.layers[i].back, &plan.layers[i].passed].map(lanes);
        assert_eq!(runs(1), [Some(102_400), Some(368_640), Some(368_640)]);
        assert_eq!(runs(2), [Some(64_000), Some(102_400), Some(102_400)]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(StepPlan::new(&Net::a(), Format::NARROW, 14, Party::Client, [8, 40], Aim::default()).is_err());
    }

    /// The design's products: 7.0 and 10.7 MB; much less where answers are merged.
    #[test]
    fn products_cost_what_the_design_says() {
        let plan = StepPlan::new(&Net::a(), Format::NARROW, 4, Party::Client, [8, 40], Aim::default()).unwrap();
        let cost = plan.product_cost(Answers::Plain).unwrap();
        assert!((6_500_000..7_500_000).contains(&cost.bytes()), "{cost:?}");
        let merged = plan.product_cost(Answers::Merged).unwrap();
        assert!(2 * merged.bytes() < cost.bytes(), "{merged:?}");
        let plan = StepPlan::new(&Net::d(), Format::NARROW, 4, Party::Client, [8, 40], Aim::default()).unwrap();
        let cost = plan.product_cost(Answers::Plain).unwrap();
        assert!((9_500_000..11_500_000).contains(&cost.bytes()), "{cost:?}");
    }
}
