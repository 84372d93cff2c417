//! What can be wrong with a network: each rule of `check.rs` and `weights.rs` has one variant, with the numbers that break it.

use std::fmt;

use crate::shape::{Shape, TensorId};

/// A network that breaks a rule: the place and the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ModelError {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Box<Problem>,
}

/// The part of a network that an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The network as a whole.
    Network,
    /// Its input.
    Input,
    /// A node.
    Node {
        /// Its position.
        index: usize,
        /// Its name.
        name: String,
    },
    /// A term of a linear node.
    Term {
        /// The node's position.
        index: usize,
        /// The node's name.
        name: String,
        /// The term's position.
        term: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names may come from a stranger: quoted, control characters escaped, length limited.
        let quote = |name: &str| format!("{:?}", name.chars().take(64).collect::<String>());
        match self {
            Place::Network => write!(f, "network"),
            Place::Input => write!(f, "input"),
            Place::Node { index, name } => write!(f, "node {} (number {index})", quote(name)),
            Place::Term { index, name, term } => {
                write!(f, "node {} (number {index}), term {term}", quote(name))
            }
        }
    }
}

impl Problem {
    pub(crate) fn at(self, place: &Place) -> ModelError {
        ModelError { place: place.clone(), problem: Box::new(self) }
    }
}

/// The two kinds of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Integers of a few bits, in a known range.
    Activation,
    /// The result of a linear node, not yet requantised.
    Accumulator,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Activation => "an activation",
            Kind::Accumulator => "an accumulator",
        })
    }
}

/// A rule that a network breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No nodes.
    #[error("it has no nodes")]
    NoNodes,
    /// A count or a size over its limit.
    #[error("{what} is {value}, at most {limit} is allowed")]
    TooLarge {
        /// Which size.
        what: &'static str,
        /// Its value.
        value: u128,
        /// The limit.
        limit: u128,
    },
    /// A number outside of its interval.
    #[error("{what} is {value}, it must lie in {lo}..={hi}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: i128,
        /// Smallest allowed.
        lo: i128,
        /// Largest allowed.
        hi: i128,
    },
    /// An empty name, or one with control characters.
    #[error("its name is empty or has control characters")]
    BadName,
    /// A name that an earlier node has.
    #[error("its name is also the name of node number {first}")]
    DuplicateName {
        /// The earlier node.
        first: usize,
    },
    /// A tensor that does not exist yet: nodes are in topological order.
    #[error("it reads tensor {tensor}, but only tensors 0..={last} exist there")]
    UnknownTensor {
        /// The tensor it names.
        tensor: TensorId,
        /// The last one it may name.
        last: TensorId,
    },
    /// An accumulator where an activation is needed, or the other way round.
    #[error("it reads tensor {tensor}, which is {found}; it needs {wanted}")]
    WrongKind {
        /// The tensor.
        tensor: TensorId,
        /// What it is.
        found: Kind,
        /// What the operation reads.
        wanted: Kind,
    },
    /// A linear node without terms.
    #[error("a linear node needs at least one term")]
    NoTerms,
    /// A tensor that nothing reads and that is not the output.
    #[error("nothing reads its result, tensor {tensor}")]
    Unused {
        /// The tensor.
        tensor: TensorId,
    },
    /// Groups that do not divide the channels.
    #[error("{groups} groups do not divide {input} input and {output} output channels")]
    Groups {
        /// Groups.
        groups: usize,
        /// Input channels.
        input: usize,
        /// Output channels.
        output: usize,
    },
    /// A window that is larger than the padded input.
    #[error("the window spans {extent:?}, the padded input only {padded:?}")]
    WindowTooLarge {
        /// Height and width of the window, with dilation.
        extent: [usize; 2],
        /// Height and width of the padded input.
        padded: [usize; 2],
    },
    /// A pool window that lies in the padding altogether.
    #[error("window {at} of the {axis} axis has only padding")]
    WindowOfPadding {
        /// "vertical" or "horizontal".
        axis: &'static str,
        /// Its position along that axis.
        at: usize,
    },
    /// A shape that differs from the one that is needed.
    #[error("{what} has shape {found:?}, it must be {wanted:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        found: Shape,
        /// The shape needed.
        wanted: Shape,
    },
    /// A multiplier of 0.
    #[error("its multiplier is 0")]
    ZeroMultiplier,
    /// Neither one shift nor one per channel.
    #[error("it has {found} shifts; one, or one for each of {channels} channels, is needed")]
    ShiftCount {
        /// Shifts given.
        found: usize,
        /// Channels.
        channels: usize,
    },
    /// A table of the wrong length.
    #[error("the table has {found} entries, the input range {lo}..={hi} needs {wanted} (at most 256)")]
    TableLength {
        /// Entries given.
        found: usize,
        /// Smallest input.
        lo: i64,
        /// Largest input.
        hi: i64,
        /// Entries needed.
        wanted: u128,
    },
    /// A table whose results do not fit 8 bits.
    #[error("the table's results lie in {lo}..={hi}; they must fit 8 bits (a difference of at most 255)")]
    TableRange {
        /// Smallest result.
        lo: i64,
        /// Largest result.
        hi: i64,
    },
    /// Tables for pixels that are not 256 values for each channel.
    #[error("it has {found} tables for pixels; {wanted} of 256 values are needed")]
    PixelTables {
        /// Tables given.
        found: usize,
        /// Channels.
        wanted: usize,
    },
    /// A scale whose result nothing requantises.
    #[error("the output is the result of a scale; it must be requantised first")]
    ScaledOutput,
    /// Neither one multiplier nor one per channel.
    #[error("it has {found} multipliers; one, or one for each of {channels} channels, is needed")]
    MultiplierCount {
        /// Multipliers given.
        found: usize,
        /// Channels.
        channels: usize,
    },
    /// Something declared for a node that there is not.
    #[error("it declares something for a node {name:?}, and has none of this name")]
    Undeclared {
        /// The name.
        name: String,
    },
    /// Neither one declared ring nor one per channel.
    #[error("it declares {found} rings; one, or one for each of {channels} channels, is needed")]
    RingCount {
        /// Rings given.
        found: usize,
        /// Channels.
        channels: usize,
    },
    /// A declared ring that no operator can hold.
    #[error("a ring of {ring} bits cannot be declared for it: {why}")]
    Ring {
        /// Its width.
        ring: u32,
        /// What stands against it.
        why: &'static str,
    },
    /// A coin that a node cannot have.
    #[error("a coin of {coin} bits cannot be declared for it: {why}")]
    Coin {
        /// Its bits.
        coin: u32,
        /// What stands against it.
        why: &'static str,
    },
    /// A block that cannot be.
    #[error("it cannot be a block: {why}")]
    Block {
        /// What stands against it.
        why: &'static str,
    },
    /// A number of class names that is not that of the classes.
    #[error("it names {found} class{}, the output has {wanted}", if *found == 1 { "" } else { "es" })]
    Classes {
        /// Names given.
        found: usize,
        /// Classes of the output.
        wanted: usize,
    },
    /// A scale that is not a positive finite number.
    #[error("its output scale is not a positive finite number")]
    OutputScale,
    /// A coding of the input or the output that does not fit the tensor, or itself.
    #[error("the coding of its {0} does not fit")]
    Coding(&'static str),
    /// Weights for another number of nodes.
    #[error("weights for {found} nodes, the architecture has {wanted}")]
    WeightNodes {
        /// Entries given.
        found: usize,
        /// Nodes.
        wanted: usize,
    },
    /// Weights where there are none, or none where there must be some.
    #[error("weights are {}, they must be {}", if *.found { "given" } else { "missing" }, if *.found { "absent" } else { "given" })]
    WeightPresence {
        /// True if there are weights.
        found: bool,
    },
    /// Weights for another number of terms.
    #[error("weights for {found} terms, the node has {wanted}")]
    WeightTerms {
        /// Entries given.
        found: usize,
        /// Terms.
        wanted: usize,
    },
    /// Weights of the wrong shape.
    #[error("the weights have shape {found:?}, they must be {wanted:?}")]
    WeightShape {
        /// The shape given.
        found: Vec<usize>,
        /// Output channels, input channels per group, kernel height and width.
        wanted: [usize; 4],
    },
    /// A weight that its width does not hold.
    #[error("a weight is {value}, which a width of {bits} bits does not hold")]
    WeightValue {
        /// The weight.
        value: i64,
        /// The declared width.
        bits: u32,
    },
    /// A number of biases that is not the number of output channels.
    #[error("{found} biases for {wanted} output channels")]
    BiasCount {
        /// Biases given.
        found: usize,
        /// Output channels.
        wanted: usize,
    },
}

/// An input that does not suit the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Another shape.
    #[error("the input has shape {found:?}, the network reads {wanted:?} (channels, height, width)")]
    Shape {
        /// The input's.
        found: Shape,
        /// The network's.
        wanted: Shape,
    },
    /// A value outside of the range.
    #[error("the input has the value {value}, the network reads {lo}..={hi}")]
    Value {
        /// The first such value.
        value: i64,
        /// Smallest allowed.
        lo: i64,
        /// Largest allowed.
        hi: i64,
    },
}
