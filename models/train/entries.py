"""The zoo's entries: an architecture, widths, and how long each is trained."""

from dataclasses import dataclass, replace

from . import architectures


@dataclass(frozen=True)
class Entry:
    """One network of the zoo."""

    name: str
    data: str
    """"digits", "mnist" or "cifar10"."""
    architecture: str
    """What the card calls it; networks with the same one and the same input share the floating-point network."""
    layers: list
    input_bits: int
    weight_bits: int
    activation_bits: list
    """One per layer but the last."""
    accumulator_bits: list
    """One per layer: what training keeps every reachable accumulator within."""
    epochs: tuple
    """In floating point and in integers."""


def widths(entry, table):
    """One entry for each row of `table`: width of weights and activations to (width of the input, accumulator bits)."""
    for bits, (input_bits, accumulators) in table.items():
        yield replace(
            entry,
            name=f"{entry.name}-w{bits}a{bits}",
            input_bits=input_bits,
            weight_bits=bits,
            activation_bits=[bits] * (len(entry.layers) - 1),
            accumulator_bits=accumulators,
        )


def template(name, data, architecture, layers, epochs):
    return Entry(name, data, architecture, layers, 0, 0, [], [], epochs)


def resnet20(bits, accumulators):
    layers = architectures.CIFAR_RESNET20
    # The last activations are summed over the image: two bits of each are enough, and the sum stays small.
    activations = [bits] * (len(layers) - 2) + [2]
    name = f"cifar10-resnet20-w{bits}a{bits}"
    architecture = "ResNet-20 (He et al. 2016), 1x1 convolutions where a skip changes shape, sums for the last average"
    return Entry(name, "cifar10", architecture, layers, 5, bits, activations, accumulators, (18, 10))


ENTRIES = [
    Entry("digits", "digits", "digits", architectures.DIGITS, 4, 4, [4, 4], [9, 10, 10], (60, 120)),
    *widths(
        template("mnist-minionn", "mnist", "MiniONN (Liu et al. 2017)", architectures.MNIST_MINIONN, (10, 15)),
        {
            1: (1, [6, 9, 9, 8]),
            2: (2, [7, 8, 8, 8]),
            3: (3, [8, 9, 9, 9]),
            4: (4, [9, 11, 11, 11]),
            6: (4, [12, 14, 14, 14]),
            8: (4, [14, 17, 17, 17]),
        },
    ),
    *widths(
        template("mnist-hcnn", "mnist", "HCNN (Badawi et al. 2018), ReLU for squares", architectures.MNIST_HCNN, (15, 20)),
        {
            1: (1, [6, 8, 10]),
            2: (2, [7, 8, 9]),
            3: (3, [8, 9, 10]),
            4: (4, [9, 11, 11]),
            6: (4, [12, 14, 15]),
            8: (4, [14, 17, 18]),
        },
    ),
    *widths(
        template("mnist-cryptonets", "mnist", "like CryptoNets, ReLU for squares", architectures.MNIST_CRYPTONETS, (15, 20)),
        {
            1: (1, [6, 10, 8]),
            2: (2, [7, 8, 8]),
            3: (3, [8, 9, 9]),
            4: (4, [9, 11, 11]),
            6: (4, [12, 14, 14]),
            8: (4, [14, 17, 17]),
        },
    ),
    *widths(
        template("cifar10-minionn", "cifar10", "MiniONN (Liu et al. 2017)", architectures.CIFAR_MINIONN, (9, 6)),
        {
            2: (5, [9, 10, 10, 10, 10, 7, 7, 11]),
            3: (5, [10, 11, 11, 11, 11, 9, 9, 12]),
            4: (5, [11, 13, 13, 13, 13, 11, 11, 14]),
        },
    ),
    resnet20(2, [9] + [8, 9] * 3 + [9, 10] * 3 + [10, 11] * 3 + [13]),
    resnet20(4, [11] + [12, 13] * 3 + [13, 14] * 3 + [13, 14] * 3 + [14]),
]
