"""The data sets: the digits that ship inside scikit-learn, and MNIST from the folder that LOWKEY_DATA names."""

import gzip
import math
import os
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

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


def mnist():
    """(training images, labels, test images, labels): [B, 1, 28, 28] of 0..255."""
    if "LOWKEY_DATA" not in os.environ:
        sys.exit("LOWKEY_DATA must name the folder that holds mnist/ with the four .gz files of MNIST")
    folder = pathlib.Path(os.environ["LOWKEY_DATA"]) / "mnist"
    parts = []
    for part in ("train", "t10k"):
        images = idx(folder / f"{part}-images-idx3-ubyte.gz").astype(np.float32)
        labels = idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
        parts += [torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)]
    return parts


def idx(path):
    """The array of an IDX file of bytes."""
    data = gzip.open(path).read()
    shape = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def four_bits(pixels):
    """Pixels of 0..255 as the network reads them: the top four bits."""
    return torch.floor(pixels / 16)


def distorted(images, *, pixels):
    """Each image turned by up to 10 degrees, scaled by up to a tenth and moved by up to `pixels`."""
    count = len(images)
    turn = (torch.rand(count) * 2 - 1) * math.radians(10)
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.1
    move = (torch.rand(count, 2) * 2 - 1) * 2 * pixels / images.shape[-1]
    cos, sin = scale * turn.cos(), scale * turn.sin()
    rows = torch.stack([torch.stack([cos, -sin, move[:, 0]], 1), torch.stack([sin, cos, move[:, 1]], 1)], 1)
    return F.grid_sample(images, F.affine_grid(rows, images.shape, align_corners=False), align_corners=False)


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
