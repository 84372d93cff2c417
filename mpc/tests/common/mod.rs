//! A requantisation and logits from end to end: what the parties hold, and what must come out, whatever runs between.

use lowkey_mpc::bits::Planes;
use lowkey_mpc::output;
use lowkey_mpc::requantise::{self, Spec};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

pub const SPEC: Spec = Spec { ell: 13, shift: 7, bits: 4, guard: 1 };
/// Of the next layer's input.
pub const RING: u8 = 13;
pub const LANES: usize = 1000;

/// Shares of an accumulator and of outputs, and the pad of the result.
pub struct Given {
    c: Planes,
    v: Planes,
    c_out: Planes,
    v_out: Planes,
    xhat: Planes,
}

impl Given {
    pub fn random() -> Self {
        let rng = &mut ChaCha20Rng::seed_from_u64(99);
        let [c, v, c_out, v_out] = [(); 4].map(|()| Planes::random(LANES, SPEC.width(), rng));
        Self { c, v, c_out, v_out, xhat: Planes::random(LANES, RING.into(), rng) }
    }

    /// What the client knows early, by protocol.
    pub fn early(&self) -> [Vec<Planes>; 2] {
        [vec![self.c.clone(), self.xhat.clone()], vec![self.c_out.clone()]]
    }

    /// What the server knows late, likewise.
    pub fn late(&self) -> [Vec<Planes>; 2] {
        [vec![self.v.clone()], vec![self.v_out.clone()]]
    }

    /// m is what the server got, the result less the pad; `logits` what the client got.
    pub fn check(&self, m: &Planes, logits: &Planes) {
        let lanes = |planes: &Planes| planes.to_lanes::<u64>();
        let sums = lanes(&self.c).into_iter().zip(lanes(&self.v)).map(|(c, v)| c + v);
        let shift = 64 - SPEC.width();
        for (lane, x) in sums.enumerate() {
            let y = (lanes(&self.xhat)[lane] + lanes(m)[lane]) % (1 << RING);
            let z = (x << shift).cast_signed() >> shift >> SPEC.guard;
            assert_eq!(y, requantise::ideal(SPEC, z), "lane {lane}");
        }
        for (lane, (c, v)) in lanes(&self.c_out).into_iter().zip(lanes(&self.v_out)).enumerate() {
            assert_eq!(lanes(logits)[lane], output::ideal(SPEC.ell.into(), c, v), "lane {lane}");
        }
    }
}
