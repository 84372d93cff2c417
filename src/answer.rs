//! Opening the output to the client, both roles: exact logits, or the class alone.
//!
//! The class of a single output is 0, and nothing travels. An activation has no guard bit; for the arg max both shares are
//! doubled, which makes one.

#![deny(clippy::wildcard_enum_match_arm)]

use lowkey_bridge::share::GUARD_BITS;
use lowkey_mpc::argmax::ArgmaxReady;
use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::program::{self, ReadyProgram};

use crate::error::{Error, Result};
use crate::node::Halves;
use crate::plan::{AnswerPlan, Operand, Plan, Reveal, TensorId};
use crate::share::{Ring, RingShare, ToPlanes};

/// One party's half of the opening, its offline stage over.
pub(crate) enum AnswerReady {
    /// The values.
    Logits(ReadyProgram),
    /// The index; `None` where there is only one.
    Class(Option<ArgmaxReady>),
}

impl AnswerReady {
    /// What it will show.
    pub(crate) fn reveal(&self) -> Reveal {
        match self {
            Self::Logits(_) => Reveal::Logits,
            Self::Class(_) => Reveal::Class,
        }
    }

    /// Bytes of memory that it holds.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Logits(ready) => ready.held_bytes(),
            Self::Class(ready) => ready.as_ref().map_or(0, ArgmaxReady::held_bytes),
        }
    }
}

/// What a client learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The network's integer outputs.
    Logits(Vec<i64>),
    /// The index of the largest.
    Class(usize),
}

/// A party's share of the output: of an accumulator with its guard bit, of an activation without.
pub(crate) fn share<'a>(answer: &AnswerPlan, halves: &'a Halves) -> &'a RingShare {
    match answer.operand {
        Operand::Accumulator(node) => &halves.accumulators[node],
        Operand::Shared(tensor) => &halves.shared[tensor],
        Operand::Small(_) | Operand::Scaled(_) => unreachable!("no output is held so"),
    }
}

/// The share as the program of `reveal` takes it.
pub(crate) fn planes(answer: &AnswerPlan, reveal: Reveal, share: &RingShare) -> Planes {
    match (reveal, share.ring().guard_bits()) {
        (Reveal::Class, 0) => {
            let doubled: Vec<u64> = share.words().iter().map(|x| x << GUARD_BITS).collect();
            RingShare::new(doubled, Ring::guarded(answer.bits)).planes()
        }
        (Reveal::Logits | Reveal::Class, guard) => Planes::from_lanes(share.words(), (answer.bits + guard) as usize),
    }
}

/// Prepares the opening and runs its offline half; the client gives its shares, the server none.
pub(crate) async fn offline(
    channel: &mut Channel,
    plan: &Plan,
    reveal: Reveal,
    ot: &mut Correlations,
    shares: Option<&Halves>,
) -> Result<AnswerReady> {
    let answer = &plan.answer;
    let input = shares.map(|halves| planes(answer, reveal, share(answer, halves)));
    Ok(match (reveal, &answer.class) {
        (Reveal::Logits, _) => {
            let prepared = answer.logits.prepare_from(answer.lanes, ot)?;
            AnswerReady::Logits(program::offline(prepared, channel, input.into_iter().collect()).await?)
        }
        (Reveal::Class, Some(argmax)) => {
            let own = ot.take(argmax.demand().ots)?;
            AnswerReady::Class(Some(argmax.prepare(own)?.offline(channel, input).await?))
        }
        (Reveal::Class, None) => AnswerReady::Class(None),
    })
}

/// The values that were opened, modulo 2^bits, as the numbers that they are.
pub(crate) fn signed(plan: &Plan, opened: &Planes) -> Vec<i64> {
    let answer = &plan.answer;
    let lowest = match answer.operand {
        Operand::Accumulator(_) => -(1i64 << (answer.bits - 1)),
        Operand::Shared(_) | Operand::Small(_) | Operand::Scaled(_) => {
            plan.tensors[TensorId::new(plan.architecture.output)].range.lo
        }
    };
    let mask = u64::MAX >> (64 - answer.bits);
    let signed = |z: u64| (z.wrapping_sub(lowest as u64) & mask) as i64 + lowest;
    opened.to_lanes::<u64>().into_iter().map(signed).collect()
}

/// Client: the online half.
pub(crate) async fn receive(channel: &mut Channel, plan: &Plan, ready: AnswerReady) -> Result<Output> {
    let missing = || Error::internal("an opening without a result");
    Ok(match ready {
        AnswerReady::Logits(ready) => {
            let opened = program::online(ready, channel, vec![]).await?.into_iter().next().ok_or_else(missing)?;
            Output::Logits(signed(plan, &opened))
        }
        AnswerReady::Class(Some(ready)) => Output::Class(ready.online(channel, None).await?.ok_or_else(missing)?),
        AnswerReady::Class(None) => Output::Class(0),
    })
}

/// Server: the online half.
pub(crate) async fn send(channel: &mut Channel, plan: &Plan, ready: AnswerReady, halves: &Halves) -> Result<()> {
    let own = share(&plan.answer, halves);
    match ready {
        AnswerReady::Logits(ready) => {
            program::online(ready, channel, vec![planes(&plan.answer, Reveal::Logits, own)]).await?;
        }
        AnswerReady::Class(Some(ready)) => {
            ready.online(channel, Some(planes(&plan.answer, Reveal::Class, own))).await?;
        }
        AnswerReady::Class(None) => {}
    }
    Ok(())
}
