//! The digits of all nonlinear nodes; what scales cost; and which max pools could come before their clip.

use lowkey_models::{Architecture, LinearBounds, Op, TensorInfo};
use lowkey_mpc::layout::Search;

use crate::node::{
    self, ByNode, ByTensor, Choices, Chooser, Chosen, Context, Held, Holding, LayoutChoice, NodeId, PlanError,
    has_room, pooled,
};
use crate::plan::{AnswerPlan, has_class};

/// How all tensors are held.
struct Network<'a> {
    architecture: &'a Architecture,
    chosen: Chosen,
    tensors: ByTensor<TensorInfo>,
    widths: ByTensor<u32>,
    holdings: ByTensor<Holding>,
}

impl<'a> Network<'a> {
    fn new(architecture: &'a Architecture, choices: &Choices) -> Result<Self, PlanError> {
        let chosen = Chosen::new(architecture, choices);
        let tensors = ByTensor::from(architecture.check()?);
        let widths = node::value_widths(architecture, &tensors, |node| chosen.ell(node));
        let holdings = node::holdings(&Context { architecture, chosen: &chosen, tensors: &tensors, widths: &widths });
        Ok(Self { architecture, chosen, tensors, widths, holdings })
    }

    fn held(&self) -> Held<'_> {
        let Self { architecture, chosen, tensors, widths, holdings } = self;
        Held { context: Context { architecture, chosen, tensors, widths }, holdings }
    }
}

/// The layouts of all nonlinear nodes for the link of `choices`. `bounds` are those of the weights.
pub(super) fn choose(
    architecture: &Architecture,
    choices: &Choices,
    bounds: &[Option<LinearBounds>],
    search: &mut Search,
) -> Result<Vec<LayoutChoice>, PlanError> {
    let network = Network::new(architecture, choices)?;
    let held = network.held();
    let mut chooser = Chooser::new(search, choices.link, bounds);
    let mut layouts = node::layouts(&held, &mut chooser)?;
    let (classes, bits) = (held.tensors[held.output()].elements(), AnswerPlan::width(&held));
    if has_class(classes) {
        let of_output = |source| PlanError::Layout { node: "output".into(), source };
        let found = chooser.search.argmax(bits as usize, classes).map_err(of_output)?;
        layouts.push(LayoutChoice::Chain(chooser.best(&found, 1)));
    }
    Ok(layouts)
}

/// Seconds of traffic of each scale with the requantisations that read it; infinite where they have no protocol.
pub(super) fn scale_seconds(
    architecture: &Architecture,
    choices: &Choices,
    bounds: &[Option<LinearBounds>],
    search: &mut Search,
) -> Result<ByNode<f64>, PlanError> {
    let network = Network::new(architecture, choices)?;
    let held = network.held();
    let mut chooser = Chooser::new(search, choices.link, bounds);
    let mut seconds = ByNode::with(architecture.nodes.len(), || 0.0);
    for node in held.nodes() {
        if let Some((scale, own)) = node::of(held.op(node)).scale_seconds(node, &held, &mut chooser) {
            seconds[scale] += own;
        }
    }
    Ok(seconds)
}

/// The linear nodes, by number among them, whose pool could come before the clip if their ring had one bit more.
pub(super) fn cramped(
    architecture: &Architecture,
    choices: &Choices,
    bounds: &[Option<LinearBounds>],
) -> Result<Vec<usize>, PlanError> {
    let network = Network::new(architecture, choices)?;
    let held = network.held();
    let is_linear = |node: &usize| matches!(architecture.nodes[*node].op, Op::Linear { .. });
    let linear: Vec<usize> = (0..architecture.nodes.len()).filter(is_linear).collect();
    let cramped = |node: NodeId| {
        let (pool, spec) = pooled(&held, node)?;
        let room = has_room(architecture, pool, spec, bounds[held.input(node).maker()?.index()].as_ref()?);
        (!room).then(|| linear.binary_search(&held.input(node).maker()?.index()).ok())?
    };
    Ok(held.nodes().filter_map(cramped).collect())
}
