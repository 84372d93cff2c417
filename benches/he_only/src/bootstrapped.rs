//! The bundled digits, ReLU and all, under programmable bootstrapping: every number is a ciphertext of its own, sums are free, and whatever
//! is not linear is a look-up during a bootstrap (Chillotti et al., "TFHE", 2020). `tfhe`'s core alone, which is in the tree already.
//!
//! A sum z of P signed bits stands at 2^(63 - P) of the torus, a bit of padding above it. y = clamp(z >> s, 0, top) takes s + 1
//! bootstraps: the low bits are looked up one after the other (moved to the top, where a bit needs no precision) and taken off, then the
//! other P - s are looked up at once, as Concrete does it. max(a, b) = b + relu(a - b) takes one.
//!
//! Parameters: `V1_0_PARAM_MESSAGE_2_CARRY_3_KS_PBS_GAUSSIAN_2M128` of `tfhe` 1.8, 128 bits of security, 5 bits and padding. The second
//! layer looks up 6 bits: boxes of 32 steps each way at a deviation of 6.5, so one look-up in 10^6 is off by one. Its technique
//! against drift is left out. The answer is compared with the integer network's.

use std::time::{Duration, Instant};

use lowkey_models::{Network, Op, Tensor, Term, Window};
use ndarray::{Array3, Axis};
use rayon::prelude::*;
use tfhe::core_crypto::prelude::*;

const SMALL: LweDimension = LweDimension(930);
const SMALL_NOISE: StandardDev = StandardDev(6.782362904013915e-07);
const DEGREE: PolynomialSize = PolynomialSize(4096);
const BIG_NOISE: StandardDev = StandardDev(2.168404344971009e-19);
const BOOTSTRAP: (DecompositionBaseLog, DecompositionLevelCount) =
    (DecompositionBaseLog(15), DecompositionLevelCount(2));
const SWITCH: (DecompositionBaseLog, DecompositionLevelCount) = (DecompositionBaseLog(3), DecompositionLevelCount(6));

/// What a look-up sees of its input, in bits, without the padding: those of the parameters.
const LOOKED_UP: u32 = 5;

/// Mask and body.
type Lwe = Vec<u64>;

/// What it costs.
pub struct Cost {
    pub client: Duration,
    pub server: Duration,
    pub bootstraps: usize,
    /// False: a bootstrap was measured and multiplied.
    pub whole: bool,
    pub up: usize,
    pub down: usize,
    pub keys: usize,
}

/// One image. `whole`: all of it, and compared; otherwise a few bootstraps, multiplied.
pub fn run(network: &Network, image: &Tensor, whole: bool) -> Cost {
    let mut client = Client::new();
    let server = Server::new(&mut client);
    let rings = Rings::new(network);
    let start = Instant::now();
    let asked = image.mapv(|x| client.encrypt(x, rings.of_tensor[0]));
    let mut cost = Cost {
        client: start.elapsed(),
        server: Duration::ZERO,
        bootstraps: bootstraps(network),
        whole,
        // Bodies, and a seed for all masks.
        up: 8 * asked.len() + 16,
        down: 0,
        keys: server.key_bytes,
    };
    let classes = network.tensors()[network.architecture().output].shape[0];
    cost.down = classes * 8 * (DEGREE.0 + 1);
    let start = Instant::now();
    if !whole {
        // Sixteen times a pixel, shifted back.
        let ring = rings.of_tensor[0];
        let sums: Vec<Lwe> = asked.iter().take(16).map(|x| x.iter().map(|word| word << 4).collect()).collect();
        let found: Vec<(Lwe, usize)> = sums.par_iter().map(|z| server.requantised(z, ring, 4, 15, ring)).collect();
        let made: usize = found.iter().map(|(_, made)| made).sum();
        cost.server = start.elapsed().mul_f64(cost.bootstraps as f64 / made as f64);
        for ((y, _), &x) in found.iter().zip(image) {
            assert_eq!(client.decrypt(y, ring), x, "a pixel, shifted");
        }
        return cost;
    }
    let (answer, made) = server.evaluate(network, &rings, &asked);
    cost.server = start.elapsed();
    assert_eq!(made, cost.bootstraps);
    let start = Instant::now();
    let found = answer.mapv(|logit| client.decrypt(&logit, rings.last));
    cost.client += start.elapsed();
    assert_eq!(found, network.run(image).expect("an image of this shape"), "the digits under bootstrapping");
    cost
}

/// Where each tensor's numbers stand.
struct Rings {
    /// P of the sums that read it.
    of_tensor: Vec<u32>,
    last: u32,
}

impl Rings {
    fn new(network: &Network) -> Rings {
        let architecture = network.architecture();
        let bounds = network.bounds();
        let mut of_tensor = vec![0; architecture.tensor_count()];
        let mut last = 0;
        for (index, node) in architecture.nodes.iter().enumerate().rev() {
            let ring = match &bounds[index] {
                Some(bounds) => bounds.accumulator_bits(),
                // Pools and orders leave numbers where they are.
                None => of_tensor[index + 1],
            };
            last = last.max(if index + 1 == architecture.output { ring } else { 0 });
            node.op.inputs().into_iter().for_each(|input| of_tensor[input] = ring);
        }
        Rings { of_tensor, last }
    }
}

/// Of one inference.
fn bootstraps(network: &Network) -> usize {
    let elements = |tensor: usize| network.tensors()[tensor].shape.iter().product::<usize>();
    let of_node = |(index, op): (usize, &Op)| match op {
        Op::Requantise { shift, .. } => elements(index + 1) * (shift[0] as usize + 1),
        Op::MaxPool { window, .. } => elements(index + 1) * (window.kernel[0] * window.kernel[1] - 1),
        _ => 0,
    };
    network.architecture().nodes.iter().map(|node| &node.op).enumerate().map(of_node).sum()
}

struct Client {
    secret: SecretRandomGenerator<DefaultRandomGenerator>,
    noise: EncryptionRandomGenerator<DefaultRandomGenerator>,
    key: LweSecretKeyOwned<u64>,
    glwe: GlweSecretKeyOwned<u64>,
}

impl Client {
    fn new() -> Client {
        let mut seeder = new_seeder();
        let mut secret = SecretRandomGenerator::new(seeder.seed());
        let noise = EncryptionRandomGenerator::new(seeder.seed(), seeder.as_mut());
        let glwe = GlweSecretKey::generate_new_binary(GlweDimension(1), DEGREE, &mut secret);
        Client { secret, noise, key: glwe.clone().into_lwe_secret_key(), glwe }
    }

    fn encrypt(&mut self, x: i64, ring: u32) -> Lwe {
        let plain = Plaintext((x as u64) << (63 - ring));
        let distribution = Gaussian::from_dispersion_parameter(BIG_NOISE, 0.0);
        let modulus = CiphertextModulus::new_native();
        allocate_and_encrypt_new_lwe_ciphertext(&self.key, plain, distribution, modulus, &mut self.noise)
            .into_container()
    }

    fn decrypt(&self, ciphertext: &Lwe, ring: u32) -> i64 {
        let view = LweCiphertext::from_container(ciphertext.as_slice(), CiphertextModulus::new_native());
        let half = 1u64 << (62 - ring);
        (decrypt_lwe_ciphertext(&self.key, &view).0.wrapping_add(half) as i64) >> (63 - ring)
    }
}

struct Server {
    switch: LweKeyswitchKeyOwned<u64>,
    bootstrap: FourierLweBootstrapKeyOwned,
    /// As sent: bodies, masks from a seed.
    key_bytes: usize,
}

impl Server {
    fn new(client: &mut Client) -> Server {
        let modulus = CiphertextModulus::new_native();
        let small = LweSecretKey::generate_new_binary(SMALL, &mut client.secret);
        let wide = Gaussian::from_dispersion_parameter(SMALL_NOISE, 0.0);
        let narrow = Gaussian::from_dispersion_parameter(BIG_NOISE, 0.0);
        let switch = allocate_and_generate_new_lwe_keyswitch_key(
            &client.key,
            &small,
            SWITCH.0,
            SWITCH.1,
            wide,
            modulus,
            &mut client.noise,
        );
        let standard = par_allocate_and_generate_new_lwe_bootstrap_key(
            &small,
            &client.glwe,
            BOOTSTRAP.0,
            BOOTSTRAP.1,
            narrow,
            modulus,
            &mut client.noise,
        );
        let mut bootstrap = FourierLweBootstrapKey::new(SMALL, GlweSize(2), DEGREE, BOOTSTRAP.0, BOOTSTRAP.1);
        par_convert_standard_lwe_bootstrap_key_to_fourier(&standard, &mut bootstrap);
        let bodies = DEGREE.0 * SWITCH.1.0 + SMALL.0 * 2 * BOOTSTRAP.1.0 * DEGREE.0;
        Server { switch, bootstrap, key_bytes: 8 * bodies + 32 }
    }

    /// The answer, and how many bootstraps it took.
    fn evaluate(&self, network: &Network, rings: &Rings, asked: &Array3<Lwe>) -> (Array3<Lwe>, usize) {
        let architecture = network.architecture();
        let mut tensors = vec![asked.clone()];
        let mut made = 0;
        for (index, node) in architecture.nodes.iter().enumerate() {
            let [channels, height, width] = network.tensors()[index + 1].shape;
            let ring = rings.of_tensor[index + 1];
            let places: Vec<_> = ndarray::indices((channels, height, width)).into_iter().collect();
            let one = |&at: &(usize, usize, usize)| match &node.op {
                Op::Linear { terms } => {
                    let term = terms.first().expect("a term");
                    (sum(network, index, term, &tensors[term.input()], at, rings.of_tensor[term.input()]), 0)
                }
                Op::Requantise { input, shift, bits, .. } => self.requantised(
                    &tensors[*input][at],
                    rings.of_tensor_sum(network, *input),
                    shift[0],
                    (1 << bits) - 1,
                    ring,
                ),
                Op::MaxPool { input, window } => self.largest(&tensors[*input], window, at, ring),
                Op::Flatten { input } => (tensors[*input].iter().nth(at.0).expect("an element").clone(), 0),
                other => unreachable!("the digits have none of {other:?}"),
            };
            let found: Vec<(Lwe, usize)> = places.par_iter().map(one).collect();
            made += found.iter().map(|(_, made)| made).sum::<usize>();
            let found = found.into_iter().map(|(y, _)| y).collect();
            tensors.push(Array3::from_shape_vec((channels, height, width), found).expect("one for each place"));
        }
        (tensors.swap_remove(architecture.output), made)
    }

    /// clamp(z >> shift, 0, top) at `to`, of a z at `from`; and the bootstraps.
    fn requantised(&self, z: &Lwe, from: u32, shift: u32, top: i64, to: u32) -> (Lwe, usize) {
        let unit = 63 - from;
        let mut z = z.clone();
        for bit in 0..shift {
            // The bit at the top, a quarter added: the middle of either half.
            let mut moved: Lwe = z.iter().map(|word| word << (from - bit)).collect();
            add_plain(&mut moved, 1 << 62);
            let half = 1u64 << (unit + bit) >> 1;
            let constant = PlaintextList::from_container(vec![half; DEGREE.0]);
            let table = allocate_and_trivially_encrypt_new_glwe_ciphertext(
                GlweSize(2),
                &constant,
                CiphertextModulus::new_native(),
            );
            // half for a 0, -half for a 1.
            add(&mut z, &self.bootstrapped(&moved, &table));
            add_plain(&mut z, half.wrapping_neg());
        }
        add_plain(&mut z, 1 << 62);
        let (bits, delta) = (from - shift, 1u64 << (63 - to));
        let look_up = |v: u64| (v as i64 - (1 << (bits - 1))).clamp(0, top) as u64;
        (self.looked_up(&z, bits, delta, look_up), shift as usize + 1)
    }

    /// The largest number of a window.
    fn largest(&self, x: &Array3<Lwe>, window: &Window, at: (usize, usize, usize), ring: u32) -> (Lwe, usize) {
        let (_, height, width) = x.dim();
        let [rows, columns] = window.kernel;
        let taps = (0..rows).flat_map(|row| (0..columns).map(move |column| [row, column]));
        let mut values: Vec<Lwe> = taps
            .filter_map(|tap| window.source([height, width], [at.1, at.2], tap))
            .map(|[row, column]| x[(at.0, row, column)].clone())
            .collect();
        let mut made = 0;
        while values.len() > 1 {
            let larger = |pair: &[Lwe]| {
                let [a, b] = pair else { return pair[0].clone() };
                // a - b, of 4 bits and a sign, 16 added, at 5 bits and padding.
                let mut difference: Lwe = a.iter().zip(b).map(|(a, b)| a.wrapping_sub(*b)).collect();
                difference.iter_mut().for_each(|word| *word <<= ring - LOOKED_UP);
                add_plain(&mut difference, 16 << (63 - LOOKED_UP));
                let look_up = |v: u64| v.saturating_sub(16);
                let mut largest = self.looked_up(&difference, LOOKED_UP, 1 << (63 - ring), look_up);
                add(&mut largest, b);
                largest
            };
            made += values.len() / 2;
            values = values.chunks(2).map(larger).collect();
        }
        (values.remove(0), made)
    }

    /// f(v) delta, of a v of so many bits below the padding.
    fn looked_up(&self, ciphertext: &Lwe, bits: u32, delta: u64, f: impl Fn(u64) -> u64) -> Lwe {
        let modulus = CiphertextModulus::new_native();
        let table = generate_programmable_bootstrap_glwe_lut(DEGREE, GlweSize(2), 1 << bits, modulus, delta, f);
        self.bootstrapped(ciphertext, &table)
    }

    fn bootstrapped(&self, ciphertext: &Lwe, table: &GlweCiphertextOwned<u64>) -> Lwe {
        let modulus = CiphertextModulus::new_native();
        let big = LweCiphertext::from_container(ciphertext.as_slice(), modulus);
        let mut small = LweCiphertext::new(0, SMALL.to_lwe_size(), modulus);
        keyswitch_lwe_ciphertext(&self.switch, &big, &mut small);
        let mut out = LweCiphertext::new(0, LweSize(DEGREE.0 + 1), modulus);
        programmable_bootstrap_lwe_ciphertext(&small, &mut out, table, &self.bootstrap);
        out.into_container()
    }
}

impl Rings {
    /// P of a sum: where its own inputs stand.
    fn of_tensor_sum(&self, network: &Network, tensor: usize) -> u32 {
        self.of_tensor[network.architecture().nodes[tensor - 1].op.inputs()[0]]
    }
}

/// One result of a linear node with one term.
fn sum(network: &Network, node: usize, term: &Term, x: &Array3<Lwe>, at: (usize, usize, usize), ring: u32) -> Lwe {
    let weights = network.weights().linear[node].as_ref().expect("weights");
    let window = match term {
        Term::Conv { window, .. } => *window,
        _ => Window::POINT,
    };
    let array = weights.terms[0].as_ref().expect("a term with weights");
    let (_, height, width) = x.dim();
    let mut z = vec![0u64; DEGREE.0 + 1];
    add_plain(&mut z, (weights.bias[at.0] as u64) << (63 - ring));
    for ((input, row, column), &weight) in array.index_axis(Axis(0), at.0).indexed_iter() {
        if let Some([row, column]) = window.source([height, width], [at.1, at.2], [row, column]) {
            let weight = i64::from(weight) as u64;
            for (z, x) in z.iter_mut().zip(&x[(input, row, column)]) {
                *z = z.wrapping_add(weight.wrapping_mul(*x));
            }
        }
    }
    z
}

fn add(to: &mut Lwe, other: &Lwe) {
    to.iter_mut().zip(other).for_each(|(to, other)| *to = to.wrapping_add(*other));
}

fn add_plain(to: &mut Lwe, plain: u64) {
    let body = to.last_mut().expect("a body");
    *body = body.wrapping_add(plain);
}
