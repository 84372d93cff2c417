"""QDQ and QCDQ graphs as ONNX Runtime's quantiser, torch.onnx and Brevitas write them, and their integer forms."""

import numpy as np
from onnx import TensorProto, numpy_helper

from graphs import MICROSOFT, Graph, scale_near, window
from runtimes import runtime

TYPES = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}


class Qdq(Graph):
    """Activations are integers of one type with a scale and a zero point each."""

    def __init__(self, rng, shape, dtype, operator=False, narrow=None):
        super().__init__(rng, shape)
        self.shape0 = list(shape)
        self.dtype = dtype
        self.operator = operator  # integer operations instead of QDQ
        self.narrow = narrow  # bits of a Clip behind every quantiser
        info = np.iinfo(dtype)
        self.lo, self.hi = info.min, info.max
        self.scale = scale_near(rng, 0.02)
        self.zero = int(rng.integers(self.lo, self.hi + 1)) if self.chance(0.5) else self.lo
        self.start = (self.scale, self.zero)
        self.sigma = 74.0 * float(self.scale)  # of the real values, roughly
        self.pools = True  # whether a pool may stand between a convolution and its quantiser

    def parameters(self, scale, zero):
        return [self.constant(scale, np.float32), self.constant(zero, self.dtype)]

    def quantised(self, x, sigma, positive=False):
        """Q of a real tensor; the new current tensor."""
        levels = 2 ** (self.narrow or 8)
        self.scale = scale_near(self.rng, sigma * (3.0 if positive else 5.0) / levels)
        lo, hi = self.bounds()
        self.zero = lo if positive else int(self.rng.integers(lo + levels // 4, hi - levels // 4 + 1))
        self.x = self.node("QuantizeLinear", [x] + self.parameters(self.scale, self.zero))
        self.sigma = sigma
        if self.narrow:
            self.x = self.node("Clip", [self.x, self.constant(lo, self.dtype), self.constant(hi, self.dtype)])
        return self.x

    def bounds(self):
        if not self.narrow:
            return self.lo, self.hi
        half = 2 ** (self.narrow - 1)
        return (-half, half - 1) if self.dtype == np.int8 else (0, 2 * half - 1)

    def real(self, x=None, scale=None, zero=None):
        """DQ of the current tensor."""
        scale, zero = (self.scale, self.zero) if scale is None else (scale, zero)
        return self.node("DequantizeLinear", [x or self.x] + self.parameters(scale, zero))

    def enter(self):
        """Quantises the graph's input, or takes integers as they are."""
        if not self.operator:
            self.x = self.node("QuantizeLinear", ["input"] + self.parameters(self.scale, self.zero))

    def weights(self, shape, axis, taps):
        """Integers, scales and zero points of weights, and their standard deviation."""
        rng = self.rng
        unsigned = self.dtype == np.uint8 and self.chance(0.3)
        dtype = np.uint8 if unsigned else np.int8
        if self.narrow:
            half = 2 ** (self.narrow - 1)
            ints = rng.integers(-half, half, shape)
            dtype, unsigned = np.int8, False
        else:
            ints = np.clip(np.round(rng.normal(0, 40, shape)), -127, 127).astype(int)
        zero = np.int64(0)
        if unsigned:
            zero = np.int64(rng.integers(100, 150))
            ints = np.clip(ints + zero, 0, 255)
        per_channel = self.chance(0.5)
        sigma = max(float(np.std(ints)), 0.5)
        count = shape[axis]
        scales = np.array([scale_near(rng, 1 / (sigma * taps**0.5)) for _ in range(count)])
        scales = scales.astype(np.float32) if per_channel else scales[0]
        zeros = np.full(count, zero) if per_channel else zero
        return ints.astype(dtype), scales, zeros.astype(dtype)

    def bias(self, count, w_scales, kind):
        unit = np.broadcast_to(np.float32(self.scale) * w_scales, (count,)).astype(np.float32)
        values = self.rng.normal(0, 0.5 * self.sigma, count)
        if kind == "float":
            return self.constant(values.astype(np.float32))
        ints = self.constant(np.round(values / unit).astype(np.int32))
        if self.operator:
            return ints
        unit = unit if np.ndim(w_scales) else unit[0]
        return self.node("DequantizeLinear", [ints, self.constant(unit, np.float32)], axis=0)

    def bias_kind(self):
        return self.rng.choice(["int", "int", "float", "none"]) if not self.operator else self.rng.choice(["int", "none"])

    def output_parameters(self, sigma, positive=False):
        """Scale and zero point of an integer operation's result, now the current ones."""
        self.scale = scale_near(self.rng, sigma * (3.0 if positive else 5.0) / 256)
        self.zero = self.lo if positive else int(self.rng.integers(self.lo + 64, self.hi - 63))
        self.sigma = sigma
        return self.parameters(self.scale, self.zero)

    def answers(self, model, samples):
        """Random inputs, less their zero point, and what the runtime makes of them."""
        session = runtime(model)
        scale, zero = self.start
        inputs, outputs = [], []
        for _ in range(samples):
            q = self.rng.integers(self.lo, self.hi + 1, [1] + self.shape0)
            if self.operator:
                feed = q.astype(self.dtype)
            else:
                feed = ((q - zero).astype(np.float32) * scale).astype(np.float32)
            (y,) = session.run(None, {"input": feed})
            inputs.append((q - zero).flatten().tolist())
            if self.unit is None:
                outputs.append((y.astype(int) - self.zero).flatten().tolist())
            else:
                outputs.append(y.flatten().astype(np.float64).tolist())
        return {"inputs": inputs, "outputs": outputs, "exact": self.unit is None}

    def conv(self):
        channels = self.shape[0]
        groups = int(self.rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
        out = groups * int(self.rng.integers(1, 1 + max(1, 6 // groups)))
        attributes, size = window(self)
        attributes["group"] = groups
        kernel = attributes["kernel_shape"]
        shape = [out, channels // groups, *kernel]
        taps = int(np.prod(shape[1:]))
        ints, scales, zeros = self.weights(shape, 0, taps)
        self.shape = [out, *size]
        self.linear("Conv", ints, scales, zeros, 0, out, attributes)

    def linear(self, op, ints, scales, zeros, axis, outputs, attributes, final=False):
        rng = self.rng
        kind = "none" if op == "MatMul" else self.bias_kind()
        w = [self.constant(ints), self.constant(scales, np.float32), self.constant(zeros)]
        if self.operator:
            x = [self.x] + self.parameters(self.scale, self.zero)
            bias = [self.bias(outputs, scales, kind)] if kind != "none" else []
            name = {"Conv": "QLinearConv", "MatMul": "QLinearMatMul", "Gemm": "QGemm"}[op]
            result = self.output_parameters(self.sigma)
            if name == "QGemm":
                self.x = self.node(name, x + w + (bias or [""]) + result, domain=MICROSOFT, **attributes)
            else:
                self.x = self.node(name, x + w + result + bias, **attributes)
            return
        x = self.real()
        weights = self.node("DequantizeLinear", w, axis=axis)
        bias = [self.bias(outputs, scales, kind)] if kind != "none" else []
        y = self.node(op, [x, weights] + bias, **attributes)
        if op == "MatMul" and self.chance(0.5):
            y = self.node("Add", [y, self.constant(rng.normal(0, 0.5 * self.sigma, outputs).astype(np.float32))])
        if final and np.ndim(scales) == 0 and self.chance(0.6):
            self.x = y
            self.unit = np.broadcast_to(np.float64(self.scale) * scales, (outputs,))
            return
        activation = rng.choice(["none", "relu", "clip"]) if not final else "none"
        self.activation(y, activation)

    def activation(self, y, kind):
        """A Relu or Clip that the quantiser behind it implies, and the quantiser."""
        if kind == "relu":
            y = self.node("Relu", [y])
        elif kind == "clip":
            bound = self.constant(np.float32(0))
            y = self.node("Clip", [y, self.constant(np.float32(0)), bound])
        if self.pools and len(self.shape) == 3 and self.chance(0.15):
            # A pool before the quantiser.
            attributes, size = window(self, pads=False)
            y = self.node("MaxPool", [y], **attributes)
            self.shape[1:] = size
        self.quantised(y, self.sigma, positive=kind != "none")
        if kind == "clip":
            # The largest value that the type can hold.
            most = np.float32(self.scale * np.float32(self.hi - self.zero))
            self.constants = [c for c in self.constants if c.name != bound]
            self.constants.append(numpy_helper.from_array(most, bound))

    def max_pool(self):
        attributes, size = window(self, pads=False)
        if self.operator or self.narrow:
            self.x = self.node("MaxPool", [self.x], **attributes)
        else:
            y = self.node("MaxPool", [self.real()], **attributes)
            self.x = self.node("QuantizeLinear", [y] + self.parameters(self.scale, self.zero))
        self.shape[1:] = size

    def global_average(self):
        if self.operator:
            x = [self.x] + self.parameters(self.scale, self.zero)
            y = self.output_parameters(self.sigma)
            self.x = self.node("QLinearGlobalAveragePool", x + y, domain=MICROSOFT, channels_last=0)
        else:
            self.quantised(self.node("GlobalAveragePool", [self.real()]), self.sigma)
        self.shape[1:] = [1, 1]

    def average(self):
        attributes, size = window(self, pads=False, dilation=False)
        attributes.pop("dilations")
        if self.operator:
            x = [self.x] + self.parameters(self.scale, self.zero)
            self.x = self.node("QLinearAveragePool", x + self.output_parameters(self.sigma), domain=MICROSOFT, **attributes)
        else:
            self.quantised(self.node("AveragePool", [self.real()], **attributes), self.sigma)
        self.shape[1:] = size

    def branch(self):
        """A second tensor of the same shape, by a pointwise convolution; returns both with their parameters."""
        first = (self.x, self.scale, self.zero)
        channels = self.shape[0]
        ints, scales, zeros = self.weights([channels, channels, 1, 1], 0, channels)
        self.pools = False
        self.linear("Conv", ints, scales, zeros, 0, channels, {"kernel_shape": [1, 1]})
        self.pools = True
        return first, (self.x, self.scale, self.zero)

    def add(self):
        (x, xs, xz), (y, ys, yz) = self.branch()
        if self.operator:
            inputs = [x] + self.parameters(xs, xz) + [y] + self.parameters(ys, yz)
            self.x = self.node("QLinearAdd", inputs + self.output_parameters(1.4 * self.sigma), domain=MICROSOFT)
        else:
            total = self.node("Add", [self.real(x, xs, xz), self.real(y, ys, yz)])
            relu = self.chance(0.5)
            if relu:
                total = self.node("Relu", [total])
            self.quantised(total, 1.4 * self.sigma, positive=relu)

    def concat(self):
        (x, xs, xz), (y, ys, yz) = self.branch()
        if self.operator:
            parts = [x] + self.parameters(xs, xz) + [y] + self.parameters(ys, yz)
            result = self.output_parameters(self.sigma)
            self.x = self.node("QLinearConcat", result + parts, domain=MICROSOFT, axis=1)
        else:
            joined = self.node("Concat", [self.real(x, xs, xz), self.real(y, ys, yz)], axis=1)
            self.quantised(joined, self.sigma)
        self.shape[0] *= 2

    def function(self):
        if self.operator:
            op = "QLinearLeakyRelu"
            x = [self.x] + self.parameters(self.scale, self.zero)
            self.x = self.node(op, x + self.output_parameters(self.sigma), domain=MICROSOFT, alpha=0.1)
            return
        op = self.rng.choice(["Sigmoid", "Tanh", "HardSwish", "Elu", "LeakyRelu", "Gelu"])
        y = self.node(op, [self.real()])
        self.quantised(y, {"Sigmoid": 0.5, "Tanh": 0.6}.get(op, self.sigma))

    def flatten(self):
        if len(self.shape) == 1:
            return
        if self.operator or self.narrow:
            self.x = self.node("Flatten", [self.x], axis=1)
        else:
            real = self.real()
            if self.chance(0.5):
                y = self.node("Flatten", [real], axis=1)
            else:
                y = self.node("Reshape", [real, self.constant([1, -1], np.int64)])
            self.x = self.node("QuantizeLinear", [y] + self.parameters(self.scale, self.zero))
        self.shape = [int(np.prod(self.shape))]

    def dense(self, final=False):
        inputs, outputs = self.shape[0], int(self.rng.integers(2, 8))
        transposed = self.chance(0.5)
        matmul = self.chance(0.4)
        shape = [outputs, inputs] if transposed and not matmul else [inputs, outputs]
        axis = 0 if transposed and not matmul else 1
        ints, scales, zeros = self.weights(shape, axis, inputs)
        if matmul:
            self.linear("MatMul", ints, scales, zeros, 1, outputs, {}, final)
        else:
            self.linear("Gemm", ints, scales, zeros, axis, outputs, {"transB": int(transposed)}, final)
        self.shape = [outputs]


def random(rng, operator, narrow, extras):
    """A graph and what its output means: None for integers, else the unit of each output."""
    dtype = np.uint8 if rng.random() < 0.5 else np.int8
    shape = [int(rng.integers(1, 4)), int(rng.integers(4, 9)), int(rng.integers(4, 9))]
    graph = Qdq(rng, shape, dtype, operator, narrow)
    graph.unit = None
    graph.enter()
    layers = ["conv", "conv", "max_pool"] + (["add", "concat", "average", "function"] if extras else [])
    graph.conv()
    for _ in range(int(rng.integers(1, 4))):
        getattr(graph, str(rng.choice(layers)))()
    if rng.random() < 0.3:
        graph.global_average()
    graph.flatten()
    if rng.random() < 0.5:
        graph.dense()
    graph.dense(final=not operator)
    if dtype == np.int8 and not operator and not narrow and graph.unit is None:
        # The runtime keeps floats, whose order of summation decides, for signed bytes that nothing dequantises.
        graph.unit, graph.x = graph.scale, graph.real()
    kind = TensorProto.FLOAT if graph.unit is not None else TYPES[dtype]
    return graph, graph.model(TYPES[dtype] if operator else TensorProto.FLOAT, kind)
