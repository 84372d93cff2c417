//! Times of many, in a few numbers.

use serde::Serialize;

/// How times spread: each is that of the one at this place in line, so that it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub count: usize,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub most: f64,
}

impl Spread {
    /// All zero of none.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100);
            times.get(place.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { count: times.len(), p50: at(50), p95: at(95), p99: at(99), most: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_line() {
        let spread = Spread::of((1..=200).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { count: 200, p50: 100.0, p95: 190.0, p99: 198.0, most: 200.0 });
        assert_eq!(Spread::of(vec![7.0]), Spread { count: 1, p50: 7.0, p95: 7.0, p99: 7.0, most: 7.0 });
        assert_eq!(Spread::of(vec![]), Spread::default());
    }
}
