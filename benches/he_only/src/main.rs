//! Homomorphic encryption alone, beside which our own figures stand: networks with squares for activations, evaluated under BFV by the crate
//! `fhe`, at several widths of their integers; and the bundled digits under programmable bootstrapping by `tfhe`.
//!
//!     cargo bench -p lowkey-he-only -- [--quick | --plan] [--only TEXT]
//!
//! Decrypted logits are compared with the integer network's, bit for bit, and the noise that is left is asserted. `fhe` has never been
//! audited, by its own account: it is good for a comparison, and nothing in the product uses it. `--quick` computes one in
//! sixteen of a batch's results and multiplies the times; single images are always evaluated in full. Images are MNIST's where
//! `LOWKEY_DATA` names a folder with mnist/, and random otherwise: times do not depend on them. Rows of the table: README.md here.
//!
//! `cargo test -p lowkey-he-only --bench he_only` evaluates the narrowest network once.

mod batched;
mod bootstrapped;
mod network;
mod ops;
mod packed;
mod parameters;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lowkey_models::{Input, Inputs, zoo};
use rand_0_9::rngs::StdRng;
use rand_0_9::{Rng, SeedableRng};

use network::Network;
use ops::Cost;
use parameters::{Choice, Layout};

/// Images that are evaluated one by one, and slots of a batch that are compared.
const SINGLE: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let only = arguments.iter().position(|argument| argument == "--only").and_then(|at| arguments.get(at + 1));
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only.as_str()));
    // Without it: `cargo test`.
    if !named("--bench") {
        check();
        return;
    }
    println!("{HEADER}");
    for path in files() {
        let network = Network::read(&path);
        if !wanted(&network.name) {
        } else if named("--plan") {
            for layout in [Layout::Packed, Layout::Batched] {
                print(&network, &Choice::of(&network, layout), None);
            }
        } else {
            measure(&network, named("--quick"));
        }
    }
    if wanted("digits") && !named("--plan") {
        digits(!named("--quick"));
    }
}

/// One of the bundled images.
fn digits(whole: bool) {
    let network = zoo::find("digits").expect("a bundled network").network();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/zoo/digits-images.npy");
    let inputs = Inputs::read(file, &network.architecture().input).expect("bundled images");
    let cost = bootstrapped::run(&network, &inputs.get(0).expect("an image"), whole);
    println!(
        "digits under tfhe: {} bootstraps{}, client {}, server {}, {} up, {} down, keys {}",
        cost.bootstraps,
        if cost.whole { "" } else { " (80 measured)" },
        time(cost.client),
        time(cost.server),
        bytes(cost.up),
        bytes(cost.down),
        bytes(cost.keys),
    );
}

const HEADER: &str = "network                       accuracy  logit  layout         t      N        q  levels    \
    client    server  per image        up      down      keys  noise left";

fn check() {
    let path = files().into_iter().find(|path| path.ends_with("mnist-hcnn-square-w2.safetensors")).expect("a model");
    let network = Network::read(&path);
    let images = images(&network, 1);
    let choice = Choice::of(&network, Layout::Packed);
    let cost = packed::run(&network, &choice, &images);
    println!("{HEADER}");
    print(&network, &choice, Some(&cost));
    // More would be words that nobody needs: the comparison would not be fair to BFV.
    assert!(cost.budget < 16.0, "{:.0} bits of noise are left", cost.budget);
}

fn measure(network: &Network, quick: bool) {
    let choice = Choice::of(network, Layout::Packed);
    let single = packed::run(network, &choice, &images(network, SINGLE));
    print(network, &choice, Some(&single));
    let choice = Choice::of(network, Layout::Batched);
    let images = images(network, choice.degree);
    let checked = [0, 1, choice.degree / 2, choice.degree - 1];
    let batch = batched::run(network, &choice, &images, &checked, if quick { 16 } else { 1 });
    print(network, &choice, Some(&batch));
}

/// A row; without a cost only what was chosen.
fn print(network: &Network, choice: &Choice, cost: Option<&Cost>) {
    let images = if choice.layout == Layout::Batched { choice.degree } else { 1 };
    print!(
        "{:<28} {:>7.2} %  {:>5}  {:<7}  {:>7}  {:>5}  {:>7}  {:<8}",
        network.name,
        100.0 * network.accuracy,
        network.bound().bits() + 1,
        if images == 1 { "single" } else { "batched" },
        format!("{} x {:.0}", choice.plain.len(), choice.plain_bits().ceil()),
        choice.degree,
        format!("{} x {}", choice.words, choice.word),
        choice.words_left().map(|words| words.to_string()).join("/"),
    );
    let Some(cost) = cost else {
        println!();
        return;
    };
    let client = cost.encrypt + cost.decrypt;
    println!(
        "  {:>8}  {:>8}  {:>9}  {:>8}  {:>8}  {:>8}  {}",
        time(client),
        time(cost.evaluate),
        time((client + cost.evaluate) / images as u32),
        bytes(cost.up),
        bytes(cost.down),
        bytes(cost.relinearisation + cost.galois),
        if cost.budget.is_finite() { format!("{:.0} bits", cost.budget) } else { "one in 16".to_owned() },
    );
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 10.0 => format!("{seconds:.0} s"),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.1} ms", seconds * 1e3),
    }
}

fn bytes(bytes: usize) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.2} GB", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} kB", bytes / 1e3),
    }
}

/// The networks, by family and width.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the networks lie beside the benchmark")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    let width = |path: &Path| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let (family, width) =
            name.rsplit_once("-w").map(|(family, width)| (family.to_owned(), width.parse::<u32>())).expect("a width");
        (family, width.expect("a width"))
    };
    files.sort_by_key(|path| width(path));
    files
}

/// Pixels of up to `count` images, as the network reads them.
fn images(network: &Network, count: usize) -> Vec<Vec<i64>> {
    let input = Input { shape: [1, 28, 28], bits: network.pixel_bits, zero_point: 0, pixels: None, coding: None };
    if let Some(folder) = std::env::var_os("LOWKEY_DATA") {
        let file = Path::new(&folder).join("mnist/t10k-images-idx3-ubyte.gz");
        if file.exists() {
            let inputs = Inputs::read(&file, &input).expect("MNIST's test images");
            return inputs.stored().take(count).map(|y| y.iter().map(|&y| i64::from(y)).collect()).collect();
        }
    }
    let mut rng = StdRng::seed_from_u64(1);
    (0..count.min(16)).map(|_| (0..784).map(|_| rng.random_range(0..1 << network.pixel_bits)).collect()).collect()
}
