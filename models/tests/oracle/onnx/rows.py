"""Matrices on rows, matrices that no quantiser follows, constants along the last dimension, outputs with a unit for each channel, and
what ends a network: padding, the largest of an image."""

import numpy as np
from onnx import TensorProto

from qdq import Qdq

KINDS = ["rows", "constant", "behind", "units", "padded", "largest"]


def matrix(graph, x, inputs, outputs, op="MatMul", bias=False, units=None):
    """A product with quantised weights; `units` says whether these have a scale for each output."""
    ints, scales, zeros = graph.weights([inputs, outputs], 1, inputs)
    if units is not None and units != bool(np.ndim(scales)):
        scales = scales[0] if np.ndim(scales) else (scales * graph.rng.uniform(0.5, 1.5, outputs)).astype(np.float32)
        zeros = np.broadcast_to(zeros, (outputs,)).copy() if units else zeros.flat[0]
    w = graph.node("DequantizeLinear", [graph.constant(v) for v in (ints, scales, zeros)], axis=1)
    return graph.node(op, [x, w] + ([graph.bias(outputs, scales, "int")] if bias else []))


def behind(graph, y, count):
    """What stands between a matrix and the quantiser, so that the runtime has a float of the accumulator in between."""
    numbers = graph.constant(graph.rng.uniform(0.5, 2.0, count).astype(np.float32))
    number = graph.constant(np.float32(graph.rng.uniform(0.5, 2.0)))
    kind = str(graph.rng.choice(["Mul", "Add", "Sum", "Sub", "Div", "LeakyRelu", "number", "BatchNormalization"]))
    if kind == "LeakyRelu":
        return graph.node(kind, [y], alpha=0.125)
    if kind == "BatchNormalization":
        return graph.node(kind, [y] + [graph.constant(graph.rng.uniform(0.5, 2.0, count).astype(np.float32)) for _ in range(4)])
    return graph.node("Mul", [y, number]) if kind == "number" else graph.node(kind, [y, numbers])


def run(rng, samples, index):
    kind = KINDS[index % len(KINDS)]
    image = kind in ("padded", "largest")
    rows = list(rng.integers(2, 6, int(rng.integers(1, 3)))) if kind in ("rows", "constant") else []
    shape = [3, 5, 4] if image else [int(v) for v in rows] + [int(rng.integers(4, 20))]
    graph = Qdq(rng, shape, np.uint8)
    graph.unit = None
    graph.enter()
    x, n, m = graph.real(), shape[-1], int(rng.integers(2, 8))
    if kind == "rows":
        y = matrix(graph, x, n, m)
        if graph.chance(0.5):
            y = graph.node("Add", [y, graph.constant(rng.normal(0, graph.sigma, m).astype(np.float32))])
        positive = graph.chance(0.5)
        graph.quantised(graph.node("Relu", [y]) if positive else y, graph.sigma, positive)
        if graph.chance(0.5):
            graph.quantised(matrix(graph, graph.real(), m, 3), graph.sigma)
    elif kind == "constant":
        numbers = rng.normal(0, 1, n).astype(np.float32)
        if graph.chance(0.5):
            quantised = graph.node("DequantizeLinear", [graph.constant(rng.integers(0, 256, n), np.uint8)] + graph.parameters(0.01, 128))
            numbers = [x, quantised]
        else:
            numbers = [x, graph.constant(numbers)]
        y = graph.node(str(rng.choice(["Add", "Mul"])), numbers[::-1] if graph.chance(0.5) else numbers)
        graph.quantised(y, graph.sigma)
    elif kind == "behind":
        op = str(rng.choice(["MatMul", "Gemm"]))
        graph.quantised(behind(graph, matrix(graph, x, n, m, op, op == "Gemm" and graph.chance(0.7)), m), graph.sigma)
    elif kind == "units":
        op = str(rng.choice(["MatMul", "Gemm"]))
        y = matrix(graph, x, n, m, op, op == "Gemm" and graph.chance(0.7), units=True)
        if graph.chance(0.3):
            y = graph.node("Mul", [y, graph.constant(rng.choice([-1, 0.5, 1.5], m).astype(np.float32))])
        graph.unit, graph.x = True, y
    elif kind == "padded":
        pads = graph.constant([0, 0, *rng.integers(0, 3, 2), 0, 0, *rng.integers(1, 3, 2)], np.int64)
        graph.x = graph.node("Pad", [graph.x, pads, graph.constant(np.uint8(graph.zero))])
    else:
        axes = [2, 3] if graph.chance(0.5) else [-1, -2]
        y = graph.node("ReduceMax", [x], axes=axes, keepdims=int(graph.chance(0.5)))
        graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    model = graph.model(TensorProto.FLOAT, TensorProto.UINT8 if graph.unit is None else TensorProto.FLOAT, opset=17)
    return model, graph.answers(model, samples)
