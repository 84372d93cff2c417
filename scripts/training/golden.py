"""Cases that the twin in Rust has to repeat: src/train/golden.txt.   python3 scripts/training/golden.py > src/train/golden.txt

Images, labels, first weights and coins come from SplitMix64, one stream each, so that nothing but digests is kept. A line is the
case, the step, and the SHA-256 of masters and momenta after it: of each layer all masters, then all momenta, as i64, little endian.
Needs numpy.
"""
import argparse
import hashlib

import numpy as np

import twin

GAMMA = 0x9E3779B97F4A7C15
FULL, MAP = 5, 4                                                            # fd of dense layers and of convolutions
CASES = {"tiny": 6, "head": 6, "A": 10, "D": 6, "pools": 6, "C": 2}
twin.NETS |= {"tiny": [twin.Layer(12, 8), twin.Layer(8, 6), twin.Layer(6, 10)], "head": [twin.Layer(64, 10)],
              "pools": [twin.Layer(25, 3, 16, pool=2), twin.Layer(75, 4, 6, padding=(1, 2), pool=5), twin.Layer(4, 10)]}
RATE = 4


class SplitMix:
    """Numbers first, first + 1, ... of the stream of a seed."""
    def __init__(self, seed):
        self.seed, self.first = seed, 1

    def take(self, count):
        i = np.arange(self.first, self.first + count, dtype=np.uint64)
        self.first += count
        with np.errstate(over="ignore"):
            z = np.uint64(self.seed) + i * np.uint64(GAMMA)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def integers(self, low, high, shape, dtype=np.int64):
        """For the twin: low is 0 and high a power of two."""
        return (self.take(int(np.prod(shape))) % np.uint64(high - low)).astype(np.int64).reshape(shape) + low


def main():
    for name, steps in CASES.items():
        layers = twin.NETS[name]
        fd = [MAP if layer.side else FULL for layer in layers]
        a = argparse.Namespace(net=name, seed=1, fin=4, fx=3, fz=4, fw=6, fm=13, ell_m=25, fd=fd, ell_f=[18],
                               ell_x=[18], ell_w=[19])
        tossed = twin.Twin(1)
        net = twin.Net(a, tossed)
        images, labels, weights, tossed.rng = (SplitMix(seed) for seed in (1, 2, 3, 4))
        for w in net.w:                                                     # uniform below 2^(fm - 2), biases zero
            k, n = w.shape
            w[:-1] = weights.integers(0, 1 << (a.fm - 1), (k - 1, n)) - (1 << (a.fm - 2))
            if k > 101:
                w[:-1] >>= 2
            w[-1] = 0
        net.lr = RATE
        for step in range(steps):
            x = images.integers(0, 1 << 16, (twin.BATCH, layers[0].side ** 2 or layers[0].inputs))   # four pixels of five are dark
            x = np.where(x >> 8 < 51, x & 255, 0).astype(np.uint8)
            y = labels.take(twin.BATCH) % np.uint64(10)
            net.step(x, y.astype(np.int64))
            state = b"".join(m.astype("<i8").tobytes() for pair in zip(net.w, net.v) for m in pair)
            print(name, step, hashlib.sha256(state).hexdigest())
        assert not tossed.overflow, tossed.overflow


if __name__ == "__main__":
    main()
