//! The networks that come with this crate, and inputs to try them on.
//!
//! | name | what | made by |
//! |---|---|---|
//! | `digits` | 8x8 handwritten digits, convolutions, max pools, 4-bit weights and activations | `models/train/digits.py` |
//! | `mnist-minionn-w4a4` | MNIST with the architecture of MiniONN, 4-bit weights and activations | `models/train/mnist_minionn.py` |
//!
//! `models/zoo/<name>.md` says how each was trained and what it reaches.
//!
//! The demo inputs of `digits` are the 360 images that its training never saw. They are part of "Optical Recognition of
//! Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository (1998), <https://doi.org/10.24432/C50P49>,
//! licensed under CC BY 4.0; the pixel value 16 was clamped to 15.

use crate::data::{Inputs, labels_from_bytes};
use crate::weights::Network;

/// A bundled network.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    /// Its name.
    pub name: &'static str,
    file: &'static [u8],
    demo: Option<[&'static [u8]; 2]>,
}

/// Inputs with their labels.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The inputs.
    pub inputs: Inputs,
    /// The label of each.
    pub labels: Vec<u8>,
}

/// All bundled networks.
pub const ALL: [Bundled; 2] = [
    Bundled {
        name: "digits",
        file: include_bytes!("../zoo/digits.lowkey"),
        demo: Some([include_bytes!("../zoo/digits-images.npy"), include_bytes!("../zoo/digits-labels.npy")]),
    },
    Bundled { name: "mnist-minionn-w4a4", file: include_bytes!("../zoo/mnist-minionn-w4a4.lowkey"), demo: None },
];

/// The bundled network of that name.
pub fn find(name: &str) -> Option<Bundled> {
    ALL.into_iter().find(|bundled| bundled.name == name)
}

impl Bundled {
    /// The network.
    pub fn network(&self) -> Network {
        Network::from_bytes(self.file).expect("a bundled model is valid")
    }

    /// The bytes of its model file.
    pub fn file(&self) -> &'static [u8] {
        self.file
    }

    /// Inputs to try it on, where they may be passed on.
    pub fn demo(&self) -> Option<Demo> {
        let [images, labels] = self.demo?;
        let input = self.network().architecture().input.clone();
        let inputs = Inputs::from_bytes(images, &input).expect("bundled inputs are valid");
        let labels = labels_from_bytes(labels).expect("bundled labels are valid");
        Some(Demo { inputs, labels })
    }
}
