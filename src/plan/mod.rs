//! The plan of a network: everything that both parties must agree on, derived from the public architecture and a few choices.
//!
//! A server *chooses* ([`planner`](crate::planner): from the weights) and publishes; both parties *derive* the same [`Plan`] from architecture
//! and choices, so that nothing else about it travels or needs to be trusted. A client refuses what it cannot derive.

#![deny(clippy::wildcard_enum_match_arm)]

mod answer;
mod lifetimes;
mod linear;
mod memory;
mod supply;
pub(crate) mod truncation;

use lowkey_bridge::SetPlan;
use lowkey_he::noise;
use lowkey_models::{Architecture, Kind, Op, TensorInfo};
use lowkey_mpc::demand::Demand;

use crate::node::{self, Chooses, Chosen, Context, Held};
use crate::share::Ring;

pub use crate::node::{
    By, ByNode, ByTensor, Choices, Holding, LayoutChoice, LinearChoice, Link, NodeId, Nonlinear, NonlinearKind,
    Operand, PlanError, Programs, ScaleChoice, SetChoice, Step, TensorId, Windows, width_of,
};
pub use answer::AnswerPlan;
pub(crate) use answer::has_class;
pub use linear::{LinearNode, MAX_HINT_COEFFICIENTS, Upload};
pub(crate) use linear::{MAX_PACKED, conv_shape};
pub use memory::ServerMemory;

/// What the limits of memory are divided by where addresses have 32 bits, as in a browser: all is to fit 4 GiB.
const NARROW: u64 = if cfg!(target_pointer_width = "32") { 8 } else { 1 };
/// Most activations that one inference handles.
pub const MAX_ACTIVATIONS: u64 = 1 << 26;
/// Most bytes of a hint: nothing rounded off the most coefficients.
pub const MAX_HINT_BYTES: u64 = 8 * MAX_HINT_COEFFICIENTS;
/// Widths that an accumulator may have.
pub const WIDTHS: std::ops::RangeInclusive<u32> = 2..=56;
/// Most values that the windows of all pools read.
pub const MAX_WINDOWS: u64 = 1 << 25;
/// Most OTs of one layer: their keys become pads a part at a time, and the pads wait in a slot. The largest layer of a VGG-16 has 2^27.
pub const MAX_LAYER_OTS: u64 = (1 << 28) / NARROW;
/// Most OTs of one inference: some layers at a time are agreed on (`ot_parts`), and the pads of all wait in a slot.
pub const MAX_OTS: u64 = (1 << 31) / NARROW;
/// Most bytes of one inference's bodies.
pub const MAX_OFFLINE_BYTES: u64 = (1 << 31) / NARROW;

/// What a network's output is shown as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reveal {
    /// The network's integer outputs, exactly.
    #[default]
    Logits,
    /// The index of the largest output (the lowest of equals), and nothing else.
    Class,
}

impl Reveal {
    /// What is shown where nobody said: the outputs, and with `guard` the class alone, since outputs tell more of the weights.
    #[must_use]
    pub fn default_for(guard: bool) -> Self {
        if guard { Self::Class } else { Self::Logits }
    }
}

/// The derived plan. Public.
#[derive(Debug)]
pub struct Plan {
    /// The network's public half; one shift per requantisation.
    pub architecture: Architecture,
    /// What was chosen.
    pub choices: Choices,
    /// Shapes, kinds and ranges of all tensors.
    pub tensors: ByTensor<TensorInfo>,
    /// How each tensor is held.
    pub holdings: ByTensor<Holding>,
    /// Parameter sets, in order of `choices.sets`.
    pub sets: Vec<SetPlan>,
    /// Linear nodes, in order.
    pub linear: Vec<LinearNode>,
    /// Bodies, in the order in which they travel.
    pub uploads: Vec<Upload>,
    /// One per node.
    pub steps: ByNode<Step>,
    /// How the output is opened.
    pub answer: AnswerPlan,
}

impl Plan {
    /// Derives the plan.
    ///
    /// # Errors
    /// When the architecture breaks a rule, or the choices are not choices for it. A server's message is decided upon here.
    pub fn derive(architecture: Architecture, choices: Choices) -> Result<Self, PlanError> {
        let tensors = architecture.check()?;
        check_counts(&architecture, &choices, &tensors)?;
        check_size(&architecture, &tensors)?;
        let tensors = ByTensor::from(tensors);
        let chosen = Chosen::new(&architecture, &choices);
        check_choices(&architecture, &chosen)?;
        let widths = node::value_widths(&architecture, &tensors, |node| chosen.ell(node));
        let context = Context { architecture: &architecture, chosen: &chosen, tensors: &tensors, widths: &widths };
        let holdings = node::holdings(&context);
        let held = Held { context, holdings: &holdings };
        let (linear, uploads, sets) = linear::derive(&architecture, &choices, &tensors, &holdings)?;
        let (steps, answer) = (node::steps(&held)?, AnswerPlan::derive(&held)?);
        let plan = Self { architecture, choices, tensors, holdings, sets, linear, uploads, steps, answer };
        at_most("the hint's size in bytes", plan.hint_bytes() as u64, MAX_HINT_BYTES)?;
        at_most("the size of the bodies in bytes", plan.body_bytes() as u64, MAX_OFFLINE_BYTES)?;
        plan.check_ots()?;
        Ok(plan)
    }

    /// Looks at the plan as its operators do.
    pub(crate) fn with_held<T>(&self, look: impl FnOnce(&Held<'_>) -> T) -> T {
        let (architecture, tensors) = (&self.architecture, &self.tensors);
        let chosen = Chosen::new(architecture, &self.choices);
        let widths = node::value_widths(architecture, tensors, |node| chosen.ell(node));
        let context = Context { architecture, chosen: &chosen, tensors, widths: &widths };
        look(&Held { context, holdings: &self.holdings })
    }

    fn check_ots(&self) -> Result<(), PlanError> {
        for step in self.steps.iter() {
            let Step::Nonlinear(step) = step else { continue };
            for program in [&step.programs.prepared, &step.programs.direct] {
                at_most("the number of a layer's OTs", (program.ots() * step.lanes).total() as u64, MAX_LAYER_OTS)?;
            }
        }
        let most = [Reveal::Logits, Reveal::Class].map(|reveal| self.demand(reveal).ots.total() as u64);
        at_most("the number of OTs", most[0].max(most[1]), MAX_OTS)
    }

    /// The ring of an activation that is uploaded or computed locally, and the tensor whose storage it uses.
    pub fn shared(&self, tensor: TensorId) -> Option<(u32, TensorId)> {
        match self.holdings[tensor] {
            Holding::Shared { ring, root } => Some((ring, root)),
            Holding::Accumulator { .. }
            | Holding::Scaled { .. }
            | Holding::Truncated { .. }
            | Holding::Small { .. } => None,
        }
    }

    /// The ring that the input is shared in.
    pub(crate) fn input_ring(&self) -> Ring {
        self.holdings[TensorId::INPUT].ring()
    }

    /// Shape, kind and range of the input.
    pub fn input(&self) -> &TensorInfo {
        &self.tensors[TensorId::INPUT]
    }

    /// Bytes of the published hint.
    pub fn hint_bytes(&self) -> usize {
        self.linear.iter().filter_map(|node| node.encrypted.as_ref()).map(|layer| layer.hint_len()).sum()
    }

    /// Bytes of all bodies of one inference in the prepared schedule.
    pub fn body_bytes(&self) -> usize {
        self.uploads.iter().map(|upload| self.body_len(upload, lowkey_bridge::Schedule::Prepared)).sum()
    }

    /// The bodies of a linear node's terms, in order of the terms.
    pub fn uploads_of(&self, linear: usize) -> Vec<&Upload> {
        let mut uploads: Vec<&Upload> = self.uploads.iter().filter(|upload| upload.linear == linear).collect();
        uploads.sort_by_key(|upload| upload.term);
        uploads
    }

    /// Bytes of one term's bodies.
    pub fn body_len(&self, upload: &Upload, schedule: lowkey_bridge::Schedule) -> usize {
        let layer = self.linear[upload.linear].encrypted.as_ref().expect("an upload belongs to an encrypted term");
        layer.terms[upload.term].message_len(&layer.parameters, schedule)
    }

    /// Bytes of all b*_0 of one inference.
    pub fn b0_bytes(&self) -> usize {
        self.sets.iter().map(SetPlan::message_len).sum()
    }

    /// Nonlinear activations: results of requantisations and blocks.
    pub fn activations(&self) -> usize {
        let requantised = |node: &NodeId| {
            matches!(self.architecture.nodes[node.index()].op, Op::Requantise { .. } | Op::Block { .. })
        };
        self.steps.ids().filter(requantised).map(|node| self.tensors[node.output()].elements()).sum()
    }

    /// Encrypted outputs of one inference: accumulators that noise could make wrong.
    pub fn encrypted_outputs(&self) -> u64 {
        self.linear.iter().filter_map(|node| node.encrypted.as_ref()).map(|layer| layer.outputs() as u64).sum()
    }

    /// What one inference spends.
    pub fn demand(&self, reveal: Reveal) -> Demand {
        let of_step = |step: &Nonlinear| step.programs.prepared.demand() * step.lanes;
        self.steps.iter().filter_map(Step::nonlinear).map(of_step).sum::<Demand>() + self.answer.demand(reveal)
    }

    /// The operator of a node, by its name for people.
    pub fn operator(&self, node: NodeId) -> &'static str {
        node::of(&self.architecture.nodes[node.index()].op).name()
    }

    /// Name of a node.
    pub fn name(&self, node: NodeId) -> &str {
        &self.architecture.nodes[node.index()].name
    }
}

/// Checks that there is one choice for each thing to choose.
fn check_counts(architecture: &Architecture, choices: &Choices, tensors: &[TensorInfo]) -> Result<(), PlanError> {
    let count = |wanted| architecture.nodes.iter().filter(|node| node::of(&node.op).chooses() == wanted).count();
    let arg_max = usize::from(has_class(tensors[architecture.output].elements()));
    for (what, found, expected) in [
        ("linear layers", choices.linear.len(), count(Chooses::Linear)),
        ("scales", choices.scales.len(), count(Chooses::Scale)),
        ("layouts", choices.layouts.len(), count(Chooses::Layout) + arg_max),
    ] {
        if found != expected {
            return Err(PlanError::Count { what, found, expected });
        }
    }
    Ok(())
}

/// Checks what all that follows relies on: one shift per layer, what is scaled, and the widths of accumulators.
fn check_choices(architecture: &Architecture, chosen: &Chosen) -> Result<(), PlanError> {
    for (index, node) in architecture.nodes.iter().enumerate() {
        let wrong = |what, value| PlanError::Choice { node: Some(node.name.clone()), what, value };
        match &node.op {
            Op::Requantise { shift, .. } if shift.len() != 1 => {
                return Err(PlanError::PerChannelShift { node: node.name.clone(), shifts: shift.len() });
            }
            // Programs that widen read accumulators with a guard bit.
            Op::Scale { input, .. } if !matches!(architecture.nodes[*input - 1].op, Op::Linear { .. }) => {
                return Err(wrong("the tensor that is scaled", *input as u64));
            }
            Op::Linear { .. } | Op::Scale { .. } => {
                let id = NodeId::new(index);
                let ell = match chosen.scale(id) {
                    Some(ScaleChoice::Widened { ell } | ScaleChoice::Truncated { ell, .. }) => ell,
                    None => chosen.ell(id),
                };
                if !WIDTHS.contains(&ell) {
                    return Err(wrong("the accumulator width", ell.into()));
                }
            }
            Op::Requantise { .. }
            | Op::Block { .. }
            | Op::MaxPool { .. }
            | Op::AvgPool { .. }
            | Op::SumPool { .. }
            | Op::Flatten { .. }
            | Op::Concat { .. }
            | Op::Select { .. }
            | Op::Table { .. } => {}
        }
    }
    (0..architecture.nodes.len()).map(NodeId::new).try_for_each(|node| truncation::check(architecture, chosen, node))
}

// What the failure probability of the noise is computed for: `check_size` bounds all accumulators.
const _: () = assert!(MAX_ACTIVATIONS <= noise::MAX_OUTPUTS);

fn check_size(architecture: &Architecture, tensors: &[TensorInfo]) -> Result<(), PlanError> {
    let count = |kind: Kind| tensors.iter().filter(|t| t.kind == kind).map(|t| t.elements() as u64).sum();
    at_most("the number of activations", count(Kind::Activation), MAX_ACTIVATIONS)?;
    at_most("the number of accumulators", count(Kind::Accumulator), MAX_ACTIVATIONS)?;
    let pooled = architecture.nodes.iter().zip(&tensors[1..]).filter_map(|(node, output)| {
        let [height, width] = node::of(&node.op).window()?.kernel.map(|size| size as u64);
        Some((height * width).saturating_mul(output.elements() as u64))
    });
    at_most("the number of values in all windows", pooled.fold(0, u64::saturating_add), MAX_WINDOWS)
}

pub(crate) fn at_most(what: &'static str, value: u64, limit: u64) -> Result<(), PlanError> {
    if value <= limit { Ok(()) } else { Err(PlanError::TooLarge { what, value, limit }) }
}
