//! The part of a plan that a planner decides and a server publishes; everything else follows from it and the architecture.

use std::fmt;
use std::str::FromStr;

use lowkey_models::{Architecture, Op};
use lowkey_mpc::carry::Part;
use lowkey_mpc::layout::Layout;
use lowkey_mpc::patch::Chains;
use serde::{Deserialize, Serialize};

use super::id::{ByNode, NodeId};
use super::of;

/// The link that flights are chosen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Both parties on one machine.
    #[default]
    Loopback,
    /// 3 Gbit/s, 0.3 ms round trip.
    Lan,
    /// 100 Mbit/s, 40 ms round trip.
    Wan,
    /// One that is paid by the byte, whatever the time: the fewest bytes.
    Metered,
}

impl Link {
    /// [`Link::latency`] of [`Link::Wan`] in whole microseconds, for what both parties have to choose alike.
    pub(crate) const WAN_FLIGHT_MICROS: u64 = 20_000;
    /// [`Link::bandwidth`] of [`Link::Wan`], likewise.
    pub(crate) const WAN_BITS_PER_MICRO: u64 = 100;

    /// One-way latency in seconds.
    pub fn latency(self) -> f64 {
        match self {
            Self::Loopback => 20e-6,
            Self::Lan => 0.15e-3,
            Self::Wan => Self::WAN_FLIGHT_MICROS as f64 / 1e6,
            Self::Metered => 0.0,
        }
    }

    /// Bits per second. For loopback, where bytes cost copies and system calls only, and for a metered link a figure that still
    /// makes a byte worth saving.
    pub fn bandwidth(self) -> f64 {
        match self {
            Self::Loopback | Self::Metered => 1e9,
            Self::Lan => 3e9,
            Self::Wan => Self::WAN_BITS_PER_MICRO as f64 * 1e6,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Lan => "lan",
            Self::Wan => "wan",
            Self::Metered => "metered",
        })
    }
}

impl FromStr for Link {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "loopback" => Ok(Self::Loopback),
            "lan" => Ok(Self::Lan),
            "wan" => Ok(Self::Wan),
            "metered" => Ok(Self::Metered),
            _ => Err("expected loopback, lan, wan or metered".into()),
        }
    }
}

/// What was chosen for one linear node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinearChoice {
    /// Width of the accumulator ring.
    pub ell: u32,
    /// The id of the parameter set; `None` where nothing is encrypted (a sum of residuals).
    pub set: Option<u8>,
    /// rb.
    pub body_rounding: u32,
    /// rh.
    pub hint_rounding: u32,
    /// Output channels of an output ciphertext ([`Packing::banded`](lowkey_bridge::Packing::banded)). Left out of the text where it is one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub bands: u32,
}

fn one() -> u32 {
    1
}

fn is_one(bands: &u32) -> bool {
    *bands == one()
}

/// What was chosen for one parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetChoice {
    /// The set's id.
    pub set: u8,
    /// r0.
    pub b0_rounding: u32,
}

/// How the products of one scale reach the requantisations that read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleChoice {
    /// The accumulator is made exact in a wider ring first, in which both parties multiply.
    Widened {
        /// Width of the products.
        ell: u32,
    },
    /// Each party multiplies its share as it is and drops low bits; only the one requantisation that reads the scale
    /// computes something together ([`lowkey_mpc::rescale`]).
    Truncated {
        /// Width of what is left.
        ell: u32,
        /// Bits dropped.
        dropped: u32,
    },
}

impl ScaleChoice {
    /// Width of the products, with the bits that are dropped.
    pub fn width(self) -> u32 {
        match self {
            Self::Widened { ell } => ell,
            Self::Truncated { ell, dropped } => ell.saturating_add(dropped),
        }
    }

    /// Bits dropped, where some are.
    pub fn dropped(self) -> Option<u32> {
        match self {
            Self::Widened { .. } => None,
            Self::Truncated { dropped, .. } => Some(dropped),
        }
    }
}

/// The digits of one nonlinear layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayoutChoice {
    /// Of a requantisation that clips.
    Requantise {
        /// The digits.
        layout: Layout,
        /// That the accumulator stays above the lowest values of its ring (`lowkey_mpc::requantise::Clip::spare`).
        spare: bool,
    },
    /// Of a requantisation whose values go into a max pool before their clip: the chain over the low bits.
    Carries(Vec<Part>),
    /// Of the max pool of such values.
    Pooled {
        /// The chain of a comparison.
        game: Vec<Part>,
        /// The digits of the clip.
        clip: Layout,
        /// As above.
        spare: bool,
    },
    /// Of a block.
    Patch(Chains),
    /// Of the one carry chain of an average pool, a max pool's comparison, or an arg max's.
    Chain(Vec<Part>),
}

/// Everything that a planner decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choices {
    /// What the layouts were chosen for.
    pub link: Link,
    /// In order of the linear nodes.
    pub linear: Vec<LinearChoice>,
    /// In order of the scales.
    pub scales: Vec<ScaleChoice>,
    /// Every set in use, by ascending id.
    pub sets: Vec<SetChoice>,
    /// Digits of every requantisation, block, average pool and max pool in order of the nodes, then of the arg max.
    pub layouts: Vec<LayoutChoice>,
}

/// Which list of [`Choices`] a node's choice is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chooses {
    /// None.
    Nothing,
    /// [`Choices::linear`].
    Linear,
    /// [`Choices::scales`].
    Scale,
    /// [`Choices::layouts`].
    Layout,
}

/// The choice of one node.
#[derive(Clone, Debug)]
enum Choice {
    Linear(LinearChoice),
    Scale(ScaleChoice),
    Layout(LayoutChoice),
}

/// The same choices, by node.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// `None` for nodes that need none, or go without.
    nodes: ByNode<Option<Choice>>,
    /// Digits of the arg max.
    pub class: Option<LayoutChoice>,
}

impl Chosen {
    /// Deals the lists out to the nodes of a network. Where a list is too short, the last nodes go without.
    pub fn new(architecture: &Architecture, choices: &Choices) -> Self {
        let mut linear = choices.linear.iter().copied();
        let mut scales = choices.scales.iter().copied();
        let mut layouts = choices.layouts.iter().cloned();
        let mut choice = |op: &Op| match of(op).chooses() {
            Chooses::Nothing => None,
            Chooses::Linear => linear.next().map(Choice::Linear),
            Chooses::Scale => scales.next().map(Choice::Scale),
            Chooses::Layout => layouts.next().map(Choice::Layout),
        };
        let nodes = architecture.nodes.iter().map(|node| choice(&node.op)).collect();
        Self { nodes, class: layouts.next() }
    }

    /// What was chosen for a scale; `None` for other nodes.
    pub fn scale(&self, node: NodeId) -> Option<ScaleChoice> {
        match &self.nodes[node] {
            Some(Choice::Scale(choice)) => Some(*choice),
            Some(Choice::Linear(_) | Choice::Layout(_)) | None => None,
        }
    }

    /// The digits of a nonlinear node; `None` for other nodes.
    pub fn layout(&self, node: NodeId) -> Option<&LayoutChoice> {
        match &self.nodes[node] {
            Some(Choice::Layout(choice)) => Some(choice),
            Some(Choice::Linear(_) | Choice::Scale(_)) | None => None,
        }
    }

    /// The ring of the accumulator that a node makes: of a linear node or a scale (with the bits that are dropped).
    ///
    /// # Panics
    /// If it is neither.
    pub fn ell(&self, node: NodeId) -> u32 {
        match &self.nodes[node] {
            Some(Choice::Linear(choice)) => choice.ell,
            Some(Choice::Scale(choice)) => choice.width(),
            Some(Choice::Layout(_)) | None => unreachable!("node {node:?} makes no accumulator"),
        }
    }

    /// The bits that a scale drops; `None` if it drops none or is no scale.
    pub fn dropped(&self, node: NodeId) -> Option<u32> {
        self.scale(node)?.dropped()
    }
}
