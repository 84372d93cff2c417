"""What ONNX Runtime computes in floats, so that their order of summation decides results: refused, or within a step."""

import numpy as np
from onnx import TensorProto

from qdq import Qdq

KINDS = ["signed", "dedicated", "pruned"]
WORDS = {
    "signed": "signed 8-bit activations are the file's input or output, or read by several nodes",
    "dedicated": "what the layer makes is read by several nodes",
    "pruned": "an operation stands between the layer and its quantiser",
}


def layer(graph, x, channels):
    ints, scales, zeros = graph.weights([channels, graph.shape[0], 3, 3], 0, 9 * graph.shape[0])
    w = graph.node("DequantizeLinear", [graph.constant(ints), graph.constant(scales), graph.constant(zeros)], axis=0)
    return graph.node("Conv", [x, w], kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def run(rng, samples, index):
    kind = KINDS[index % len(KINDS)]
    graph = Qdq(rng, [int(rng.integers(1, 4)), 7, 9], np.int8 if kind == "signed" else np.uint8)
    graph.unit = None
    graph.enter()
    x, channels = graph.real(), graph.shape[0]
    if kind == "signed":
        # x is read twice.
        y = layer(graph, x, channels)
        graph.quantised(y, graph.sigma)
        graph.x = graph.node("Concat", [x, graph.real()], axis=1)
        y = graph.x
    elif kind == "dedicated":
        y = layer(graph, x, channels)
        scale, zero = np.float32(graph.scale * 1.3), int(graph.zero)
        pairs = []
        for _ in range(2):
            q = graph.node("QuantizeLinear", [y] + graph.parameters(scale, zero))
            pairs.append(graph.node("DequantizeLinear", [q] + graph.parameters(scale, zero)))
        y = graph.node("Concat", pairs, axis=1)
        graph.scale = scale
    else:
        y = layer(graph, x, channels)
        gamma = rng.uniform(0.5, 1.5, channels).astype(np.float32)
        gamma[int(rng.integers(channels))] = 0
        numbers = [gamma, rng.normal(0, 1, channels), rng.normal(0, 1, channels), rng.uniform(0.5, 1.5, channels)]
        y = graph.node("BatchNormalization", [y] + [graph.constant(v.astype(np.float32)) for v in numbers])
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(graph.scale, graph.zero))
    dtype = TensorProto.INT8 if graph.dtype == np.int8 else TensorProto.UINT8
    model = graph.model(TensorProto.FLOAT, dtype, opset=17)
    # Nothing is left of one pruned channel but a constant.
    constant = kind == "pruned" and channels == 1
    return model, graph.answers(model, samples) | {"words": WORDS[kind], "constant": constant}
