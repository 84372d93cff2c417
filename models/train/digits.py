"""Trains models/zoo/digits.lowkey: run `python3 -m train.digits` in models/."""

import argparse
import pathlib

import numpy as np
import torch

from . import data
from .card import finish
from .fit import accuracy, fit
from .layers import FloatNet
from .quantise import quantised

ZOO = pathlib.Path(__file__).parent.parent / "zoo"
LAYERS = [("conv", 3, 8, 1, 2), ("conv", 3, 16, 1, 2), ("dense", 10)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, nargs=2, default=[60, 120], metavar=("FLOAT", "INTEGER"))
    parser.add_argument("--accumulator-bits", type=int, nargs=3, default=[9, 10, 10])
    parser.add_argument("--zoo", type=pathlib.Path, default=ZOO)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    x, y, x_held, y_held = data.digits()

    batches = data.Batches(x, y, size=32, prepare=lambda images: data.distorted(images, pixels=0.7).round())
    floating = FloatNet((1, 8, 8), LAYERS, input_max=15)
    fit(floating, batches, epochs=options.epochs[0], rate=0.01, label="float")
    float_accuracy = accuracy(floating, x_held, y_held)
    net = quantised(floating, x, weight_bits=4, activation_bits=4, accumulator_bits=options.accumulator_bits)
    fit(net, batches, epochs=options.epochs[1], rate=0.03, teacher=floating, label="integer")

    images = x_held.numpy().astype(np.uint8)
    np.save(options.zoo / "digits-images.npy", images)
    np.save(options.zoo / "digits-labels.npy", y_held.numpy().astype(np.uint8))
    finish(
        net,
        options.zoo,
        name="digits",
        shape=(1, 8, 8),
        classes=[str(digit) for digit in range(10)],
        images=images,
        labels=y_held.numpy(),
        float_accuracy=float_accuracy,
        about=f"8x8 handwritten digits (UCI optdigits, CC BY 4.0, as shipped in scikit-learn); accuracy on the {len(x_held)} held-out images",
        command=f"python3 -m train.digits --seed {options.seed}",
        epochs=options.epochs,
    )


if __name__ == "__main__":
    main()
