//! Every byte that is published, and that either party sends, in one table: lengths and digests. A row is a linear layer, a product, a
//! protocol, a network's package or session, or a training, all randomness given.
//!
//! A changed row is a changed protocol: peers and stored packages of before may not understand it, so it needs a new version. The guarded
//! mode has none of its own: until a release has it, its row may change within a version, and CHANGELOG.md says that peers of earlier builds
//! are not understood. A change that is meant is written by
//! `LOWKEY_BLESS=1 cargo test --test digests`, and shows in the commit.

#[path = "digests/layers.rs"]
mod layers;
#[path = "digests/products.rs"]
mod products;
#[path = "digests/protocols.rs"]
mod protocols;
#[path = "digests/sessions.rs"]
mod sessions;
#[path = "digests/training.rs"]
mod training;

mod common;

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/digests/table.txt");

/// How many bytes, and the first 8 bytes of their SHA-256.
#[derive(Clone, Default)]
struct Sum {
    bytes: usize,
    hash: Sha256,
}

impl Sum {
    fn of(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        sum.update(bytes);
        sum
    }

    fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.hash.update(bytes);
    }
}

/// A name, and what is summed up of it.
struct Row {
    name: String,
    sums: Vec<(&'static str, Sum)>,
}

impl Row {
    fn new<const N: usize>(name: impl Into<String>, columns: [&'static str; N], sums: [Sum; N]) -> Self {
        Self { name: name.into(), sums: columns.into_iter().zip(sums).collect() }
    }
}

fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for Row { name, sums } in rows {
        text += name;
        for (column, Sum { bytes, hash }) in sums {
            write!(text, "  {column} {bytes}:{}", hex::encode(&hash.clone().finalize()[..8])).unwrap();
        }
        text.push('\n');
    }
    text
}

/// The lines of one text that the other has not.
fn without<'a>(these: &'a str, those: &str) -> Vec<&'a str> {
    these.lines().filter(|line| !those.lines().any(|other| other == *line)).collect()
}

#[test]
fn every_byte_is_as_it_was() {
    let rows = [layers::rows(), products::rows(), protocols::rows(), sessions::rows(), training::rows()];
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    let found = text(&rows);
    if std::env::var_os("LOWKEY_BLESS").is_some() {
        std::fs::write(TABLE, &found).expect("the source tree");
    }
    let known = std::fs::read_to_string(TABLE).expect("a table");
    let (gone, new) = (without(&known, &found).join("\n"), without(&found, &known).join("\n"));
    assert!(found == known, "`LOWKEY_BLESS=1 cargo test --test digests` writes it. Known:\n{gone}\nfound:\n{new}");
}
