//! The error function, which the standard library has not.

/// The error function: its series near 0, a continued fraction further out; to about 1e-15.
pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    let scale = std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp();
    if a < 2.5 {
        // erf(a) = 2/sqrt(pi) e^(-a^2) sum of 2^n a^(2n+1) / (1 * 3 * ... * (2n+1)): all terms positive.
        let (mut term, mut sum) = (a, a);
        for n in 1..120 {
            term *= 2.0 * a * a / f64::from(2 * n + 1);
            sum += term;
        }
        return x.signum() * scale * sum;
    }
    // erfc(a) = e^(-a^2)/sqrt(pi) / (a + (1/2)/(a + 1/(a + (3/2)/(a + ...)))).
    let fraction = (1..80).rev().fold(a, |rest, n| a + f64::from(n) / 2.0 / rest);
    x.signum() * (1.0 - scale / 2.0 / fraction)
}

/// 1 - erf(x), to as much.
pub(crate) fn erfc(x: f64) -> f64 {
    1.0 - erf(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_right() {
        // Abramowitz and Stegun, table 7.1.
        for (x, wanted) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)] {
            assert!((erf(x) - wanted).abs() < 1e-10, "{x}: {}", erf(x));
            assert!((erf(-x) + wanted).abs() < 1e-10);
        }
        // Both forms agree where they meet.
        assert!((erf(2.499_999_999) - erf(2.500_000_001)).abs() < 1e-11);
    }
}
