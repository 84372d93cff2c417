"""Dialects whose accumulators stay integers: ConvInteger and MatMulInteger, or layers of floats that are whole numbers, with Mul, Add, Div,
Floor or Round, Max or Clip and Cast as the requantisation."""

import numpy as np
from onnx import TensorProto

from graphs import Graph
from runtimes import runtime


def layer(graph, form, zero):
    """A convolution or a matrix; its accumulators and how large they may be."""
    rng = graph.rng
    whole = np.float32 if form == "fake" else np.int8
    if len(graph.shape) == 3 and graph.chance(0.7):
        channels = int(rng.integers(2, 5))
        w = rng.integers(-8, 9, [channels, graph.shape[0], 3, 3])
        inputs, op = [graph.x, graph.constant(w.astype(whole))], "Conv" if form == "fake" else "ConvInteger"
        attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        graph.shape = [channels, *graph.shape[1:]]
    else:
        if len(graph.shape) == 3:
            graph.x = graph.node("Flatten", [graph.x], axis=1)
        outputs = int(rng.integers(3, 7))
        w = rng.integers(-8, 9, [int(np.prod(graph.shape)), outputs])
        inputs, op, attributes = [graph.x, graph.constant(w.astype(whole))], "MatMul" if form == "fake" else "MatMulInteger", {}
        graph.shape = [outputs]
    if form != "fake" and zero is not None:
        inputs.append(graph.constant(np.uint8(zero)))
    sigma = 120 * 5 * np.sqrt(w.size / graph.shape[0])
    return graph.node(op, inputs, **attributes), sigma


def per_channel(graph, numbers, dtype):
    """One number, or one for each channel."""
    list_ = np.asarray(numbers, dtype)
    if graph.chance(0.5):
        return graph.constant(list_[0])
    return graph.constant(list_.reshape([-1] + [1] * (len(graph.shape) - 1)))


def floats(graph, y, sigma, whole):
    """Mul, Add, Div, Floor or Round, Clip of floats, in part; ONNX Runtime merges factors with float weights, where they must be whole."""
    rng, channels = graph.rng, graph.shape[0]
    scale = 100 / sigma
    if whole:
        y = graph.node("Mul", [y, per_channel(graph, rng.integers(5, 32, channels), np.float32)])
        divided = 16 / scale
    elif graph.chance(0.8):
        y = graph.node("Mul", [y, per_channel(graph, rng.uniform(0.6, 1.6, channels) * (scale if graph.chance(0.3) else 16), np.float32)])
        divided = 16 / scale
    else:
        divided = 1 / scale
    if graph.chance(0.7):
        y = graph.node("Add", [y, per_channel(graph, np.rint(rng.normal(0, sigma, channels)), np.float32)])
    if graph.chance(0.3):
        y = graph.node("Relu", [y])
    power = np.float32(2.0 ** np.rint(np.log2(divided)))
    y = graph.node("Div", [y, graph.constant(power)])
    lo, hi = graph.constant(np.float32(0)), graph.constant(np.float32(rng.choice([15, 127, 255])))
    rounding = str(rng.choice(["Floor", "Round", "Floor", "Ceil"]))
    if graph.chance(0.3):
        return graph.node(rounding, [graph.node("Clip", [y, lo, hi])])
    return graph.node("Clip", [graph.node(rounding, [y]), lo, hi])


def ints(graph, y, sigma):
    """Mul, Add, Div, Max and Min of 32-bit integers, in part."""
    rng, channels = graph.rng, graph.shape[0]
    factor = 16 if graph.chance(0.8) else 1
    if factor > 1:
        y = graph.node("Mul", [y, per_channel(graph, rng.integers(8, 32, channels), np.int32)])
    if graph.chance(0.7):
        op = str(rng.choice(["Add", "Sub"]))
        y = graph.node(op, [y, per_channel(graph, np.rint(rng.normal(0, factor * sigma, channels)), np.int32)])
    if graph.chance(0.4):
        y = graph.node("Max", [y, graph.constant(np.int32(0))])
    bits = int(np.rint(np.log2(factor * sigma / 100)))
    if graph.chance(0.3):
        # Unsigned integers are shifted; negative ones would be large.
        y = graph.node("Max", [y, graph.constant(np.int32(0))])
        wide, dtype = (TensorProto.UINT32, np.uint32) if graph.chance(0.5) else (TensorProto.UINT64, np.uint64)
        y = graph.node("Cast", [y], to=wide)
        y = graph.node("BitShift", [y, graph.constant(dtype(bits))], direction="RIGHT")
        return graph.node("Min", [y, graph.constant(dtype(rng.choice([15, 127, 255])))])
    y = graph.node("Div", [y, graph.constant(np.int32(2 ** bits))])
    lo, hi = graph.constant(np.int32(0)), graph.constant(np.int32(rng.choice([15, 127, 255])))
    if graph.chance(0.3):
        return graph.node("Min", [graph.node("Max", [y, lo]), hi])
    return graph.node("Clip", [y, lo, hi])


def run(rng, samples, index):
    form = ["floats", "ints", "fake"][index % 3]
    graph = Graph(rng, [2, 4, 4])
    graph.shape0 = [2, 4, 4]
    zeros = [None if graph.chance(0.5) else int(rng.integers(0, 256)), None if graph.chance(0.7) else int(rng.integers(0, 16))]
    layers = int(rng.integers(1, 4))
    for at in range(layers):
        y, sigma = layer(graph, form, zeros[min(at, 1)])
        if form == "floats":
            y = graph.node("Cast", [y], to=TensorProto.FLOAT)
        y = ints(graph, y, sigma) if form == "ints" else floats(graph, y, sigma, form == "fake")
        graph.x = y if form == "fake" else graph.node("Cast", [y], to=TensorProto.UINT8)
    kind = TensorProto.FLOAT if form == "fake" else TensorProto.UINT8
    last = kind
    if graph.chance(0.4):
        graph.x, _ = layer(graph, form, zeros[1])
        last = TensorProto.FLOAT if form == "fake" else TensorProto.INT32
    model = graph.model(kind, last)
    session = runtime(model)
    zero = 0 if form == "fake" else zeros[0] or 0
    inputs, outputs = [], []
    for _ in range(samples):
        q = rng.integers(0, 256, [1] + graph.shape0)
        (y,) = session.run(None, {"input": q.astype(np.float32 if form == "fake" else np.uint8)})
        inputs.append((q - zero).flatten().tolist())
        outputs.append(y.flatten().astype(int).tolist())
    return model, {"inputs": inputs, "outputs": outputs, "exact": True}
