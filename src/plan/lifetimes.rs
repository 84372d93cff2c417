//! How long a party keeps its half of a tensor in an inference: until the last step that may read it.

use super::{ByTensor, Holding, NodeId, Plan, TensorId};
use crate::node::Expired;

/// What a party drops after each step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifetimes {
    /// By node.
    ends: Vec<Expired>,
}

impl Lifetimes {
    /// What nobody reads after the step of a node.
    pub(crate) fn after(&self, node: NodeId) -> &Expired {
        &self.ends[node.index()]
    }
}

impl Plan {
    /// When each tensor's half is read for the last time. An accumulator counts as read as long as something that was made of it is no shared
    /// activation yet: a max pool reads what is before its clip.
    pub(crate) fn lifetimes(&self) -> Lifetimes {
        let mut ends = vec![Expired::default(); self.steps.len()];
        let (tensors, storage) = self.last_readers();
        for (tensor, last) in tensors.pairs() {
            if let Some(end) = last.and_then(|last| ends.get_mut(last)) {
                end.tensors.push(tensor);
            }
        }
        for (root, last) in storage.pairs() {
            if let Some(end) = last.and_then(|last| ends.get_mut(last)) {
                end.storage.push(root);
            }
        }
        Lifetimes { ends }
    }

    /// The number of the last step that reads each tensor's own shares, and of the last that reads each storage; beyond all steps where
    /// the answer does.
    fn last_readers(&self) -> (ByTensor<Option<usize>>, ByTensor<Option<usize>>) {
        let count = self.tensors.len();
        let mut tensors: ByTensor<Option<usize>> = ByTensor::with(count, || None);
        let mut storage = tensors.clone();
        for tensor in (0..count).rev().map(TensorId::new) {
            let own = tensor.maker().map(NodeId::index);
            let answer = (tensor.index() == self.architecture.output).then_some(self.steps.len());
            let is_shared = |tensor| matches!(self.holdings[tensor], Holding::Shared { .. });
            let readers = self.architecture.consumers(tensor.index()).map(NodeId::new).map(|reader| {
                let made = reader.output();
                let later = if is_shared(tensor) || is_shared(made) { None } else { tensors[made] };
                later.max(Some(reader.index()))
            });
            let last = readers.max().flatten().max(own).max(answer);
            tensors[tensor] = last;
            if let Holding::Shared { root, .. } = self.holdings[tensor] {
                storage[root] = storage[root].max(last);
            }
        }
        (tensors, storage)
    }

    /// Most bytes that the halves of one party take at a time, of `word` bytes for each value.
    pub(super) fn halves_bytes(&self, word: usize) -> usize {
        let (tensors, storage) = self.last_readers();
        let lives = self.tensors.pairs().filter_map(|(tensor, info)| {
            let last = match self.holdings[tensor] {
                Holding::Shared { root, .. } if root == tensor => storage[tensor],
                Holding::Shared { .. } | Holding::Truncated { .. } => return None,
                Holding::Accumulator { .. } | Holding::Scaled { .. } | Holding::Small { .. } => tensors[tensor],
            };
            Some((tensor.maker().map_or(0, NodeId::index), last.unwrap_or(0), word * info.elements()))
        });
        let lives: Vec<_> = lives.collect();
        let alive = |step| lives.iter().filter(move |(first, last, _)| (*first..=*last).contains(&step));
        (0..self.steps.len()).map(|step| alive(step).map(|life| life.2).sum()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use lowkey_models::zoo;

    use crate::plan::Link;
    use crate::planner;

    /// Everything but what the answer reads is dropped once, after it was made; of a network with residuals much less is held at a time than in
    /// all.
    #[test]
    fn every_half_ends_once() {
        let network = zoo::find("cifar10-resnet20-w4a4").unwrap().network().folded().unwrap();
        let plan = planner::plan(&network, Link::Lan).unwrap();
        let lifetimes = plan.lifetimes();
        let mut seen = std::collections::HashSet::new();
        for node in plan.steps.ids() {
            for tensor in &lifetimes.after(node).tensors {
                assert!(seen.insert(*tensor) && tensor.maker().is_none_or(|maker| maker <= node));
                let readers = plan.architecture.consumers(tensor.index());
                assert!(readers.into_iter().all(|reader| reader <= node.index()), "{tensor:?} ends at {node:?}");
            }
        }
        assert_eq!(seen.len() + 1, plan.tensors.len(), "all but the output");
        let all: usize = plan.tensors.iter().map(|tensor| 8 * tensor.elements()).sum();
        assert!(4 * plan.halves_bytes(8) < all, "{} of {all}", plan.halves_bytes(8));
    }
}
