"""Both ends of a network: elements of the input that are moved before they are quantised, matrices on the rows of a batch, outputs in
another order or within bounds. And functions of each channel that rise and fall, or are cut, and what is reduced over any axes."""

import numpy as np
from onnx import TensorProto

from qdq import Qdq
from rows import matrix

LARGE = 2**63 - 1


def slices(graph):
    """Every other element, from each corner, as channels: one slice of two axes or one of each, or blocks and an order."""
    channels, height, width = graph.shape
    kind = graph.rng.integers(3)
    integers = lambda *values: graph.constant(values, np.int64)
    if kind == 2:
        y = graph.node("SpaceToDepth", ["input"], blocksize=2)
        order = graph.rng.permutation(4 * channels)
        y = graph.node("Gather", [y, graph.constant(order, np.int64)], axis=1)
    else:
        parts = []
        for row, column in [(0, 0), (1, 0), (0, 1), (1, 1)]:
            if kind == 0:
                cut = [integers(row, column), integers(LARGE, LARGE), integers(2, 3), integers(2, 2)]
                parts.append(graph.node("Slice", ["input"] + cut))
            else:
                part = graph.node("Slice", ["input", integers(row), integers(LARGE), integers(2), integers(2)])
                parts.append(graph.node("Slice", [part, integers(column), integers(LARGE), integers(3), integers(2)]))
        y = graph.node("Concat", parts, axis=1)
    graph.shape = [4 * channels, height // 2, width // 2]
    return y


def other_order(graph):
    """Halves of the channels exchanged, the image turned."""
    channels, height, width = graph.shape
    sizes = graph.constant([channels // 2, channels - channels // 2], np.int64)
    first, second = graph.name("part"), graph.name("part")
    y = graph.node("Split", ["input", sizes], axis=1)
    graph.nodes[-1].output[:] = [first, second]
    y = graph.node("Concat", [second, first], axis=1)
    graph.shape = [channels, width, height]
    return graph.node("Transpose", [y], perm=[0, 1, 3, 2])


def image(graph, final):
    """The input moved, quantised, and a convolution."""
    y = (slices if graph.chance(0.7) else other_order)(graph)
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    ints, scales, zeros = graph.weights([4, graph.shape[0], 3, 3], 0, 9 * graph.shape[0])
    w = graph.node("DequantizeLinear", [graph.constant(v) for v in (ints, scales, zeros)], axis=0)
    y = graph.node("Conv", [graph.real(), w], kernel_shape=[3, 3], pads=[1] * 4)
    if not final:
        graph.quantised(y, graph.sigma)
        return
    graph.unit = True
    graph.x = graph.node("Transpose", [y], perm=[0, 2, 3, 1])
    if graph.chance(0.5):
        graph.x = graph.node("Reshape", [graph.x, graph.constant([1, -1, 4], np.int64)])


def batch(graph, final):
    """A batch of rows, matrices on each, and rows again."""
    rows, columns = graph.shape
    y = graph.node("Reshape", ["input", graph.constant([-1, columns], np.int64)])
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    first = int(graph.rng.integers(2, 7))
    y = matrix(graph, graph.real(), columns, first, "Gemm", graph.chance(0.7))
    relu = graph.chance(0.5)
    graph.quantised(graph.node("Relu", [y]) if relu else y, graph.sigma, relu)
    y = matrix(graph, graph.real(), first, 3, "Gemm" if graph.chance(0.6) else "MatMul")
    if final:
        graph.unit = True
        graph.x = graph.node("Reshape", [y, graph.constant([1, rows, 3], np.int64)])
    else:
        graph.quantised(y, graph.sigma)


def bounded(graph, final):
    """A matrix whose results are clipped at the end."""
    graph.enter()
    inputs = graph.shape[0]
    y = matrix(graph, graph.real(), inputs, 5, "Gemm", graph.chance(0.7))
    if final:
        graph.quantised(y, graph.sigma)
        y = graph.real()
    graph.unit = True
    low, high = graph.constant(np.float32(-0.3 * graph.sigma)), graph.constant(np.float32(0.6 * graph.sigma))
    kind = graph.rng.integers(3)
    graph.x = graph.node("Relu", [y]) if kind == 0 else graph.node("Clip", [y, low, high] if kind == 1 else [y, "", high])


def turning(graph, final):
    """A function that rises and falls, not alike on all channels."""
    graph.enter()
    channels = graph.shape[0]
    numbers = lambda low, high: graph.constant(graph.rng.uniform(low, high, [channels, 1, 1]).astype(np.float32))
    x = graph.real()
    if final:
        y = graph.node("Mul", [graph.node("Abs", [graph.node("Add", [x, numbers(-1, 1)])]), numbers(-1, 1)])
    else:
        y = graph.node("PRelu", [x, numbers(-0.6, 0.6)])
    graph.quantised(y, graph.sigma)


def reduced(graph, final):
    """The largest of any axes, or their mean."""
    graph.enter()
    axes = [[1], [-1], [2], [1, 2], [1, 3], [0, 2]][int(graph.rng.integers(6))]
    keep = int(graph.chance(0.5))
    y = graph.node("ReduceMean" if final else "ReduceMax", [graph.real()], axes=axes, keepdims=keep)
    graph.quantised(y, graph.sigma)


def parted(graph, final):
    """What a function made, cut into parts that are joined in another order, a number for each channel, zeros around it."""
    graph.enter()
    y = graph.node("LeakyRelu", [graph.real()], alpha=0.25)
    if final:
        y = graph.node("Gather", [y, graph.constant(graph.rng.permutation(5)[:3], np.int64)], axis=1)
        graph.shape[0] = 3
    else:
        first, second = graph.name("part"), graph.name("part")
        y = graph.node("Split", [y, graph.constant([2, 3], np.int64)], axis=1)
        graph.nodes[-1].output[:] = [first, second]
        y = graph.node("Concat", [second, first], axis=1)
    y = graph.node("Mul", [y, graph.constant(graph.rng.uniform(-1, 1, [graph.shape[0], 1, 1]).astype(np.float32))])
    if graph.chance(0.5):
        y = graph.node("Pad", [y, graph.constant([0, 0, 1, 0, 0, 1, 0, 2], np.int64)])
    graph.quantised(y, graph.sigma)


KINDS = [image, batch, bounded, turning, reduced, parted]


def run(rng, samples, index):
    kind, final = KINDS[index % 6], index // 6 % 2 == 1
    sizes = {image: [3, 6, 8], batch: [int(rng.integers(2, 6)), int(rng.integers(3, 12))], bounded: [int(rng.integers(4, 20))]}
    graph = Qdq(rng, sizes.get(kind, [5, 3, 4]), np.uint8)
    graph.unit = None
    kind(graph, final)
    model = graph.model(TensorProto.FLOAT, TensorProto.UINT8 if graph.unit is None else TensorProto.FLOAT, opset=17)
    return model, graph.answers(model, samples)
