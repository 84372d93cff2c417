//! What is known of a number before it is clamped, and where it is cut.

use serde::{Deserialize, Serialize};

/// What is known of t, and a top below 2^a - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Clip {
    /// The largest y. At least 2^(a-1); from 2^a - 1 on it says nothing.
    pub top: u8,
    /// True if t is never among the lowest 2^a numbers of its ring: -2^(a+h-1) + 2^a <= t.
    pub spare: bool,
}

impl Default for Clip {
    /// No top but 2^a - 1, and nothing known.
    fn default() -> Self {
        Self { top: u8::MAX, spare: false }
    }
}

impl Clip {
    /// top + 1 if values of `a` bits can exceed it, with `h` high bits.
    pub(crate) fn threshold(self, a: usize, h: usize) -> Option<u64> {
        let end = u64::from(self.top) + 1;
        if end < 1 << a { Some(end) } else { (h > 1).then_some(1 << a) }
    }

    /// True if y is cut at less than 2^a - 1.
    pub(crate) fn is_low(self, a: usize) -> bool {
        u64::from(self.top) + 1 < 1 << a
    }
}
