"""A quantiser and its inverse for each reader of a tensor, as `quantize_static` writes them with DedicatedQDQPair. Scales stand in simple
ratios, so that many accumulators lie halfway between two steps: there sums of floats differ from integers."""

import numpy as np
from onnx import TensorProto

from qdq import Qdq

F = np.float32


def run(rng, samples, index):
    signed = index % 2 == 1
    graph = Qdq(rng, [3, 5, 6], np.int8 if signed else np.uint8)
    graph.scale, graph.zero = F(rng.uniform(0.2, 0.4)), 0 if signed else int(rng.integers(100, 150))
    graph.start, graph.unit = (graph.scale, graph.zero), None
    unit = F(rng.uniform(0.01, 0.02))
    graph.enter()
    # Something whose result is read twice.
    w = [graph.constant(rng.integers(-100, 101, [3, 3, 1, 1]), np.int8), graph.constant(unit), graph.constant(np.int8(0))]
    y = graph.node("Conv", [graph.real(), graph.node("DequantizeLinear", w)])
    own = graph.parameters(F(graph.scale * unit * F(64)), graph.zero)
    readers = []
    for _ in range(2):
        quantised = graph.node("QuantizeLinear", [y] + own)
        readers.append(graph.node("DequantizeLinear", [quantised] + own))
    scale = F(graph.scale * unit * F(64))
    if index % 4 < 2:
        gate = graph.node("Sigmoid", [readers[0]])
        graph.scale, graph.zero = F(1 / 256), graph.lo
        pair = graph.parameters(graph.scale, graph.zero)
        gate = graph.node("DequantizeLinear", [graph.node("QuantizeLinear", [gate] + pair)] + pair)
        y = graph.node("Mul", [readers[1], gate])
        graph.quantised(y, 20.0 * float(scale))
    else:
        parts = []
        last = graph.parameters(F(scale * unit * F(64)), graph.zero)
        for reader in readers:
            w = [graph.constant(rng.integers(-100, 101, [2, 3, 3, 3]), np.int8), graph.constant(unit), graph.constant(np.int8(0))]
            part = graph.node("Conv", [reader, graph.node("DequantizeLinear", w)], kernel_shape=[3, 3])
            part = graph.node("QuantizeLinear", [part] + last)
            parts.append(graph.node("DequantizeLinear", [part] + last))
        y = graph.node("Concat", parts, axis=1)
        graph.scale = F(scale * unit * F(64))
        graph.x = graph.node("QuantizeLinear", [y] + last)
    kind = TensorProto.INT8 if signed else TensorProto.UINT8
    model = graph.model(TensorProto.FLOAT, kind, opset=17)
    return model, {**graph.answers(model, samples), "signed": signed}
