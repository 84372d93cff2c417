"""A source of real numbers, a step with a number for each channel, a quantiser: every combination of source, step, signs and zero point."""

import itertools

import numpy as np
from onnx import TensorProto

from qdq import Qdq

SOURCES = ["tensor", "pair", "sum", "concat", "average", "window", "pool"]
STEPS = ["mul", "div", "add", "sub", "from", "norm"]
SIGNS = ["plus", "minus", "both"]
KINDS = list(itertools.product(SOURCES, STEPS, SIGNS))


def second(graph, real):
    """Another quantised tensor of the same shape."""
    y = graph.node("LeakyRelu", [real], alpha=0.7)
    scale, zero = np.float32(graph.scale * graph.rng.uniform(0.6, 1.3)), int(graph.rng.integers(90, 160))
    q = graph.node("QuantizeLinear", [y] + graph.parameters(scale, zero))
    return graph.node("DequantizeLinear", [q] + graph.parameters(scale, zero))


def source(graph, kind):
    real = graph.real()
    channels = graph.shape[0]
    if kind == "pair":
        return graph.node("Add", [real, second(graph, real)])
    if kind == "sum":
        ints, scales, zeros = graph.weights([channels, channels, 1, 1], 0, channels)
        # Powers of two: the runtime adds up floats here.
        scales = np.float32(2.0 ** np.round(np.log2(scales)))
        w = graph.node("DequantizeLinear", [graph.constant(ints), graph.constant(scales), graph.constant(zeros)], axis=0)
        return graph.node("Conv", [real, w], kernel_shape=[1, 1])
    if kind == "concat":
        other = second(graph, real)
        graph.shape[0] *= 2
        return graph.node("Concat", [real, other], axis=1)
    if kind == "average":
        graph.shape[1:] = [1, 1]
        return graph.node("GlobalAveragePool", [real])
    if kind == "window":
        graph.shape[1:] = [2, 2]
        return graph.node("AveragePool", [real], kernel_shape=[2, 2], strides=[2, 2])
    if kind == "pool":
        graph.shape[1:] = [3, 3]
        return graph.node("MaxPool", [real], kernel_shape=[2, 2])
    return real


def step(graph, kind, signs, x):
    channels = graph.shape[0]
    factor = graph.rng.uniform(0.4, 1.6, channels)
    factor *= {"plus": 1, "minus": -1}.get(signs, graph.rng.choice([-1, 1], channels))
    offset = graph.rng.normal(0, graph.sigma, channels)
    column = lambda v: graph.constant(v.astype(np.float32).reshape(channels, 1, 1))
    if kind == "norm":
        numbers = [factor, offset, graph.rng.normal(0, graph.sigma, channels), graph.rng.uniform(0.5, 1.5, channels)]
        return graph.node("BatchNormalization", [x] + [graph.constant(v.astype(np.float32)) for v in numbers])
    op = {"mul": "Mul", "div": "Div", "add": "Add", "sub": "Sub", "from": "Sub"}[kind]
    if kind in ("mul", "div"):
        return graph.node(op, [x, column(factor)])
    return graph.node(op, [column(offset), x] if kind == "from" else [x, column(offset)])


def run(rng, samples, index):
    graph = Qdq(rng, [int(rng.integers(2, 5)), 4, 4], np.uint8)
    kind, post, signs = KINDS[index % len(KINDS)]
    graph.unit = None
    if kind in ("sum", "average", "window"):
        graph.scale = np.float32(2.0**-6)
        graph.start = (graph.scale, graph.zero)
    graph.enter()
    y = step(graph, post, signs, source(graph, kind))
    if graph.chance(0.4):
        y = graph.node("Relu", [y])
    graph.quantised(y, graph.sigma)
    model = graph.model(TensorProto.FLOAT, TensorProto.UINT8, opset=17)
    return model, graph.answers(model, samples)
