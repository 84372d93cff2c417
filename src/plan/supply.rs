//! Which OTs are agreed on together: all of a small inference, of a large one those of some layers, so that a party never holds the seeds of all.

use lowkey_mpc::ot::OtCount;

use super::{Link, NodeId, Nonlinear, Plan, Reveal, Step};

/// OTs that are agreed on together, unless a layer takes more: 12 MB of seeds, or 50 MB where the three flights of each part take long.
fn together(link: Link) -> usize {
    match link {
        Link::Loopback | Link::Lan => 1 << 23,
        Link::Wan | Link::Metered => 1 << 25,
    }
}

impl Plan {
    /// What is agreed on together, in order: before which node, and how many. The first before anything.
    pub(crate) fn ot_parts(&self, reveal: Reveal) -> Vec<(NodeId, OtCount)> {
        self.ot_parts_of(reveal, together(self.choices.link))
    }

    fn ot_parts_of(&self, reveal: Reveal, most: usize) -> Vec<(NodeId, OtCount)> {
        let own = |step: &Nonlinear| (step.node, step.programs.prepared.ots() * step.lanes);
        let mut parts = vec![(NodeId::new(0), OtCount::ZERO)];
        // The answer comes last, and takes few.
        for (node, ots) in self.steps.iter().filter_map(Step::nonlinear).map(own) {
            match parts.last_mut() {
                Some((_, sum)) if *sum == OtCount::ZERO || (*sum + ots).total() <= most => *sum += ots,
                _ => parts.push((node, ots)),
            }
        }
        if let Some((_, sum)) = parts.last_mut() {
            *sum += self.answer.demand(reveal).ots;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use lowkey_models::zoo;

    use super::*;
    use crate::planner;

    /// Whatever is agreed on at a time, it is all that is spent, and of no more than one layer or the limit.
    #[test]
    fn parts_are_the_whole() {
        let network = zoo::find("mnist-minionn-w4a4").unwrap().network().folded().unwrap();
        let plan = planner::plan(&network, Link::Lan).unwrap();
        for reveal in [Reveal::Logits, Reveal::Class] {
            let all = plan.demand(reveal).ots;
            assert_eq!(plan.ot_parts(reveal), [(NodeId::new(0), all)], "a small network has one part");
            assert!(together(Link::Lan) < together(Link::Wan), "fewer flights where they are long");
            for most in [1, 100_000, 200_000] {
                let parts = plan.ot_parts_of(reveal, most);
                assert_eq!(parts.iter().map(|(_, ots)| *ots).sum::<OtCount>(), all, "{most}");
                assert!(parts.len() > 1 && parts.windows(2).all(|pair| pair[0].0 < pair[1].0), "{most}");
            }
        }
    }
}
