"""One graph for each thing that the random ones do not have: 4-bit weights, integer accumulators, padding, shapes that are computed."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from runtimes import runtime
from qdq import Qdq


def start(rng, shape=(2, 6, 6), dtype=np.uint8):
    graph = Qdq(rng, list(shape), dtype)
    graph.unit = None
    graph.scale, graph.pools = np.float32(2.0**-5), False
    graph.start = (graph.scale, graph.zero)
    graph.enter()
    return graph


def int4(rng):
    """Weights of 4 bits, packed; scales are powers of two, since the runtime adds up floats here."""
    graph = start(rng)
    kind = TensorProto.INT4 if graph.chance(0.5) else TensorProto.UINT4
    low = -8 if kind == TensorProto.INT4 else 0
    w = graph.packed(rng.integers(low, low + 16, [3, 2, 3, 3]), kind)
    zero = graph.packed(np.int64(low + 8 + rng.integers(-2, 3)), kind)
    y = graph.node("DequantizeLinear", [w, graph.constant(np.float32(2.0**-3)), zero], axis=0)
    y = graph.node("Conv", [graph.real(), y], kernel_shape=[3, 3])
    graph.shape = [3, 4, 4]
    graph.scale, graph.zero = np.float32(2.0 ** int(rng.integers(-4, 0))), 128
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    return graph


def integers(rng):
    """ConvInteger or MatMulInteger, a scale and a bias, a quantiser."""
    graph = start(rng)
    graph.operator = True
    graph.nodes.clear()
    x_zero = graph.constant(graph.zero, graph.dtype)
    if graph.chance(0.5):
        w = graph.constant(rng.integers(-127, 128, [3, 2, 3, 3]).astype(np.int8))
        y = graph.node("ConvInteger", ["input", w, x_zero, graph.constant(np.int8(3))], kernel_shape=[3, 3])
        graph.shape = [3, 4, 4]
    else:
        flat = graph.node("Flatten", ["input"], axis=1)
        w = graph.constant(rng.integers(-127, 128, [72, 5]).astype(np.int8))
        y = graph.node("MatMulInteger", [flat, w, x_zero])
        graph.shape = [5]
    if graph.chance(0.5):
        y = graph.node("Cast", [y], to=TensorProto.FLOAT)
        y = graph.node("Mul", [y, graph.constant(np.float32(rng.uniform(0.5, 2) * 1e-3))])
    else:
        units = rng.uniform(0.5, 2, graph.shape[0] if graph.chance(0.5) else []) * 1e-3
        y = graph.node("DequantizeLinear", [y, graph.constant(np.float32(units))], axis=1)
    bias = rng.normal(0, 1, [graph.shape[0]] + [1] * (len(graph.shape) - 1)).astype(np.float32)
    y = graph.node("Add", [y, graph.constant(bias)])
    graph.quantised(y, 60.0)
    return graph


def padded(rng):
    """Pad before a convolution, on real numbers or on integers."""
    graph = start(rng)
    pads = graph.constant([0, 0, 1, 2, 0, 0, 2, 0], np.int64)
    w, scales, zeros = graph.weights([3, 2, 3, 3], 0, 18)
    weights = graph.node("DequantizeLinear", [graph.constant(w), graph.constant(scales), graph.constant(zeros)], axis=0)
    if graph.chance(0.5):
        x = graph.node("Pad", [graph.real(), pads])
    else:
        x = graph.node("Pad", [graph.x, pads, graph.constant(graph.zero, graph.dtype)])
        x = graph.real(x)
    y = graph.node("Conv", [x, weights], kernel_shape=[3, 3], auto_pad=str(rng.choice(["VALID", "SAME_UPPER", "SAME_LOWER"])))
    graph.shape = None
    graph.quantised(y, graph.sigma)
    return graph


def computed(rng):
    """A flattening whose shape the graph computes, as PyTorch exports x.view(x.size(0), -1)."""
    graph = start(rng)
    real = graph.real()
    size = graph.node("Gather", [graph.node("Shape", [real]), graph.constant(np.int64(0))], axis=0)
    size = graph.node("Unsqueeze", [size, graph.constant([0], np.int64)])
    shape = graph.node("Concat", [size, graph.constant([-1], np.int64)], axis=0)
    y = graph.node("Reshape", [real, shape])
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    graph.shape = [72]
    graph.dense()
    return graph


def ceil(rng):
    """Pools whose last windows leave the image."""
    graph = start(rng, (2, 7, 8))
    y = graph.node("MaxPool", [graph.real()], kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 1, 0], ceil_mode=1)
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    graph.shape = None
    return graph


def mean(rng):
    """A mean over height and width, then a layer; of one scale there are ties, which floats decide."""
    graph = start(rng, (3, 4, 4))
    keep = int(graph.chance(0.5))
    y = graph.node("ReduceMean", [graph.real(), graph.constant([2, 3], np.int64)], keepdims=keep)
    if graph.chance(0.7):
        graph.scale, graph.zero = np.float32(2.0**-6), 100
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    graph.shape = [3, 1, 1] if keep else [3]
    graph.flatten()
    graph.dense()
    return graph


def swish(rng):
    """Products and sums of functions of one tensor: x sigmoid(x), x hardsigmoid(x), tanh(x) + x."""
    graph = start(rng)
    real = graph.real()
    op, outer = [("Sigmoid", "Mul"), ("HardSigmoid", "Mul"), ("Tanh", "Add"), ("Tanh", "Sub")][int(rng.integers(4))]
    graph.quantised(graph.node(outer, [real, graph.node(op, [real])]), graph.sigma)
    return graph


def dead(rng):
    """A branch that nothing reads, a cast that changes nothing, a zero point that is computed."""
    graph = start(rng, (3, 5, 5))
    graph.node("Exp", [graph.real()])
    graph.x = graph.node("Cast", [graph.x], to=TensorProto.UINT8)
    graph.x = graph.node("QuantizeLinear", [graph.node("GlobalMaxPool", [graph.real()])] + graph.parameters(graph.scale, graph.zero))
    graph.shape = [3, 1, 1]
    return graph


def uneven(rng):
    """Averages that do not count their padding, or whose last windows leave the image."""
    graph = start(rng, (2, 7, 8))
    kind = rng.integers(5)
    if kind < 2:
        attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    elif kind == 2:
        attributes = {"kernel_shape": [8, 9], "pads": [0, 0, 1, 1], "strides": [2, 2]}
    else:
        attributes = {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}
    y = graph.node("AveragePool", [graph.real()], **attributes)
    if graph.chance(0.3):
        y = graph.node("Mul", [y, graph.constant(np.float32([0.7, -1.1]).reshape(2, 1, 1))])
    graph.quantised(y, graph.sigma)
    graph.shape = None
    return graph


def folded(rng):
    """A shape and a mask that the graph computes: parts of shapes, products, ranges, comparisons, choices."""
    graph = start(rng)
    real, whole = graph.real(), lambda *values: graph.constant(list(values), np.int64)
    one = lambda value: graph.constant(np.int64(value))
    if graph.chance(0.5):
        batch = graph.node("Shape", [real], start=0, end=1)
        rest = graph.node("Shape", [real], start=1)
    else:
        dims = graph.node("Shape", [real])
        batch = graph.node("Slice", [dims, whole(0), whole(1), whole(0), whole(1)])
        rest = graph.node("Slice", [dims, whole(-3), whole(2**62), whole(0)])
    size = graph.node("ReduceProd", [rest, whole(0)], keepdims=1)
    y = graph.node("Reshape", [real, graph.node("Concat", [batch, size], axis=0)])
    count = graph.node("Squeeze", [size])
    numbers = graph.node("Range", [one(0), count, one(1)])
    odd = graph.node("Equal", [graph.node("Mod", [numbers, one(3)]), one(1)])
    late = graph.node("Greater", [numbers, one(int(rng.integers(20, 60)))])
    wide = graph.node("Expand", [graph.constant(np.float32(0.75)), size])
    plain = graph.node("ConstantOfShape", [size], value=numpy_helper.from_array(np.float32([1.25])))
    mask = graph.node("Where", [graph.node("And", [odd, graph.node("Not", [late])]), wide, plain])
    if graph.chance(0.5):
        grid = graph.node("Add", [graph.node("Cast", [numbers], to=TensorProto.FLOAT), graph.constant(np.zeros([2, 1], np.float32))])
        row = graph.node("Gather", [grid, one(-1)], axis=0)
        mask = graph.node("Sub", [mask, graph.node("Mul", [row, graph.constant(np.float32(2.0**-8))])])
    graph.quantised(graph.node("Mul", [y, mask]), graph.sigma)
    graph.shape = [72]
    graph.dense()
    return graph


def repeated(rng):
    """Elements that stand in several places: Tile and Expand."""
    graph = start(rng, (2, 3, 1))
    x = graph.real()
    if graph.chance(0.5):
        y, graph.shape = graph.node("Tile", [x, graph.constant([1, 1, 2, 3], np.int64)]), [2, 6, 3]
    else:
        y, graph.shape = graph.node("Expand", [x, graph.constant([1, 3, 4], np.int64)]), [2, 3, 4]
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    graph.flatten()
    graph.dense()
    return graph


def paired(rng):
    """Weights that are stored as floats behind a pair of their own, perhaps of 16 bits."""
    graph = start(rng, (6,), np.uint8)
    kind = np.int8 if graph.chance(0.5) else np.int16
    w = rng.normal(0, 1, [6, 5]).astype(np.float32)
    unit = graph.constant(np.float32(2.0 ** -(5 if kind is np.int8 else 8)))
    zero = graph.constant(kind(0))
    w = graph.node("QuantizeLinear", [graph.constant(w), unit, zero])
    w = graph.node("DequantizeLinear", [w, unit, zero])
    y = graph.node("MatMul", [graph.real(), w])
    graph.shape = [5]
    graph.scale, graph.zero = np.float32(2.0**-3), 128
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    return graph


def hidden(rng):
    """Identity and Dropout between a layer and its quantiser: the runtime leaves them out."""
    graph = start(rng)
    graph.scale = np.float32(0.03)
    graph.start = (graph.scale, graph.zero)
    graph.nodes.clear()
    graph.enter()
    w, scales, zeros = graph.weights([3, 2, 3, 3], 0, 18)
    w = graph.node("DequantizeLinear", [graph.constant(w), graph.constant(scales), graph.constant(zeros)], axis=0)
    y = graph.node("Conv", [graph.real(), w], kernel_shape=[3, 3])
    y = graph.node(str(rng.choice(["Identity", "Dropout"])), [y])
    y = graph.node("Identity", [graph.node("Relu", [y])])
    graph.quantised(y, graph.sigma, positive=True)
    graph.shape = [3, 4, 4]
    return graph


def chain(rng):
    """Two or three quantisers in a row: the runtime makes one of them, whose scale is none of theirs."""
    graph = start(rng)
    # Not at the input, whose integers would be those of the merged quantiser.
    graph.quantised(graph.node("LeakyRelu", [graph.real()], alpha=0.3), graph.sigma)
    for _ in range(int(rng.integers(1, 3))):
        real = graph.real()
        graph.scale = np.float32(graph.scale * rng.uniform(0.6, 1.6)) if graph.chance(0.8) else graph.scale
        graph.zero = int(rng.integers(90, 160))
        graph.x = graph.node("QuantizeLinear", [real] + graph.parameters(graph.scale, graph.zero))
    y = graph.node("GlobalMaxPool", [graph.real()]) if graph.chance(0.5) else graph.node("HardSwish", [graph.real()])
    graph.quantised(y, graph.sigma)
    graph.shape = None
    return graph


FUNCTIONS = {
    "Selu": {}, "Celu": {"alpha": 0.7}, "ThresholdedRelu": {"alpha": 0.4}, "Softplus": {}, "Softsign": {}, "Mish": {}, "Erf": {}, "Exp": {},
    "Sin": {}, "Cos": {}, "Abs": {}, "Neg": {}, "Sign": {}, "PRelu": {}, "Sqrt": {}, "Reciprocal": {}, "Log": {}, "Pow": {},
}  # fmt: skip


def function(rng):
    """Functions of one tensor: tables, or steps for each channel."""
    graph = start(rng)
    op = str(rng.choice(list(FUNCTIONS)))
    more = []
    if op == "PRelu":
        more = [graph.constant(rng.uniform(0, 0.9, [2, 1, 1] if graph.chance(0.7) else [1]).astype(np.float32))]
    if op == "Pow":
        more = [graph.constant(np.float32(rng.choice([2, 3])))]
    if op in ("Sqrt", "Reciprocal", "Log"):
        # What is below 0 has none of these.
        graph.scale, graph.zero = np.float32(0.02), 0
        graph.start = (graph.scale, graph.zero)
        graph.nodes.clear()
        graph.enter()
        more_than_zero = graph.node("Add", [graph.real(), graph.constant(np.float32(0.3))])
        y = graph.node(op, [more_than_zero])
    else:
        y = graph.node(op, [graph.real()] + more, **FUNCTIONS[op])
    graph.quantised(y, 1.5)
    graph.shape = None
    return graph


def softmax(rng):
    """A softmax or an argmax at the end is left out: the values before it are the output."""
    graph = computed(rng)
    graph.x = graph.real()
    graph.before = graph.x
    graph.x = graph.node("Softmax", [graph.x], axis=1)
    return graph


KINDS = [int4, integers, padded, computed, ceil, mean, softmax, swish, dead, uneven, folded, repeated, paired, hidden, chain, function, function]


def run(rng, samples, index):
    graph = KINDS[index % len(KINDS)](rng)
    real = TensorProto.FLOAT
    before = getattr(graph, "before", None)
    kind = TensorProto.UINT8 if graph.operator else real
    model = graph.model(kind, real if before else TensorProto.UINT8)
    asked = onnx.ModelProto.FromString(model.SerializeToString())
    if before:
        asked.graph.output.append(onnx.helper.make_empty_tensor_value_info(before))
    session = runtime(asked)
    scale, zero = graph.start
    inputs, outputs = [], []
    for _ in range(samples):
        q = rng.integers(graph.lo, graph.hi + 1, [1] + graph.shape0)
        feed = q.astype(graph.dtype) if graph.operator else ((q - zero).astype(np.float32) * scale).astype(np.float32)
        y = session.run(None, {"input": feed})[-1]
        inputs.append((q - zero).flatten().tolist())
        if before:
            y = np.round(y.astype(np.float64) / np.float64(graph.scale)).astype(int)
        else:
            y = y.astype(int) - graph.zero
        outputs.append(y.flatten().tolist())
    return model, {"inputs": inputs, "outputs": outputs, "exact": True}
