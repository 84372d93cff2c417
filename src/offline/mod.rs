//! The offline stage of one slot, both roles: everything that does not depend on the input.
//!
//! ```text
//!     client                                                server
//!     secrets;  b*_0 of each            ------------->
//!     bodies of every tensor's pad      ------------->      v_off of a layer as soon as all its bodies are here
//!     c = floor(-hint s / U)
//!     corrections of c and of pads      ------------->      (programs, node by node)
//!                                       <-------------      Ready
//! ```
//!
//! OT correlations are extended first, both parties at once; of large networks again between programs (`supply`).

#![deny(clippy::wildcard_enum_match_arm)]

mod lattice;
mod seed;
mod supply;

use lowkey_bridge::{Schedule, keys};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::erasing::OnceRng;
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::ot::base::SessionId;
use lowkey_mpc::party::Party;
use lowkey_mpc::program::{self, ReadyProgram};

use crate::answer;
use crate::error::{Error, Misbehaviour, Result};
use crate::node::{ByNode, Halves, add_identities};
use crate::plan::{Holding, Nonlinear, Reveal, Step, TensorId};
use crate::publication::{ClientModel, ServerModel};
use crate::scope::{CONTROL, KEYS, OUTPUT};
use crate::session;
use crate::share::{Ring, RingShare};
use crate::slot::{ClientSlot, OfflineShares, ServerSlot};

pub(crate) use lattice::{Draws, Lattice, Message};
#[cfg(test)]
pub(crate) use seed::Draw;
pub use seed::SlotSeed;
pub(crate) use supply::Supply;

/// Client: prepares a slot.
pub(crate) async fn client(
    channel: &mut Channel,
    model: &ClientModel,
    ot: &mut Correlations,
    (session, number): (SessionId, u64),
    reveal: Reveal,
    rng: &mut OnceRng,
) -> Result<ClientSlot> {
    let mut supply = Supply::new(&model.plan, reveal);
    supply.start(channel, ot).await?;
    let halves = send_lattice(channel, model, Draws::Once(rng)).await?;
    correct(channel, model, ot, (supply, session, number), reveal, halves).await
}

/// Client: sends the corrections of what its half fixes, c and the pads; a slot, once the server is ready too. The first OTs of the supply
/// were agreed on.
pub(crate) async fn correct(
    channel: &mut Channel,
    model: &ClientModel,
    ot: &mut Correlations,
    (supply, session, number): (Supply, SessionId, u64),
    reveal: Reveal,
    mut halves: Halves,
) -> Result<ClientSlot> {
    let pad = input_pad(&halves);
    let programs = client_programs(channel, model, ot, supply, &mut halves).await?;
    channel.scope(OUTPUT);
    let answer = answer::offline(channel, &model.plan, reveal, ot, Some(&halves)).await?;
    hear_ready(channel, number).await?;
    Ok(ClientSlot { session, number, pad, programs, answer })
}

/// Client: xhat of the input, of its half. Its programs drop that.
pub(crate) fn input_pad(halves: &Halves) -> RingShare {
    halves.shared[TensorId::INPUT].clone()
}

/// Client: the programs of all nodes, offline, up to the output, whose half is left.
pub(crate) async fn client_programs(
    channel: &mut Channel,
    model: &ClientModel,
    ot: &mut Correlations,
    mut supply: Supply,
    halves: &mut Halves,
) -> Result<ByNode<Option<ReadyProgram>>> {
    let (plan, lifetimes) = (&model.plan, model.plan.lifetimes());
    let mut programs = ByNode::from(Vec::with_capacity(plan.steps.len()));
    for (node, step) in plan.steps.pairs() {
        programs.push(match step {
            Step::Nonlinear(step) => {
                supply.before(step.node, channel, ot).await?;
                channel.scope(plan.name(step.node));
                let mut inputs = step.early(halves);
                if let Holding::Shared { root, .. } = plan.holdings[step.node.output()] {
                    inputs.extend(step.pads(&halves.shared[root]));
                }
                Some(offline(channel, step, Schedule::Prepared, ot, inputs).await?)
            }
            Step::Linear(_) | Step::Local { .. } | Step::Reshape => None,
        });
        halves.drop_all(lifetimes.after(node));
    }
    Ok(programs)
}

/// Client: hears that the server is ready too.
pub(crate) async fn hear_ready(channel: &mut Channel, number: u64) -> Result<()> {
    channel.scope(CONTROL);
    let sums = channel.sums();
    let ready: session::Ready = channel.recv_control(session::MAX_CONTROL).await?;
    sums.check(ready.sums)?;
    if ready.slot != number {
        return Err(Error::Peer(Party::Server, Misbehaviour::OtherSlot { found: ready.slot, expected: number }));
    }
    Ok(())
}

/// Server: prepares a slot.
pub(crate) async fn server(
    channel: &mut Channel,
    model: &ServerModel,
    ot: &mut Correlations,
    number: u64,
    reveal: Reveal,
) -> Result<ServerSlot> {
    let (shares, programs) = server_programs(channel, model, ot, reveal).await?;
    channel.scope(OUTPUT);
    let answer = answer::offline(channel, &model.plan, reveal, ot, None).await?;
    say_ready(channel, number).await?;
    Ok(ServerSlot { number, shares, programs, answer })
}

/// Server: v_off of every linear node with encrypted terms, and the programs of all nodes, offline, up to the output.
pub(crate) async fn server_programs(
    channel: &mut Channel,
    model: &ServerModel,
    ot: &mut Correlations,
    reveal: Reveal,
) -> Result<(OfflineShares, ByNode<Option<ReadyProgram>>)> {
    let plan = &model.plan;
    let mut supply = Supply::new(plan, reveal);
    supply.start(channel, ot).await?;
    let shares = receive_lattice(channel, model, |_| ()).await?;

    let mut programs = ByNode::from(Vec::with_capacity(plan.steps.len()));
    for step in plan.steps.iter() {
        programs.push(match step {
            Step::Nonlinear(step) => {
                supply.before(step.node, channel, ot).await?;
                channel.scope(plan.name(step.node));
                let inputs = match step.tosses().map(|node| &plan.steps[node]) {
                    Some(Step::Linear(linear)) => shares.get(*linear).map(|share| step.early_of(&share.words())),
                    _ => None,
                };
                Some(offline(channel, step, Schedule::Prepared, ot, inputs.unwrap_or_default()).await?)
            }
            Step::Linear(_) | Step::Local { .. } | Step::Reshape => None,
        });
    }
    Ok((shares, programs))
}

/// Server: says that it is ready.
pub(crate) async fn say_ready(channel: &mut Channel, number: u64) -> Result<()> {
    channel.scope(CONTROL);
    Ok(channel.send_control(&session::Ready { slot: number, sums: channel.sums() }).await?)
}

/// Client: sends the lattice work; returns its half.
pub(crate) async fn send_lattice(channel: &mut Channel, model: &ClientModel, draws: Draws<'_>) -> Result<Halves> {
    let plan = &model.plan;
    let mut lattice = Lattice::new(model, draws)?;
    while let Some((message, bytes)) = lattice.next()? {
        channel.scope(match message {
            Message::Keys => KEYS,
            Message::Bodies(upload) => plan.name(plan.linear[plan.uploads[upload].linear].node),
        });
        channel.send(FrameKind::Data, bytes).await?;
    }
    lattice.finish()
}

/// Server: v_off of every linear node with encrypted terms. `seen` is shown every message.
pub(crate) async fn receive_lattice(
    channel: &mut Channel,
    model: &ServerModel,
    mut seen: impl FnMut(&[u8]),
) -> Result<OfflineShares> {
    let plan = &model.plan;
    channel.scope(KEYS);
    let b0 = channel.recv(FrameKind::Data, plan.b0_bytes()).await?;
    seen(&b0);
    let keys = keys::receive(&plan.sets, &b0).map_err(peer_or_bug)?;

    let mut messages: Vec<Vec<Option<Vec<u8>>>> =
        plan.linear.iter().map(|node| vec![None; node.inputs.len()]).collect();
    let mut shares = OfflineShares::none(plan.linear.len());
    for upload in &plan.uploads {
        channel.scope(plan.name(plan.linear[upload.linear].node));
        let bodies = channel.recv(FrameKind::Data, plan.body_len(upload, Schedule::Prepared)).await?;
        seen(&bodies);
        let own = &mut messages[upload.linear];
        own[upload.term] = Some(bodies);
        if own.iter().all(Option::is_some) {
            let layer = model.layers[upload.linear].as_ref().expect("an upload belongs to an encrypted layer");
            let bodies: Vec<Vec<u8>> = own.drain(..).flatten().collect();
            shares.keep(upload.linear, layer.offline(&bodies, &keys, Schedule::Prepared).map_err(peer_or_bug)?);
        }
    }
    Ok(shares)
}

/// Prepares one node's program and runs its offline half.
pub(crate) async fn offline(
    channel: &mut Channel,
    step: &Nonlinear,
    schedule: Schedule,
    ot: &mut Correlations,
    inputs: Vec<Planes>,
) -> Result<ReadyProgram> {
    let prepared = step.programs.of(schedule).prepare_from(step.lanes, ot)?;
    Ok(program::offline(prepared, channel, inputs).await?)
}

/// The client's share of an accumulator: that of the encrypted terms, and the public multiples of its shares.
pub(crate) fn client_share(
    model: &ClientModel,
    linear: usize,
    secrets: &lowkey_bridge::Secrets,
    halves: &Halves,
) -> Result<RingShare> {
    let node = &model.plan.linear[linear];
    let mut share = match &model.layers[linear] {
        Some(layer) => layer.share(secrets).map_err(Error::internal)?,
        None => RingShare::zeros(model.plan.tensors[node.node.output()].elements(), Ring::guarded(node.ell)),
    };
    if !node.identities.is_empty() {
        share.change(|words| add_identities(halves, &node.identities, words));
    }
    Ok(share)
}

pub(crate) fn peer_or_bug(error: lowkey_bridge::BridgeError) -> Error {
    if error.is_peer_fault() {
        Error::Peer(Party::Client, Misbehaviour::Ciphertexts(error))
    } else {
        Error::internal(error)
    }
}
