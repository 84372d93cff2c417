//! What every parameter set of a plan has of its own, over the word of its torus.
//!
//! Layers of both words meet in one plan, so a map over all sets holds values of two types. [`OverWord`] names the pair,
//! [`BySet`] holds it, and code that is generic over the word asks for its own part.

use std::collections::BTreeMap;

use lowkey_he::params::ParameterSet;
use lowkey_he::word::TorusWord;

use crate::conv::Word;
use crate::error::BridgeError;

/// A torus word for which layers exist: `u32` or `u64`.
pub trait LinearWord: TorusWord + Word {
    #[doc(hidden)]
    fn part<F: OverWord>(all: &BySet<F>) -> &BTreeMap<u8, F::Of<Self>>;
    #[doc(hidden)]
    fn part_mut<F: OverWord>(all: &mut BySet<F>) -> &mut BTreeMap<u8, F::Of<Self>>;
}

/// A type for each word.
pub trait OverWord {
    /// The type over the word `W`.
    type Of<W: LinearWord>;
}

/// One `F` for each parameter set of a plan, by the set's id.
pub struct BySet<F: OverWord> {
    t32: BTreeMap<u8, F::Of<u32>>,
    t64: BTreeMap<u8, F::Of<u64>>,
}

impl<F: OverWord> Default for BySet<F> {
    fn default() -> Self {
        Self { t32: BTreeMap::new(), t64: BTreeMap::new() }
    }
}

impl<F: OverWord> BySet<F> {
    /// What `set` has.
    ///
    /// # Errors
    /// When it has nothing: our bug.
    pub(crate) fn get<W: LinearWord>(&self, set: &ParameterSet) -> Result<&F::Of<W>, BridgeError> {
        W::part(self).get(&set.id).ok_or(BridgeError::MissingKeys { set: set.name })
    }

    /// As [`get`](Self::get).
    pub(crate) fn get_mut<W: LinearWord>(&mut self, set: &ParameterSet) -> Result<&mut F::Of<W>, BridgeError> {
        W::part_mut(self).get_mut(&set.id).ok_or(BridgeError::MissingKeys { set: set.name })
    }

    pub(crate) fn insert<W: LinearWord>(&mut self, set: &ParameterSet, value: F::Of<W>) {
        W::part_mut(self).insert(set.id, value);
    }
}

impl LinearWord for u32 {
    fn part<F: OverWord>(all: &BySet<F>) -> &BTreeMap<u8, F::Of<Self>> {
        &all.t32
    }
    fn part_mut<F: OverWord>(all: &mut BySet<F>) -> &mut BTreeMap<u8, F::Of<Self>> {
        &mut all.t32
    }
}

impl LinearWord for u64 {
    fn part<F: OverWord>(all: &BySet<F>) -> &BTreeMap<u8, F::Of<Self>> {
        &all.t64
    }
    fn part_mut<F: OverWord>(all: &mut BySet<F>) -> &mut BTreeMap<u8, F::Of<Self>> {
        &mut all.t64
    }
}
