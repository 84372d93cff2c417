//! Names of architectures, and what others need for them.

/// "mnist-hcnn" of "mnist-hcnn-w2a2".
pub fn family(network: &str) -> &str {
    network.rsplit_once("-w").map_or(network, |(family, _)| family)
}

/// The 2 of "mnist-hcnn-w2a2"; `digits` has four bits.
pub fn width(name: &str) -> u32 {
    name.rsplit_once('a').and_then(|(_, bits)| bits.parse().ok()).unwrap_or(4)
}

/// For people.
pub fn title(family: &str) -> &str {
    match family {
        "mnist-cryptonets" => "MNIST, like CryptoNets",
        "mnist-hcnn" => "MNIST, HCNN",
        "mnist-minionn" => "MNIST, MiniONN",
        "cifar10-minionn" => "CIFAR-10, MiniONN",
        "cifar10-resnet20" => "CIFAR-10, ResNet-20",
        other => other,
    }
}

/// Bytes of an inference of the network in fixed point by SecretFlow SPU 0.9.5 with Cheetah, both directions, after a first one
/// that sets up: benches/README.md has what else was measured.
pub fn peer(family: &str) -> Option<f64> {
    match family {
        "mnist-cryptonets" => Some(1.66e6),
        "mnist-minionn" => Some(4.06e6),
        "cifar10-minionn" => Some(28.7e6),
        "cifar10-resnet20" => Some(37.5e6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_widths_are_read_from_names() {
        assert_eq!(["mnist-hcnn-w2a2", "cifar10-resnet20-w4a4", "digits"].map(width), [2, 4, 4]);
        assert_eq!(["mnist-hcnn-w2a2", "digits"].map(family), ["mnist-hcnn", "digits"]);
    }
}
