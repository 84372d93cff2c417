"""Functions that nothing quantises before an average or a sum, as the static quantiser leaves them: every function and what follows."""

import itertools

import numpy as np
from onnx import TensorProto

from qdq import Qdq

FUNCTIONS = ["tanh", "sigmoid", "hardswish", "elu", "leaky", "gelu", "silu", "scaled"]
BEHIND = ["window", "global", "padded", "flat", "tensor", "two", "relu"]
KINDS = list(itertools.product(FUNCTIONS, BEHIND))


def function(graph, kind, x):
    constant = lambda v: graph.constant(np.float32(v))
    if kind == "silu":
        return graph.node("Mul", [x, graph.node("Sigmoid", [x])])
    if kind == "scaled":
        return graph.node("Add", [graph.node("Mul", [graph.node("Tanh", [x]), constant(0.7)]), constant(-0.2)])
    if kind == "leaky":
        return graph.node("LeakyRelu", [x], alpha=0.3)
    if kind == "gelu":
        return graph.node("Gelu", [x], approximate=str(graph.rng.choice(["none", "tanh"])))
    return graph.node({"tanh": "Tanh", "sigmoid": "Sigmoid", "hardswish": "HardSwish", "elu": "Elu"}[kind], [x])


def behind(graph, kind, x, y):
    if kind == "window":
        graph.shape[1:] = [2, 3]
        return graph.node("AveragePool", [y], kernel_shape=[2, 2], strides=[2, 2])
    if kind == "global":
        graph.shape[1:] = [1, 1]
        return graph.node("GlobalAveragePool", [y])
    if kind == "padded":
        graph.shape[1:] = [4, 6]
        return graph.node("AveragePool", [y], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    if kind == "flat":
        y = graph.node("AveragePool", [y], kernel_shape=[2, 2], strides=[2, 2])
        graph.shape = [graph.shape[0] * 6]
        return graph.node("Flatten", [y])
    if kind == "tensor":
        return graph.node("Add", [x, y] if graph.chance(0.5) else [y, x])
    if kind == "relu":
        return graph.node("Add", [graph.node("Relu", [x]), y])
    return graph.node("Add", [y, function(graph, "tanh", x)])


def run(rng, samples, index):
    graph = Qdq(rng, [int(rng.integers(1, 4)), 4, 6], np.int8 if rng.random() < 0.4 else np.uint8)
    graph.unit = None
    graph.enter()
    kind, follows = KINDS[index % len(KINDS)]
    x = graph.real()
    # Another quantised tensor where two are added up: functions of one tensor are a table.
    if follows in ("tensor", "two", "relu"):
        y = graph.node("LeakyRelu", [x], alpha=0.6)
        scale, zero = np.float32(graph.scale * rng.uniform(0.6, 1.3)), int(graph.zero)
        y = graph.node("QuantizeLinear", [y] + graph.parameters(scale, zero))
        other = graph.node("DequantizeLinear", [y] + graph.parameters(scale, zero))
    else:
        other = x
    y = behind(graph, follows, other, function(graph, kind, x))
    graph.quantised(y, graph.sigma)
    kind = TensorProto.INT8 if graph.dtype == np.int8 else TensorProto.UINT8
    model = graph.model(TensorProto.FLOAT, kind, opset=20)
    return model, graph.answers(model, samples)
