//! Linear nodes: their terms, packed, and the order in which bodies travel.
//!
//! The first body of an element, in this order, defines the element's pad; all others encrypt it. Tensors come in order;
//! for each, its consumers by falling ell (the widest saves most), then by position.

use std::collections::BTreeMap;
use std::sync::Arc;

use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::{LayerParameters, LayerPlan, Packing, SetPlan, TermPlan};
use lowkey_he::{ParameterSet, Rounding};
use lowkey_models::{Architecture, Op, Shape, TensorInfo, Term};

use crate::node::{ByTensor, Choices, Holding, LinearChoice, NodeId, PlanError, TensorId};

/// Most taps of a kernel: packing takes time in proportion.
const MAX_TAPS: u64 = 1 << 12;
/// Largest stride: a stride of t makes t^2 subgrids of a channel.
const MAX_STRIDE: u64 = 64;
/// Largest packing of all terms together, in words (see [`Packing::size`]): what a stranger's plan may take of our memory, 0.5 GiB. A
/// ResNet-50 and a MobileNet on images of 224 pixels fit half of it, one on 640 by 480 does not.
pub(crate) const MAX_PACKED: u64 = 1 << 26;

/// Most coefficients of all hints together: terms x output channels x N. A client keeps each as a transform of up to 12 bytes
/// or as a window of up to 16, whatever its rounding leaves on the wire: 2 GiB at most, 0.65 GiB for a ResNet-50 (27,560 channels
/// at N = 2048), which would fit at N = 4096 too.
pub const MAX_HINT_COEFFICIENTS: u64 = 1 << 27;

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
pub(super) fn pack(node: &str, ell: u32, shape: &ConvShape, set: &ParameterSet) -> Result<Packing, PlanError> {
    Packing::new(shape, set.degree).map_err(|error| PlanError::NothingFits {
        node: node.to_owned(),
        ell,
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
    let root = |tensor: TensorId| match holdings[tensor] {
        Holding::Shared { root, .. } => root,
        _ => unreachable!("linear nodes read shared tensors"),
    };
    let nodes = architecture.nodes.iter().enumerate();
    let linear = nodes
        .filter_map(|(node, n)| if let Op::Linear { terms } = &n.op { Some((NodeId::new(node), terms)) } else { None });

    // Packings first, since the order of uploads decides which body defines a pad.
    let mut drafts = Vec::new();
    let (mut packed, mut coefficients) = (0, 0u64);
    let mut uploads = Vec::new();
    for ((index, (node, terms)), choice) in linear.enumerate().zip(&choices.linear) {
        let name = &architecture.nodes[node.index()].name;
        let mut draft = LinearNode { node, ell: choice.ell, encrypted: None, inputs: vec![], identities: vec![] };
        let mut packings = Vec::new();
        for term in terms {
            if let Term::Conv { window, .. } = term {
                super::at_most("a kernel's number of taps", (window.kernel[0] * window.kernel[1]) as u64, MAX_TAPS)?;
                super::at_most("a stride", window.stride[0].max(window.stride[1]) as u64, MAX_STRIDE)?;
            }
            let input = TensorId::new(term.input());
            let source = root(input);
            match (conv_shape(term, tensors[input].shape), term) {
                (Some(shape), _) => {
                    uploads.push(Upload { linear: index, term: packings.len(), tensor: source });
                    let packing = pack(name, choice.ell, &shape, parameters(name, choices, choice)?.set)?;
                    packed = packing.size().saturating_add(packed);
                    super::at_most("the size of the packed layers", packed, MAX_PACKED)?;
                    let hints = (shape.out_channels as u64).saturating_mul(packing.degree() as u64);
                    coefficients = coefficients.saturating_add(hints);
                    super::at_most("the number of the hints' coefficients", coefficients, MAX_HINT_COEFFICIENTS)?;
                    packings.push(packing);
                    draft.inputs.push(source);
                }
                (None, Term::Identity { multiplier, .. }) => draft.identities.push((source, *multiplier)),
                (None, _) => unreachable!("only identities are not convolutions"),
            }
        }
        if packings.is_empty() && choice.set.is_some() {
            let value = u64::from(choice.set.unwrap_or_default());
            return Err(PlanError::Choice { node: Some(name.clone()), what: "the parameter set", value });
        }
        drafts.push((draft, packings.into_iter().map(Some).collect::<Vec<_>>()));
    }
    uploads.sort_by_key(|u| (u.tensor, std::cmp::Reverse(choices.linear[u.linear].ell), u.linear, u.term));

    let fresh = |tensor: TensorId| {
        let op = tensor.maker().map(|node| &architecture.nodes[node.index()].op);
        !matches!(op, Some(Op::SumPool { .. } | Op::Concat { .. } | Op::Select { .. }))
    };
    let mut planned: Vec<Vec<Option<TermPlan>>> =
        drafts.iter().map(|(_, p)| p.iter().map(|_| None).collect()).collect();
    let mut claimed: (Option<TensorId>, Vec<bool>) = (None, vec![]);
    for (number, upload) in uploads.iter().enumerate() {
        if claimed.0 != Some(upload.tensor) {
            claimed = (Some(upload.tensor), vec![!fresh(upload.tensor); tensors[upload.tensor].elements()]);
        }
        let packing = drafts[upload.linear].1[upload.term].take().expect("each term is uploaded once");
        let term =
            TermPlan::new(number as u32, packing, |element| !std::mem::replace(&mut claimed.1[element as usize], true));
        planned[upload.linear][upload.term] = Some(term);
    }

    let mut secrets: BTreeMap<u8, usize> = BTreeMap::new();
    let mut nodes = Vec::with_capacity(drafts.len());
    for (((mut draft, _), terms), choice) in drafts.into_iter().zip(planned).zip(&choices.linear) {
        if !terms.is_empty() {
            let parameters = parameters(&architecture.nodes[draft.node.index()].name, choices, choice)?;
            let terms = terms.into_iter().map(|term| term.expect("each term is uploaded")).collect();
            let output = tensors[draft.node.output()].shape;
            let next = secrets.entry(parameters.set.id).or_default();
            let layer = LayerPlan { first_secret: *next, parameters, output, terms };
            *next += layer.secrets();
            draft.encrypted = Some(Arc::new(layer));
        }
        nodes.push(draft);
    }
    let sets = set_plans(choices, &nodes)?;
    Ok((nodes, uploads, sets))
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
