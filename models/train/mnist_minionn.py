"""Trains models/zoo/mnist-minionn-w4a4.lowkey: run `LOWKEY_DATA=<folder> python3 -m train.mnist_minionn` in models/."""

import argparse
import pathlib

import torch

from . import data
from .card import finish
from .fit import accuracy, fit
from .layers import FloatNet
from .quantise import quantised

ZOO = pathlib.Path(__file__).parent.parent / "zoo"
LAYERS = [("conv", 5, 16, 0, 2), ("conv", 5, 16, 0, 2), ("dense", 100), ("dense", 10)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, nargs=2, default=[10, 20], metavar=("FLOAT", "INTEGER"))
    parser.add_argument("--accumulator-bits", type=int, nargs=4, default=[10, 12, 12, 12])
    parser.add_argument("--zoo", type=pathlib.Path, default=ZOO)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    x, y, x_test, y_test = data.mnist()

    batches = data.Batches(x, y, size=128, prepare=lambda images: data.four_bits(data.distorted(images, pixels=2)))
    x_test = data.four_bits(x_test)
    floating = FloatNet((1, 28, 28), LAYERS, input_max=15)
    fit(floating, batches, epochs=options.epochs[0], rate=0.004, label="float")
    float_accuracy = accuracy(floating, x_test, y_test)
    print(f"float: {100 * float_accuracy:.2f} %", flush=True)
    sample = data.four_bits(x[:2000])
    net = quantised(floating, sample, weight_bits=4, activation_bits=4, accumulator_bits=options.accumulator_bits)
    fit(net, batches, epochs=options.epochs[1], rate=0.02, teacher=floating, label="integer")
    finish(
        net,
        options.zoo,
        name="mnist-minionn-w4a4",
        shape=(1, 28, 28),
        classes=[str(digit) for digit in range(10)],
        images=x_test.numpy().astype("uint8"),
        labels=y_test.numpy(),
        float_accuracy=float_accuracy,
        about="MNIST, the architecture of MiniONN (Liu et al. 2017); accuracy on the 10,000 test images, pixels cut to four bits",
        command=f"LOWKEY_DATA=<folder> python3 -m train.mnist_minionn --seed {options.seed}",
        epochs=options.epochs,
    )


if __name__ == "__main__":
    main()
