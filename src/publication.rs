//! A published model: the public package that a server makes once and a client keeps, and the private half that the server
//! keeps.
//!
//! The package is the plan (architecture and choices), the epoch seed of the masks, and the hint. Its digest covers these
//! public bytes only: a digest of the weights would confirm a guess. Seed and hint are functions of the server's key and of
//! everything that they depend on, so that a restarted server publishes the same bytes, and a changed model independent ones.

use std::sync::Arc;

use lowkey_bridge::{
    ClientLinear, Publisher, RerandomiserMasks, Schedule, ServerLinear, client_layer, keys, publish_layer,
};
use lowkey_he::EpochSeed;
use lowkey_models::{Architecture, LinearWeights, Network};
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::party::Party;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cost::{self, predict};
use crate::error::{Error, Misbehaviour, Result};
use crate::plan::{ByNode, Choices, MAX_HINT_BYTES, Plan, PlanError, Reveal};
use crate::planner::{self, Target, offsets};
use crate::scope::CONTROL;
use crate::session::{Accept, HINT_CHUNK, MAX_CONTROL, VERSION, Welcome};
use crate::store::{Digest, Key};

/// Longest encoding of architecture and choices, in bytes.
pub const MAX_PLAN_BYTES: usize = 16 << 20;

/// Called with (layers done, layers in all) while layers are prepared.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);
/// The same, for work that outlives its caller.
pub type ProgressHandler = Arc<dyn Fn(usize, usize) + Send + Sync>;

/// The public bytes of a model.
#[derive(Clone, PartialEq, Eq)]
pub struct Package {
    /// Architecture and choices, as JSON.
    pub plan: Vec<u8>,
    /// Public seed of the masks.
    pub epoch: [u8; 32],
    /// The hints of all layers, in order.
    pub hint: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct PlanText {
    architecture: serde_json::Value,
    choices: Choices,
}

impl Package {
    /// SHA-256 over all parts, each preceded by its length.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new_with_prefix(b"lowkey/model/1");
        for part in [&self.plan[..], &self.epoch, &self.hint] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Bytes of a package in a file.
    pub fn file_bytes(plan: usize, hint: usize) -> u64 {
        8 + plan as u64 + 32 + hint as u64
    }

    /// The form in which a package lies in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&(self.plan.len() as u64).to_le_bytes()[..], &self.plan, &self.epoch, &self.hint].concat()
    }

    /// The inverse of [`to_bytes`](Self::to_bytes); `None` if the bytes are too few.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (plan, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (epoch, hint) = rest.split_first_chunk::<32>()?;
        Some(Self { plan: plan.to_vec(), epoch: *epoch, hint: hint.to_vec() })
    }

    /// Bytes of the setup stage of a client that names no model, with the hint sent, in both directions.
    pub fn setup_bytes(&self) -> u64 {
        cost::setup_bytes(self.plan.len(), self.hint.len())
    }

    /// Derives the plan.
    ///
    /// # Errors
    /// As [`read_plan`].
    pub fn derive(&self) -> Result<Plan> {
        read_plan(&self.plan, self.hint.len())
    }
}

/// Derives a plan from its text, before a hint of `hint_bytes` bytes is asked for.
///
/// # Errors
/// When the text is not a plan, not one that this program accepts, or its hint has another length: the server's fault.
pub fn read_plan(text: &[u8], hint_bytes: usize) -> Result<Plan> {
    let bad = |what| Error::Peer(Party::Server, what);
    if text.len() > MAX_PLAN_BYTES {
        return Err(bad(Misbehaviour::PlanLength(text.len())));
    }
    let text: PlanText = serde_json::from_slice(text).map_err(|error| bad(Misbehaviour::Plan(error)))?;
    let architecture = Architecture::from_json(&text.architecture.to_string())
        .map_err(|error| bad(Misbehaviour::Architecture(error)))?;
    let plan = Plan::derive(architecture, text.choices).map_err(Error::Refused)?;
    if plan.hint_bytes() != hint_bytes {
        return Err(bad(Misbehaviour::HintLength { found: hint_bytes, expected: plan.hint_bytes() }));
    }
    Ok(plan)
}

/// Architecture and choices, as they travel.
pub(crate) fn plan_text(plan: &Plan) -> Result<Vec<u8>> {
    let architecture = serde_json::to_value(&plan.architecture).map_err(Error::internal)?;
    serde_json::to_vec(&PlanText { architecture, choices: plan.choices.clone() }).map_err(Error::internal)
}

/// Bytes of the setup stage of a client that names no model, with the hint sent, in both directions: before anything is published.
///
/// # Errors
/// A bug of this program.
pub fn setup_bytes(plan: &Plan) -> Result<u64> {
    Ok(cost::setup_bytes(plan_text(plan)?.len(), plan.hint_bytes()))
}

/// The server's side of a published model.
pub struct ServerModel {
    /// The plan.
    pub plan: Plan,
    /// What clients get.
    pub package: Package,
    /// Its digest.
    pub digest: Digest,
    /// By linear node: the private half of its encrypted terms.
    pub(crate) layers: Vec<Option<Box<dyn ServerLinear>>>,
    /// By node and output channel; empty for nodes without biases. Of a requantisation of truncated products: what is added to these.
    pub(crate) biases: ByNode<Vec<i64>>,
    /// Of everything that it was made from. It covers the weights: it never leaves the server.
    context: [u8; 32],
}

impl ServerModel {
    /// What an inference sends in both directions, batches of OTs excepted.
    pub(crate) fn inference_bytes(&self) -> u64 {
        let sent = |schedule| -> u64 {
            let prediction = predict(&self.plan, schedule, Reveal::Logits);
            prediction.frames.iter().map(|frame| frame.bytes).sum()
        };
        sent(Schedule::Prepared).max(sent(Schedule::Direct))
    }

    /// The client's half of what is published: what an audit computes a client's messages with.
    ///
    /// # Errors
    /// A bug of this program: the package is its own.
    pub fn client_half(&self) -> Result<Arc<ClientModel>> {
        ClientModel::open(self.package.derive()?, &self.package, &|_, _| ())
    }

    /// Plans and publishes a network.
    ///
    /// # Errors
    /// When a layer fits no parameter set, or the network is beyond this program's limits.
    pub fn publish(
        network: &Network,
        target: impl Into<Target>,
        server_key: &Key,
        progress: Progress<'_>,
    ) -> Result<Arc<Self>> {
        Self::publish_unless(network, target, server_key, &[], progress)
    }

    /// As [`publish`](Self::publish); of what is among `published`, made from the same under the same key, it is that one.
    pub(crate) fn publish_unless(
        network: &Network,
        target: impl Into<Target>,
        server_key: &Key,
        published: &[Arc<Self>],
        progress: Progress<'_>,
    ) -> Result<Arc<Self>> {
        let server_key = server_key.bytes();
        let network = network.folded().map_err(PlanError::from)?;
        let plan = planner::plan(&network, target)?;
        let text = plan_text(&plan)?;
        let weights = weights_digest(&network);
        let epoch = derive(b"lowkey/epoch/1", &[server_key, &Sha256::digest(&text).into(), &weights]);
        let context = derive(b"lowkey/publication/1", &[&Sha256::digest(&text).into(), &weights, &epoch]);
        if let Some(same) = published.iter().find(|model| model.context == context) {
            return Ok(same.clone());
        }

        let epoch = EpochSeed(epoch);
        let masks = keys::rerandomiser_masks(&plan.sets, &epoch).map_err(Error::internal)?;
        let publisher = Publisher { epoch: &epoch, masks: &masks, server_key, context: &context, kept: plan.kept() };
        let mut hint = Vec::with_capacity(plan.hint_bytes());
        let own = |weights: &Option<LinearWeights>| weights.as_ref().map_or(Vec::new(), |own| own.bias.clone());
        let mut biases: ByNode<Vec<i64>> = network.weights().linear.iter().map(own).collect();
        for (node, own) in offsets(&network, &plan.choices) {
            biases[node] = own;
        }
        let mut layers = Vec::new();
        for (done, node) in plan.linear.iter().enumerate() {
            progress(done, plan.linear.len());
            let (_, own) = network.linear(node.node.index()).expect("the plan is this network's");
            let Some(layer) = &node.encrypted else {
                layers.push(None);
                continue;
            };
            let arrays: Vec<_> = own.terms.iter().flatten().map(|array| array.as_standard_layout()).collect();
            let arrays: Vec<&[i32]> = arrays.iter().map(|a| a.as_slice().expect("standard layout")).collect();
            let (half, bytes) = publish_layer(layer.clone(), &arrays, &publisher).map_err(Error::internal)?;
            hint.extend_from_slice(&bytes);
            layers.push(Some(half));
        }
        progress(plan.linear.len(), plan.linear.len());
        let package = Package { plan: text, epoch: epoch.0, hint };
        let digest = package.digest();
        Ok(Arc::new(Self { plan, package, digest, layers, biases, context }))
    }
}

fn derive(label: &[u8], parts: &[&[u8; 32]]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix((label.len() as u64).to_le_bytes());
    hash.update(label);
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// Covers every weight and bias. Never leaves the server.
fn weights_digest(network: &Network) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"lowkey/weights/1");
    for own in network.weights().linear.iter().flatten() {
        for array in own.terms.iter().flatten() {
            hash.update((array.len() as u64).to_le_bytes());
            array.iter().for_each(|weight| hash.update(weight.to_le_bytes()));
        }
        hash.update((own.bias.len() as u64).to_le_bytes());
        own.bias.iter().for_each(|bias| hash.update(bias.to_le_bytes()));
    }
    hash.finalize().into()
}

/// The client's side of a published model.
pub struct ClientModel {
    /// The plan.
    pub plan: Plan,
    /// The package's digest.
    pub digest: Digest,
    /// a*_0 of every set.
    pub(crate) masks: RerandomiserMasks,
    /// By linear node: hints and masks of its encrypted terms.
    pub(crate) layers: Vec<Option<Box<dyn ClientLinear>>>,
}

impl ClientModel {
    /// Prepares hints and masks of a package, whose plan was [derived](Package::derive) before.
    ///
    /// # Errors
    /// When the hint is not one that this program accepts: the server's fault.
    pub(crate) fn open(plan: Plan, package: &Package, progress: Progress<'_>) -> Result<Arc<Self>> {
        let epoch = EpochSeed(package.epoch);
        let masks = keys::rerandomiser_masks(&plan.sets, &epoch).map_err(Error::internal)?;
        let mut rest = package.hint.as_slice();
        let (mut layers, kept) = (Vec::new(), plan.kept());
        for (done, node) in plan.linear.iter().enumerate() {
            progress(done, plan.linear.len());
            let Some(layer) = &node.encrypted else {
                layers.push(None);
                continue;
            };
            let (hint, after) = rest.split_at(layer.hint_len());
            rest = after;
            let half = client_layer(layer.clone(), &epoch, hint, kept)
                .map_err(|error| Error::Peer(Party::Server, Misbehaviour::Hint(error)))?;
            layers.push(Some(half));
        }
        progress(plan.linear.len(), plan.linear.len());
        Ok(Arc::new(Self { digest: package.digest(), plan, masks, layers }))
    }
}

/// Tells the client what was published, and sends the hint if it asks for that.
pub(crate) async fn welcome(channel: &mut Channel, model: &ServerModel) -> Result<()> {
    let package = &model.package;
    let size = |len: usize| u32::try_from(len).map_err(Error::internal);
    let (plan_bytes, hint_bytes) = (size(package.plan.len())?, size(package.hint.len())?);
    let (digest, epoch) = (model.digest, package.epoch);
    channel.send_control(&Welcome { version: VERSION, digest, epoch, plan_bytes, hint_bytes }).await?;
    channel.scope("plan");
    channel.send(FrameKind::Control, package.plan.clone()).await?;
    channel.scope(CONTROL);
    let accept: Accept = channel.recv_control(MAX_CONTROL).await?;
    if accept.send_hint {
        channel.scope("hint");
        for chunk in package.hint.chunks(HINT_CHUNK) {
            channel.send(FrameKind::Hint, chunk.to_vec()).await?;
            // One chunk in memory at a time, however slowly the client reads.
            channel.flush().await?;
        }
    }
    Ok(())
}

const _: () = assert!(MAX_HINT_BYTES <= u32::MAX as u64, "a hint travels in frames of 32-bit length");
