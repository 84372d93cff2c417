//! Random and damaged bytes into every decoder: an error or a value, never a panic, never much memory.
//!
//! LOWKEY_FUZZ_SECONDS bounds the time (default 5, all decoders together), LOWKEY_SEED repeats a run (as far as time allows),
//! LOWKEY_FUZZ_ONLY names one decoder, LOWKEY_FUZZ_CORPUS a folder for the valid inputs that the fuzz targets start from.

#[path = "../fuzz/src/lib.rs"]
mod decoders;

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use decoders::Decoder;
use lowkey::Error;
use lowkey::plan::PlanError;
use lowkey::publication::read_plan;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Counts what is allocated, by all threads.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size(), Ordering::Relaxed);
        // SAFETY: as required of our caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size(), Ordering::Relaxed);
        // SAFETY: as required of our caller.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as required of our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What went wrong with one input.
#[derive(Debug, PartialEq)]
enum Failure {
    Panic,
    Memory { mib: usize },
}

/// Runs one input.
fn attempt(decoder: &Decoder, bytes: &[u8]) -> Result<(), Failure> {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    catch_unwind(AssertUnwindSafe(|| (decoder.run)(bytes))).map_err(|_| Failure::Panic)?;
    let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    let allowed = (decoder.memory << 20) + 64 * bytes.len();
    if taken > allowed { Err(Failure::Memory { mib: taken >> 20 }) } else { Ok(()) }
}

/// Numbers that limits are about.
const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "8",
    "63",
    "64",
    "65",
    "255",
    "4096",
    "65536",
    "16777216",
    "2147483648",
    "18446744073709551615",
    "-1",
];

/// A damaged copy of an input, some of it from another.
fn damage(rng: &mut ChaCha20Rng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..=3) {
        let len = bytes.len();
        let at = rng.random_range(0..=len);
        let run = rng.random_range(0..=(len - at).min(40));
        match rng.random_range(0..10) {
            0 if len > 0 => bytes[at.min(len - 1)] ^= 1 << rng.random_range(0..8),
            1 if len > 0 => bytes[at.min(len - 1)] = *[0, 1, 0x7f, 0x80, 0xff].get(run % 5).expect("five"),
            2 => bytes.truncate(at),
            3 => bytes.extend((0..run).map(|_| rng.next_u32() as u8)),
            4 => drop(bytes.drain(at..at + run)),
            5 => {
                let copy = bytes[at..at + run].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            6 => {
                let from = rng.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            7 if len >= 4 => {
                let value = [0, 1, len as u32, u32::MAX, 1 << 31, 1 << rng.random_range(0..32)][run % 6];
                let at = at.min(len - 4);
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            // A number of a text.
            _ => {
                let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|i| at + i) else { continue };
                let end = bytes[start..].iter().position(|b| !b.is_ascii_digit()).map_or(len, |i| start + i);
                let number = NUMBERS[rng.random_range(0..NUMBERS.len())];
                drop(bytes.splice(start..end, number.bytes()));
            }
        }
    }
    bytes
}

fn random(rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..200)];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Tries inputs for a while; returns how many were tried, and the first that failed.
fn search(
    decoder: &Decoder,
    seeds: &[Vec<u8>],
    time: Duration,
    rng: &mut ChaCha20Rng,
) -> (u64, Option<(Failure, Vec<u8>)>) {
    let clock = Instant::now();
    let mut tried = 0;
    while tried < 3 || clock.elapsed() < time {
        let [one, other] = [(); 2].map(|()| &seeds[rng.random_range(0..seeds.len())]);
        let bytes = if rng.random_range(0..10) == 0 { random(rng) } else { damage(rng, one, other) };
        tried += 1;
        if let Err(failure) = attempt(decoder, &bytes) {
            return (tried, Some((failure, bytes)));
        }
    }
    (tried, None)
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn keep_corpus(decoder: &Decoder, seeds: &[Vec<u8>]) {
    if let Some(folder) = std::env::var_os("LOWKEY_FUZZ_CORPUS") {
        let folder = Path::new(&folder).join(decoder.name);
        std::fs::create_dir_all(&folder).expect("a folder for the corpus");
        for (index, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{index}")), seed).expect("a file of the corpus");
        }
    }
}

/// One test, so that no other allocates meanwhile.
#[test]
fn no_decoder_panics_or_takes_much_memory() {
    let seed = number("LOWKEY_SEED").unwrap_or_else(rand::random);
    let seconds: f64 = number("LOWKEY_FUZZ_SECONDS").unwrap_or(5.0);
    println!("LOWKEY_SEED={seed}");
    the_search_finds_faults();
    large_plans_are_refused_for_their_size();
    let only = std::env::var("LOWKEY_FUZZ_ONLY").ok();
    let chosen: Vec<&Decoder> =
        decoders::ALL.iter().filter(|decoder| only.as_ref().is_none_or(|only| only == decoder.name)).collect();
    for decoder in &chosen {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let seeds = (decoder.seeds)();
        keep_corpus(decoder, &seeds);
        // What is made once must not count.
        seeds.iter().for_each(|seed| decoders::run(decoder.name, seed));
        for seed in &seeds {
            assert_eq!(attempt(decoder, seed), Ok(()), "{}: a valid input", decoder.name);
        }
        let time = Duration::from_secs_f64(seconds / chosen.len() as f64);
        let (tried, failed) = search(decoder, &seeds, time, &mut rng);
        println!("{}: {tried} inputs", decoder.name);
        if let Some((failure, bytes)) = failed {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("decoder-{}", decoder.name));
            std::fs::write(&path, &bytes).expect("the input is kept");
            panic!("{}, LOWKEY_SEED={seed}, input {}: {failure:?}", decoder.name, path.display());
        }
    }
}

/// The texts are plans but for their size.
fn large_plans_are_refused_for_their_size() {
    for text in decoders::large_plans() {
        let error = read_plan(&text, 0).expect_err("refused");
        let text = String::from_utf8_lossy(&text);
        assert!(matches!(error, Error::Refused(PlanError::TooLarge { .. })), "{error}: {text}");
    }
}

/// Decoders that are wrong: one believes a length, one trusts an index.
fn the_search_finds_faults() {
    fn believes(bytes: &[u8]) {
        if let Some((length, _)) = bytes.split_first_chunk::<4>() {
            drop(vec![1u8; u32::from_le_bytes(*length) as usize % (1 << 28)]);
        }
    }
    fn trusts(bytes: &[u8]) {
        let _ = bytes.first().map(|&index| bytes[usize::from(index)]);
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut found = |run: fn(&[u8])| {
        let decoder = Decoder { name: "wrong", run, seeds: Vec::new, memory: 1 };
        search(&decoder, &[vec![4, 0, 0, 0, 1, 2, 3, 4]], Duration::from_secs(5), &mut rng).1
    };
    let failures = [found(believes), found(trusts)].map(|found| found.map(|(failure, _)| failure));
    std::panic::set_hook(hook);
    assert!(matches!(failures, [Some(Failure::Memory { .. }), Some(Failure::Panic)]), "{failures:?}");
}
