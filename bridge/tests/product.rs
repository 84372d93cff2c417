//! Two products in a row as a step of training has them, from outside: one message of keys each way, a truncation between.

use std::sync::Arc;

use lowkey_bridge::product::{Answers, KeyPlan, Party, PeerKeys, ProductPlan, Public, Sizes};
use lowkey_bridge::{RerandomiserMasks, Secrets};
use lowkey_he::{EpochSeed, Mask};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

const PARTIES: [Party; 2] = [Party::Client, Party::Server];

/// What the parties keep of a step's keys: [client, server].
struct Keys {
    epoch: EpochSeed,
    mask0: RerandomiserMasks,
    secrets: [Secrets; 2],
    of_peer: [PeerKeys; 2],
}

impl Keys {
    fn exchange(products: &[&ProductPlan], rng: &mut ChaCha20Rng) -> Self {
        let epoch = EpochSeed(rng.random());
        let plan = KeyPlan::of(Party::Server, products.iter().copied());
        let mask0 = plan.masks(&epoch).unwrap();
        let [client, server] = PARTIES.map(|party| {
            let plan = KeyPlan::of(party, products.iter().copied());
            let (secrets, message) = plan.generate(&epoch, &mask0, rng).unwrap();
            (secrets, plan.receive(&epoch, &message).unwrap())
        });
        Self { epoch, mask0, secrets: [client.0, server.0], of_peer: [server.1, client.1] }
    }

    /// Shares of 2 L R + rho modulo 2^(ell + 1), from shares of both.
    fn multiply(
        &mut self,
        plan: &Arc<ProductPlan>,
        left: &[Vec<u64>; 2],
        right: &[Vec<u64>; 2],
        rng: &mut ChaCha20Rng,
    ) -> [Vec<u64>; 2] {
        let masks: Vec<Mask<u64>> = plan.cross().masks(&self.epoch);
        let begun = [0, 1]
            .map(|at| plan.begin(PARTIES[at], &left[at], &right[at], &masks, &mut self.secrets[at], rng).unwrap());
        let [(to_server, client), (to_client, server)] = begun;
        let public = |at: usize| Public { masks: &masks, mask0: &self.mask0, keys: &self.of_peer[at] };
        let (hints_to_server, client) = client.answer(&to_client, public(0), rng).unwrap();
        let (hints_to_client, server) = server.answer(&to_server, public(1), rng).unwrap();
        [
            client.finish(&hints_to_client, &self.secrets[0], rng).unwrap().words().to_vec(),
            server.finish(&hints_to_server, &self.secrets[1], rng).unwrap().words().to_vec(),
        ]
    }
}

/// (c >> s) and ((v - 1) >> s) + 1: a number of `width` bits loses s.
fn truncate([c, v]: [Vec<u64>; 2], width: u32, s: u32) -> [Vec<u64>; 2] {
    let low = |x: u64, bits: u32| x & ((1 << bits) - 1);
    [
        c.into_iter().map(|c| c >> s).collect(),
        v.into_iter().map(|v| low((low(v.wrapping_sub(1), width) >> s) + 1, width - s)).collect(),
    ]
}

fn shared(values: &[i64], bits: u32, rng: &mut ChaCha20Rng) -> [Vec<u64>; 2] {
    let client: Vec<u64> = values.iter().map(|_| rng.random::<u64>() >> (64 - bits)).collect();
    let server = values.iter().zip(&client).map(|(x, c)| (*x as u64).wrapping_sub(*c) & ((1 << bits) - 1)).collect();
    [client, server]
}

fn opened([c, v]: &[Vec<u64>; 2], bits: u32) -> Vec<i64> {
    c.iter().zip(v).map(|(c, v)| (c.wrapping_add(*v) << (64 - bits)) as i64 >> (64 - bits)).collect()
}

fn product(sizes: Sizes, left: &[i64], right: &[i64]) -> Vec<i64> {
    let at =
        |i: usize, l: usize| (0..sizes.inner).map(|j| left[i * sizes.inner + j] * right[j * sizes.columns + l]).sum();
    (0..sizes.outputs()).map(|at_| at(at_ / sizes.columns, at_ % sizes.columns)).collect()
}

#[test]
fn products_and_truncations_chain_under_the_keys_of_one_step() {
    // 24 x 30 by 30 x 20 by 20 x 6; 18 bits lose 6, and 12 bits are a ring of their own.
    let first = Sizes { rows: 24, inner: 30, columns: 20 };
    let second = Sizes { rows: 24, inner: 20, columns: 6 };
    for (seed, answers) in [(1, Answers::Plain), (2, Answers::Merged)] {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plans = [(1, first, 18), (2, second, 12)]
            .map(|(domain, sizes, ell)| Arc::new(ProductPlan::shared(domain, sizes, ell, answers).unwrap()));
        let mut keys = Keys::exchange(&[&plans[0], &plans[1]], &mut rng);
        let mut draw =
            |count: usize, most: i64| -> Vec<i64> { (0..count).map(|_| rng.random_range(-most..=most)).collect() };
        let (x, w, u) = (draw(first.encrypted(), 16), draw(first.clear(), 32), draw(second.clear(), 1));
        let [xs, ws] = [&x, &w].map(|values| shared(values, 18, &mut rng));
        let z = keys.multiply(&plans[0], &xs, &ws, &mut rng);
        let y = truncate(z, 19, 7);
        let opened_y = opened(&y, 12);
        for (y, z) in opened_y.iter().zip(product(first, &x, &w)) {
            // The guard bits move the rounding of a number that is half a unit of z off a multiple, and no other.
            let exact = (z as f64) / 64.0;
            assert!((*y as f64 - exact).abs() < 1.0 + 1.0 / 64.0, "{y} of {exact}");
        }
        let us = shared(&u, 12, &mut rng);
        let result = truncate(keys.multiply(&plans[1], &y, &us, &mut rng), 13, 1);
        for (result, exact) in opened(&result, 12).iter().zip(product(second, &opened_y, &u)) {
            assert!((result - exact).abs() <= 1, "{result} {exact}");
        }
    }
}
