"""Operations that only move elements, on integers, on quantised values and on values that nothing has quantised; and rows of one dimension."""

import numpy as np
from onnx import TensorProto

from qdq import Qdq


def ints(graph, values):
    return graph.constant(values, np.int64)


def transpose(graph, x):
    y = graph.node("Transpose", [x], perm=[0, 2, 3, 1])
    return graph.node("Transpose", [y], perm=[0, 3, 2, 1]) if graph.chance(0.5) else y


def shuffle(graph, x):
    y = graph.node("Reshape", [x, ints(graph, [1, 2, 2, 6, 4])])
    y = graph.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
    return graph.node("Reshape", [y, ints(graph, [1, 4, 6, 4])])


def split(graph, x):
    axis = int(graph.rng.integers(1, 4))
    names = [graph.name("s") for _ in range(2)]
    from onnx import helper

    graph.nodes.append(helper.make_node("Split", [x, ints(graph, [1, [4, 6, 4][axis - 1] - 1])], names, name=graph.name("n"), axis=axis))
    return names[1] if graph.chance(0.5) else graph.node("Concat", names[::-1], axis=axis)


def slices(graph, x):
    step = int(graph.rng.choice([1, 2, -1]))
    start, end = (-1, -100) if step < 0 else (1, 100)
    return graph.node("Slice", [x, ints(graph, [1, start]), ints(graph, [3, end]), ints(graph, [1, 2]), ints(graph, [1, step])])


def gather(graph, x):
    return graph.node("Gather", [x, ints(graph, [2, 0, 0, -1])], axis=int(graph.rng.integers(1, 4)))


def adaptive(graph, x):
    """As torch exports an adaptive average pool to a larger image."""
    y = graph.node("Transpose", [x], perm=[2, 3, 0, 1])
    y = graph.node("GatherND", [y, ints(graph, graph.rng.integers([-6, 0], [6, 4], (3, 1, 2, 1, 2)))])
    y = graph.node("Transpose", [y], perm=[4, 5, 0, 1, 2, 3])
    return graph.node("Squeeze" if x == graph.x else "ReduceMean", [y, ints(graph, [-3, -1])], **({} if x == graph.x else {"keepdims": 0}))


def depth(graph, x):
    mode = str(graph.rng.choice(["DCR", "CRD"]))
    y = graph.node("DepthToSpace", [x], blocksize=2, mode=mode)
    return y if graph.chance(0.5) else graph.node("SpaceToDepth", [y], blocksize=2)


def resize(graph, x):
    place, nearest = [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")][int(graph.chance(0.5))]
    scales = graph.constant(np.array([1, 1, 2, 1.5 if graph.chance(0.3) else 2], np.float32))
    return graph.node("Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode=place, nearest_mode=nearest)


def concat(graph, x):
    return graph.node("Concat", [x, x], axis=int(graph.rng.integers(1, 4)))


def vector(graph, x):
    y = graph.node("Flatten", [x], axis=1)
    return graph.node("Reshape", [y, ints(graph, [1, 2, 8, 6])])


def row(graph, x):
    y = graph.node("Reshape", [x, ints(graph, [1, 4, 24])])
    w, scales, zeros = graph.weights([3, 4, 5], 0, 20)
    w = graph.node("DequantizeLinear", [graph.constant(w), graph.constant(scales), graph.constant(zeros)], axis=0)
    y = graph.node("Conv", [y, w], kernel_shape=[5], pads=[2, 1], strides=[2])
    return graph.node("Relu", [y])


def pad(graph, x):
    """Elements around a tensor: copies of it, or a constant; on some axes, or on all."""
    mode = str(graph.rng.choice(["reflect", "edge", "wrap", "constant", "constant"]))
    sides = graph.rng.integers(0, 3, 4)
    pads = ints(graph, [0, *sides[:1], *sides[1:2], 0, 0, 0, *sides[2:3], *sides[3:]])
    if mode != "constant":
        return graph.node("Pad", [x, pads], mode=mode)
    quantised = x == graph.x
    value = graph.constant(np.uint8(graph.rng.integers(0, 256))) if quantised else graph.constant(np.float32(5 * graph.scale))
    if graph.chance(0.5):
        return graph.node("Pad", [x, ints(graph, sides), value, ints(graph, [2, -1])])
    return graph.node("Pad", [x, pads, value])


KINDS = [pad, transpose, shuffle, split, slices, gather, adaptive, depth, resize, concat, vector, row]


def run(rng, samples, index):
    graph = Qdq(rng, [4, 6, 4], np.uint8)
    graph.unit = None
    graph.enter()
    kind = KINDS[index % len(KINDS)]
    how = index // len(KINDS) % 3
    if kind is row:
        y = kind(graph, graph.real())
        graph.quantised(y, graph.sigma, positive=True)
    elif how == 0:
        graph.x = kind(graph, graph.x)
    elif how == 1:
        y = kind(graph, graph.real())
        graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    else:
        y = graph.node("Mul", [graph.real(), graph.constant(np.float32([0.7, 1.1, -0.6, 0.9]).reshape(4, 1, 1))])
        y = kind(graph, y)
        graph.quantised(y, graph.sigma)
    model = graph.model(TensorProto.FLOAT, TensorProto.UINT8, opset=18)
    return model, graph.answers(model, samples)
