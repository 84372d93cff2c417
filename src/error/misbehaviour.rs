//! What a peer can do wrong with messages that can be decoded: one variant per cause.

use lowkey_bridge::BridgeError;
use lowkey_he::HeError;
use lowkey_models::JsonError;
use lowkey_mpc::party::Stage;

/// What a peer sent that an honest one does not. Frames that are out of turn or cannot be decoded are errors of the channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// No hello where a session begins.
    #[error("something that is not a hello of lowkey")]
    Hello,
    /// A name that no model can have.
    #[error("the name of a model that is none")]
    ModelName,
    /// No list where one was asked for.
    #[error("something that is not a list of models")]
    Listing,
    /// A list that is empty or too long.
    #[error("a list of {found} models, a server has 1 to {most}")]
    ListingLength {
        /// Models in it.
        found: usize,
        /// Most models.
        most: usize,
    },
    /// A list with names that are none, or one twice.
    #[error("a list with names of models that are none, or come twice")]
    ListingNames,
    /// A plan or a hint that would be too long, announced.
    #[error("sizes beyond every limit: {plan} bytes of plan, {hint} of hint")]
    Sizes {
        /// Bytes of the plan's text.
        plan: u32,
        /// Bytes of the hint.
        hint: u32,
    },
    /// A plan that is too long.
    #[error("a plan of {0} bytes")]
    PlanLength(usize),
    /// A plan that is none.
    #[error("a plan that cannot be read: {0}")]
    Plan(#[source] serde_json::Error),
    /// A plan of a network that is none.
    #[error("a plan with an impossible architecture: {0}")]
    Architecture(#[source] JsonError),
    /// A hint that does not suit the plan.
    #[error("a hint of {found} bytes for a plan that needs {expected}")]
    HintLength {
        /// Bytes announced.
        found: usize,
        /// What the plan needs.
        expected: usize,
    },
    /// A hint whose values cannot be.
    #[error("a hint that cannot be used: {0}")]
    Hint(#[source] BridgeError),
    /// Bytes of another digest than the announced one.
    #[error("a model that is not the one it announced")]
    OtherModel,
    /// The end of another slot's preparation.
    #[error("readiness of slot {found}, {expected} was asked for")]
    OtherSlot {
        /// Its number.
        found: u64,
        /// What it should have been.
        expected: u64,
    },
    /// A request to open a slot that the client does not owe.
    #[error("a request to open a slot that is not this client's to open")]
    NotOwed,
    /// A request that a guarded session does not have.
    #[error("a request for an inference without a guard, in a guarded session")]
    Unguarded,
    /// A request that belongs to another stage.
    #[error("a request in the wrong stage: {0:?}")]
    Stage(Stage),
    /// Keys or bodies that cannot be.
    #[error(transparent)]
    Ciphertexts(BridgeError),
    /// A masked input that cannot be.
    #[error("an input that cannot be read: {0}")]
    Input(#[source] HeError),
}
