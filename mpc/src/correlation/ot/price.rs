//! What correlated OTs cost on the wire, exactly. A session's first batch, which seeds the others, belongs to its set-up; what it
//! yields comes with it.

use super::cots::OtCount;
use super::setup;
use super::silent::{FIRST, LATER, PROOF_BYTES, Preset, REPLY_BYTES};
use crate::transport::channel::HEADER_BYTES;

/// Bytes that each party sends in the set-up and for the first batch, frame headers included.
pub const SETUP_BYTES: usize = setup::BYTES + batch_bytes(FIRST) + REPLY_FRAME_BYTES;

/// OTs in each direction that the set-up yields.
pub const OTS_OF_SETUP: usize = FIRST.usable();

/// OTs that one batch yields.
pub const OTS_PER_BATCH: usize = LATER.usable();

/// Bytes of one batch, frame headers included: all sent by the party that sends in these OTs, but for [`REPLY_FRAME_BYTES`].
pub const BATCH_BYTES: usize = batch_bytes(LATER) + REPLY_FRAME_BYTES;

/// Bytes of these that the party sends which receives in these OTs.
pub const REPLY_FRAME_BYTES: usize = HEADER_BYTES + REPLY_BYTES;

/// Bytes of a batch that its sender sends.
pub(super) const fn batch_bytes(preset: Preset) -> usize {
    HEADER_BYTES + preset.message_bytes() + HEADER_BYTES + PROOF_BYTES
}

/// Bytes per OT when batches are used up.
pub const BYTES_PER_OT: f64 = BATCH_BYTES as f64 / OTS_PER_BATCH as f64;

/// Batches that yield at least `n` OTs.
#[must_use]
pub const fn batches(n: usize) -> usize {
    n.div_ceil(OTS_PER_BATCH)
}

/// Bytes, both parties together, of the batches that yield at least `need` after what the set-up yields.
#[must_use]
pub const fn bytes(need: OtCount) -> usize {
    let client = batches(need.client_receives.saturating_sub(OTS_OF_SETUP));
    let server = batches(need.server_receives.saturating_sub(OTS_OF_SETUP));
    (client + server) * BATCH_BYTES
}
