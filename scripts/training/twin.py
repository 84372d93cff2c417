"""Training on shares, the plaintext twin: given the same coins, a secure run has the same weights bit for bit.

    python3 twin.py DATA --net A --epochs 1            # DATA: folder with the four MNIST .gz files
    python3 twin.py DATA --net A --float               # the same network, order and start in float32
    python3 twin.py DATA --net A --steps 50 --shares   # every truncation and extension done by two parties
    python3 twin.py DATA --net A --parts random        # samples of both parties, half of them each: batches of one owner each
    python3 twin.py --selftest                         # the two local protocols, every share of small rings

NOTATION. A value x is an integer that stands for x / 2^f; a *width* is the ring Z_{2^ell} its shares live in. Four f's:
    fx  activations (pixels: fin)         fw  weights inside a product
    fm  master weights and momentum      fd  gradients of activations (delta)
and a width for each product: ell_f (X W), ell_x (delta W^T), ell_w (X^T delta); ell_m for the masters.

TRUNCATION IS LOCAL, its coin is the low half of the client's share. With c + v = x (mod 2^ell) and coin = c mod 2^s
    (c >> s) + ((v - 1) >> s) + 1  =  floor(x / 2^s) + [coin < x mod 2^s]   (mod 2^(ell-s))                          (T)
so nothing is sent, nothing fails, the mean is exactly x / 2^s (the coin is uniform: it is half of a fresh sharing) and the
result lives in the *smaller* ring ell - s. Written with the coin, and this is the definition of right,
    y = floor((x + 2^s - 1 - coin) / 2^s)                                                                           (Y)
A lattice product leaves its guard bit: the two cross terms give c + v = 2z + r1 + r2, each r in {0, 1} and decided by the
noise. They go with the low bits: the server subtracts 1, the mean of r1 + r2 (a random bit where there is one cross term: a
constant left in would push every weight the same way at every step), and (T) drops s + 1 bits of ell + 1. With
rho = r1 + r2 - 1 that is (Y) for coin = 2^s - 1 - floor((rho + 2^(s+1) - 1 - (c mod 2^(s+1))) / 2), which lies in -1 .. 2^s:
exact for every noise, and r1, r2 can be read off the parities of the two pairs of shares.

EXTENSION from width r to width e costs one OLE of e - r bits and needs |y| < 2^(r-2): add 2^(r-2), the sum has top bit 0,
so its wrap is msb_c OR msb_v. Out of range is the only failure there is; the twin counts it (`overflow`) and it must stay 0.
After a ReLU y >= 0 and y < 2^(r-1) is enough, so the sign test may use the whole ring.

A STEP, batch of 128, lr = 2^-j, momentum 29/32 (a row of ones carries the bias; * marks an extension, S a sign test):
    wq  = T(w, fm - fw)                  ell_m - (fm - fw) >= ell_f, ell_x: no extension
    z   = T(X wq, fx + fw - fx')         X' = S relu(z) *        the bit is kept
    u   = max(z) - z,  t = T(u, fx' - GRID),  e = S [t < 2^TBITS] EXP[t],  rho = RECIP[T(sum e - 1)],  p = T(e rho) *
    d   = p - onehot,                    d' = bit * T(d wq^T, fd + fw - fd') *
    g   = T(X^T d, fx + fd + 7 + j - fm) *,   v = v - T(3 v, 5)* + g,   w = w - v
A convolution is a dense layer on patches, and d wq^T is summed over the patches of an input before it is rounded. After a max pool d'
goes to the first of the largest values of a window.
"""
import argparse
import dataclasses
import gzip
import hashlib
import sys

import numpy as np

GRID, TBITS, EBITS, RBITS, SBITS = 3, 6, 10, 12, 4      # exp: 2^TBITS entries, step 2^-GRID; 1/S: step 2^-SBITS
EXP = np.rint(2.0 ** EBITS * np.exp(-np.arange(1 << TBITS) / 2.0 ** GRID)).astype(np.int64)    # e^0 .. e^-7.875, then 0
RECIP = np.rint(2.0 ** RBITS / (1 + np.arange(9 * (1 << SBITS) + 2) / 2.0 ** SBITS)).astype(np.int64)   # 1/S, 1 <= S <= 10
BATCH = 128
KERNEL = 5                                              # of all convolutions


@dataclasses.dataclass(frozen=True)
class Layer:
    """Dense; or, with a side, a convolution of maps of side x side, one dense layer on every patch, then a max pool of pool x pool.
    Values of maps come position after position, those of its channels together; so do the KERNEL x KERNEL inputs of a patch."""
    inputs: int
    outputs: int
    side: int = 0
    stride: int = 1
    padding: tuple = (0, 0)                             # rows above and below, columns before and after
    pool: int = 1

    def columns(self, x):
        """A row for each patch of each sample."""
        if not self.side:
            return x
        p = self.padded(x.dtype, len(x))
        p[:, self.inner, self.inner] = x.reshape(len(x), self.side, self.side, -1)
        patches = np.lib.stride_tricks.sliding_window_view(p, (KERNEL, KERNEL), axis=(1, 2))[:, ::self.stride, ::self.stride]
        return np.moveaxis(patches, 3, 5).reshape(-1, self.inputs)

    def uncolumns(self, d):
        """The transpose of columns: to each input the sum of what its places in patches have."""
        if not self.side:
            return d
        o = (self.side + sum(self.padding) - KERNEL) // self.stride + 1
        d = d.reshape(-1, o, o, KERNEL, KERNEL, self.inputs // KERNEL ** 2)
        p = self.padded(d.dtype, len(d))
        for y in range(KERNEL):
            for x in range(KERNEL):
                p[:, y:y + o * self.stride:self.stride, x:x + o * self.stride:self.stride] += d[:, :, :, y, x]
        return p[:, self.inner, self.inner].reshape(len(d), -1)

    @property
    def inner(self):
        return slice(self.padding[0], self.padding[0] + self.side)

    def padded(self, dtype, count):
        side = self.side + sum(self.padding)
        return np.zeros((count, side, side, self.inputs // KERNEL ** 2), dtype)

    def windows(self, z, count):
        """The values of each window of the pool, last of all: (count, windows, channels, pool^2)."""
        side = int(np.sqrt(len(z) // count)) // self.pool
        z = z.reshape(count, side, self.pool, side, self.pool, self.outputs)
        return z.transpose(0, 1, 3, 5, 2, 4).reshape(count, side * side, self.outputs, -1)

    def unwindows(self, w):
        count, side = len(w), int(np.sqrt(w.shape[1]))
        w = w.reshape(count, side, side, self.outputs, self.pool, self.pool)
        return w.transpose(0, 1, 4, 2, 5, 3).reshape(-1, self.outputs)


NETS = {"A": [Layer(784, 128), Layer(128, 128), Layer(128, 10)],
        "C": [Layer(25, 20, 28, pool=2), Layer(500, 50, 12, pool=2), Layer(800, 500), Layer(500, 10)],
        "D": [Layer(25, 5, 28, 2, (1, 2)), Layer(980, 100), Layer(100, 10)],
        "head": [Layer(784, 10)]}


# ---------------------------------------------------------------------------------------------------- two parties
def trunc_two(c, v, ell, s):
    """(T): shares mod 2^ell to shares mod 2^(ell-s); each line is one party's own work."""
    mask = (1 << (ell - s)) - 1
    return (c >> s) & mask, ((((v - 1) % (1 << ell)) >> s) + 1) & mask


def extend_two(c, v, r, e, offset=True):
    """Width r to width e. The OR of the two top bits is the OLE; here it is computed in the open."""
    off = 1 << (r - 2) if offset else 0
    v = (v + off) % (1 << r)
    wrap = (c >> (r - 1)) | (v >> (r - 1))
    return c, (v - (wrap << r) - off) % (1 << e)


def guarded(c, rho, s):
    """The coin of a truncation that takes the guard bits along."""
    return (1 << s) - 1 - ((rho + (2 << s) - 1 - c % (2 << s)) >> 1)


def selftest():
    for ell, s in [(6, 1), (6, 2), (7, 3), (8, 4)]:
        x, c = np.meshgrid(np.arange(-(1 << (ell - 1)), 1 << (ell - 1)), np.arange(1 << ell))
        yc, yv = trunc_two(c, (x - c) % (1 << ell), ell, s)
        assert np.all((yc + yv - ((x + (1 << s) - 1 - c % (1 << s)) >> s)) % (1 << (ell - s)) == 0)
        z, c, rho = np.meshgrid(np.arange(-(1 << (ell - 1)), 1 << (ell - 1)), np.arange(2 << ell), np.arange(-1, 2))
        yc, yv = trunc_two(c, (2 * z + rho - c) % (2 << ell), ell + 1, s + 1)           # what two lattice products leave
        assert np.all((yc + yv - ((z + (1 << s) - 1 - guarded(c, rho, s)) >> s)) % (1 << (ell - s)) == 0)
    for r, e in [(5, 9), (6, 7), (7, 12)]:
        for lo, hi, off in [(-(1 << (r - 2)), 1 << (r - 2), True), (0, 1 << (r - 1), False)]:
            y, c = np.meshgrid(np.arange(lo, hi), np.arange(1 << r))
            a, b = extend_two(c, (y - c) % (1 << r), r, e, off)
            assert np.all((a + b - y) % (1 << e) == 0)
    print("selftest: truncation (with and without guard bit) and extension are exact for every pair of shares")


# ---------------------------------------------------------------------------------------------------- the arithmetic
class Twin:
    """Signed representatives of ring elements, the coins, and a record of every range."""
    def __init__(self, seed, shares=False, replay=None, record=None):
        self.rng, self.shares = np.random.default_rng(seed), shares
        self.replay = np.fromfile(replay, dtype="<i4") if replay else None  # coins in the order in which they are used
        self.record = open(record, "wb") if record else None
        self.top, self.overflow, self.quiet = {}, {}, False

    def see(self, name, x, limit):
        """|x| < limit or the secure run would go wrong here."""
        if not self.quiet:
            m = max(int(x.max()), -int(x.min()))
            self.top[name] = max(self.top.get(name, (0, limit)), (m, limit), key=lambda seen: seen[0] / seen[1])
            if m >= limit:
                self.overflow[name] = self.overflow.get(name, 0) + int(np.sum(np.abs(x) >= limit))

    def trunc(self, name, x, s, ell, signed=True, lattice=False):
        """(Y) on a value of width ell, result of width ell - s, in a range from which it can be extended (signed), or
        whose sign can be tested (signed=False)."""
        if s <= 0:
            self.see(name, x, 1 << (ell - 2 if signed else ell - 1))
            return x << -s
        if self.quiet:                                                      # evaluation: nearest
            return (x + (1 << (s - 1))) >> s
        limit = 1 << (ell - s - (2 if signed else 1))
        if self.shares:
            if lattice:                                                     # two cross terms, each with its guard bit
                first = self.rng.integers(0, 1 << ell, x.shape, dtype=np.int64)
                c, v, rho = 0, -1, -1
                for term in (first, x - first):
                    r, ct = self.rng.integers(0, 2, x.shape), self.rng.integers(0, 2 << ell, x.shape, dtype=np.int64)
                    c, v, rho = c + ct, v + 2 * term + r - ct, rho + r
                coin = guarded(c, rho, s)
                yc, yv = trunc_two(c % (2 << ell), v % (2 << ell), ell + 1, s + 1)
            else:
                c = self.rng.integers(0, 1 << ell, x.shape, dtype=np.int64)
                coin = c % (1 << s)
                yc, yv = trunc_two(c, (x - c) % (1 << ell), ell, s)
            if signed:
                yc, yv = extend_two(yc, yv, ell - s, 48)
            e = 48 if signed else ell - s
            got = ((yc + yv + (1 << (e - 1))) % (1 << e)) - (1 << (e - 1))
        elif self.replay is not None:
            coin, self.replay = self.replay[:x.size].reshape(x.shape).astype(np.int64), self.replay[x.size:]
        else:
            coin = self.rng.integers(0, 1 << s, x.shape, dtype=np.int64)
        if self.record:
            coin.astype("<i4").tofile(self.record)
        y = (x + ((1 << s) - 1) - coin) >> s
        if self.shares:
            assert np.array_equal(y, got), f"{name}: shares and twin differ"
        self.see(name, y, limit)
        return y


def matmul(a, b):
    """Exact: float64 holds every partial sum below 2^53, and the widths keep it there."""
    return np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def ones(x, one):
    return np.concatenate([x, np.full((len(x), 1), one, x.dtype)], axis=1)


def rectified(layer, z, count, last):
    """The outputs of a layer, and through which values gradients go back: the first of the largest of a window, if it is not negative."""
    if layer.pool > 1:
        w = layer.windows(z, count)
        first = w.argmax(axis=3)
        z = np.take_along_axis(w, first[..., None], axis=3)[..., 0]
        return np.maximum(z, 0), (np.arange(w.shape[3]) == first[..., None]) & (z >= 0)[..., None]
    return (z if last else np.maximum(z, 0)), z >= 0


def passed_back(layer, d, passed):
    """Gradients of the outputs of a layer before pool and rectifier, from those after."""
    if layer.pool > 1:
        return layer.unwindows(d.reshape(passed.shape[:3])[..., None] * passed)
    return d.reshape(passed.shape) * passed


class Net:
    def __init__(self, a, twin):
        self.a, self.t, self.layers = a, twin, NETS[a.net]
        rng = np.random.default_rng(a.seed + 1)
        self.w = []
        for layer in self.layers:                                           # He, uniform; biases start at zero
            k, n = layer.inputs, layer.outputs
            w = rng.uniform(-1, 1, (k + 1, n)) * np.sqrt(6 / k)
            w[-1] = 0
            self.w.append(np.rint(w * 2 ** a.fm).astype(np.int64))
        self.v = [np.zeros_like(w) for w in self.w]
        each = lambda v: v * len(self.layers) if len(v) == 1 else v
        self.fx = [a.fin] + [a.fx] * (len(self.layers) - 1) + [a.fz]        # of every layer's input, then of the logits
        self.fd, self.ell_f, self.ell_x, self.ell_w = map(each, (a.fd, a.ell_f, a.ell_x, a.ell_w))
        assert a.ell_m - (a.fm - a.fw) >= max(self.ell_f + self.ell_x), "the weights of the products would need an extension"

    def forward(self, images, wq):
        a, keep, x = self.a, [], (images.astype(np.int64) + (128 >> self.a.fin)) >> (8 - self.a.fin)
        for i, layer in enumerate(self.layers):
            x = ones(layer.columns(x), 1 << self.fx[i])
            s = self.fx[i] + a.fw - self.fx[i + 1]
            last = i == len(self.layers) - 1
            z = self.t.trunc(f"{i} z", matmul(x, wq[i]), s, self.ell_f[i], signed=False, lattice=True)
            if layer.pool > 1:                                              # games are played in the ring of z
                w = layer.windows(z, len(images))
                if not self.t.quiet:
                    self.t.see(f"{i} pool", w.max(axis=3) - w.min(axis=3), 1 << (self.ell_f[i] - s - 1))
            z, passed = rectified(layer, z, len(images), last)
            keep.append((x, passed))
            x = z.reshape(len(images), -1)
        return keep, x

    def softmax(self, z):
        a, t = self.a, self.t
        width = self.ell_f[-1] - (self.fx[-2] + a.fw - a.fz)                       # of the logits
        u = z.max(axis=1, keepdims=True) - z
        t.see("u", u, 1 << (width - 1))
        i = t.trunc("u on the grid", u, a.fz - GRID, width, signed=False)
        e = np.where(i < len(EXP), EXP[i % len(EXP)], 0)
        total = e.sum(axis=1, keepdims=True)
        rho = RECIP[t.trunc("sum", total - (1 << EBITS), EBITS - SBITS, EBITS + 6)]
        return t.trunc("p", e * rho, EBITS + RBITS - self.fd[-1], EBITS + RBITS + 3)

    def quantised(self):
        return [self.t.trunc(f"{i} w", w, self.a.fm - self.a.fw, self.a.ell_m) for i, w in enumerate(self.w)]

    def step(self, images, labels):
        a, t = self.a, self.t
        wq = self.quantised()
        keep, z = self.forward(images, wq)
        p = self.softmax(z)
        d = p - (np.eye(10, dtype=np.int64)[labels] << self.fd[-1])
        for i in reversed(range(len(self.layers))):
            x, _ = keep[i]
            s = self.fx[i] + self.fd[i] + 7 + self.lr - a.fm
            g = t.trunc(f"{i} dW", matmul(x.T, d), s, self.ell_w[i], lattice=True)
            if i:
                back = self.layers[i].uncolumns(matmul(d, wq[i][:-1].T))
                back = t.trunc(f"{i} dX", back, self.fd[i] + a.fw - self.fd[i - 1], self.ell_x[i], lattice=True)
                d = passed_back(self.layers[i - 1], back, keep[i - 1][1])
            self.v[i] = self.v[i] - t.trunc(f"{i} 3v", 3 * self.v[i], 5, a.ell_m) + g
            self.w[i] = self.w[i] - self.v[i]
        return -np.log(np.maximum(p[np.arange(len(p)), labels], 1) / 2.0 ** self.fd[-1]).mean()

    def classify(self, images):
        self.t.quiet = True
        wq = self.quantised()
        out = np.concatenate([self.forward(images[i:i + 1000], wq)[1] for i in range(0, len(images), 1000)])
        self.t.quiet = False
        return out.argmax(axis=1)


class Float:
    """The yardstick: same start, order and learning rate, momentum 0.9, true softmax, float32."""
    def __init__(self, a, twin):
        n = Net(a, twin)
        self.a, self.layers = a, n.layers
        self.w = [(w / 2.0 ** a.fm).astype(np.float32) for w in n.w]
        self.v = [np.zeros_like(w) for w in self.w]

    def forward(self, images):
        keep, x = [], images.astype(np.float32) / 256
        for i, layer in enumerate(self.layers):
            x = ones(layer.columns(x), 1)
            z, passed = rectified(layer, x @ self.w[i], len(images), i == len(self.layers) - 1)
            keep.append((x, passed))
            x = z.reshape(len(images), -1)
        return keep, x

    def step(self, images, labels):
        keep, z = self.forward(images)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        d = p - np.eye(10, dtype=np.float32)[labels]
        for i in reversed(range(len(self.layers))):
            g = keep[i][0].T @ d * np.float32(2.0 ** (-7 - self.lr))
            if i:
                d = passed_back(self.layers[i - 1], self.layers[i].uncolumns(d @ self.w[i][:-1].T), keep[i - 1][1])
            self.v[i] = np.float32(0.9) * self.v[i] + g
            self.w[i] = self.w[i] - self.v[i]
        return -np.log(np.maximum(p[np.arange(len(p)), labels], 1e-9)).mean()

    def classify(self, images):
        return np.concatenate([self.forward(images[i:i + 1000])[1] for i in range(0, len(images), 1000)]).argmax(axis=1)


# ---------------------------------------------------------------------------------------------------- the run
def mnist(folder, part):
    read = lambda f: np.frombuffer(gzip.open(f"{folder}/{part}-{f}-ubyte.gz").read(), np.uint8)
    return read("images-idx3")[16:].reshape(-1, 784), read("labels-idx1")[8:].astype(np.int64)


def interleaved(client, server):
    """The batches of an epoch from those of each party: step i is the client's where floor((i + 1) B_c / B) > floor(i B_c / B)."""
    total = len(client) + len(server)
    for i in range(total):
        before = i * len(client) // total
        yield client[before] if (i + 1) * len(client) // total > before else server[i - before]


def batches(parts, order):
    """The full batches of an epoch; every party goes through its own samples in an order of its own."""
    own = []
    for part in parts:
        perm = part[order.permutation(len(part))]
        own.append([perm[b:b + BATCH] for b in range(0, len(part) - BATCH + 1, BATCH)])
    return own[0] if len(own) == 1 else interleaved(*own)


def parts_of(labels, how, seed):
    """Whose the samples are."""
    everything = np.arange(len(labels))
    if how == "one":
        return [everything]
    if how == "classes":
        return [everything[labels < 5], everything[labels >= 5]]
    mixed = np.random.default_rng(seed + 3).permutation(len(labels))
    if how == "client":
        return [mixed[:len(labels) // 2]]
    return [mixed[:len(labels) // 2], mixed[len(labels) // 2:]]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("data", nargs="?")
    p.add_argument("--net", choices=NETS, default="A")
    for name, default in dict(epochs=1, steps=0, seed=1, fin=4, fx=3, fz=4, fw=6, fm=13, ell_m=25).items():
        p.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    for name, default in dict(fd=5, ell_f=18, ell_x=18, ell_w=19).items():
        p.add_argument("--" + name.replace("_", "-"), type=int, nargs="+", default=[default], help="one, or one per layer")
    p.add_argument("--lr", type=int, nargs="+", default=[4], help="j of the rate 2^-j, one per epoch, the last one stays")
    p.add_argument("--parts", choices=("one", "random", "classes", "client"), default="one",
                   help="whose the samples are: one party's, half of them each at random, or classes 0-4 and 5-9; client: its half alone")
    for name in ("float", "shares", "selftest"):
        p.add_argument("--" + name, action="store_true")
    for name in ("coins", "record", "save"):
        p.add_argument("--" + name, help="file: coins to replay / to write (i32, little endian, in order of use) / weights")
    a = p.parse_args()
    if a.selftest:
        return selftest()
    train, labels = mnist(a.data, "train")
    test, truth = mnist(a.data, "t10k")
    twin = Twin(a.seed, a.shares, a.coins, a.record)
    net = (Float if a.float else Net)(a, twin)
    order, done, parts = np.random.default_rng(a.seed + 2), 0, parts_of(labels, a.parts, a.seed)
    for epoch in range(a.epochs):
        loss, net.lr = [], a.lr[min(epoch, len(a.lr) - 1)]
        for pick in batches(parts, order):
            loss.append(net.step(train[pick], labels[pick]))
            done += 1
            if done == a.steps:
                break
        hit = 100 * np.mean(net.classify(test) == truth)
        print(f"epoch {epoch + 1}: steps {done}, loss {np.mean(loss[-100:]):.4f}, test {hit:.2f} %, "
              f"overflow {sum(twin.overflow.values())}", flush=True)
        if done == a.steps:
            break
    if not a.float:
        for name, (m, limit) in sorted(twin.top.items()):
            bad = f"   OUT OF RANGE {twin.overflow[name]} times" if name in twin.overflow else ""
            print(f"  {name:14} largest 2^{np.log2(max(m, 1)):5.2f}  allowed 2^{np.log2(limit):.0f}{bad}")
        print("  weights", hashlib.sha256(b"".join(w.astype("<i8").tobytes() for w in net.w)).hexdigest()[:16])
    if a.save:
        np.savez(a.save, *net.w)


if __name__ == "__main__":
    sys.exit(main())
