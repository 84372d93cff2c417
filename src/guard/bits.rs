//! \[c\], \[xhat\]: a client's values in a slot as authenticated bits, and what an audit compares of them.
//!
//! They are taken out of the circuits that would have read them ([`PreparedCircuit::open`]), so that no other bits can be shown. The client's hash is
//! of the MACs of all, in order. The server makes the values from the slot's seed, from them and its keys the MACs that a client holds
//! of exactly these, and compares the hashes ([`Guard::claim`]).

use std::sync::Arc;

use lowkey_mpc::guard::{Bits, Guard, PreparedCircuit, Triples};

use super::case::Corrections;
use super::circuits::Circuits;
use super::slot::ClientHalf;
use crate::plan::Reveal;
use crate::publication::ClientModel;

/// Client: a slot that is not used becomes the hash of its MACs, and the triples, which nobody has used.
pub(crate) fn spend(guard: &Guard, prepared: Vec<PreparedCircuit>) -> ([u8; 32], Triples) {
    let (mut apart, mut triples) = (guard.apart(), Triples::default());
    prepared.into_iter().for_each(|own| triples.append(own.audit(&mut apart, &[])));
    (apart.digest(), triples)
}

/// The server's halves of the bits of a slot that is not used, circuit after circuit.
pub(crate) struct Authenticated {
    guard: Guard,
    inputs: Vec<Vec<Bits>>,
}

impl Authenticated {
    /// Takes a slot apart: the bits, and the triples, which nobody has used.
    pub(crate) fn open(guard: &Guard, prepared: Vec<PreparedCircuit>) -> (Self, Triples) {
        let mut triples = Triples::default();
        let mut inputs = Vec::with_capacity(prepared.len());
        for prepared in prepared {
            let (bits, own) = prepared.open();
            inputs.push(bits);
            triples.append(own);
        }
        (Self { guard: guard.apart(), inputs }, triples)
    }

    /// What is compared, of a slot with these circuits.
    pub(crate) fn corrections(self, circuits: Arc<Circuits>, reveal: Reveal) -> Box<dyn Corrections> {
        Box::new(Corrected { own: self, circuits, reveal })
    }
}

struct Corrected {
    own: Authenticated,
    circuits: Arc<Circuits>,
    reveal: Reveal,
}

impl Corrections for Corrected {
    fn agree(&self, model: &ClientModel, opened: &ClientHalf, macs: &[u8; 32]) -> bool {
        let mut guard = self.own.guard.apart();
        for (layer, inputs) in self.circuits.all(self.reveal).zip(&self.own.inputs) {
            let values = layer.early(&model.plan, opened);
            assert_eq!(values.len(), inputs.len(), "an input for every port");
            inputs.iter().zip(&values).for_each(|(bits, values)| guard.claim(bits, values));
        }
        guard.compare(macs).is_ok()
    }

    fn bytes(&self) -> usize {
        self.own.inputs.iter().flatten().map(Bits::held_bytes).sum()
    }
}
