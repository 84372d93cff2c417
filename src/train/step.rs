//! A step on shares. Given its coins it does what the twin does ([`super::twin`]).
//!
//! Masters and momenta are shared modulo 2^held; the owner of the batch, either party, has inputs and labels. Truncations are local, on refreshed shares; what both do
//! together are products ([`Products`]), the removal of their guard bits, rectifiers, the softmax, extensions. The bias row of inputs is
//! public, so its products are local.

use lowkey_bridge::product::Terms;
use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::fixed::{refresh::Refresh, truncate};
use lowkey_mpc::ot::{Correlations, Cots};
use lowkey_mpc::party::Party;
use lowkey_mpc::program::{offline, online};
use zeroize::Zeroizing;

use super::batch::Given;
use super::coins::{Recorded, Site, Value};
use super::error::StepError;
use super::format::{BATCH, CLASSES};
use super::held::WeightShares;
use super::matrix::transpose;
use super::plan::{Kind, Run, StepPlan};
use super::products::Products;
use super::score::Tally;
use super::session::Agreed;
use crate::share::{Ring, RingShare, ToPlanes, of_planes};

type Result<T, E = StepError> = std::result::Result<T, E>;

/// What one party works with in a session of training.
pub struct Trainer<P> {
    party: Party,
    agreed: Agreed,
    products: P,
    /// Its shares; none after a step that failed.
    held: Option<WeightShares>,
    /// Of the samples since it was last taken.
    tally: Tally,
}

impl<P: Products> Trainer<P> {
    /// What a party works with: what both agreed on, how cross terms are computed, and its shares, the first or those that were kept.
    ///
    /// # Errors
    /// [`StepError::OtherShares`] if the session was agreed on for others.
    pub fn new(party: Party, agreed: Agreed, products: P, held: WeightShares) -> Result<Self> {
        if !agreed.goes_on_with(&held.moment()) {
            return Err(StepError::OtherShares);
        }
        let held = WeightShares { history: agreed.history(), ..held };
        Ok(Self { party, agreed, products, held: Some(held), tally: Tally::default() })
    }

    /// The shares, to be kept or opened.
    ///
    /// # Errors
    /// [`StepError::Lost`] after a step that failed.
    pub fn held(&self) -> Result<&WeightShares> {
        self.held.as_ref().ok_or(StepError::Lost)
    }

    /// The shares of a score, which begins anew.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// One step. The plan's owner gives a batch, in the clear, or both their shares of one and the owner the classes; the client may have its coins
    /// recorded, if the plan was made for that.
    ///
    /// # Errors
    /// Those of the channel, of products, and of a peer that means another step or breaks the protocol. The shares are lost then, and a further
    /// step is [`StepError::Lost`]: go on from a checkpoint.
    ///
    /// # Panics
    /// If the owner gives nothing or the other party a batch, or what is given is of another network.
    pub async fn step(
        &mut self,
        plan: &StepPlan,
        channel: &mut Channel,
        correlations: &mut Correlations,
        given: impl Into<Given<'_>>,
        coins: Option<&mut Recorded>,
    ) -> Result<()> {
        let step = Numbered { step: self.held()?.done, counted: BATCH };
        let held = self.pass(step, plan, channel, correlations, given.into(), coins).await?;
        self.held = Some(WeightShares { done: held.done + 1, ..held });
        Ok(())
    }

    /// A batch of an evaluation: forward to its score alone, of which the first so many samples count. `given` and `coins` are those of a step.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    ///
    /// # Panics
    /// As [`Trainer::step`].
    pub async fn evaluate(
        &mut self,
        numbered: Numbered,
        plan: &StepPlan,
        channel: &mut Channel,
        correlations: &mut Correlations,
        given: impl Into<Given<'_>>,
        coins: Option<&mut Recorded>,
    ) -> Result<()> {
        assert!(plan.aim.evaluates, "the plan is one of an evaluation");
        self.held = Some(self.pass(numbered, plan, channel, correlations, given.into(), coins).await?);
        Ok(())
    }

    /// The shares are lost if it fails; products end either way.
    async fn pass(
        &mut self,
        Numbered { step, counted }: Numbered,
        plan: &StepPlan,
        channel: &mut Channel,
        correlations: &mut Correlations,
        given: Given<'_>,
        coins: Option<&mut Recorded>,
    ) -> Result<WeightShares> {
        let party = self.party;
        let passed = async {
            let held = self.held.take().ok_or(StepError::Lost)?;
            self.products.begin(channel, plan.owner, self.agreed.opening(plan, step)).await?;
            let need = plan.cost().ots;
            correlations.ensure(channel, need).await?;
            let cots = correlations.take(need)?;
            let refresh = self.agreed.refresh(step);
            let coins = coins.filter(|_| party == Party::Client);
            let (products, tally) = (&mut self.products, &mut self.tally);
            let mut pass = Pass { plan, channel, cots, party, refresh, coins, products, tally, counted };
            pass.run(held, given).await
        }
        .await;
        self.products.end();
        passed
    }
}

/// Which step, or batch of an evaluation, and how many of its samples count.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// How many were before it.
    pub step: u64,
    /// The first so many.
    pub counted: usize,
}

/// A step under way.
struct Pass<'a, P> {
    plan: &'a StepPlan,
    channel: &'a mut Channel,
    cots: Cots,
    party: Party,
    refresh: Refresh,
    coins: Option<&'a mut Recorded>,
    products: &'a mut P,
    tally: &'a mut Tally,
    /// How many samples count in a score.
    counted: usize,
}

/// What the way forward leaves for the way back.
struct Forward {
    /// The inputs of each layer.
    xs: Vec<RingShare>,
    /// The bits of each pool and rectifier.
    kept: Vec<Vec<Planes>>,
    /// The gradient of the logits.
    delta: RingShare,
}

impl<P: Products> Pass<'_, P> {
    async fn run(&mut self, mut held: WeightShares, given: Given<'_>) -> Result<WeightShares> {
        let plan = self.plan;
        let mut weights = Vec::new();
        for (layer, masters) in held.masters.iter().enumerate() {
            weights.push(self.truncate(Site { value: Value::Weight, layer }, masters.clone(), plan.weight()));
        }
        let Forward { xs, mut kept, mut delta } = self.forward(&weights, given).await?;
        if plan.aim.evaluates {
            return Ok(held);
        }
        for (layer, runs) in plan.layers.iter().enumerate().rev() {
            let gradient = self.gradient(layer, &xs[layer], &delta).await?;
            if let Some((run, bits)) = runs.passed.as_ref().zip(kept.pop()) {
                delta = self.back(layer, run, bits, &delta, &weights[layer]).await?;
            }
            self.update(layer, gradient, &mut held).await?;
        }
        Ok(held)
    }

    /// Z = X W + bias of every layer, its pool and its rectifier; the softmax of the last one, less the classes.
    async fn forward(&mut self, weights: &[RingShare], given: Given<'_>) -> Result<Forward> {
        let (net, format) = (&self.plan.net, &self.plan.format);
        let mut xs = vec![self.inputs(given)];
        let mut kept = Vec::new();
        let mut delta = RingShare::none();
        for (layer, w) in weights.iter().enumerate() {
            let (k, n) = (net.inputs(layer), net.outputs(layer));
            let (w, biases) = w.words().split_at(k * n);
            let mut z = self.product(layer, Kind::Forward, xs[layer].words(), w).await?;
            z.change(|words| {
                let add = |(z, bias): (&mut u64, &u64)| *z = z.wrapping_add(bias << format.input_of(layer));
                words.chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(biases).for_each(add));
            });
            let spec = self.plan.truncation(layer, Kind::Forward);
            let z = self.truncate(Site { value: Value::Output, layer }, z, spec);
            match &self.plan.layers[layer].rectify {
                None => delta = self.softmax(z.words(), given.labels()).await?,
                Some(run) => {
                    let of = |z: &[u64]| Planes::from_lanes(z, spec.kept().into());
                    let values = match net.windows(layer) {
                        None => vec![of(z.words())],
                        Some(windows) => wiped(windows.cut(z.words())).iter().map(|place| of(place)).collect(),
                    };
                    let mut outputs = self.execute(run, values).await?;
                    let y = of_planes(&outputs.remove(0));
                    xs.push(match net.maps(layer + 1) {
                        None => y,
                        Some(maps) => RingShare::new(maps.columns(y.words()), y.ring()),
                    });
                    kept.push(outputs);
                }
            }
        }
        if let Some(labels) = given.labels() {
            delta.change(|words| {
                for (row, label) in words.chunks_exact_mut(CLASSES).zip(labels) {
                    row.iter_mut()
                        .zip(0..)
                        .for_each(|(p, class)| *p = p.wrapping_sub(is_equal(*label, class) << format.gradient));
                }
            });
        }
        Ok(Forward { xs, kept, delta })
    }

    /// X^T D of a layer and the sums for its biases, truncated.
    async fn gradient(&mut self, layer: usize, x: &RingShare, delta: &RingShare) -> Result<Planes> {
        let (net, format) = (&self.plan.net, &self.plan.format);
        let (k, n) = (net.inputs(layer), net.outputs(layer));
        let x = Zeroizing::new(transpose(x.words(), k));
        let g = self.product(layer, Kind::Update, &x, delta.words()).await?;
        let bias = (0..n).map(|column| sum(delta.words(), column, n) << format.input_of(layer));
        let mut rows = Zeroizing::new(Vec::with_capacity((k + 1) * n));
        rows.extend(g.words().iter().copied().chain(bias));
        let spec = self.plan.truncation(layer, Kind::Update);
        let g = self.truncate(Site { value: Value::Update, layer }, RingShare::new(rows, g.ring()), spec);
        Ok(Planes::from_lanes(g.words(), spec.kept().into()))
    }

    /// D W^T of a layer, summed over patches where it has them, through rectifier and pool of the one before.
    async fn back(
        &mut self,
        layer: usize,
        run: &Run,
        mut bits: Vec<Planes>,
        delta: &RingShare,
        weights: &RingShare,
    ) -> Result<RingShare> {
        let net = &self.plan.net;
        let (k, n) = (net.inputs(layer), net.outputs(layer));
        let (weights, delta) = (&weights.words()[..k * n], delta.words());
        let back = match net.maps(layer) {
            None => {
                let w = Zeroizing::new(transpose(weights, n));
                self.product(layer, Kind::Back, delta, &w).await?
            }
            Some(maps) => {
                let outputs = maps.transposed(n).expect("convolutions behind the first have a stride of 1");
                let d = Zeroizing::new(outputs.columns(delta));
                let w = Zeroizing::new(maps.turned(weights, n));
                self.product(layer, Kind::Back, &d, &w).await?
            }
        };
        let spec = self.plan.truncation(layer, Kind::Back);
        let back = self.truncate(Site { value: Value::Gradient, layer }, back, spec);
        bits.push(Planes::from_lanes(back.words(), spec.kept().into()));
        let back = self.execute(run, bits).await?;
        Ok(match net.windows(layer - 1) {
            None => of_planes(&back[0]),
            Some(windows) => {
                let places = wiped(back.iter().map(Planes::to_lanes).collect());
                RingShare::new(windows.join(&places), Ring::plain(back[0].width() as u32))
            }
        })
    }

    /// Momenta and masters of a layer.
    async fn update(&mut self, layer: usize, gradient: Planes, held: &mut WeightShares) -> Result<()> {
        let plan = self.plan;
        let mut tripled = held.momenta[layer].clone();
        tripled.change(|words| words.iter_mut().for_each(|v| *v = v.wrapping_mul(3)));
        let decay = self.truncate(Site { value: Value::Decay, layer }, tripled, plan.decay());
        let decay = Planes::from_lanes(decay.words(), plan.decay().kept().into());
        let widen = plan.layers[layer].widen.as_ref().expect("a step goes back");
        let widened = self.execute(widen, vec![gradient, decay]).await?;
        let (g, decay) = (of_planes(&widened[0]), of_planes(&widened[1]));
        held.momenta[layer].change(|momenta| {
            for (v, (g, decay)) in momenta.iter_mut().zip(g.words().iter().zip(decay.words())) {
                *v = v.wrapping_sub(*decay).wrapping_add(*g);
            }
        });
        let momenta = held.momenta[layer].words();
        held.masters[layer].change(|masters| {
            masters.iter_mut().zip(momenta).for_each(|(w, v)| *w = w.wrapping_sub(*v));
        });
        Ok(())
    }

    /// This party's share of the inputs: all of them at the batch's owner, unless they are shared features. What a party knows is of
    /// every ring: numbers with a sign, modulo 2^64.
    fn inputs(&self, given: Given<'_>) -> RingShare {
        let net = &self.plan.net;
        let values = net.rows(0) * net.inputs(0);
        assert_eq!(given.labels().is_some(), self.party == self.plan.owner, "the batch's owner has its classes");
        let shared = net.known_to(0, self.plan.owner).is_none();
        assert_eq!(matches!(given, Given::Shares(..)), shared, "what is given of {net:?}");
        match given {
            Given::Nothing => RingShare::zeros(values, Ring::plain(u64::BITS)),
            Given::Batch(batch) => {
                batch.assert_of(net);
                let words: Vec<u64> = batch.inputs().iter().map(|x| x.cast_unsigned()).collect();
                RingShare::new(words, Ring::plain(u64::BITS))
            }
            Given::Shares(rows, _) => {
                assert_eq!(rows.words().len(), values, "features of {net:?}");
                rows.clone()
            }
        }
    }

    /// T of refreshed shares.
    fn truncate(&mut self, site: Site, shares: RingShare, spec: truncate::Spec) -> RingShare {
        shares.into_ring(Ring::plain(spec.kept().into()), |words| {
            if spec.dropped > 0 {
                self.refresh.apply(self.party, words);
                if let Some(coins) = &mut self.coins {
                    coins.push(site, words.iter().map(|c| spec.coin(*c)).collect());
                }
                spec.shift(self.party, words);
            }
        })
    }

    /// Shares of L R from shares of L and R, without guard bits.
    async fn product(&mut self, layer: usize, kind: Kind, left: &[u64], right: &[u64]) -> Result<RingShare> {
        let product = self.plan.product(layer, kind);
        let Terms { local, crosses } = self.products.terms(self.channel, product, left, right).await?;
        let runs = &self.plan.layers[layer];
        let run = match kind {
            Kind::Forward => &runs.forward,
            Kind::Update => runs.update.as_ref().expect("a step goes back"),
            Kind::Back => runs.back.as_ref().expect("gradients go back to a layer before"),
        };
        let joined = self.execute(run, crosses.iter().map(ToPlanes::planes).collect()).await?;
        let mut sum = of_planes(&joined[0]);
        sum.change(|sum| sum.iter_mut().zip(local.words()).for_each(|(sum, local)| *sum = sum.wrapping_add(*local)));
        Ok(sum)
    }

    /// Probabilities of rows of logits. Where a score is wanted it is added up; the owner of the batch has `labels`.
    async fn softmax(&mut self, logits: &[u64], labels: Option<&[u8]>) -> Result<RingShare> {
        let plan = self.plan;
        let (spec, layer) = (plan.format.softmax(&plan.net), plan.net.layers() - 1);
        let mut inputs = Vec::new();
        for class in 0..CLASSES {
            let column = Zeroizing::new(logits.iter().skip(class).step_by(CLASSES).copied().collect::<Vec<u64>>());
            inputs.push(Planes::from_lanes(&column, spec.width.into()));
            inputs.push(self.refresh.planes(BATCH, spec.width.into()));
        }
        inputs.push(self.refresh.planes(BATCH, spec.sum().width.into()));
        inputs.extend((0..CLASSES).map(|_| self.refresh.planes(BATCH, spec.product().width.into())));
        let mut outputs = self.execute(&plan.softmax, inputs).await?;
        if let Some(run) = &plan.score {
            let scored = outputs.drain(CLASSES..=2 * CLASSES).collect();
            self.score(run, scored, labels).await?;
        }
        if let Some(coins) = &mut self.coins {
            let signed = |planes: &[Planes]| rows(planes).words().iter().map(|coin| coin.cast_signed()).collect();
            let (differences, rest) = outputs[CLASSES..].split_at(CLASSES);
            if spec.grid().dropped > 0 {
                coins.push(Site { value: Value::Difference, layer }, signed(differences));
            }
            coins.push(Site { value: Value::Sum, layer }, signed(&rest[..1]));
            coins.push(Site { value: Value::Probability, layer }, signed(&rest[1..]));
        }
        Ok(rows(&outputs[..CLASSES]))
    }

    /// Adds up right samples and losses, from shares of the differences to the largest logit and of `LOG[S]`.
    async fn score(&mut self, run: &Run, scored: Vec<Planes>, labels: Option<&[u8]>) -> Result<()> {
        let mut inputs = Vec::new();
        for (class, differences) in (0..).zip(scored) {
            if usize::from(class) < CLASSES && self.party == self.plan.owner {
                let labels = labels.expect("the owner has classes").iter().enumerate();
                let bit = |(sample, label): (usize, &u8)| is_equal(*label, class) & u64::from(sample < self.counted);
                let bits: Zeroizing<Vec<u64>> = Zeroizing::new(labels.map(bit).collect());
                inputs.push(Planes::from_lanes(&bits, 1));
            }
            inputs.push(differences);
        }
        let sums = self.execute(run, inputs).await?;
        self.tally.add(self.counted, of_planes(&sums[0]).words(), of_planes(&sums[1]).words());
        Ok(())
    }

    /// Runs a program on this party's inputs.
    async fn execute(&mut self, run: &Run, inputs: Vec<Planes>) -> Result<Vec<Planes>> {
        let cots = self.cots.split_front(run.program.ots() * run.lanes)?;
        let ready = offline(run.program.prepare(run.lanes, cots)?, self.channel, Vec::new()).await?;
        Ok(online(ready, self.channel, inputs).await?)
    }
}

/// 1 if a label is this class, else 0; no branch, no address depends on the label.
fn is_equal(label: u8, class: u8) -> u64 {
    u64::from(label ^ class).wrapping_sub(1) >> 63
}

/// The sum of a column of a matrix of `n` columns.
fn sum(x: &[u64], column: usize, n: usize) -> u64 {
    x.iter().skip(column).step_by(n).fold(0, |sum, x| sum.wrapping_add(*x))
}

/// Shares, wiped when dropped.
fn wiped(shares: Vec<Vec<u64>>) -> Zeroizing<Vec<Vec<u64>>> {
    Zeroizing::new(shares)
}

/// A matrix from its columns.
fn rows(columns: &[Planes]) -> RingShare {
    let shares: Vec<RingShare> = columns.iter().map(of_planes).collect();
    let of = |row: usize| shares.iter().map(move |column| column.words()[row]);
    let words: Vec<u64> = (0..columns[0].lanes()).flat_map(of).collect();
    RingShare::new(words, shares[0].ring())
}

#[cfg(test)]
mod tests;
