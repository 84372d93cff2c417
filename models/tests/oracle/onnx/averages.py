"""Averages of windows whose results lie halfway between two steps: of one scale, of scales of a simple ratio, of nearly one scale, with padding
that does not count, windows that leave the image, by both forms of the operation."""

import numpy as np
from onnx import TensorProto

from graphs import MICROSOFT
from qdq import TYPES, Qdq

WINDOWS = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [4, 4], "strides": [3, 2]},
    {"kernel_shape": [1, 2], "strides": [1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 0, 0], "count_include_pad": 1},
]
RATIOS = [1.0, 1.0, 1.0, 1.5, 2.0, 1.00001]



def average(graph, attributes):
    """An average of the current tensor, by either form."""
    x = [graph.x] + graph.parameters(graph.scale, graph.zero)
    graph.scale = np.float32(graph.scale * graph.rng.choice(RATIOS))
    new = graph.parameters(graph.scale, graph.zero)
    if graph.operator:
        graph.x = graph.node("QLinearAveragePool", x + new, domain=MICROSOFT, **attributes)
    else:
        y = graph.node("AveragePool", [graph.node("DequantizeLinear", x)], **attributes)
        graph.x = graph.node("QuantizeLinear", [y] + new)


def run(rng, samples, index):
    operator = bool(rng.integers(2))
    dtype = np.uint8 if rng.integers(3) else np.int8
    graph = Qdq(rng, [int(rng.integers(1, 4)), int(rng.integers(8, 11)), int(rng.integers(8, 11))], dtype, operator)
    graph.unit = None
    graph.scale = np.float32(np.exp(rng.uniform(-7, 1)))
    graph.sigma = 74.0 * float(graph.scale)
    graph.start = (graph.scale, graph.zero)
    graph.enter()
    layers = dtype == np.uint8 or operator
    if graph.chance(0.4):
        graph.pools = False
        graph.conv() if layers and graph.chance(0.5) else graph.max_pool()
    if not all(size >= 4 for size in graph.shape[1:]):
        graph.shape = None
    average(graph, WINDOWS[index % len(WINDOWS)] if graph.shape else WINDOWS[4] | {"kernel_shape": [1, 1]})
    real = lambda: graph.node("DequantizeLinear", [graph.x] + graph.parameters(graph.scale, graph.zero))
    kind = rng.integers(5)
    if kind == 0:
        average(graph, WINDOWS[1])
    elif kind == 1 and not operator:
        # What follows makes unsigned bytes of signed ones.
        graph.x = graph.node("QuantizeLinear", [graph.node("MaxPool", [real()], kernel_shape=[1, 2])] + graph.parameters(graph.scale, graph.zero))
    elif kind == 2 and not operator:
        y = graph.node("LeakyRelu", [real()], alpha=0.5)
        graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    elif kind == 3 and not operator:
        graph.x = graph.node("QuantizeLinear", [graph.node("Relu", [real()])] + graph.parameters(graph.scale, graph.zero))
    ends = TYPES[dtype] if operator else TensorProto.FLOAT
    model = graph.model(ends, TYPES[dtype], opset=17)
    return model, graph.answers(model, samples)
