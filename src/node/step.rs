//! What one node does at run time: which protocol, on what, with what result.

use std::sync::Arc;

use lowkey_bridge::Schedule;
use lowkey_mpc::average::Floats;
use lowkey_mpc::dither::Dither;
use lowkey_mpc::extend::Finish;
use lowkey_mpc::layout::LayoutError;
use lowkey_mpc::program::Program;
use lowkey_mpc::rescale::Factor;

use super::{Holding, NodeId, TensorId, Windows};

/// What one node does.
#[derive(Debug)]
pub enum Step {
    /// A linear node: the index in [`Plan::linear`](crate::Plan::linear).
    Linear(usize),
    /// A two-party protocol.
    Nonlinear(Box<Nonlinear>),
    /// A linear function of activations that each party applies to its half.
    Local {
        /// The tensors (storage) that are read.
        inputs: Vec<TensorId>,
        /// The tensor that is made.
        output: TensorId,
        /// Ring of the result.
        ring: u32,
        /// The windows that are summed; `None` for inputs one behind the other.
        windows: Option<Windows>,
    },
    /// Nothing to compute.
    Reshape,
}

impl Step {
    /// The two-party protocol, if it is one.
    pub fn nonlinear(&self) -> Option<&Nonlinear> {
        match self {
            Self::Nonlinear(step) => Some(step),
            Self::Linear(_) | Self::Local { .. } | Self::Reshape => None,
        }
    }
}

/// One two-party protocol on every element of a layer.
#[derive(Debug)]
pub struct Nonlinear {
    /// Which node.
    pub node: NodeId,
    /// What it reads.
    pub operand: Operand,
    /// Which protocol.
    pub kind: NonlinearKind,
    /// Lanes of its program: elements of the result, of a block its patches.
    pub lanes: usize,
    /// Elements of the result.
    pub(super) elements: usize,
    /// Width of the shares that the program reads.
    pub input_width: u32,
    /// Width of the values that it makes.
    pub bits: u32,
    /// The program of each schedule.
    pub programs: Programs,
    /// How its result is held.
    pub(super) holding: Holding,
    /// The smallest value that it reads, and that it makes: programs count from them.
    pub(super) lowest: [i64; 2],
    /// Elements of one channel of the result.
    pub(crate) pixels: usize,
}

/// What a nonlinear node reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The accumulator of this linear node: the client knows its share before the input.
    Accumulator(NodeId),
    /// The multiplied accumulator of this scale: neither party knows its share before the input.
    Scaled(NodeId),
    /// A shared activation (storage).
    Shared(TensorId),
    /// Shares in a small ring.
    Small(TensorId),
}

impl Operand {
    /// True if the client knows its share before the input.
    pub fn is_early(self) -> bool {
        match self {
            Self::Accumulator(_) | Self::Shared(_) => true,
            Self::Scaled(_) | Self::Small(_) => false,
        }
    }
}

/// The protocols.
#[derive(Debug)]
pub enum NonlinearKind {
    /// Of accumulators; `lowered` is what the server subtracts first (2^s where only the sign counts).
    Requantise {
        /// Subtracted from every accumulator by the server.
        lowered: i64,
    },
    /// Of accumulators, rounded by a coin of the client.
    Dither {
        /// The protocol.
        dither: Dither,
    },
    /// Of accumulators that each party multiplies and truncates first.
    Rescale {
        /// The multipliers, one or one per channel, the accumulator's width, and the bits dropped. Public.
        factors: Vec<Factor>,
        /// Subtracted from every product by the server.
        lowered: i64,
    },
    /// Of accumulators, with one sign for each patch: one lane per patch.
    Block {
        /// The patches.
        windows: Windows,
    },
    /// The carries out of the low bits of accumulators, whose clip comes after a max pool.
    Carries,
    /// The largest value of each window.
    MaxPool {
        /// The windows.
        windows: Windows,
    },
    /// The largest of each window of accumulators, clipped: of c >> low + v >> low + carry.
    Pooled {
        /// The windows.
        windows: Windows,
        /// The tensor that stands for the carries.
        carries: TensorId,
        /// The bits that only carry.
        low: u32,
    },
    /// (multiplier * sum + offset) >> shift of each window.
    AvgPool {
        /// The windows.
        windows: Windows,
        /// Public.
        multiplier: i64,
        /// Public.
        offset: i64,
        /// Where sums of floats lower it.
        floats: Option<Floats>,
    },
    /// A table look-up.
    Table,
    /// An accumulator in a wider ring and without its guard bit, then multiplied by each party.
    Scale {
        /// One entry, or one per channel. Public.
        multiplier: Vec<i64>,
        /// Width of the result.
        ell: u32,
    },
}

impl NonlinearKind {
    /// The patches of a block.
    pub(super) fn patches(&self) -> Option<&Windows> {
        if let Self::Block { windows } = self { Some(windows) } else { None }
    }
}

/// The programs of a node: they differ in how the result ends.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The client uploads x - xhat.
    pub prepared: Arc<Program>,
    /// The parties keep shares.
    pub direct: Arc<Program>,
}

impl Programs {
    /// The program of a schedule.
    pub fn of(&self, schedule: Schedule) -> &Arc<Program> {
        match schedule {
            Schedule::Prepared => &self.prepared,
            Schedule::Direct => &self.direct,
        }
    }

    /// A program whose result does not depend on the schedule.
    pub(super) fn single(program: Program) -> Self {
        let program = Arc::new(program);
        Self { prepared: program.clone(), direct: program }
    }

    /// The programs that end as their result is held.
    pub(super) fn build(
        holding: Holding,
        mut program: impl FnMut(Finish) -> Result<Program, LayoutError>,
    ) -> Result<Self, LayoutError> {
        let prepared = program(holding.finish())?;
        Ok(match holding {
            Holding::Shared { ring, .. } => {
                Self { prepared: Arc::new(prepared), direct: Arc::new(program(Finish::Share { ring: ring as u8 })?) }
            }
            Holding::Scaled { .. }
            | Holding::Small { .. }
            | Holding::Accumulator { .. }
            | Holding::Truncated { .. } => Self::single(prepared),
        })
    }
}

/// A number that a protocol takes as a byte; what does not fit becomes 255, which every protocol refuses.
pub(super) fn byte<T: TryInto<u8>>(value: T) -> u8 {
    value.try_into().unwrap_or(u8::MAX)
}
