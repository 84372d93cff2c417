"""Writes models/tests/golden/<name>-logits.npy for every model file of the zoo: run `python3 -m train.golden` in models/.

The logits are those of the numpy evaluation on eight made-up inputs, so that the Rust interpreter is checked against a second
one on every network, also on those whose data are not part of the repository. Element k of the inputs, in row-major order of
[8, C, H, W], is ((k * 2654435761 mod 2^32) >> 16) mod 2^bits.
"""

import pathlib

import numpy as np

from .integer import IntegerNet

MODELS = pathlib.Path(__file__).parent.parent


def made_up(shape, bits):
    k = np.arange(8 * np.prod(shape), dtype=np.uint64)
    return ((k * 2654435761 % 2**32 >> 16) % 2**bits).astype(np.int64).reshape(8, *shape)


def write_golden(path, folder):
    """path: a model file; folder: where <name>-logits.npy goes."""
    net = IntegerNet(path)
    folder.mkdir(parents=True, exist_ok=True)
    logits = net(made_up(net.architecture["input"]["shape"], net.architecture["input"]["bits"]))
    np.save(folder / f"{path.stem}-logits.npy", logits)


def main():
    for path in sorted((MODELS / "zoo").glob("*.lowkey")):
        write_golden(path, MODELS / "tests" / "golden")


if __name__ == "__main__":
    main()
