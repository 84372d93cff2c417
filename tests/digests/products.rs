//! What travels for a product of two shared matrices and what both parties have of it: a cross term, its answers whole and merged, and one
//! whose clear matrix the evaluator knows.

use lowkey_bridge::product::{Clear, CrossPlan, KeyPlan, Public, Sizes, encrypt, evaluate, share};
use lowkey_he::EpochSeed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::{Row, Sum};

const ELL: u32 = 18;

/// Keys, bodies, hints, and the shares of owner and evaluator.
fn sums(plan: &CrossPlan) -> [Sum; 4] {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut words =
        |count: usize, bits: u32| -> Vec<u64> { (0..count).map(|_| rng.random::<u64>() >> (64 - bits)).collect() };
    let a = words(plan.sizes().encrypted(), ELL);
    let bits = if let Clear::Known { magnitude } = plan.clear() { magnitude.ilog2() } else { ELL };
    let b = words(plan.sizes().clear(), bits);

    let (epoch, key_plan) = (EpochSeed([5; 32]), KeyPlan::of_crosses([plan]));
    let (masks, mask0) = (plan.masks(&epoch), key_plan.masks(&epoch).unwrap());
    let (mut secrets, message) = key_plan.generate(&epoch, &mask0, &mut rng).unwrap();
    let bodies = encrypt(plan, &masks, &a, &mut secrets, &mut rng).unwrap();
    let keys = key_plan.receive(&epoch, &message).unwrap();
    let public = Public { masks: &masks, mask0: &mask0, keys: &keys };
    let evaluated = evaluate(plan, public, &b, &bodies, &mut rng).unwrap();
    let own = share(plan, &evaluated.hints, &secrets).unwrap();
    let shares: Vec<u8> =
        own.words().iter().chain(evaluated.share.words()).flat_map(|word| word.to_le_bytes()).collect();
    [message, bodies, evaluated.hints, shares].map(|bytes| Sum::of(&bytes))
}

pub fn rows() -> Vec<Row> {
    let sizes = Sizes { rows: 20, inner: 30, columns: 12 };
    let plans = [
        ("shares", CrossPlan::cheapest(7, sizes, ELL, Clear::Share)),
        ("shares merged", CrossPlan::merged(7, sizes, ELL, Clear::Share)),
        ("known", CrossPlan::cheapest(7, sizes, ELL, Clear::Known { magnitude: 16 })),
    ];
    let columns = ["keys", "bodies", "hints", "shares"];
    plans.into_iter().map(|(name, plan)| Row::new(format!("product {name}"), columns, sums(&plan.unwrap()))).collect()
}
