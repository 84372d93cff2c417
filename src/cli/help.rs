//! What `--help` says after the options: examples, and how the command ends.

/// Which program this is: version, protocol, and the commit where it was built in a repository.
pub fn version() -> String {
    let commit = option_env!("LOWKEY_COMMIT").filter(|commit| !commit.is_empty());
    let commit = commit.map(|commit| format!(", commit {commit}")).unwrap_or_default();
    format!("{} (protocol {}{commit})", env!("CARGO_PKG_VERSION"), lowkey::session::VERSION)
}

/// Examples and exit codes.
macro_rules! examples {
    ($($line:literal),+) => {
        concat!("Examples:\n", $("  ", $line, "\n",)+ "\n", exit_codes!())
    };
}

pub const ALL: &str = exit_codes!();
pub const DEMO: &str =
    examples!("lowkey demo", "lowkey demo --count 100 --schedule direct", "lowkey demo --json | head -1");
pub const IMPORT: &str = examples!(
    "lowkey import mine.onnx                                      a report alone",
    "lowkey import mine.onnx -o mine.lowkey --pixel-scale 1/255",
    "lowkey import net.tflite -o net.lowkey --rounding xnnpack --classes names.txt"
);
pub const QUANTISE: &str = concat!(
    "\
Units and shifts are chosen by images of the training part of --data
(train-images-idx3-ubyte, train or train.zip), or of the test part where there
is no other. --data may be an .npy file of inputs as well: then there are no
labels, and the classes before and after are compared.

",
    examples!(
        "lowkey quantise float.onnx --data mnist                      a report alone",
        "lowkey quantise digits --bits 3                              on bundled images",
        "lowkey quantise float.onnx --data mnist --bits 6 -o six.lowkey",
        "lowkey quantise net.onnx --data photos --mean 0.5 --std 0.25 -o net.lowkey",
        "lowkey quantise a.lowkey --keep --rings calibrated --data mnist -o b.lowkey"
    )
);
pub const DISTORT: &str = examples!(
    "lowkey distort digits -o digits.json                         on bundled images",
    "lowkey distort mine.lowkey --data mnist -o mine.json",
    "lowkey distort mine.lowkey --data mnist --count 1000 --fewer 1 -o mine.json"
);
pub const OPTIMISE: &str = examples!(
    "lowkey optimise digits --distortion digits.json --budget 90%",
    "lowkey optimise m.lowkey --distortion m.json --budget 2MB -o less.lowkey",
    "lowkey optimise m.lowkey --distortion m.json --budget 0.75 --link metered"
);
pub const SERVE: &str = examples!(
    "lowkey serve --model digits                                  on loopback",
    "lowkey serve --model m.lowkey --listen 0.0.0.0:7117 --cert C.pem --key K.pem",
    "lowkey serve --model mine.onnx --reveal class --quota 100",
    "lowkey serve --model digits --model small=mine.lowkey        several, by name",
    "lowkey serve --guard --model digits --cert C.pem --key K.pem --client-ca A"
);
pub const INFER: &str = examples!(
    "lowkey infer --server 127.0.0.1:7117 --input image.png",
    "lowkey infer --server host:7117 --input many.npy --count 9 --prepare 4",
    "lowkey infer --server host:7117 --model small --input image.png",
    "lowkey infer --server host:7117 --ca ca.pem --input photo.jpg --resize --all",
    "lowkey infer --server 127.0.0.1:7117 --input - < image.png",
    "lowkey infer --guard --server host:7117 --ca A --cert C --key K --input i.png"
);
pub const TRAIN: &str = examples!(
    "lowkey train --listen 127.0.0.1:7118 --net A -o a.lowkey     the model owner",
    "lowkey train --server 127.0.0.1:7118 --net A --data mnist    the data owner",
    "lowkey train --server host:7118 --data mnist --checkpoint s --resume",
    "lowkey train --plan --net D                            bytes and flights alone"
);
pub const FORGET: &str = examples!("lowkey forget host:7117", "lowkey forget host:7117 --model small");
pub const MODELS: &str =
    examples!("lowkey models --link wan", "lowkey models --plot bytes.svg", "lowkey models --server 127.0.0.1:7117");
pub const PLAN: &str = concat!(
    "\
Columns: sums, the bits of the smallest ring that holds every sum of a layer;
ring, the bits it is computed in; lattice, log2 of the torus and the degree;
wire, the bits of an input on its way; noise, how much of the noise that it may
have a layer has (100 % is still safe); activations, the numbers that it hands
on; offline and online, bytes before and after there is an input. A flight is a
message that must arrive before the next one is sent; the hint is the public
part of the model, which a client fetches once. Seconds and memory are estimates
for a machine of 2 cores; bytes and flights are exact.

",
    examples!(
        "lowkey plan digits",
        "lowkey plan mine.onnx --link wan",
        "lowkey plan digits --guard",
        "lowkey plan mnist-minionn-w4a4 --compare 2,4,8"
    )
);
pub const PARAMETERS: &str = examples!("lowkey parameters", "lowkey parameters --json");
pub const EVAL: &str = examples!(
    "lowkey eval --model digits                             on the bundled images",
    "lowkey eval --model mine.lowkey --data test.zip --resize --private 20",
    "LOWKEY_DATA=~/data lowkey eval --model mnist-minionn-w4a4"
);
pub const KEY_SHOW: &str = examples!("lowkey key show", "lowkey key show --state /var/lib/lowkey --json");
pub const KEY_ROTATE: &str = examples!("lowkey key rotate", "lowkey key rotate --wipe");
pub const KEY: &str = examples!("lowkey key show", "lowkey key rotate", "lowkey key rotate --wipe");
pub const GUARD_LIST: &str = examples!("lowkey guard list", "lowkey guard list --state /var/lib/lowkey --json");
pub const GUARD_PARDON: &str = examples!("lowkey guard pardon alice");
pub const GUARD: &str = examples!("lowkey guard list", "lowkey guard pardon alice");
pub const BENCH: &str = examples!(
    "lowkey bench widths --zoo digits --count 20",
    "lowkey bench widths --zoo mnist-minionn --data ~/data/mnist --out widths",
    "lowkey bench serve --clients 32 --count 20"
);
pub const BENCH_WIDTHS: &str = examples!(
    "lowkey bench widths --zoo digits --count 20",
    "lowkey bench widths --zoo cifar --data ~/data/cifar10 --shape wan --out widths",
    "lowkey bench widths --redraw --out widths"
);
pub const BENCH_SERVE: &str = examples!(
    "lowkey bench serve --clients 32 --count 20",
    "lowkey bench serve --server host:7117 --pin HASH --model mine.lowkey"
);
pub const COMPLETIONS: &str = examples!(
    "lowkey completions bash > ~/.local/share/bash-completion/completions/lowkey",
    "lowkey completions zsh > ~/.zfunc/_lowkey"
);
pub const MAN: &str = examples!("lowkey man ~/.local/share/man/man1");
