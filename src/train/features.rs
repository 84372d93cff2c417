//! Features of the client's samples by private inference, that stay shares: what a head is trained on. Those of the server's own samples it
//! computes alone.
//!
//! ```text
//!     offline   plan and hint of what is before the last layer             server -> client
//!               then, for every sample, in an order that the client alone knows:
//!               as of an inference, its offline stage       <------>
//!               online stage too, up to the features: client x1, server x2, x1 + x2 = x mod 2^ring; nothing is opened
//!               at the end, of all of them:
//!               x - lo in the ring of training and s bits more, an OLE each;  t = T(x - lo, s), local
//! ```
//!
//! The client's x1 is what it drew as the pad of x, or sums of such pads: uniform, and independent of everything that the server sees. Its low
//! bits are the coins of T. Neither party learns a feature; the server learns nothing of the image, and the client of the weights, since
//! there is no answer.

use std::sync::Arc;

use lowkey_bridge::Schedule;
use lowkey_models::data::Inputs;
use lowkey_models::{Input, Network};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::{Channel, HEADER_BYTES, Sums};
use lowkey_mpc::demand::Demand;
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::fixed::{extend, truncate};
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::{Party, Stage};
use lowkey_mpc::program::{self, Program, Time};
use lowkey_mpc::wire;
use zeroize::Zeroizing;

use super::backbone::{Backbone, Features};
use super::coins::{Recorded, Site, Value};
use super::format::{Format, Net};
use super::settings::ToldOfFeatures;
use crate::answer;
use crate::client::{receive_hint, receive_plan};
use crate::cost::{package_bytes, predict};
use crate::error::{Error, Result};
use crate::offline::{self, Draws, Supply};
use crate::online::{self, Times};
use crate::plan::{Link, Operand, Plan, PlanError, Reveal};
use crate::planner;
use crate::publication::{self, ClientModel, ServerModel, read_plan};
use crate::report::charged_bytes;
use crate::scope::{CONTROL, OUTPUT};
use crate::session::{Accept, MAX_CONTROL, Ready, Welcome, check_version};
use crate::share::{Ring, RingShare, of_planes};
use crate::store::Key;

/// What the features of a head cost, before anything runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureCost {
    /// The head.
    pub head: Net,
    /// Plan and hint, both ways, frame headers included.
    pub package: u64,
    /// Of every sample the same, batches of OTs excepted.
    pub sample: u64,
    /// Of a sample that every feature is scaled: without headers, which some samples share.
    pub scaling: u64,
    /// Random OTs of a sample.
    pub ots: u64,
    /// Bytes of batches that these take on average.
    pub ot_bytes: u64,
}

impl FeatureCost {
    /// Of the head of a network.
    ///
    /// # Errors
    /// When it does not end in a dense layer, or what is before that has no plan.
    pub fn of(network: &Network) -> Result<Self> {
        let backbone = Backbone::of(network)?;
        let folded = backbone.before().folded().map_err(PlanError::from)?;
        let plan = planner::plan(&folded, Link::default())?;
        let scaling = Scaling::new(&plan, &Format::NARROW)?.program.cost(plan.answer.lanes);
        let prediction = predict(&plan, Schedule::Prepared, Reveal::Logits);
        // Nothing is asked for, and nothing opened.
        let of_nodes = prediction.frames.iter().filter(|frame| frame.scope != CONTROL && frame.scope != OUTPUT);
        let ready = wire::encode(&Ready { slot: 0, sums: Sums::default() })?.len() + HEADER_BYTES;
        let (hint, text) = (plan.hint_bytes(), publication::plan_text(&plan)?.len());
        let demand = plan.demand(Reveal::Logits) + scaling.demand;
        Ok(Self {
            head: backbone.head(),
            package: package_bytes(text, hint),
            sample: of_nodes.map(|frame| frame.bytes).sum::<u64>() + ready as u64,
            scaling: scaling.total_bytes() as u64,
            ots: demand.ots.total() as u64,
            ot_bytes: charged_bytes(demand),
        })
    }

    /// Of so many samples, with the OTs that they consume.
    pub fn total(&self, samples: u64) -> u64 {
        self.package + samples * (self.sample + self.scaling + self.ot_bytes)
    }
}

/// From shares of x - lo to those of t.
struct Scaling {
    spec: truncate::Spec,
    program: Arc<Program>,
    ring: u8,
}

impl Scaling {
    fn new(plan: &Plan, format: &Format) -> Result<Self> {
        let Features { dropped, .. } = Features::of(plan);
        let (ring, spec) = (plan.answer.bits as u8, truncate::Spec { width: format.operand() + dropped, dropped });
        let widen = extend::Spec { from: ring, to: spec.width, signed: false };
        let program = extend::program(widen, Time::START, Time::START).map_err(|_| {
            let what = format!("features of {ring} bits");
            Error::usage(what, format!("a head reads features of at most {} bits", spec.width))
        })?;
        Ok(Self { spec, program: Arc::new(program), ring })
    }
}

/// Values that are extended at once.
const LANES: usize = 1 << 14;

/// A party and what it works with.
pub(super) struct Extraction<'a> {
    pub(super) channel: &'a mut Channel,
    pub(super) correlations: &'a mut Correlations,
    pub(super) randomness: &'a mut Erasing,
    /// Of training.
    pub(super) format: &'a Format,
    /// How many samples, and features of each, were agreed on.
    pub(super) counts: [usize; 2],
    /// Where the client's coins go.
    pub(super) coins: Option<&'a mut Recorded>,
    /// Is told after each sample.
    pub(super) told: Option<&'a ToldOfFeatures>,
}

impl Extraction<'_> {
    /// The server's share of the features of all samples, a row each.
    ///
    /// # Errors
    /// When the network has no plan; those of the channel, and of a client that breaks a protocol.
    pub(super) async fn server(&mut self, before: &Network) -> Result<(RingShare, Demand)> {
        // Of this training alone.
        let key = Key::drawn(&mut self.randomness.next_rng());
        let model = ServerModel::publish(before, Link::default(), &key, &|_, _| ())?;
        // Refused before anything is sent.
        let scaling = Scaling::new(&model.plan, self.format)?;
        publication::welcome(self.channel, &model).await?;
        let mut rows = self.room();
        for number in 0..self.counts[0] {
            let (channel, ot) = (&mut *self.channel, &mut *self.correlations);
            // A visit for each: flights are counted in 16 bits.
            channel.enter(Stage::Offline);
            let (shares, programs) = offline::server_programs(channel, &model, ot, Reveal::Logits).await?;
            offline::say_ready(channel, number as u64).await?;
            let halves = online::server_nodes(channel, &model, shares, programs).await?;
            rows.extend(answer::share(&model.plan.answer, &halves).words());
            self.tell(number + 1);
        }
        self.scale(Party::Server, &model.plan, scaling, rows).await
    }

    /// The client's share; `read` gives its samples as the network reads them, which are sent in the order `order`.
    ///
    /// # Errors
    /// When the samples are not what the network reads; those of the channel, and of a server that breaks a protocol.
    pub(super) async fn client(
        &mut self,
        read: &(dyn Fn(&Input) -> Result<Inputs> + Send + Sync),
        order: &[u32],
    ) -> Result<(RingShare, Demand)> {
        let model = self.receive_model().await?;
        let scaling = Scaling::new(&model.plan, self.format)?;
        let inputs = read(&model.plan.architecture.input)?;
        if inputs.len() != order.len() {
            let what = format!("{} inputs but {} labels", inputs.len(), order.len());
            return Err(Error::usage(what, "the two files do not belong together"));
        }
        let mut rows = self.room();
        for (number, at) in order.iter().enumerate() {
            let input = inputs.get(*at as usize).ok_or_else(|| Error::internal("an order of other samples"))?;
            let input = Zeroizing::new(input.iter().copied().collect::<Vec<i64>>());
            let (channel, ot) = (&mut *self.channel, &mut *self.correlations);
            channel.enter(Stage::Offline);
            let mut supply = Supply::new(&model.plan, Reveal::Logits);
            supply.start(channel, ot).await?;
            let rng = &mut self.randomness.next_rng();
            let mut halves = offline::send_lattice(channel, &model, Draws::Once(rng)).await?;
            let pad = offline::input_pad(&halves);
            let programs = offline::client_programs(channel, &model, ot, supply, &mut halves).await?;
            offline::hear_ready(channel, number as u64).await?;
            rows.extend(answer::share(&model.plan.answer, &halves).words());
            online::client_nodes(channel, &model, &pad, programs, &input, &mut Times::new()).await?;
            self.tell(number + 1);
        }
        self.scale(Party::Client, &model.plan, scaling, rows).await
    }

    /// Says how many samples are done.
    fn tell(&self, done: usize) {
        if let Some(told) = self.told {
            told(done as u64, self.counts[0] as u64);
        }
    }

    /// For the features of all samples, so that nothing is moved and left behind.
    fn room(&self) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(Vec::with_capacity(self.counts[0] * self.counts[1]))
    }

    /// What the server has published for this training.
    async fn receive_model(&mut self) -> Result<Arc<ClientModel>> {
        let channel = &mut *self.channel;
        let welcome: Welcome = channel.recv_control(MAX_CONTROL).await?;
        check_version(Party::Server, welcome.version)?;
        let text = receive_plan(channel, &welcome).await?;
        let plan = read_plan(&text, welcome.hint_bytes as usize)?;
        let (found, expected) = (Features::of(&plan).count, self.counts[1]);
        if found != expected || matches!(plan.answer.operand, Operand::Accumulator(_)) {
            return Err(ProtocolError::protocol("the features of a network", expected, found).into());
        }
        channel.scope(CONTROL);
        channel.send_control(&Accept { send_hint: true }).await?;
        let package = receive_hint(channel, &welcome, text).await?;
        ClientModel::open(plan, &package, &|_, _| ())
    }

    /// t of shares of x.
    async fn scale(
        &mut self,
        party: Party,
        plan: &Plan,
        Scaling { spec, program, ring }: Scaling,
        rows: Zeroizing<Vec<u64>>,
    ) -> Result<(RingShare, Demand)> {
        let features = Features::of(plan);
        let lowest = if party == Party::Server { features.lowest.cast_unsigned() } else { 0 };
        let rows = RingShare::new(rows, Ring::plain(ring.into())).less(lowest);
        self.channel.enter(Stage::Offline);
        self.channel.scope(OUTPUT);
        let count = rows.words().len();
        let mut all = Zeroizing::new(Vec::with_capacity(count));
        for part in rows.words().chunks(LANES) {
            all.extend(self.widen(&program, part, ring).await?.words());
        }
        if let Some(coins) = self.coins.as_mut().filter(|_| party == Party::Client) {
            coins.push(Site { value: Value::Feature, layer: 0 }, all.iter().map(|c| spec.coin(*c)).collect());
        }
        let all =
            RingShare::new(all, Ring::plain(spec.width.into())).into_ring(Ring::plain(spec.kept().into()), |all| {
                if spec.dropped > 0 {
                    spec.shift(party, all);
                }
            });
        let demand = Demand { ots: program.ots() * count };
        let inferences = (0..self.counts[0]).map(|_| plan.demand(Reveal::Logits)).sum::<Demand>();
        Ok((all, inferences + demand))
    }

    async fn widen(&mut self, program: &Arc<Program>, part: &[u64], ring: u8) -> Result<RingShare> {
        let need = program.ots() * part.len();
        self.correlations.ensure(self.channel, need).await?;
        let prepared = program.prepare_from(part.len(), self.correlations)?;
        let ready = program::offline(prepared, self.channel, Vec::new()).await?;
        let widened = program::online(ready, self.channel, vec![Planes::from_lanes(part, ring.into())]).await?;
        Ok(of_planes(&widened[0]))
    }
}
