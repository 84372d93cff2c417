//! c + v = 2 z + r (mod 2^(ell + 1)), 0 <= r < 2: torus shares of an evaluated ciphertext become ring shares. No message.
//!
//! The client holds p_c = -hint s, the server p_v = sum_j w_oj body_j + b*_0 u_o, with p_c + p_v = scaling z + e (mod q).
//!
//! ```text
//!     client    c = floor(p_c / U)
//!     server    v = floor((p_v + T) / U)        T = (2^g + 1) U/2 - 1,  g = 1
//! ```
//!
//! *Why it is exact.* Let p_c = c U + f with 0 <= f < U. Since scaling = 2^g U,
//!
//! ```text
//!     p_v + T = (2^g z - c) U + (e + T - f),    so    r = c + v - 2^g z = floor((e + T - f) / U)
//! ```
//!
//! f takes every value, so 0 <= r < 2^g for all splits if and only if U - T - 1 <= e <= 2^g U - T - 1. This T makes that
//! |e| <= U/2: the bound of `lowkey_he::noise`.

use lowkey_he::torus::floor_share;
use lowkey_he::word::TorusWord;
use zeroize::Zeroizing;

use crate::parameters::LayerParameters;

/// c = floor(p_c / U): the client's shares, of ell + 1 bits each.
pub fn client_share<W: TorusWord>(parameters: &LayerParameters, phases: &[W]) -> Zeroizing<Vec<u64>> {
    let log_unit = parameters.log_unit();
    Zeroizing::new(phases.iter().map(|&phase| floor_share(phase, log_unit).to_u64()).collect())
}

/// v = floor((p_v + T) / U): the server's shares, of ell + 1 bits each.
pub fn server_share<W: TorusWord>(parameters: &LayerParameters, phases: &[W]) -> Zeroizing<Vec<u64>> {
    let (log_unit, offset) = (parameters.log_unit(), W::from_u64(parameters.offset()));
    Zeroizing::new(phases.iter().map(|&phase| floor_share(phase.wrapping_add(offset), log_unit).to_u64()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowkey_he::params::{self, ParameterSet};
    use lowkey_he::{Rounding, with_word};
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    fn parameters(set: &'static ParameterSet, ell: u32) -> LayerParameters {
        let parameters = LayerParameters { set, ell, rounding: Rounding::default() };
        assert!(parameters.consistent());
        parameters
    }

    /// r of one split: p_c given, p_v = scaling z - p_c + e. Read as a small signed number.
    fn remainder<W: TorusWord>(parameters: &LayerParameters, z: i64, e: i64, client: W) -> i64 {
        let server = W::from_i64(z).shl(parameters.log_scaling()).wrapping_add(W::from_i64(e)).wrapping_sub(client);
        let (c, v) = (client_share(parameters, &[client])[0], server_share(parameters, &[server])[0]);
        let unused = 64 - parameters.share_bits();
        (c.wrapping_add(v).wrapping_sub((z as u64) << 1) << unused) as i64 >> unused
    }

    /// The interval of the derivation.
    fn allowed(parameters: &LayerParameters) -> std::ops::RangeInclusive<i64> {
        let (unit, offset) = (1i64 << parameters.log_unit(), parameters.offset() as i64);
        let interval = unit - offset - 1..=2 * unit - offset - 1;
        assert_eq!(interval, -unit / 2..=unit / 2);
        interval
    }

    fn accumulators(ell: u32, rng: &mut ChaCha20Rng) -> Vec<i64> {
        let half = 1i64 << (ell - 1);
        let random = (0..20).map(|_| rng.random_range(-half..half));
        [-half, -half + 1, -1, 0, 1, half - 1].into_iter().chain(random).collect()
    }

    /// Small U, and so wide accumulators: every fraction f, every e around the interval.
    fn exhaustive<W: TorusWord>(set: &'static ParameterSet, ell: u32) {
        let parameters = parameters(set, ell);
        let unit = 1i64 << parameters.log_unit();
        let allowed = allowed(&parameters);
        let mut rng = ChaCha20Rng::seed_from_u64(ell.into());
        for z in accumulators(ell, &mut rng) {
            for e in -2 * unit..=2 * unit {
                let remainders = (0..unit).map(|f| {
                    let client = W::from_u64(rng.next_u64()).shl(parameters.log_unit());
                    remainder(&parameters, z, e, client.wrapping_add(W::from_i64(f)))
                });
                let exact = remainders.fold(true, |all, r| all & (0..2).contains(&r));
                assert_eq!(exact, allowed.contains(&e), "U = {unit}, z = {z}, e = {e}");
            }
        }
    }

    #[test]
    fn exact_for_all_splits_if_and_only_if_the_noise_is_within_half_a_unit() {
        for log_unit in 2..=6 {
            exhaustive::<u32>(&params::T32N2048, 31 - log_unit);
        }
        // ell <= 48 keeps U large on the wide torus: ends and steps only, below.
    }

    /// Every ell of a set: the ends of the interval with extreme and random splits, and one step beyond, where the split that
    /// the derivation names fails.
    fn ends<W: TorusWord>(set: &'static ParameterSet) {
        let mut rng = ChaCha20Rng::seed_from_u64(set.id.into());
        for ell in 2..=48.min(set.torus_bits - 3) {
            let parameters = parameters(set, ell);
            let unit = 1u64 << parameters.log_unit();
            let allowed = allowed(&parameters);
            let (low, high) = (*allowed.start(), *allowed.end());
            let extreme = [0, 1, unit / 2 - 1, unit / 2, unit / 2 + 1, unit - 1, unit, u64::MAX - unit, u64::MAX];
            for z in accumulators(ell, &mut rng) {
                let random: Vec<u64> = (0..20).map(|_| rng.next_u64()).collect();
                for client in extreme.into_iter().chain(random) {
                    for e in [low, low + 1, -1, 0, 1, high - 1, high] {
                        let r = remainder(&parameters, z, e, W::from_u64(client));
                        assert!((0..2).contains(&r), "{} ell = {ell}, z = {z}, e = {e}, split {client}: {r}", set.name);
                    }
                }
                let turns = rng.next_u64() << parameters.log_unit();
                assert_eq!(remainder(&parameters, z, low - 1, W::from_u64(turns + (unit - 1))), -1, "{ell}");
                assert_eq!(remainder(&parameters, z, high + 1, W::from_u64(turns)), 2, "{ell}");
            }
        }
    }

    #[test]
    fn exact_at_both_ends_of_the_noise_and_wrong_one_step_beyond() {
        for set in params::ALL {
            with_word!(set, W => ends::<W>(set));
        }
    }
}
