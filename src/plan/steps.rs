//! The nodes in order, as both parties run them: which protocol, on what, with what result.

use std::sync::Arc;

use lowkey_bridge::Schedule;
use lowkey_bridge::parameters::GUARD_BITS;
use lowkey_models::{Architecture, Op, TensorInfo, selected};
use lowkey_mpc::argmax::{Argmax, MAX_CLASSES};
use lowkey_mpc::extend::Finish;
use lowkey_mpc::layout::LayoutError;
use lowkey_mpc::program::{Program, Time};
use lowkey_mpc::requantise::Clip;
use lowkey_mpc::rescale::Factor;
use lowkey_mpc::{maxpool, output, pooled, requantise, rescale, table, truncate, widen};

use super::truncation;
use crate::node::{
    ByNode, ByTensor, Choices, Holding, LayoutChoice, NodeId, PlanError, TensorId, Windows, average_ring, clipped_bits,
    small_width,
};

/// What one node does.
#[derive(Debug)]
pub enum Step {
    /// A linear node: the index in [`Plan::linear`](super::Plan::linear).
    Linear(usize),
    /// A two-party protocol.
    Nonlinear(Box<Nonlinear>),
    /// A linear function of activations that each party applies to its half.
    Local {
        /// The tensors (storage) that are read.
        inputs: Vec<TensorId>,
        /// The tensor that is made.
        output: TensorId,
        /// Ring of the result.
        ring: u32,
        /// The windows that are summed; `None` for inputs one behind the other.
        windows: Option<Windows>,
    },
    /// Nothing to compute.
    Reshape,
}

/// One two-party protocol on every element of a layer.
#[derive(Debug)]
pub struct Nonlinear {
    /// Which node.
    pub node: NodeId,
    /// What it reads.
    pub source: Source,
    /// Which protocol.
    pub kind: NonlinearKind,
    /// Elements of the result.
    pub lanes: usize,
    /// Width of the shares that the program reads.
    pub input_width: u32,
    /// Width of the values that it makes.
    pub bits: u32,
    /// The program of each schedule.
    pub programs: Programs,
}

/// What a nonlinear node reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The accumulator of this linear node: the client knows its share before the input.
    Accumulator(NodeId),
    /// The multiplied accumulator of this scale: neither party knows its share before the input.
    Scaled(NodeId),
    /// A shared activation (storage).
    Shared(TensorId),
    /// Shares in a small ring.
    Small(TensorId),
}

impl Source {
    /// True if the client knows its share before the input.
    pub fn is_early(self) -> bool {
        matches!(self, Self::Accumulator(_) | Self::Shared(_))
    }
}

/// The protocols.
#[derive(Debug)]
pub enum NonlinearKind {
    /// Of accumulators; `lowered` is what the server subtracts first (2^s where only the sign counts).
    Requantise {
        /// Subtracted from every accumulator by the server.
        lowered: i64,
    },
    /// Of accumulators that each party multiplies and truncates first.
    Rescale {
        /// The multipliers, one or one per channel, the accumulator's width, and the bits dropped. Public.
        factors: Vec<Factor>,
        /// Subtracted from every product by the server.
        lowered: i64,
    },
    /// The carries out of the low bits of accumulators, whose clip comes after a max pool.
    Carries,
    /// The largest value of each window.
    MaxPool {
        /// The windows.
        windows: Windows,
    },
    /// The largest of each window of accumulators, clipped: of c >> low + v >> low + carry.
    Pooled {
        /// The windows.
        windows: Windows,
        /// The tensor that stands for the carries.
        carries: TensorId,
        /// The bits that only carry.
        low: u32,
    },
    /// (multiplier * sum + offset) >> shift of each window.
    AvgPool {
        /// The windows.
        windows: Windows,
        /// Public.
        multiplier: i64,
        /// Public.
        offset: i64,
    },
    /// A table look-up.
    Table,
    /// An accumulator in a wider ring and without its guard bit, then multiplied by each party.
    Scale {
        /// One entry, or one per channel. Public.
        multiplier: Vec<i64>,
        /// Width of the result.
        ell: u32,
    },
}

/// The programs of a node: they differ in how the result ends.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The client uploads x - xhat.
    pub prepared: Arc<Program>,
    /// The parties keep shares.
    pub direct: Arc<Program>,
}

impl Programs {
    /// The program of a schedule.
    pub fn of(&self, schedule: Schedule) -> &Arc<Program> {
        match schedule {
            Schedule::Prepared => &self.prepared,
            Schedule::Direct => &self.direct,
        }
    }

    /// A program whose result does not depend on the schedule.
    fn single(program: Program) -> Self {
        let program = Arc::new(program);
        Self { prepared: program.clone(), direct: program }
    }

    fn build(
        holding: Holding,
        mut program: impl FnMut(Finish) -> Result<Program, LayoutError>,
    ) -> Result<Self, LayoutError> {
        Ok(match holding {
            Holding::Scaled { ell } => Self::single(program(Finish::Share { ring: ell as u8 })?),
            Holding::Shared { ring, .. } => {
                let ring = ring as u8;
                let prepared = Arc::new(program(Finish::Upload { ring })?);
                Self { prepared, direct: Arc::new(program(Finish::Share { ring })?) }
            }
            _ => Self::single(program(Finish::Small)?),
        })
    }
}

/// The position of linear node `node` among the linear nodes.
fn linear_index(architecture: &Architecture, node: NodeId) -> usize {
    architecture.nodes[..node.index()].iter().filter(|node| matches!(node.op, Op::Linear { .. })).count()
}

pub(super) fn finish_of(holding: Holding) -> Finish {
    match holding {
        Holding::Shared { ring, .. } => Finish::Upload { ring: ring as u8 },
        _ => Finish::Small,
    }
}

/// Everything that the construction of one node's protocol depends on.
pub(super) struct Steps<'a> {
    pub architecture: &'a Architecture,
    pub choices: &'a Choices,
    pub tensors: &'a ByTensor<TensorInfo>,
    pub holdings: &'a ByTensor<Holding>,
    pub widths: &'a ByTensor<u32>,
}

/// The specification of one node's protocol, before its layout is known.
pub(super) enum Spec {
    /// And the largest result.
    Requantise(requantise::Spec, u8),
    /// Of truncated products, likewise.
    Rescale(requantise::Spec, u8),
    Truncate(truncate::Spec),
    MaxPool(maxpool::Spec),
    Table {
        bits: u32,
        entries: Vec<i64>,
    },
    Widen {
        ell: u32,
    },
}

/// The node that makes a tensor.
fn made(tensor: TensorId) -> NodeId {
    tensor.maker().expect("the input is neither an accumulator nor made of one")
}

impl Steps<'_> {
    /// The tensor that a node reads, the first of them.
    pub fn input(&self, node: NodeId) -> TensorId {
        TensorId::new(self.architecture.nodes[node.index()].op.inputs()[0])
    }

    fn source(&self, tensor: TensorId) -> Source {
        match self.holdings[tensor] {
            Holding::Accumulator { .. } => Source::Accumulator(made(tensor)),
            Holding::Scaled { .. } => Source::Scaled(made(tensor)),
            Holding::Truncated { .. } => self.source(self.input(made(tensor))),
            Holding::Shared { root, .. } => Source::Shared(root),
            Holding::Small { .. } => Source::Small(tensor),
        }
    }

    /// The bits that the scale drops whose result `tensor` is.
    fn dropped(&self, tensor: TensorId) -> Option<u32> {
        self.choices.dropped(self.architecture, tensor.maker()?)
    }

    pub fn spec(&self, node: NodeId) -> Option<Spec> {
        let byte = |value: u32| u8::try_from(value).unwrap_or(u8::MAX);
        match &self.architecture.nodes[node.index()].op {
            Op::Scale { .. } if self.dropped(node.output()).is_some() => None,
            Op::Scale { input, .. } => {
                Some(Spec::Widen { ell: self.choices.ell(self.architecture, made(TensorId::new(*input))) })
            }
            Op::Requantise { input, bits, shift, top, .. } => {
                let dropped = self.dropped(TensorId::new(*input));
                let less = dropped.unwrap_or(0);
                let spec = requantise::Spec {
                    ell: byte(self.choices.ell(self.architecture, made(TensorId::new(*input))) - less),
                    shift: byte(shift[0] - less),
                    bits: byte(clipped_bits(*bits, *top)),
                    guard: if matches!(self.holdings[TensorId::new(*input)], Holding::Accumulator { .. }) {
                        byte(GUARD_BITS)
                    } else {
                        0
                    },
                };
                let top = top.map_or(u8::MAX, |top| u8::try_from(top).unwrap_or(u8::MAX));
                Some(if dropped.is_some() { Spec::Rescale(spec, top) } else { Spec::Requantise(spec, top) })
            }
            Op::AvgPool { shift, .. } => Some(Spec::Truncate(truncate::Spec {
                width: byte(average_ring(self.widths[node.output()], *shift)),
                shift: byte(*shift),
                bits: byte(self.widths[node.output()]),
            })),
            Op::MaxPool { input, window } => Some(Spec::MaxPool(maxpool::Spec {
                bits: byte(self.widths[TensorId::new(*input)]),
                window: u8::try_from(window.kernel[0] * window.kernel[1]).unwrap_or(u8::MAX),
                client: self.client_time(TensorId::new(*input)),
                server: Time::START,
            })),
            Op::Table { input, table } => {
                let bits = self.widths[TensorId::new(*input)];
                let mut entries = table.clone();
                // Indices beyond the input's range are not reachable.
                entries.resize(1 << bits, table.first().copied().unwrap_or(0));
                Some(Spec::Table { bits, entries })
            }
            Op::Linear { .. } | Op::SumPool { .. } | Op::Concat { .. } | Op::Flatten { .. } | Op::Select { .. } => None,
        }
    }

    /// The max pool that alone reads what requantisation `node` makes, where the clip can come after the pool.
    pub fn pooled(&self, node: NodeId) -> Option<(NodeId, pooled::Spec)> {
        let Some(Spec::Requantise(layer, top)) = self.spec(node) else { return None };
        let mut consumers = self.architecture.consumers(node.output().index()).map(NodeId::new);
        let (pool, None) = (consumers.next()?, consumers.next()) else { return None };
        let Op::MaxPool { window, .. } = &self.architecture.nodes[pool.index()].op else { return None };
        let window = u8::try_from(window.kernel[0] * window.kernel[1]).ok()?;
        let input = self.input(node);
        let fits = matches!(self.source(input), Source::Accumulator(_))
            && matches!(self.holdings[node.output()], Holding::Small { .. })
            && layer.effective_bits().is_ok_and(|bits| bits > 1);
        let clip = Clip { top, spare: false };
        fits.then_some((pool, pooled::Spec { layer, clip, window }))
    }

    /// The same for a pool whose input is in `steps`, if that was not clipped.
    fn unclipped(&self, pool: NodeId, steps: &ByNode<Step>) -> Option<(Source, pooled::Spec)> {
        let before = self.input(pool).maker()?;
        let Step::Nonlinear(step) = &steps[before] else { return None };
        let NonlinearKind::Carries = step.kind else { return None };
        Some((step.source, self.pooled(before)?.1))
    }

    fn kind(&self, node: NodeId, spec: &Spec) -> Result<NonlinearKind, LayoutError> {
        let output = self.tensors[node.output()].shape;
        let windows = |input: TensorId, window| Windows::new(window, self.tensors[input].shape, [output[1], output[2]]);
        Ok(match (&self.architecture.nodes[node.index()].op, spec) {
            (Op::Requantise { shift, .. }, Spec::Requantise(spec, _)) => {
                NonlinearKind::Requantise { lowered: if spec.is_sign()? { 1 << shift[0] } else { 0 } }
            }
            (Op::Requantise { input, shift, .. }, Spec::Rescale(spec, _)) => {
                let factors = truncation::factors(self.architecture, self.choices, made(TensorId::new(*input)));
                NonlinearKind::Rescale { factors, lowered: if spec.is_sign()? { 1 << shift[0] } else { 0 } }
            }
            (Op::MaxPool { input, window }, _) => {
                NonlinearKind::MaxPool { windows: windows(TensorId::new(*input), window) }
            }
            (Op::AvgPool { input, window, multiplier, offset, shift }, _) => {
                // Counted from the lowest average.
                let offset = offset - (self.tensors[node.output()].range.lo << shift);
                NonlinearKind::AvgPool {
                    windows: windows(TensorId::new(*input), window),
                    multiplier: *multiplier,
                    offset,
                }
            }
            (Op::Scale { multiplier, .. }, _) => {
                let ell = self.choices.ell(self.architecture, node);
                NonlinearKind::Scale { multiplier: multiplier.clone(), ell }
            }
            _ => NonlinearKind::Table,
        })
    }

    /// When the client knows its share of what a node reads.
    pub fn client_time(&self, tensor: TensorId) -> Time {
        if self.source(tensor).is_early() { Time::OFFLINE } else { Time::START }
    }

    /// A node without a protocol.
    fn local(&self, node: NodeId) -> Step {
        let op = &self.architecture.nodes[node.index()].op;
        let windows = match op {
            Op::Linear { .. } => return Step::Linear(linear_index(self.architecture, node)),
            Op::SumPool { input, window } => {
                let output = self.tensors[node.output()].shape;
                Some(Windows::new(window, self.tensors[TensorId::new(*input)].shape, [output[1], output[2]]))
            }
            Op::Select { axes, .. } => Some(Windows::select(&selected(axes))),
            Op::Concat { .. } => None,
            _ => return Step::Reshape,
        };
        let storage = |tensor| match self.holdings[tensor] {
            Holding::Shared { root, ring } => (root, ring),
            _ => unreachable!("local steps read and make shared tensors"),
        };
        let (output, ring) = storage(node.output());
        Step::Local {
            inputs: op.inputs().into_iter().map(|tensor| storage(TensorId::new(tensor)).0).collect(),
            output,
            ring,
            windows,
        }
    }

    /// The step of a node; `steps` are those before it.
    fn step(
        &self,
        node: NodeId,
        steps: &ByNode<Step>,
        layouts: &mut std::slice::Iter<'_, LayoutChoice>,
    ) -> Result<Step, PlanError> {
        let Some(spec) = self.spec(node) else { return Ok(self.local(node)) };
        let of_node = |source| PlanError::Layout { node: self.architecture.nodes[node.index()].name.clone(), source };
        let holding = self.holdings[node.output()];
        let mut source = self.source(self.input(node));
        let mut kind = self.kind(node, &spec).map_err(of_node)?;
        let mut next = || layouts.next().expect("counted before");
        let misplaced = || PlanError::Choice {
            node: Some(self.architecture.nodes[node.index()].name.clone()),
            what: "the kind of its layout",
            value: node.index() as u64,
        };
        let (input_width, bits, programs) = match &spec {
            Spec::Requantise(spec, top) => match next() {
                LayoutChoice::Requantise { layout, spare } => {
                    let (client, clip) = (self.client_time(self.input(node)), Clip { top: *top, spare: *spare });
                    let programs = Programs::build(holding, |finish| {
                        requantise::program_clipped(*spec, clip, layout, finish, client, Time::START)
                    });
                    (spec.width() as u32, spec.effective_bits().map_err(of_node)? as u32, programs)
                }
                LayoutChoice::Carries(chain) => {
                    let (_, spec) = self.pooled(node).ok_or_else(misplaced)?;
                    kind = NonlinearKind::Carries;
                    (spec.low() as u32, 1, pooled::carries(spec, chain).map(Programs::single))
                }
                _ => return Err(misplaced()),
            },
            Spec::Rescale(spec, top) => {
                let LayoutChoice::Requantise { layout, spare } = next() else { return Err(misplaced()) };
                let clip = Clip { top: *top, spare: *spare };
                let programs = Programs::build(holding, |finish| rescale::program(*spec, clip, layout, finish));
                (spec.width() as u32, spec.effective_bits().map_err(of_node)? as u32, programs)
            }
            Spec::Truncate(spec) => {
                let LayoutChoice::Chain(chain) = next() else { return Err(misplaced()) };
                let programs = Programs::build(holding, |finish| truncate::program(*spec, chain, finish, Time::START));
                (spec.width.into(), spec.bits.into(), programs)
            }
            Spec::MaxPool(spec) => match (next(), self.unclipped(node, steps)) {
                (LayoutChoice::Chain(chain), None) => {
                    let programs = Programs::build(holding, |finish| maxpool::program(*spec, chain, finish));
                    (small_width(spec.bits.into()), spec.bits.into(), programs)
                }
                (LayoutChoice::Pooled { game, clip, spare }, Some((accumulators, mut whole))) => {
                    whole.clip.spare = *spare;
                    source = accumulators;
                    if let NonlinearKind::MaxPool { windows } = kind {
                        kind = NonlinearKind::Pooled { windows, carries: self.input(node), low: whole.low() as u32 };
                    }
                    let programs = Programs::build(holding, |finish| pooled::program(whole, game, clip, finish));
                    (whole.width() as u32, spec.bits.into(), programs)
                }
                _ => return Err(misplaced()),
            },
            Spec::Widen { ell } => {
                let programs = Programs::build(holding, |finish| widen::program(*ell as usize, finish.ring(0)));
                (ell + GUARD_BITS, 0, programs)
            }
            Spec::Table { bits, entries } => {
                let programs = Programs::build(holding, |finish| table::program(*bits as usize, entries, finish));
                (*bits, self.widths[node.output()], programs)
            }
        };
        Ok(Step::Nonlinear(Box::new(Nonlinear {
            node,
            source,
            kind,
            lanes: self.tensors[node.output()].elements(),
            input_width,
            bits,
            programs: programs.map_err(of_node)?,
        })))
    }
}

/// How the output is opened to the client.
#[derive(Debug)]
pub struct Answer {
    /// What is opened: an accumulator or a shared activation.
    pub source: Source,
    /// Number of values.
    pub lanes: usize,
    /// Width of a value: ell of an accumulator, the ring of an activation.
    pub bits: u32,
    /// Opens the values.
    pub logits: Arc<Program>,
    /// Opens the index of the largest; `None` for an output of one value. Takes a guard bit in any case.
    pub class: Option<Argmax>,
}

impl Steps<'_> {
    pub fn answer_bits(&self) -> u32 {
        match self.holdings[TensorId::new(self.architecture.output)] {
            Holding::Accumulator { ell } => ell,
            Holding::Shared { ring, .. } => ring,
            Holding::Small { .. } | Holding::Scaled { .. } | Holding::Truncated { .. } => {
                unreachable!("no output is held so")
            }
        }
    }

    fn answer(&self, layouts: &mut std::slice::Iter<'_, LayoutChoice>) -> Result<Answer, PlanError> {
        let of_output = |source| PlanError::Layout { node: "output".into(), source };
        let output = TensorId::new(self.architecture.output);
        let source = self.source(output);
        let (lanes, bits) = (self.tensors[output].elements(), self.answer_bits());
        let logits = match source {
            Source::Accumulator(_) => output::logits(bits as usize),
            _ => output::reveal(bits as usize),
        };
        let class = match (lanes, layouts.next()) {
            (lanes, _) if !has_class(lanes) => None,
            (_, Some(LayoutChoice::Chain(chain))) => Some(Argmax::new(bits as usize, lanes, chain).map_err(of_output)?),
            _ => return Err(PlanError::Choice { node: None, what: "the layout of the arg max", value: 0 }),
        };
        Ok(Answer { source, lanes, bits, logits: Arc::new(logits.map_err(of_output)?), class })
    }
}

/// The number of layouts that a plan needs: see [`Choices::layouts`].
pub(super) fn layouts_needed(architecture: &Architecture, tensors: &[TensorInfo]) -> usize {
    let has_layout = |op: &Op| matches!(op, Op::Requantise { .. } | Op::AvgPool { .. } | Op::MaxPool { .. });
    let nodes = architecture.nodes.iter().filter(|node| has_layout(&node.op)).count();
    nodes + usize::from(has_class(tensors[architecture.output].elements()))
}

/// Whether the index of the largest of so many outputs can be opened alone. A detector's or a segmentation's outputs are no classes.
pub(super) fn has_class(outputs: usize) -> bool {
    (2..=MAX_CLASSES).contains(&outputs)
}

// A network of more outputs has no class.
const _: () = assert!(MAX_CLASSES == lowkey_models::answer::MAX_CLASSES);

pub(super) fn derive(
    architecture: &Architecture,
    choices: &Choices,
    tensors: &ByTensor<TensorInfo>,
    holdings: &ByTensor<Holding>,
    widths: &ByTensor<u32>,
) -> Result<(ByNode<Step>, Answer), PlanError> {
    let context = Steps { architecture, choices, tensors, holdings, widths };
    let mut layouts = choices.layouts.iter();
    let mut steps = ByNode::from(Vec::with_capacity(architecture.nodes.len()));
    for node in (0..architecture.nodes.len()).map(NodeId::new) {
        let step = context.step(node, &steps, &mut layouts)?;
        steps.push(step);
    }
    Ok((steps, context.answer(&mut layouts)?))
}
