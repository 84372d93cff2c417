"""The data sets: the digits that ship inside scikit-learn, MNIST and CIFAR-10 from the folder that LOWKEY_DATA names."""

import gzip
import math
import os
import pathlib
import sys
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from . import cifar

#: Images of the digits that training never sees: the last ones, in the order of the file.
DIGITS_HELD_OUT = 360


def digits():
    """(training images, labels, held-out images, labels) of the UCI optical digits: [B, 1, 8, 8] of 0..15, 16 being clamped."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = torch.from_numpy(np.minimum(x, 15).astype(np.float32)).view(-1, 1, 8, 8)
    y = torch.from_numpy(y.astype(np.int64))
    split = len(x) - DIGITS_HELD_OUT
    return x[:split], y[:split], x[split:], y[split:]


def folder():
    """The folder that LOWKEY_DATA names."""
    if "LOWKEY_DATA" not in os.environ:
        sys.exit("LOWKEY_DATA must name the folder that holds mnist/ and cifar10/")
    return pathlib.Path(os.environ["LOWKEY_DATA"])


def mnist():
    """(training images, labels, test images, labels): [B, 1, 28, 28] of 0..255."""
    parts = []
    for part in ("train", "t10k"):
        images = idx(folder() / "mnist" / f"{part}-images-idx3-ubyte.gz").astype(np.float32)
        labels = idx(folder() / "mnist" / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
        parts += [torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)]
    return parts


def cifar10():
    """(training images, labels, test images, labels): [B, 3, 32, 32] of bytes."""
    parts = []
    for images, labels in (cifar.train(folder()), cifar.test(folder())):
        parts += [torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))]
    return parts


def idx(path):
    """The array of an IDX file of bytes."""
    data = gzip.open(path).read()
    shape = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def top_bits(pixels, bits):
    """Pixels of 0..255 as the network reads them: the top bits, as floats."""
    return torch.floor(pixels.float() / 2 ** (8 - bits))


def distorted(images, *, pixels):
    """Each image turned by up to 10 degrees, scaled by up to a tenth and moved by up to `pixels`."""
    count = len(images)
    turn = (torch.rand(count) * 2 - 1) * math.radians(10)
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.1
    move = (torch.rand(count, 2) * 2 - 1) * 2 * pixels / images.shape[-1]
    cos, sin = scale * turn.cos(), scale * turn.sin()
    rows = torch.stack([torch.stack([cos, -sin, move[:, 0]], 1), torch.stack([sin, cos, move[:, 1]], 1)], 1)
    return F.grid_sample(images, F.affine_grid(rows, images.shape, align_corners=False), align_corners=False)


def shifted(images):
    """Each image mirrored or not and moved by up to four pixels, black moving in."""
    count, channels, height, width = images.shape
    padded = F.pad(images, [4] * 4)
    rows = torch.randint(0, 9, (count, 1)) + torch.arange(height)
    columns = torch.randint(0, 9, (count, 1)) + torch.arange(width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    every = torch.arange(count)
    return padded[every[:, None, None, None], torch.arange(channels)[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


class Batches:
    """Random batches of (prepared images, labels), in another order each time; what is left over is left out."""

    def __init__(self, images, labels, *, size, prepare):
        self.images, self.labels, self.size, self.prepare = images, labels, size, prepare

    def __len__(self):
        return len(self.images) // self.size

    def __iter__(self):
        order = torch.randperm(len(self.images))
        for i in range(len(self)):
            chosen = order[i * self.size : (i + 1) * self.size]
            yield self.prepare(self.images[chosen]), self.labels[chosen]


@dataclass
class Source:
    """What one network trains on; inputs are prepared, that is integers as floats."""

    batches: Batches
    test: tuple
    """Inputs and labels that training never sees."""
    sample: torch.Tensor
    """Some training inputs without distortion."""
    rate: float
    """The highest rate of the floating-point training."""
    classes: list
    about: str


def digits_source(bits):
    assert bits == 4, "the digits have four bits"
    x, y, *test = digits()
    batches = Batches(x, y, size=32, prepare=lambda images: distorted(images, pixels=0.7).round())
    about = "8x8 handwritten digits (UCI optdigits, CC BY 4.0, as shipped in scikit-learn); accuracy on the 360 held-out images"
    return Source(batches, tuple(test), x, 0.05, [str(digit) for digit in range(10)], about)


def mnist_source(bits):
    x, y, x_test, y_test = mnist()
    batches = Batches(x, y, size=128, prepare=lambda images: top_bits(distorted(images, pixels=2), bits))
    about = f"MNIST; accuracy on the 10,000 test images, pixels cut to {count(bits)}"
    test = top_bits(x_test, bits), y_test
    return Source(batches, test, top_bits(x[:2000], bits), 0.1, [str(digit) for digit in range(10)], about)


def cifar10_source(bits):
    x, y, x_test, y_test = cifar10()

    def prepare(images):
        return top_bits(images, bits).contiguous(memory_format=torch.channels_last)

    batches = Batches(x, y, size=128, prepare=lambda images: prepare(shifted(images)))
    about = f"CIFAR-10; accuracy on the 10,000 test images, pixels cut to {count(bits)}"
    return Source(batches, (prepare(x_test), y_test), prepare(x[::100]), 0.3, cifar.CLASSES, about)


def count(bits):
    return "one bit" if bits == 1 else f"{bits} bits"


#: By name, from the width of the input.
SOURCES = {"digits": digits_source, "mnist": mnist_source, "cifar10": cifar10_source}
