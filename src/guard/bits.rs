//! \[c\], \[xhat\]: a client's values in a slot as authenticated bits, and what an audit compares of them.
//!
//! The client's hash is of the MACs of all these bits, in order. The server makes the values from the slot's seed, from them and its keys
//! the MACs that a client holds of exactly these, and compares the hashes ([`Guard::claim`]).

use lowkey_mpc::bits::Planes;
use lowkey_mpc::guard::{Bits, Guard};

use super::audit::Corrections;
use super::slot::ClientHalf;
use crate::plan::{NodeId, TensorId};

/// A key or MAC of a bit.
const BLOCK_BYTES: usize = 16;

/// What the bits are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// xhat of a tensor, a lane for each element.
    Pad(TensorId),
    /// c of a node, a lane for each element.
    Share(NodeId),
}

/// One party's halves of the bits of a slot, the lowest plane first, in the order in which they were corrected.
pub struct Authenticated {
    guard: Guard,
    values: Vec<(Of, Bits)>,
}

impl Authenticated {
    /// None yet, of the session's party.
    pub fn new(guard: &Guard) -> Self {
        Self { guard: guard.apart(), values: Vec::new() }
    }

    /// The next, copied: the circuits of a slot that is used read them too.
    pub fn add(&mut self, of: Of, bits: &Bits) {
        self.values.push((of, bits.planes(0..bits.width())));
    }

    /// Client: the hash of the MACs.
    pub fn macs(&self) -> [u8; 32] {
        let mut guard = self.guard.apart();
        for (_, bits) in &self.values {
            guard.claim(bits, &Planes::zero(bits.lanes(), bits.width()));
        }
        guard.digest()
    }
}

impl Corrections for Authenticated {
    fn agree(&self, opened: &ClientHalf, macs: &[u8; 32]) -> bool {
        let mut guard = self.guard.apart();
        for (of, bits) in &self.values {
            let values = match of {
                Of::Pad(tensor) => &opened.pads[*tensor],
                Of::Share(node) => &opened.shares[*node],
            };
            assert_eq!(values.len(), bits.lanes(), "a lane for each element of the plan");
            guard.claim(bits, &Planes::from_lanes(values, bits.width()));
        }
        guard.compare(macs).is_ok()
    }

    fn bytes(&self) -> usize {
        self.values.iter().map(|(_, bits)| bits.lanes() * bits.width() * BLOCK_BYTES).sum()
    }
}
