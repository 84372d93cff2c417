//! How far the norms of uniform digits may be from their means.

/// Standard deviations of the norms of uniform digits that a plan allows for: exceeded less than once in 2^49.
pub const DEVIATIONS: f64 = 8.0;

/// Most that the sum of the squares of `count` uniform digits is, in units of its mean: [`DEVIATIONS`] of sqrt(4/5) each, and
/// no more than the extreme.
pub(super) fn excess_of_squares(count: f64) -> f64 {
    3f64.min(1.0 + DEVIATIONS * (0.8 / count).sqrt())
}

/// The same of magnitudes, which deviate by sqrt(1/3).
pub(super) fn excess_of_magnitudes(count: f64) -> f64 {
    2f64.min(1.0 + DEVIATIONS * (1.0 / (3.0 * count)).sqrt())
}
