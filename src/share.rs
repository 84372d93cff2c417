//! One party's shares: words, and the ring in which both parties' words add up ([`lowkey_bridge::share`]). Programs read
//! them as bit planes.

use lowkey_mpc::bits::Planes;

pub use lowkey_bridge::share::{Ring, RingShare};

/// Shares as what programs read.
pub(crate) trait ToPlanes {
    /// Bit planes, as wide as the words.
    fn planes(&self) -> Planes;
}

impl ToPlanes for RingShare {
    fn planes(&self) -> Planes {
        Planes::from_lanes(self.words(), self.ring().width() as usize)
    }
}

/// What a program leaves: a word for each lane, in the ring of so many bits as there are planes.
pub(crate) fn of_planes(planes: &Planes) -> RingShare {
    RingShare::new(planes.to_lanes::<u64>(), Ring::plain(planes.width() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_as_wide_as_words() {
        let planes = RingShare::new(vec![0, 1, 15], Ring::guarded(3)).planes();
        assert_eq!((planes.width(), planes.to_lanes::<u64>()), (4, vec![0, 1, 15]));
    }
}
