//! The networks that come with this crate, and inputs to try them on.
//!
//! | names | what |
//! |---|---|
//! | `digits` | 8x8 handwritten digits, convolutions, max pools, 4-bit weights and activations |
//! | `mnist-minionn-w{b}a{b}` | MNIST, the architecture of MiniONN, weights and activations of b bits |
//! | `mnist-hcnn-w{b}a{b}` | MNIST, that of HCNN, likewise |
//! | `mnist-cryptonets-w{b}a{b}` | MNIST, like that of CryptoNets, likewise |
//! | `cifar10-resnet20-w{b}a{b}` | CIFAR-10, ResNet-20, likewise |
//!
//! [`ALL`] has the widths that are there. `models/zoo/<name>.md` says how each was trained (`python3 -m train <name>`) and what it reaches.
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
    card: &'static str,
    demo: Option<[&'static [u8]; 2]>,
}

/// How many images of a test set a network gets right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accuracy {
    /// Right.
    pub right: usize,
    /// All.
    pub images: usize,
}

impl Accuracy {
    /// Percent.
    pub fn percent(self) -> f64 {
        100.0 * self.right as f64 / self.images as f64
    }
}

/// Inputs with their labels.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The inputs.
    pub inputs: Inputs,
    /// The label of each.
    pub labels: Vec<u8>,
}

/// A network without demo inputs.
macro_rules! bundled {
    ($name:literal) => {
        Bundled {
            name: $name,
            file: include_bytes!(concat!("../zoo/", $name, ".lowkey")),
            card: include_str!(concat!("../zoo/", $name, ".md")),
            demo: None,
        }
    };
}

/// All bundled networks.
pub const ALL: &[Bundled] = &[
    Bundled {
        demo: Some([include_bytes!("../zoo/digits-images.npy"), include_bytes!("../zoo/digits-labels.npy")]),
        ..bundled!("digits")
    },
    bundled!("mnist-cryptonets-w1a1"),
    bundled!("mnist-cryptonets-w2a2"),
    bundled!("mnist-cryptonets-w3a3"),
    bundled!("mnist-cryptonets-w4a4"),
    bundled!("mnist-cryptonets-w6a6"),
    bundled!("mnist-cryptonets-w8a8"),
    bundled!("mnist-hcnn-w1a1"),
    bundled!("mnist-hcnn-w2a2"),
    bundled!("mnist-hcnn-w3a3"),
    bundled!("mnist-hcnn-w4a4"),
    bundled!("mnist-hcnn-w6a6"),
    bundled!("mnist-hcnn-w8a8"),
    bundled!("mnist-minionn-w1a1"),
    bundled!("mnist-minionn-w2a2"),
    bundled!("mnist-minionn-w3a3"),
    bundled!("mnist-minionn-w4a4"),
    bundled!("mnist-minionn-w6a6"),
    bundled!("mnist-minionn-w8a8"),
    bundled!("cifar10-minionn-w2a2"),
    bundled!("cifar10-minionn-w3a3"),
    bundled!("cifar10-minionn-w4a4"),
    bundled!("cifar10-resnet20-w2a2"),
    bundled!("cifar10-resnet20-w4a4"),
];

/// The bundled network of that name.
pub fn find(name: &str) -> Option<Bundled> {
    ALL.iter().copied().find(|bundled| bundled.name == name)
}

impl Bundled {
    /// The network.
    pub fn network(&self) -> Network {
        Network::from_bytes(self.file).expect("a bundled model is valid")
    }

    /// What it reaches on its test set, as its card says.
    pub fn accuracy(&self) -> Accuracy {
        let row = self.card.lines().find_map(|line| line.strip_prefix("| accuracy, integer network |"));
        let counts = row.and_then(|row| row.split_once('(')?.1.split_once(')')?.0.split_once(" of "));
        let (right, images) = counts.expect("a card says how many images are right");
        let number = |text: &str| text.parse().expect("a card counts images in digits");
        Accuracy { right: number(right), images: number(images) }
    }

    /// Percent of the same test set that the floating-point network is right about, from which the integer network was trained; as its
    /// card says.
    pub fn float_percent(&self) -> f64 {
        let row = self
            .card
            .lines()
            .find_map(|line| line.strip_prefix("| accuracy, floating-point network it started from |"));
        let percent = row.and_then(|row| row.split_once('%')?.0.trim().parse().ok());
        percent.expect("a card says what the floating-point network reaches")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_says_what_its_network_reaches() {
        for bundled in ALL {
            let accuracy = bundled.accuracy();
            assert!(accuracy.right < accuracy.images && accuracy.percent() > 70.0, "{}: {accuracy:?}", bundled.name);
            assert!((80.0..100.0).contains(&bundled.float_percent()), "{}: {}", bundled.name, bundled.float_percent());
        }
        assert_eq!(find("digits").unwrap().accuracy(), Accuracy { right: 357, images: 360 });
    }
}
