//! Linear nodes: their terms, packed, and the order in which bodies travel.
//!
//! The first body of an element, in this order, defines the element's pad; all others encrypt it. Tensors come in order;
//! for each, its consumers by falling ell (the widest saves most), then by position.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::{LayerParameters, LayerPlan, Packing, SetPlan, TermPlan};
use lowkey_he::{ParameterSet, Rounding};
use lowkey_models::{Architecture, Op, Shape, TensorInfo, Term};

use super::{NARROW, at_most};
use crate::node::{ByTensor, Choices, Holding, LinearChoice, NodeId, PlanError, TensorId};

/// Most taps of a kernel: packing takes time in proportion.
const MAX_TAPS: u64 = 1 << 12;
/// Largest stride: a stride of t makes t^2 subgrids of a channel.
const MAX_STRIDE: u64 = 64;
/// Largest packing of all terms together, in words (see [`Packing::size`]): what a stranger's plan may take of our memory, 0.5 GiB, and up
/// to 0.7 while it is derived. A ResNet-50 and a MobileNet on images of 224 pixels fit half of it, one on 640 by 480 does not.
pub(crate) const MAX_PACKED: u64 = (1 << 26) / NARROW;

/// Most coefficients of all hints together: terms x output ciphertexts x N. Of so many a client keeps what travels ([`Kept::Packed`]), 8 bytes of
/// each at most: 1 GiB, 0.16 GiB for a ResNet-50 (27,560 channels at N = 2048, which would fit at N = 4096 too).
///
/// [`Kept::Packed`]: lowkey_bridge::Kept::Packed
pub const MAX_HINT_COEFFICIENTS: u64 = (1 << 27) / NARROW;

/// A linear node: encrypted terms and identities.
#[derive(Debug)]
pub struct LinearNode {
    /// Which node.
    pub node: NodeId,
    /// Width of the accumulator.
    pub ell: u32,
    /// The encrypted terms; `None` where there are only identities.
    pub encrypted: Option<Arc<LayerPlan>>,
    /// The tensor (storage) that each encrypted term reads.
    pub inputs: Vec<TensorId>,
    /// Tensor (storage) and public multiplier of each identity.
    pub identities: Vec<(TensorId, i64)>,
}

/// The bodies of one encrypted term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Index in [`Plan::linear`](super::Plan::linear).
    pub linear: usize,
    /// Index among its encrypted terms.
    pub term: usize,
    /// The tensor (storage) that it reads.
    pub tensor: TensorId,
}

/// The convolution that an encrypted term is.
pub(crate) fn conv_shape(term: &Term, [channels, height, width]: Shape) -> Option<ConvShape> {
    match term {
        Term::Conv { out_channels, groups, window, .. } => Some(ConvShape {
            channels,
            height,
            width,
            out_channels: *out_channels,
            kernel: window.kernel,
            stride: window.stride,
            padding: window.padding,
            dilation: window.dilation,
            groups: *groups,
        }),
        Term::Dense { outputs, .. } => Some(ConvShape::dense(channels, *outputs)),
        Term::Identity { .. } => None,
    }
}

/// Packs an encrypted term, saying what is wrong in terms of the network.
fn pack(node: &str, choice: &LinearChoice, shape: &ConvShape, set: &ParameterSet) -> Result<Packing, PlanError> {
    if choice.bands != 1 {
        let wrong = || PlanError::Choice {
            node: Some(node.to_owned()),
            what: "the number of channels in an output ciphertext",
            value: choice.bands.into(),
        };
        return Packing::banded(shape, set.degree, choice.bands as usize).ok_or_else(wrong);
    }
    Packing::new(shape, set.degree).map_err(|error| PlanError::NothingFits {
        node: node.to_owned(),
        ell: choice.ell,
        tried: vec![format!("{}: {error}", set.name)],
    })
}

fn parameters(node: &str, choices: &Choices, choice: &LinearChoice) -> Result<LayerParameters, PlanError> {
    let wrong = |what, value: u32| PlanError::Choice { node: Some(node.to_owned()), what, value: value.into() };
    let id = choice.set.ok_or_else(|| wrong("the parameter set", 0))?;
    let set = ParameterSet::by_id(id).ok_or_else(|| wrong("the parameter set", id.into()))?;
    // A set that is not listed is refused with the list.
    let b0 = choices.sets.iter().find(|of| of.set == id).map_or(0, |of| of.b0_rounding);
    let rounding = Rounding { body: choice.body_rounding, b0, hint: choice.hint_rounding };
    let parameters = LayerParameters { set, ell: choice.ell, rounding };
    if !parameters.consistent() {
        return Err(wrong("the accumulator width or a rounding", choice.ell));
    }
    Ok(parameters)
}

/// Linear nodes, uploads and parameter sets of a plan.
type Derived = (Vec<LinearNode>, Vec<Upload>, Vec<SetPlan>);

pub(super) fn derive(
    architecture: &Architecture,
    choices: &Choices,
    tensors: &ByTensor<TensorInfo>,
    holdings: &ByTensor<Holding>,
) -> Result<Derived, PlanError> {
    let network = Network { architecture, choices, tensors, holdings };
    // Packings first, since the order of uploads decides which body defines a pad.
    let drafts = network.drafts()?;
    let uploads = network.uploads(&drafts);
    let nodes = network.layers(drafts, &uploads)?;
    let sets = set_plans(choices, &nodes)?;
    Ok((nodes, uploads, sets))
}

/// What linear nodes are derived from.
#[derive(Clone, Copy)]
struct Network<'a> {
    architecture: &'a Architecture,
    choices: &'a Choices,
    tensors: &'a ByTensor<TensorInfo>,
    holdings: &'a ByTensor<Holding>,
}

/// A linear node, and the packings of its encrypted terms: of each of its inputs one.
struct Draft {
    node: LinearNode,
    packings: Vec<Packing>,
}

/// What all layers have together so far.
#[derive(Default)]
struct Totals {
    packed: u64,
    coefficients: u64,
}

impl Totals {
    /// Adds a term.
    fn add(&mut self, packing: &Packing) -> Result<(), PlanError> {
        self.packed = self.packed.saturating_add(packing.size());
        at_most("the size of the packed layers", self.packed, MAX_PACKED)?;
        let hints = (packing.output_ciphertexts() as u64).saturating_mul(packing.degree() as u64);
        self.coefficients = self.coefficients.saturating_add(hints);
        at_most("the number of the hints' coefficients", self.coefficients, MAX_HINT_COEFFICIENTS)
    }
}

impl Network<'_> {
    /// The storage that a linear node reads for `tensor`.
    fn root(self, tensor: TensorId) -> TensorId {
        match self.holdings[tensor] {
            Holding::Shared { root, .. } => root,
            Holding::Accumulator { .. }
            | Holding::Scaled { .. }
            | Holding::Truncated { .. }
            | Holding::Small { .. } => unreachable!("linear nodes read shared tensors"),
        }
    }

    fn drafts(self) -> Result<Vec<Draft>, PlanError> {
        let mut totals = Totals::default();
        let terms = self.architecture.nodes.iter().enumerate().filter_map(|(node, n)| {
            let Op::Linear { terms } = &n.op else { return None };
            Some((NodeId::new(node), terms))
        });
        let choices = &self.choices.linear;
        terms.zip(choices).map(|((node, terms), choice)| self.draft(node, terms, choice, &mut totals)).collect()
    }

    fn draft(
        self,
        node: NodeId,
        terms: &[Term],
        choice: &LinearChoice,
        totals: &mut Totals,
    ) -> Result<Draft, PlanError> {
        let name = &self.architecture.nodes[node.index()].name;
        let mut own = LinearNode { node, ell: choice.ell, encrypted: None, inputs: vec![], identities: vec![] };
        let mut packings = Vec::new();
        for term in terms {
            if let Term::Conv { window, .. } = term {
                let taps = window.kernel[0] as u64 * window.kernel[1] as u64;
                at_most("a kernel's number of taps", taps, MAX_TAPS)?;
                at_most("a stride", window.stride[0].max(window.stride[1]) as u64, MAX_STRIDE)?;
            }
            let input = TensorId::new(term.input());
            match (conv_shape(term, self.tensors[input].shape), term) {
                (Some(shape), _) => {
                    let packing = pack(name, choice, &shape, parameters(name, self.choices, choice)?.set)?;
                    totals.add(&packing)?;
                    packings.push(packing);
                    own.inputs.push(self.root(input));
                }
                (None, Term::Identity { multiplier, .. }) => own.identities.push((self.root(input), *multiplier)),
                (None, _) => unreachable!("only identities are not convolutions"),
            }
        }
        match choice.set {
            Some(set) if packings.is_empty() => {
                Err(PlanError::Choice { node: Some(name.clone()), what: "the parameter set", value: set.into() })
            }
            None if choice.bands != 1 => Err(PlanError::Choice {
                node: Some(name.clone()),
                what: "the number of channels in an output ciphertext",
                value: choice.bands.into(),
            }),
            _ => Ok(Draft { node: own, packings }),
        }
    }

    /// The bodies of all terms in the order in which they travel: by tensor, the widest ring first.
    fn uploads(self, drafts: &[Draft]) -> Vec<Upload> {
        let of_node = |(linear, draft): (usize, &Draft)| {
            let inputs = draft.node.inputs.clone().into_iter().enumerate();
            inputs.map(move |(term, tensor)| Upload { linear, term, tensor })
        };
        let mut uploads: Vec<Upload> = drafts.iter().enumerate().flat_map(of_node).collect();
        let ell = |upload: &Upload| self.choices.linear[upload.linear].ell;
        uploads.sort_by_key(|upload| (upload.tensor, Reverse(ell(upload)), upload.linear, upload.term));
        uploads
    }

    /// True for tensors whose pads the client draws: the first body of each element defines it.
    fn is_fresh(self, tensor: TensorId) -> bool {
        let op = tensor.maker().map(|node| &self.architecture.nodes[node.index()].op);
        !matches!(op, Some(Op::SumPool { .. } | Op::Concat { .. } | Op::Select { .. }))
    }

    /// The linear nodes with what is encrypted of them.
    fn layers(self, drafts: Vec<Draft>, uploads: &[Upload]) -> Result<Vec<LinearNode>, PlanError> {
        let (mut nodes, packings): (Vec<LinearNode>, Vec<Vec<Packing>>) =
            drafts.into_iter().map(|draft| (draft.node, draft.packings)).unzip();
        let terms = self.terms(packings, uploads);
        let mut secrets: BTreeMap<u8, usize> = BTreeMap::new();
        for ((node, terms), choice) in nodes.iter_mut().zip(terms).zip(&self.choices.linear) {
            if terms.is_empty() {
                continue;
            }
            let parameters = parameters(&self.architecture.nodes[node.node.index()].name, self.choices, choice)?;
            let output = self.tensors[node.node.output()].shape;
            let next = secrets.entry(parameters.set.id).or_default();
            let layer = LayerPlan { first_secret: *next, parameters, output, terms };
            *next += layer.secrets();
            node.encrypted = Some(Arc::new(layer));
        }
        Ok(nodes)
    }

    /// The terms of each linear node. Bodies claim the pads in the order in which they travel.
    fn terms(self, packings: Vec<Vec<Packing>>, uploads: &[Upload]) -> Vec<Vec<TermPlan>> {
        let mut waiting: Vec<Vec<Option<Packing>>> =
            packings.into_iter().map(|of_node| of_node.into_iter().map(Some).collect()).collect();
        let mut planned: Vec<Vec<Option<TermPlan>>> =
            waiting.iter().map(|of_node| of_node.iter().map(|_| None).collect()).collect();
        let mut claimed: (Option<TensorId>, Vec<bool>) = (None, vec![]);
        for (number, upload) in uploads.iter().enumerate() {
            if claimed.0 != Some(upload.tensor) {
                let elements = self.tensors[upload.tensor].elements();
                claimed = (Some(upload.tensor), vec![!self.is_fresh(upload.tensor); elements]);
            }
            let packing = waiting[upload.linear][upload.term].take().expect("each term is uploaded once");
            let mut claim = |element: u32| !std::mem::replace(&mut claimed.1[element as usize], true);
            planned[upload.linear][upload.term] = Some(TermPlan::new(number as u32, packing, &mut claim));
        }
        let whole = |term: Option<TermPlan>| term.expect("each term is uploaded");
        planned.into_iter().map(|of_node| of_node.into_iter().map(whole).collect()).collect()
    }
}

fn set_plans(choices: &Choices, nodes: &[LinearNode]) -> Result<Vec<SetPlan>, PlanError> {
    let layers: Vec<&LayerPlan> = nodes.iter().filter_map(|node| node.encrypted.as_deref()).collect();
    let mut plans = Vec::with_capacity(choices.sets.len());
    let mut last = 0;
    for choice in &choices.sets {
        let wrong = |what, value| PlanError::Choice { node: None, what, value };
        let set = ParameterSet::by_id(choice.set).ok_or_else(|| wrong("a parameter set", choice.set.into()))?;
        let of_set = layers.iter().filter(|layer| layer.parameters.set == set);
        let secrets = of_set.map(|layer| layer.secrets()).sum();
        if choice.set <= last || secrets == 0 {
            return Err(wrong("a parameter set", choice.set.into()));
        }
        if choice.b0_rounding >= set.torus_bits {
            return Err(wrong("the rounding of b*_0", choice.b0_rounding.into()));
        }
        last = choice.set;
        plans.push(SetPlan { set, secrets, b0_rounding: choice.b0_rounding });
    }
    match layers.iter().find(|layer| !plans.iter().any(|plan| plan.set == layer.parameters.set)) {
        None => Ok(plans),
        Some(layer) => Err(PlanError::Choice {
            node: None,
            what: "the list of parameter sets; one is missing, number",
            value: layer.parameters.set.id.into(),
        }),
    }
}
