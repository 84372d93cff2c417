//! What costs whoever causes it nothing, in the log: the first few of each interval, and how many more there were.

/// Lines in each interval.
const TOLD: u64 = 5;

/// Of the interval that runs.
#[derive(Debug, Default)]
pub(super) struct Doorway {
    happened: u64,
}

impl Doorway {
    /// One more; whether it is told of.
    pub(super) fn told(&mut self) -> bool {
        self.happened += 1;
        self.happened <= TOLD
    }

    /// Ends the interval: how many were not told of.
    pub(super) fn counted(&mut self) -> u64 {
        std::mem::take(&mut self.happened).saturating_sub(TOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_and_all_are_counted() {
        let mut doorway = Doorway::default();
        assert_eq!((0..1000).filter(|_| doorway.told()).count() as u64, TOLD);
        assert_eq!(doorway.counted(), 1000 - TOLD);
        assert_eq!(doorway.counted(), 0);
        assert!(doorway.told(), "another interval");
        assert_eq!(doorway.counted(), 0);
    }
}
