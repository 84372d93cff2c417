//! A step of training in the clear: integers, explicit coins, every range watched. A run on shares has the same masters and momenta, bit for
//! bit, where it tosses the same coins.
//!
//! With T(x, s) = floor((x + 2^s - 1 - coin) / 2^s), X with a column of ones for the bias, and the f of [`Format`]:
//!
//! ```text
//! W'  = T(w, fm - fw)
//! Z   = T(X W', fx + fw - fx')           X' = max(Z, 0), the bit [Z >= 0] kept; of a pool the largest of a window, and which one
//! P   = softmax of the last Z            lowkey_mpc::fixed::softmax
//! D   = P - onehot                       D' = bit T(D W'^T, fw); of a convolution D W'^T is summed over patches first, at a pool D' goes
//!                                        to the first of the largest values
//! g   = T(X^T D, fx + fd + 7 + j - fm)
//! v   = v - T(3 v, 5) + g                w = w - v
//! ```

use std::collections::BTreeMap;

use lowkey_mpc::fixed::{score, softmax, truncate};
use lowkey_mpc::party::Party;

use super::batch::Batch;
use super::coins::{Coins, Site, Value};
use super::format::{BATCH, CLASSES, DECAY_DROP, Format, Net};
use super::matrix::{multiply, transpose};
use super::score::{Score, Tally};

/// Masters and momenta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Of each layer inputs + 1 rows, the last that of the bias.
    pub masters: Vec<Vec<i64>>,
    /// As many.
    pub momenta: Vec<Vec<i64>>,
}

impl State {
    /// These masters, without momentum.
    ///
    /// # Panics
    /// If they are not those of the network.
    pub fn new(net: &Net, masters: Vec<Vec<i64>>) -> Self {
        let sizes: Vec<usize> = masters.iter().map(Vec::len).collect();
        let expected: Vec<usize> = (0..net.layers()).map(|i| net.weights(i)).collect();
        assert_eq!(sizes, expected, "masters of {net:?}");
        Self { momenta: masters.iter().map(|w| vec![0; w.len()]).collect(), masters }
    }
}

/// The largest values seen, and how many were out of range.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    seen: BTreeMap<Site, Seen>,
    /// Of all roundings of a value the sum of y 2^s - x, and the variance of that sum for uniform coins.
    #[cfg(test)]
    pub errors: BTreeMap<Site, (i64, f64)>,
}

/// What was seen of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The magnitude that came nearest to its limit.
    pub largest: u64,
    /// That limit, the first magnitude that a run on shares could not hold; other rates have others.
    pub limit: u64,
    /// How many reached theirs: a run on shares would have gone wrong in silence.
    pub overflows: u64,
}

impl Watch {
    fn see(&mut self, site: Site, values: &[i64], limit: u64) {
        let largest = values.iter().map(|x| x.unsigned_abs()).fold(0, u64::max);
        let seen = self.seen.entry(site).or_insert(Seen { largest, limit, overflows: 0 });
        if u128::from(largest) * u128::from(seen.limit) > u128::from(seen.largest) * u128::from(limit) {
            (seen.largest, seen.limit) = (largest, limit);
        }
        seen.overflows += values.iter().filter(|x| x.unsigned_abs() >= limit).count() as u64;
    }

    #[cfg(test)]
    fn rounded(&mut self, site: Site, dropped: u8, x: &[i64], y: &[i64]) {
        let (sum, variance) = self.errors.entry(site).or_default();
        for (x, y) in x.iter().zip(y) {
            let rest = x & ((1 << dropped) - 1);
            *sum += (y << dropped) - x;
            *variance += (rest * ((1 << dropped) - rest)) as f64;
        }
    }

    /// What was seen of each value.
    #[cfg(test)]
    pub fn seen(&self) -> impl Iterator<Item = (&Site, &Seen)> {
        self.seen.iter()
    }

    /// How many values were out of range. It must be zero.
    pub fn overflows(&self) -> u64 {
        self.seen.values().map(|seen| seen.overflows).sum()
    }

    /// Bits above the largest value, where fewest were. It is not negative unless a value was out of range.
    pub fn spare_bits(&self) -> f64 {
        let spare = |seen: &Seen| (seen.limit as f64 / seen.largest.max(1) as f64).log2();
        self.seen.values().map(spare).fold(f64::INFINITY, f64::min)
    }
}

/// A training in the clear.
#[derive(Clone, Debug)]
pub struct Twin {
    net: Net,
    format: Format,
    /// Masters and momenta.
    pub state: State,
    /// What was seen.
    pub watch: Watch,
    tally: Tally,
}

impl Twin {
    /// A training that goes on from `state`.
    pub fn new(net: Net, format: Format, state: State) -> Self {
        Self { net, format, state, watch: Watch::default(), tally: Tally::default() }
    }

    /// One step at the rate 2^-`rate`; the format has been checked for it.
    ///
    /// # Panics
    /// If the batch is one of another network.
    pub fn step(&mut self, batch: Batch<'_>, rate: u8, coins: &mut impl Coins) {
        let Self { net, format, state, watch, tally } = self;
        batch.assert_of(net);
        let mut pass = Pass { net, format, rounding: Truncations { coins, watch }, tally };
        let weights = pass.weights(&state.masters);
        let Forward { xs, kept, mut delta } = pass.forward(&weights, batch, BATCH);
        for (row, label) in delta.chunks_exact_mut(CLASSES).zip(batch.labels()) {
            row[usize::from(*label)] -= 1 << format.gradient;
        }
        for layer in (0..net.layers()).rev() {
            let gradient = pass.gradient(layer, rate, &xs[layer], &delta);
            if layer > 0 {
                delta = pass.back(layer, &delta, &weights[layer], &kept[layer - 1]);
            }
            pass.update(layer, &gradient, state);
        }
    }

    /// Forward to the score alone, to which the first so many samples count.
    ///
    /// # Panics
    /// If the batch is one of another network.
    #[cfg(test)]
    pub fn evaluate(&mut self, batch: Batch<'_>, counted: usize, coins: &mut impl Coins) {
        let Self { net, format, state, watch, tally } = self;
        batch.assert_of(net);
        let mut pass = Pass { net, format, rounding: Truncations { coins, watch }, tally };
        let weights = pass.weights(&state.masters);
        pass.forward(&weights, batch, counted);
    }

    /// How it did on the samples since this was last asked for.
    pub fn take_score(&mut self) -> Score {
        std::mem::take(&mut self.tally).score()
    }
}

/// A step under way.
struct Pass<'a, C> {
    net: &'a Net,
    format: &'a Format,
    rounding: Truncations<'a, C>,
    tally: &'a mut Tally,
}

/// What the way forward leaves for the way back.
struct Forward {
    /// The inputs of each layer, with a column of ones.
    xs: Vec<Vec<i64>>,
    /// What each pool and rectifier took.
    kept: Vec<Vec<Chosen>>,
    /// P.
    delta: Vec<i64>,
}

impl<C: Coins> Pass<'_, C> {
    /// W' of each layer.
    fn weights(&mut self, masters: &[Vec<i64>]) -> Vec<Vec<i64>> {
        let (drop, width) = (self.format.weight_drop(), self.format.held);
        let mut weight = |(layer, w): (usize, &Vec<i64>)| {
            self.rounding.truncate(Site { value: Value::Weight, layer }, w, drop, width)
        };
        masters.iter().enumerate().map(&mut weight).collect()
    }

    /// Z and X' of every layer, and P. The first so many samples count in the score.
    fn forward(&mut self, weights: &[Vec<i64>], batch: Batch<'_>, counted: usize) -> Forward {
        let Self { net, format, rounding, tally } = self;
        let mut xs = vec![with_ones(batch.inputs(), net.inputs(0), 1 << format.input)];
        let mut kept = Vec::new();
        let mut delta = Vec::new();
        for (layer, w) in weights.iter().enumerate() {
            let z = multiply(&xs[layer], w, net.inputs(layer) + 1, net.outputs(layer));
            let (site, drop) = (Site { value: Value::Output, layer }, format.forward_drop(net, layer));
            let z = rounding.signed(site, &z, drop, format.forward);
            if layer + 1 == net.layers() {
                let logs;
                (delta, logs) = rounding.softmax(format.softmax(net), layer, &z);
                let samples = z.chunks_exact(CLASSES).zip(logs).zip(batch.labels()).take(counted);
                for ((row, log), label) in samples {
                    let (right, loss) = score::ideal(format.score(net, Party::Client), row, log, Some(*label));
                    tally.add(1, &[right.into()], &[loss]);
                }
                continue;
            }
            let places = match net.windows(layer) {
                None => vec![z],
                Some(windows) => windows.cut(&z),
            };
            let chosen = rounding.pool(layer, &places, format.forward - drop);
            let y: Vec<i64> = chosen.iter().map(|chosen| chosen.value.max(0)).collect();
            let y = match net.maps(layer + 1) {
                None => y,
                Some(maps) => maps.columns(&y),
            };
            xs.push(with_ones(&y, net.inputs(layer + 1), 1 << format.activation));
            kept.push(chosen);
        }
        Forward { xs, kept, delta }
    }

    /// g of a layer.
    fn gradient(&mut self, layer: usize, rate: u8, x: &[i64], delta: &[i64]) -> Vec<i64> {
        let Self { net, format, rounding, .. } = self;
        let g = multiply(&transpose(x, net.inputs(layer) + 1), delta, net.rows(layer), net.outputs(layer));
        let drop = format.update_drop(net, layer, rate);
        rounding.truncate(Site { value: Value::Update, layer }, &g, drop, format.update_of(net, layer))
    }

    /// D' of the layer before.
    fn back(&mut self, layer: usize, delta: &[i64], weights: &[i64], kept: &[Chosen]) -> Vec<i64> {
        let Self { net, format, rounding, .. } = self;
        let (k, n) = (net.inputs(layer), net.outputs(layer));
        let back = multiply(delta, &transpose(&weights[..k * n], n), n, k);
        let back = match net.maps(layer) {
            None => back,
            Some(maps) => maps.uncolumns(&back),
        };
        let site = Site { value: Value::Gradient, layer };
        let back = rounding.truncate(site, &back, format.back_drop(net, layer), format.back);
        let of = |place: usize| {
            let passed = back.iter().zip(kept);
            passed.map(|(d, chosen)| if chosen.place == place && chosen.value >= 0 { *d } else { 0 }).collect()
        };
        match net.windows(layer - 1) {
            None => of(0),
            Some(windows) => windows.join(&(0..windows.size()).map(of).collect::<Vec<_>>()),
        }
    }

    /// v and w of a layer.
    fn update(&mut self, layer: usize, gradient: &[i64], state: &mut State) {
        let v = &mut state.momenta[layer];
        let tripled: Vec<i64> = v.iter().map(|v| 3 * v).collect();
        let site = Site { value: Value::Decay, layer };
        let decay = self.rounding.truncate(site, &tripled, DECAY_DROP, self.format.held);
        for ((w, v), (g, decay)) in state.masters[layer].iter_mut().zip(v).zip(gradient.iter().zip(&decay)) {
            *v += g - decay;
            *w -= *v;
        }
    }
}

/// T, with the ranges that it leaves watched.
struct Truncations<'a, C> {
    coins: &'a mut C,
    watch: &'a mut Watch,
}

impl<C: Coins> Truncations<'_, C> {
    /// T of values of `width` bits, to be extended: two bits stay free.
    fn truncate(&mut self, site: Site, x: &[i64], dropped: u8, width: u8) -> Vec<i64> {
        self.watched(site, x, dropped, 1 << (width - dropped - 2))
    }

    /// T of values of `width` bits whose sign is tested: they may use their whole ring.
    fn signed(&mut self, site: Site, x: &[i64], dropped: u8, width: u8) -> Vec<i64> {
        self.watched(site, x, dropped, 1 << (width - dropped - 1))
    }

    fn watched(&mut self, site: Site, x: &[i64], dropped: u8, limit: u64) -> Vec<i64> {
        let y = if dropped == 0 {
            x.to_vec()
        } else {
            let coins = self.coins.toss(site, dropped, x.len());
            x.iter().zip(coins).map(|(x, coin)| truncate::ideal(dropped, *x, coin)).collect()
        };
        self.watch.see(site, &y, limit);
        #[cfg(test)]
        self.watch.rounded(site, dropped, x, &y);
        y
    }

    /// Of windows, given the values of each place, the first of the largest values. A ring of `width` bits has to hold their differences.
    fn pool(&mut self, layer: usize, places: &[Vec<i64>], width: u8) -> Vec<Chosen> {
        let windows = 0..places[0].len();
        let window = |i: usize| places.iter().map(move |place| place[i]);
        if places.len() > 1 {
            let span = |i| window(i).max().zip(window(i).min()).map_or(0, |(most, least)| most - least);
            let spans: Vec<i64> = windows.clone().map(span).collect();
            self.watch.see(Site { value: Value::Game, layer }, &spans, 1 << (width - 1));
        }
        let first = |best: Chosen, (place, value)| if value > best.value { Chosen { place, value } } else { best };
        let chosen = |i| window(i).enumerate().fold(Chosen { place: 0, value: places[0][i] }, first);
        windows.map(chosen).collect()
    }

    /// Probabilities of rows of logits, and the logarithm of the sum of each row.
    fn softmax(&mut self, spec: softmax::Spec, layer: usize, logits: &[i64]) -> (Vec<i64>, Vec<u64>) {
        let mut toss = |value, dropped, count| match dropped {
            0 => vec![0; count],
            _ => self.coins.toss(Site { value, layer }, dropped, count),
        };
        let u = toss(Value::Difference, spec.grid().dropped, logits.len());
        let sums = toss(Value::Sum, spec.sum().dropped, BATCH);
        let p = toss(Value::Probability, spec.product().dropped, logits.len());
        let rows = logits.chunks_exact(CLASSES);
        let differences: Vec<i64> =
            rows.clone().map(|row| row.iter().max().unwrap_or(&0) - row.iter().min().unwrap_or(&0)).collect();
        self.watch.see(Site { value: Value::Difference, layer }, &differences, 1 << (spec.width - 1));
        let of = |sample: usize| sample * CLASSES..(sample + 1) * CLASSES;
        let coins = |sample| [&u[of(sample)], &sums[sample..=sample], &p[of(sample)]].concat();
        let samples = rows.enumerate();
        let logs = samples.clone().map(|(sample, row)| softmax::ideal_log(spec, row, &coins(sample))).collect();
        (samples.flat_map(|(sample, row)| softmax::ideal(spec, row, &coins(sample))).collect(), logs)
    }
}

/// What a pool takes of a window; of one value where there is none.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    place: usize,
    value: i64,
}

/// Rows of `k` values, with `one` at the end of each.
fn with_ones(x: &[i64], k: usize, one: i64) -> Vec<i64> {
    x.chunks_exact(k).flat_map(|row| row.iter().copied().chain([one])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::batch::pixels;
    use crate::train::coins::Seeded;
    use sha2::{Digest, Sha256};

    /// Cases of the twin in Python, by `scripts/training/golden.py`.
    const GOLDEN: &str = include_str!("golden.txt");

    /// The numbers that the cases are made of.
    struct SplitMix(u64);

    impl SplitMix {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }
    }

    impl Coins for SplitMix {
        fn toss(&mut self, _: Site, dropped: u8, count: usize) -> Vec<i64> {
            (0..count).map(|_| (self.next() % (1 << dropped)) as i64).collect()
        }
    }

    fn first_masters(net: &Net, format: Format) -> Vec<Vec<i64>> {
        let (mut stream, half) = (SplitMix(3), 1 << (format.master - 2));
        let layer = |i: usize| {
            let weights = net.inputs(i) * net.outputs(i);
            let mut w: Vec<i64> = (0..weights).map(|_| (stream.next() % (2 * half)) as i64 - half as i64).collect();
            if net.inputs(i) > 100 {
                w.iter_mut().for_each(|w| *w >>= 2);
            }
            w.resize(net.weights(i), 0);
            w
        };
        (0..net.layers()).map(layer).collect()
    }

    fn digest(state: &State) -> String {
        let layers = state.masters.iter().zip(&state.momenta);
        let words = layers.flat_map(|(w, v)| w.iter().chain(v)).flat_map(|word| word.to_le_bytes());
        hex::encode(Sha256::digest(words.collect::<Vec<u8>>()))
    }

    /// Masters and momenta after every step are those of the twin in Python.
    fn repeats(case: &str, steps: usize, net: &Net) {
        let format = Format::NARROW;
        format.check(net, 4).unwrap();
        let mut twin = Twin::new(net.clone(), format, State::new(net, first_masters(net, format)));
        let (mut images, mut labels, mut coins) = (SplitMix(1), SplitMix(2), SplitMix(4));
        let expected: Vec<&str> =
            GOLDEN.lines().filter_map(|line| line.strip_prefix(case)?.strip_prefix(' ')).collect();
        assert_eq!(expected.len(), steps, "steps of {case}");
        for line in expected {
            let image = |_| {
                let x = images.next() % (1 << 16);
                if x >> 8 < 51 { (x & 255) as u8 } else { 0 }
            };
            let bytes: Vec<u8> = (0..BATCH * net.values()).map(image).collect();
            let labels: Vec<u8> = (0..BATCH).map(|_| (labels.next() % 10) as u8).collect();
            let mut inputs = pixels(&bytes, format.input);
            if let Some(maps) = net.maps(0) {
                inputs = maps.columns(&inputs);
            }
            twin.step(Batch::new(net, &format, &inputs, &labels).unwrap(), 4, &mut coins);
            let (step, want) = line.split_once(' ').expect("a step and a digest");
            assert_eq!(digest(&twin.state), want, "step {step} of {case}");
        }
        assert_eq!(twin.watch.overflows(), 0, "{:?}", twin.watch);
    }

    #[test]
    fn repeats_the_twin_in_python() {
        repeats("tiny", 6, &Net::new(&[12, 8, 6, 10]).unwrap());
        repeats("head", 6, &Net::head(64).unwrap());
    }

    #[test]
    fn repeats_steps_of_a_convolution() {
        repeats("D", 6, &Net::d());
    }

    #[test]
    fn repeats_steps_of_convolutions_and_pools() {
        repeats("pools", 6, &Net::pools());
        repeats("C", 2, &Net::c());
    }

    #[test]
    fn repeats_ten_steps_of_a() {
        repeats("A", 10, &Net::a());
    }

    /// A network of one layer learns classes that a line separates.
    #[test]
    fn learns() {
        let (net, format) = (Net::head(10).unwrap(), Format::NARROW);
        let mut twin = Twin::new(net.clone(), format, State::new(&net, vec![vec![0; net.weights(0)]]));
        let labels: Vec<u8> = (0..BATCH).map(|i| (i % 10) as u8).collect();
        let inputs: Vec<i64> =
            labels.iter().flat_map(|label| (0..10).map(move |i| if i == *label { 16 } else { 0 })).collect();
        let mut coins = Seeded::new(1);
        for _ in 0..60 {
            twin.step(Batch::new(&net, &format, &inputs, &labels).unwrap(), 1, &mut coins);
        }
        for (row, w) in twin.state.masters[0].chunks_exact(CLASSES).take(10).enumerate() {
            let largest = (0..CLASSES).max_by_key(|class| w[*class]).unwrap();
            assert_eq!(largest, row, "{w:?}");
        }
    }

    /// Each value is compared with the limit of its own rate, and what is left is what was left where it was least.
    #[test]
    fn bits_to_spare_are_those_of_each_rate() {
        let site = Site { value: Value::Update, layer: 0 };
        for seen in [[(64, 512), (4, 16)], [(4, 16), (64, 512)]] {
            let mut watch = Watch::default();
            for (largest, limit) in seen {
                watch.see(site, &[1, -largest], limit);
            }
            assert_eq!((watch.overflows(), watch.spare_bits()), (0, 2.0), "{seen:?}");
        }
        let net = Net::head(4).unwrap();
        let spare = |rates: &[u8]| {
            let mut twin = Twin::new(net.clone(), Format::NARROW, State::new(&net, vec![vec![0; net.weights(0)]]));
            for rate in rates {
                let batch = Batch::new(&net, &Format::NARROW, &[15; 4 * BATCH], &[0; BATCH]).unwrap();
                twin.step(batch, *rate, &mut Seeded::new(1));
            }
            assert_eq!(twin.watch.overflows(), 0, "{rates:?}");
            twin.watch.spare_bits()
        };
        let [first, both] = [&[1][..], &[1, 8]].map(spare);
        assert!(first > 0.0 && (both - first).abs() < 0.5, "{first} bits at 2^-1, {both} with a step at 2^-8");
    }

    /// A value out of range is counted, not repaired.
    #[test]
    fn watches_ranges() {
        let (net, format) = (Net::head(4).unwrap(), Format { forward: 12, ..Format::NARROW });
        let mut twin = Twin::new(net.clone(), format, State::new(&net, vec![vec![8191; net.weights(0)]]));
        let labels = [0; BATCH];
        twin.step(Batch::new(&net, &format, &[15; 4 * BATCH], &labels).unwrap(), 4, &mut Seeded::new(1));
        let overflows: Vec<Site> =
            twin.watch.seen().filter(|(_, seen)| seen.overflows > 0).map(|(site, _)| *site).collect();
        assert_eq!(overflows, [Site { value: Value::Output, layer: 0 }]);
    }
}
