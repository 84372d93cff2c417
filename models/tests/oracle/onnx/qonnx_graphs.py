"""QONNX graphs as Brevitas writes them: real numbers with Quant, BipolarQuant, Trunc and MultiThreshold nodes."""

import numpy as np
from onnx import TensorProto

from graphs import QONNX, Graph, window
from runtimes import executor

ROUNDINGS = ["ROUND", "FLOOR", "CEIL", "HALF_UP", "HALF_DOWN", "UP", "DOWN", "HALF_EVEN"]


class Qonnx(Graph):
    """Activations are real numbers that a quantiser made."""

    def __init__(self, rng, shape, powers):
        super().__init__(rng, shape)
        self.shape0 = list(shape)
        self.powers = powers  # scales are powers of two
        self.sigma = 1.0

    def scale(self, value):
        exponent = np.log2(max(value, 1e-6)) + self.rng.uniform(-0.5, 0.5)
        return np.float32(2.0 ** (np.round(exponent) if self.powers else exponent))

    def quant(self, x, sigma, positive=False, zero=0.0):
        """A quantised activation."""
        rng = self.rng
        if self.chance(0.1) and not positive:
            self.sigma = float(self.scale(sigma))
            self.levels = (np.float32(self.sigma), -1, 1)
            return self.node("BipolarQuant", [x, self.constant(np.float32(self.sigma))], domain=QONNX)
        bits = int(rng.integers(1 if positive else 2, 9))
        signed = not positive
        narrow = int(self.chance(0.3)) if bits > 1 else 0
        scale = self.scale(sigma * (2.5 if positive else 4.0) / 2**bits)
        if positive and self.chance(0.2) and bits <= 4:
            return self.multithreshold(x, sigma, bits)
        if signed and self.chance(0.2):
            zero = float(rng.integers(-2, 3))
        op = "IntQuant" if self.chance(0.3) else "Quant"
        rounding = str(rng.choice(ROUNDINGS))
        lo = (-(2 ** (bits - 1)) + narrow) if signed else 0
        hi = (2 ** (bits - 1) - 1) if signed else 2**bits - 1 - narrow
        self.levels = (scale, lo - zero, hi - zero)
        inputs = [x] + [self.constant(np.float32(v)) for v in (scale, zero, bits)]
        self.sigma = sigma
        return self.node(op, inputs, domain=QONNX, signed=int(signed), narrow=narrow, rounding_mode=rounding)

    def multithreshold(self, x, sigma, bits):
        rng = self.rng
        rows = self.shape[0] if self.chance(0.5) else 1
        count = 2**bits - 1
        # Equal steps: others would be no multiplication, shift and clip.
        step = np.array([float(self.scale(sigma * 2.5 / 2**bits)) for _ in range(rows)])
        first = step * rng.integers(-3, 4, rows) / 2
        thresholds = first[:, None] + step[:, None] * np.arange(count)
        scale = float(self.scale(sigma * 2.5 / 2**bits))
        self.levels = (np.float32(scale), 0, count)
        self.sigma = sigma
        inputs = [x, self.constant(thresholds.astype(np.float32))]
        return self.node("MultiThreshold", inputs, domain=QONNX, out_scale=scale, out_bias=0.0, out_dtype=f"UINT{bits}")

    def weights(self, shape, axis):
        """A quantised constant, and its standard deviation."""
        rng = self.rng
        taps = np.prod(shape) / shape[axis]
        values = self.constant(rng.normal(0, 1 / taps**0.5, shape).astype(np.float32))
        sigma = 1 / taps**0.5
        if self.chance(0.15):
            return self.node("BipolarQuant", [values, self.constant(self.scale(sigma))], domain=QONNX)
        bits = int(rng.integers(2, 9))
        narrow = int(self.chance(0.5))
        if self.chance(0.5):
            broadcast = [1] * len(shape)
            broadcast[axis] = shape[axis]
            scale = np.array([self.scale(sigma * 4 / 2**bits) for _ in range(shape[axis])]).reshape(broadcast)
        else:
            scale = self.scale(sigma * 4 / 2**bits)
        inputs = [values, self.constant(scale, np.float32), self.constant(np.float32(0)), self.constant(np.float32(bits))]
        return self.node("Quant", inputs, domain=QONNX, signed=1, narrow=narrow, rounding_mode="ROUND")

    def bias(self, count):
        if self.chance(0.5):
            return []
        return [self.constant(self.rng.normal(0, 0.3 * self.sigma, count).astype(np.float32))]

    def after(self, y, final=False):
        """Batch normalisation, an activation, a quantiser."""
        rng = self.rng
        channels = self.shape[0]
        if self.chance(0.4) and not self.powers:
            numbers = [rng.uniform(0.5, 1.5, channels) * rng.choice([1, 1, 1, -1], channels)]
            numbers += [rng.normal(0, 0.3, channels), rng.normal(0, 0.3, channels), rng.uniform(0.5, 1.5, channels)]
            y = self.node("BatchNormalization", [y] + [self.constant(v.astype(np.float32)) for v in numbers])
        elif self.chance(0.3):
            factor = rng.uniform(0.5, 1.5, [channels] + [1] * (len(self.shape) - 1)).astype(np.float32)
            y = self.node(str(rng.choice(["Mul", "Div"])), [y, self.constant(factor)])
        positive = self.chance(0.6)
        if positive:
            y = self.node("Relu", [y])
        self.x = self.quant(y, self.sigma, positive)

    def conv(self):
        channels = self.shape[0]
        groups = int(self.rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
        out = groups * int(self.rng.integers(1, 1 + max(1, 6 // groups)))
        attributes, size = window(self)
        kernel = attributes["kernel_shape"]
        w = self.weights([out, channels // groups, *kernel], 0)
        y = self.node("Conv", [self.x, w] + self.bias(out), group=groups, **attributes)
        self.shape = [out, *size]
        self.after(y)

    def max_pool(self):
        attributes, size = window(self, pads=False)
        self.x = self.node("MaxPool", [self.x], **attributes)
        self.shape[1:] = size

    def add(self):
        """A residual between two tensors with one unit."""
        scale, lo, hi = self.levels
        first, bits = self.x, int(self.rng.integers(2, 7))
        inputs = [self.constant(np.float32(v)) for v in (scale, 0, bits)]
        channels = self.shape[0]
        w = self.weights([channels, channels, 1, 1], 0)
        y = self.node("Conv", [self.x, w], kernel_shape=[1, 1])
        y = self.node("Quant", [y] + inputs, domain=QONNX, signed=1, narrow=0, rounding_mode="ROUND")
        self.x = self.quant(self.node("Add", [first, y]), 1.4 * self.sigma)

    def residual(self):
        """A multiple of a tensor, added to products and a bias that nothing has quantised."""
        rng, channels, unit = self.rng, self.shape[0], np.float64(self.levels[0])
        bits = int(rng.integers(2, 7))
        scale = np.float64(self.scale((9 * channels) ** -0.5 * 4 / 2**bits))
        values = self.constant(rng.normal(0, scale * 2**bits / 4, [channels, channels, 3, 3]).astype(np.float32))
        numbers = [self.constant(np.float32(v)) for v in (scale, 0, bits)]
        w = self.node("Quant", [values, *numbers], domain=QONNX, signed=1, narrow=1, rounding_mode="ROUND")
        bias = self.constant((rng.integers(-9, 10, channels) * unit * scale).astype(np.float32))
        if self.chance(0.5):
            numbers = [self.constant(np.float32(v)) for v in (unit * scale, 0, 32)]
            bias = self.node("Quant", [bias, *numbers], domain=QONNX, signed=1, narrow=0, rounding_mode="ROUND")
        y = self.node("Conv", [self.x, w, bias], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = self.node("Mul", [self.x, self.constant(np.float32(scale * rng.integers(1, 60)))])
        self.after(self.node("Add", [x, y] if self.chance(0.5) else [y, x]))

    def mean(self):
        """An average pool that nothing quantises, before a convolution."""
        if self.shape[1] < 2 or self.shape[2] < 2:
            return
        self.x = self.node("AveragePool", [self.x], kernel_shape=[2, 2], strides=[2, 2])
        if self.chance(0.5):
            self.x = self.node("Mul", [self.x, self.constant(np.float32(self.rng.choice([4, 0.5, 3])))])
        self.shape[1:] = [self.shape[1] // 2, self.shape[2] // 2]
        self.conv()

    def average(self):
        """An average pool and its Trunc, as Brevitas' TruncAvgPool: the sum's low bits are cut off."""
        scale, lo, hi = self.levels
        if self.shape[1] < 2 or self.shape[2] < 2 or lo == -1:
            return
        y = self.node("AveragePool", [self.x], kernel_shape=[2, 2], strides=[2, 2])
        y = self.node("Mul", [y, self.constant(np.float32(4))])
        bits = int(np.ceil(np.log2(max(hi, -lo) + 1))) + (1 if lo < 0 else 0)
        rounding = str(self.rng.choice(["FLOOR", "ROUND"]))
        numbers = [scale, 0, bits + 2, np.float32(4 * scale), bits]
        inputs = [y] + [self.constant(np.float32(v)) for v in numbers]
        self.x = self.node("Trunc", inputs, domain=QONNX, rounding_mode=rounding, signed=int(lo < 0), narrow=0)
        self.levels = (np.float32(4 * scale), lo, hi)
        self.shape[1:] = [self.shape[1] // 2, self.shape[2] // 2]

    def flatten(self):
        if len(self.shape) > 1:
            self.x = self.node("Flatten", [self.x], axis=1)
            self.shape = [int(np.prod(self.shape))]

    def dense(self):
        outputs = int(self.rng.integers(2, 8))
        if self.chance(0.5):
            w = self.weights([outputs, self.shape[0]], 0)
            y = self.node("Gemm", [self.x, w] + self.bias(outputs), transB=1)
        else:
            w = self.node("Transpose", [self.weights([outputs, self.shape[0]], 0)], perm=[1, 0])
            y = self.node("MatMul", [self.x, w])
            if self.chance(0.5):
                y = self.node("Add", [y, self.constant(self.rng.normal(0, 0.3, outputs).astype(np.float32))])
        self.shape = [outputs]
        self.after(y)


def run(rng, samples, powers=True):
    """A graph, and its inputs and outputs."""
    shape = [int(rng.integers(1, 4)), int(rng.integers(4, 9)), int(rng.integers(4, 9))]
    graph = Qonnx(rng, shape, powers)
    bits = int(rng.integers(2, 9))
    signed = int(graph.chance(0.5))
    first = graph.scale(4 / 2**bits)
    numbers = [graph.constant(np.float32(v)) for v in (first, 0, bits)]
    graph.x = graph.node("Quant", ["input"] + numbers, domain=QONNX, signed=signed, narrow=0, rounding_mode="ROUND")
    low = -(2 ** (bits - 1)) if signed else 0
    graph.levels = (first, low, low + 2**bits - 1)
    graph.conv()
    for _ in range(int(rng.integers(1, 4))):
        getattr(graph, str(rng.choice(["conv", "conv", "max_pool", "add", "residual", "mean", "average"])))()
    graph.flatten()
    graph.dense()
    if graph.chance(0.5):
        graph.dense()
    model = graph.model(TensorProto.FLOAT, TensorProto.FLOAT)
    execute = executor(model)
    inputs, outputs = [], []
    for _ in range(samples):
        q = rng.integers(low, low + 2**bits, [1] + shape)
        feed = q.astype(np.float32) * first
        y = execute(feed.astype(np.float32))
        inputs.append(q.flatten().tolist())
        unit = np.float64(graph.levels[0])
        outputs.append(np.round(y.flatten().astype(np.float64) / unit).astype(int).tolist())
    return model, {"inputs": inputs, "outputs": outputs, "exact": True}
