//! The online stage of one inference, both roles: the layer loop.
//!
//! ```text
//!     client                                                server
//!     d = x - xhat of the input         ------------->      m = d
//!                                                           each linear layer: v = v_off + 2 (W m + bias)
//!     each nonlinear layer: its program <------------>      ends with d of the result: m = y - xhat
//!     output                            <-------------
//! ```
//!
//! In the direct schedule nothing was prepared: the parties hold shares of every tensor, and each linear layer encrypts the
//! client's share, evaluates under encryption and converts back, then and there.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use lowkey_bridge::{OfflineShare, Schedule, Secrets, ServerKeys, keys};
use lowkey_he::pack;
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::erasing::OnceRng;
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::Party;
use lowkey_mpc::program::{self, ReadyProgram};
use lowkey_mpc::runtime::Instant;

use crate::answer::{self, Output};
use crate::coins::Coins;
use crate::error::{Error, Misbehaviour, Result};
use crate::node::{ByNode, Halves, add_biases, add_identities};
use crate::offline::{Supply, client_share, offline as prepare_program, peer_or_bug};
use crate::plan::{Nonlinear, NonlinearKind, Plan, Reveal, Step, TensorId};
use crate::publication::{ClientModel, ServerModel};
use crate::scope::{INPUT, KEYS, OUTPUT};
use crate::share::{Ring, RingShare};
use crate::slot::{ClientSlot, OfflineShares, ServerSlot};

/// Milliseconds by node.
pub(crate) type Times = BTreeMap<String, f64>;

/// Client, prepared schedule: uses a slot. `input` has the values x of the input tensor.
pub(crate) async fn client(
    channel: &mut Channel,
    model: &ClientModel,
    slot: ClientSlot,
    input: &[i64],
    times: &mut Times,
) -> Result<(Output, Coins)> {
    let coins = client_nodes(channel, model, &slot.pad, slot.programs, input, times).await?;
    channel.scope(OUTPUT);
    Ok((answer::receive(channel, &model.plan, slot.answer).await?, coins))
}

/// Client, prepared schedule: all nodes, up to the output. Returns the coins that were tossed.
pub(crate) async fn client_nodes(
    channel: &mut Channel,
    model: &ClientModel,
    pad: &RingShare,
    mut programs: ByNode<Option<ReadyProgram>>,
    input: &[i64],
    times: &mut Times,
) -> Result<Coins> {
    let (plan, lifetimes) = (&model.plan, model.plan.lifetimes());
    let (mut halves, mut coins) = (Halves::new(plan.steps.len(), Party::Client), Coins::default());
    let d: Vec<u64> = input.iter().zip(pad.words()).map(|(x, p)| (*x as u64).wrapping_sub(*p)).collect();
    let d = RingShare::new(d, pad.ring());
    let mut message = Vec::new();
    pack::append(&mut message, d.words(), d.ring().width());
    channel.scope(INPUT);
    channel.send(FrameKind::Data, message).await?;
    for (node, step) in plan.steps.pairs() {
        // Everything else the client has done before the input was known.
        if let Some((step, ready)) = program_of(plan, step, &mut programs)? {
            let clock = Instant::now();
            channel.scope(plan.name(node));
            client_program(channel, plan, step, ready, (&mut halves, &mut coins)).await?;
            note(times, plan.name(node), clock);
        }
        halves.drop_all(lifetimes.after(node));
    }
    Ok(coins)
}

/// Server, prepared schedule: uses a slot.
pub(crate) async fn server(channel: &mut Channel, model: &ServerModel, slot: ServerSlot) -> Result<()> {
    let halves = server_nodes(channel, model, slot.shares, slot.programs).await?;
    channel.scope(OUTPUT);
    answer::send(channel, &model.plan, slot.answer, &halves).await
}

/// Server, prepared schedule: all nodes, up to the output, whose half is left.
pub(crate) async fn server_nodes(
    channel: &mut Channel,
    model: &ServerModel,
    mut shares: OfflineShares,
    mut programs: ByNode<Option<ReadyProgram>>,
) -> Result<Halves> {
    let (plan, lifetimes) = (&model.plan, model.plan.lifetimes());
    let mut halves = Halves::new(plan.steps.len(), Party::Server);
    let (elements, ring) = (plan.input().elements(), plan.input_ring());
    channel.scope(INPUT);
    let message = channel.recv(FrameKind::Data, pack::packed_len(elements, ring.width())).await?;
    let masked: Vec<u64> = pack::read(&message, elements, ring.width())
        .map_err(|error| Error::Peer(Party::Client, Misbehaviour::Input(error)))?;
    halves.shared[TensorId::INPUT] = RingShare::new(masked, ring);

    for (node, step) in plan.steps.pairs() {
        match (step, program_of(plan, step, &mut programs)?) {
            (_, Some((step, ready))) => {
                channel.scope(plan.name(step.node));
                server_program(channel, model, step, ready, &mut halves).await?;
            }
            (Step::Linear(linear), None) => {
                server_share(model, *linear, shares.take(*linear), &mut halves)?;
            }
            (Step::Nonlinear(_) | Step::Local { .. } | Step::Reshape, None) => halves.local(step),
        }
        halves.drop_all(lifetimes.after(node));
    }
    Ok(halves)
}

/// Client, direct schedule.
pub(crate) async fn client_direct(
    channel: &mut Channel,
    model: &ClientModel,
    ot: &mut Correlations,
    reveal: Reveal,
    input: &[i64],
    rng: &mut OnceRng,
    times: &mut Times,
) -> Result<(Output, Coins)> {
    let (plan, lifetimes) = (&model.plan, model.plan.lifetimes());
    let mut supply = Supply::new(plan, reveal);
    supply.start(channel, ot).await?;
    channel.scope(KEYS);
    let (mut secrets, b0) = keys::generate(&plan.sets, &model.masks, rng).map_err(Error::internal)?;
    channel.send(FrameKind::Data, b0).await?;

    let (mut halves, mut coins) = (Halves::new(plan.steps.len(), Party::Client), Coins::default());
    let words: Vec<u64> = input.iter().map(|x| *x as u64).collect();
    halves.shared[TensorId::INPUT] = RingShare::new(words, plan.input_ring());
    for (node, step) in plan.steps.pairs() {
        let clock = Instant::now();
        channel.scope(plan.name(node));
        match step {
            Step::Linear(linear) => {
                encrypt_inputs(channel, model, *linear, &mut secrets, &halves, rng).await?;
                halves.accumulators[node] = client_share(model, *linear, &secrets, &halves)?;
            }
            Step::Nonlinear(step) => {
                supply.before(node, channel, ot).await?;
                channel.scope(plan.name(node));
                let inputs = step.early(&halves);
                let ready = prepare_program(channel, step, Schedule::Direct, ot, inputs).await?;
                client_program(channel, plan, step, ready, (&mut halves, &mut coins)).await?;
            }
            Step::Local { .. } | Step::Reshape => halves.local(step),
        }
        halves.drop_all(lifetimes.after(node));
        note(times, plan.name(node), clock);
    }
    channel.scope(OUTPUT);
    let ready = answer::offline(channel, plan, reveal, ot, Some(&halves)).await?;
    Ok((answer::receive(channel, plan, ready).await?, coins))
}

/// Server, direct schedule.
pub(crate) async fn server_direct(
    channel: &mut Channel,
    model: &ServerModel,
    ot: &mut Correlations,
    reveal: Reveal,
) -> Result<()> {
    let (plan, lifetimes) = (&model.plan, model.plan.lifetimes());
    let mut supply = Supply::new(plan, reveal);
    supply.start(channel, ot).await?;
    channel.scope(KEYS);
    let b0 = channel.recv(FrameKind::Data, plan.b0_bytes()).await?;
    let keys = keys::receive(&plan.sets, &b0).map_err(peer_or_bug)?;

    let mut halves = Halves::new(plan.steps.len(), Party::Server);
    halves.shared[TensorId::INPUT] = RingShare::zeros(plan.input().elements(), plan.input_ring());
    for (node, step) in plan.steps.pairs() {
        channel.scope(plan.name(node));
        match step {
            Step::Linear(linear) => {
                let share = evaluate(channel, model, *linear, &keys).await?;
                server_share(model, *linear, share, &mut halves)?;
            }
            Step::Nonlinear(step) => {
                supply.before(node, channel, ot).await?;
                channel.scope(plan.name(node));
                let inputs =
                    step.tosses().map(|node| step.early_of(halves.accumulators[node].words())).unwrap_or_default();
                let ready = prepare_program(channel, step, Schedule::Direct, ot, inputs).await?;
                server_program(channel, model, step, ready, &mut halves).await?;
            }
            Step::Local { .. } | Step::Reshape => halves.local(step),
        }
        halves.drop_all(lifetimes.after(node));
    }
    channel.scope(OUTPUT);
    let ready = answer::offline(channel, plan, reveal, ot, None).await?;
    answer::send(channel, plan, ready, &halves).await
}

/// Direct schedule, client: share to ciphertext.
async fn encrypt_inputs(
    channel: &mut Channel,
    model: &ClientModel,
    linear: usize,
    secrets: &mut Secrets,
    halves: &Halves,
    rng: &mut OnceRng,
) -> Result<()> {
    let Some(layer) = &model.layers[linear] else { return Ok(()) };
    for (term, tensor) in model.plan.linear[linear].inputs.iter().enumerate() {
        let bodies =
            layer.encrypt_shares(term, secrets, halves.shared[*tensor].words(), rng).map_err(Error::internal)?;
        channel.send(FrameKind::Data, bodies).await?;
    }
    Ok(())
}

/// Direct schedule, server: the homomorphic layer, and ciphertext to share.
async fn evaluate(
    channel: &mut Channel,
    model: &ServerModel,
    linear: usize,
    keys: &ServerKeys,
) -> Result<Option<OfflineShare>> {
    let Some(layer) = &model.layers[linear] else { return Ok(None) };
    let mut messages = Vec::new();
    for upload in model.plan.uploads_of(linear) {
        messages.push(channel.recv(FrameKind::Data, model.plan.body_len(upload, Schedule::Direct)).await?);
    }
    Ok(Some(layer.offline(&messages, keys, Schedule::Direct).map_err(peer_or_bug)?))
}

/// Keeps the server's share of an accumulator: v = v_off + 2 (W m + M m + bias), with one masked activation m per term.
///
/// # Errors
/// When there is v_off without encrypted terms, or none with them: a bug.
pub(crate) fn server_share(
    model: &ServerModel,
    linear: usize,
    offline: Option<OfflineShare>,
    halves: &mut Halves,
) -> Result<()> {
    let node = &model.plan.linear[linear];
    let masked: Vec<&[u64]> = node.inputs.iter().map(|tensor| halves.shared[*tensor].words()).collect();
    let mut share = match (&model.layers[linear], offline) {
        (Some(layer), Some(offline)) => layer.online(offline, &masked),
        (None, None) => RingShare::zeros(model.plan.tensors[node.node.output()].elements(), Ring::guarded(node.ell)),
        (Some(_), None) | (None, Some(_)) => {
            let name = model.plan.name(node.node);
            return Err(Error::internal(format!(
                "shares of node {name:?} and its encrypted terms do not belong together"
            )));
        }
    };
    share.change(|words| {
        add_biases(&model.biases[node.node], words);
        add_identities(halves, &node.identities, words);
    });
    halves.accumulators[node.node] = share;
    Ok(())
}

/// A step with the program that a slot has for it; `None` for steps that need none.
///
/// # Errors
/// When it needs one and the slot has none: a bug, which must not pass for a step without a protocol.
fn program_of<'a>(
    plan: &Plan,
    step: &'a Step,
    programs: &mut ByNode<Option<ReadyProgram>>,
) -> Result<Option<(&'a Nonlinear, ReadyProgram)>> {
    match step {
        Step::Nonlinear(step) => match programs.take(step.node) {
            Some(ready) => Ok(Some((step, ready))),
            None => Err(Error::MissingProgram { node: plan.name(step.node).to_owned() }),
        },
        Step::Linear(_) | Step::Local { .. } | Step::Reshape => Ok(None),
    }
}

/// The online half of a program, client. Keeps its result, and the coins that it tossed.
async fn client_program(
    channel: &mut Channel,
    plan: &Plan,
    step: &Nonlinear,
    ready: ReadyProgram,
    (halves, coins): (&mut Halves, &mut Coins),
) -> Result<()> {
    let inputs = step.late(halves, &[]);
    let mut results = program::online(ready, channel, inputs).await?;
    if let NonlinearKind::Dither { dither } = step.kind {
        let low = results.pop().ok_or_else(|| Error::internal("a program that tosses coins shows them"))?;
        coins.keep(plan.name(step.node), dither, low);
    }
    if let Some(result) = step.result(results) {
        step.keep(halves, result, &[]);
    }
    Ok(())
}

/// The online half of a program, server.
async fn server_program(
    channel: &mut Channel,
    model: &ServerModel,
    step: &Nonlinear,
    ready: ReadyProgram,
    halves: &mut Halves,
) -> Result<()> {
    let inputs = step.late(halves, &model.biases[step.node]);
    if let Some(result) = step.result(program::online(ready, channel, inputs).await?) {
        step.keep(halves, result, &model.biases[step.node]);
    }
    Ok(())
}

pub(crate) fn note(times: &mut Times, name: &str, clock: Instant) {
    *times.entry(name.to_owned()).or_default() += clock.elapsed().as_secs_f64() * 1e3;
}
