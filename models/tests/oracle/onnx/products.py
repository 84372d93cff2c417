"""Products and sums of quantised tensors that follow from one, or of one and a quantised constant: swish in parts, squares, normalisation;
as QDQ and as QLinearMul and QLinearAdd."""

import numpy as np
from onnx import TensorProto

from graphs import MICROSOFT, scale_near
from shapes import start

F = np.float32


def quantised(graph, y, spread, zero=None):
    """QuantizeLinear of values up to about `spread`, and what it makes of them."""
    zero = int(graph.rng.integers(20, 230)) if zero is None else zero
    scale = scale_near(graph.rng, spread / 255)
    y = graph.node("QuantizeLinear", [y] + graph.parameters(scale, zero))
    return y, graph.node("DequantizeLinear", [y] + graph.parameters(scale, zero)), (scale, zero)


def constant(graph, shape):
    """A quantised constant behind DequantizeLinear: one number, or one for each channel; its integers, scale and zero point."""
    rng = graph.rng
    dims = [] if graph.chance(0.4) else [1, shape, 1, 1] if graph.chance(0.5) else [shape, 1, 1]
    zero, scale = int(rng.integers(0, 256)), F(rng.uniform(0.005, 0.02))
    ints = graph.constant(rng.integers(0, 256, dims), np.uint8)
    return ints, graph.parameters(scale, zero)


def swish(graph, real):
    """x sigmoid(x), x hardsigmoid(x) or x clip(x + 3, 0, 6) / 6, each part quantised."""
    kind = graph.rng.integers(3)
    if kind == 0:
        _, gate, _ = quantised(graph, graph.node("Sigmoid", [real]), 1.0, 0)
    elif kind == 1:
        _, gate, _ = quantised(graph, graph.node("HardSigmoid", [real]), 1.0, 0)
    else:
        three, parameters = graph.constant(np.uint8(255)), graph.parameters(F(3 / 255), 0)
        _, y, _ = quantised(graph, graph.node("Add", [real, graph.node("DequantizeLinear", [three] + parameters)]), 9.0)
        y = graph.node("Clip", [y, graph.constant(F(0)), graph.constant(F(6))])
        _, gate, _ = quantised(graph, y, 6.0, 0)
    pair = [real, gate] if graph.chance(0.5) else [gate, real]
    return graph.node("Mul", pair)


def square(graph, real):
    return graph.node("Mul", [real, real])


def by_constant(graph, real):
    ints, parameters = constant(graph, graph.shape[0])
    number = graph.node("DequantizeLinear", [ints] + parameters)
    op = str(graph.rng.choice(["Mul", "Add"]))
    return graph.node(op, [real, number] if graph.chance(0.5) else [number, real])


def difference(graph, real):
    """Of two tensors, which ONNX Runtime has in floats."""
    _, other, _ = quantised(graph, graph.node("MaxPool", [real], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 8.0)
    return graph.node("Sub", [real, other] if graph.chance(0.5) else [other, real])


def sum_of_one(graph, real):
    """The sum or the difference of a tensor and a quantised function of it, and functions behind it, by channel or not."""
    rng = graph.rng
    op = str(rng.choice(["LeakyRelu", "Sigmoid", "Abs", "Relu"]))
    y = graph.node(op, [real], **({"alpha": float(rng.uniform(0.01, 0.5))} if op == "LeakyRelu" else {}))
    _, other, _ = quantised(graph, y, 1.0 if op == "Sigmoid" else 8.0)
    y = graph.node(str(rng.choice(["Add", "Add", "Sub"])), [real, other] if graph.chance(0.5) else [other, real])
    dims = [] if graph.chance(0.5) else [1, graph.shape[0], 1, 1]
    kind = rng.integers(5)
    if kind == 0:
        return graph.node("Sigmoid", [y])
    if kind == 1:
        return graph.node("Mul", [y, graph.constant(F(0.5))])
    if kind <= 3:
        sign = -1 if kind == 3 else 1
        y = graph.node("Mul", [y, graph.constant(rng.uniform(0.3, 1.2, dims).astype(F) * F(sign))])
        return graph.node("Add", [y, graph.constant(rng.uniform(-1, 1, dims).astype(F))])
    return y


def operators(graph):
    """QLinearMul and QLinearAdd themselves."""
    x = [graph.x] + graph.parameters(graph.scale, graph.zero)
    y = (scale_near(graph.rng, 8 / 255), int(graph.rng.integers(20, 230)))
    if graph.chance(0.3):
        gate = (F(1 / 256), 0)
        sigmoid = graph.node("QLinearSigmoid", x + graph.parameters(*gate), domain=MICROSOFT)
        inputs, op = x + [sigmoid] + graph.parameters(*gate), "QLinearMul"
    else:
        ints, parameters = constant(graph, graph.shape[0])
        number, op = [ints] + parameters, str(graph.rng.choice(["QLinearMul", "QLinearAdd"]))
        inputs = x + number if graph.chance(0.5) else number + x
    graph.x = graph.node(op, inputs + graph.parameters(*y), domain=MICROSOFT)
    graph.scale, graph.zero = y


KINDS = [swish, swish, square, by_constant, by_constant, difference, operators, sum_of_one]


def run(rng, samples, index):
    graph = start(rng, (3, 5, 4))
    kind = KINDS[index % len(KINDS)]
    graph.scale, graph.zero = scale_near(rng, 8 / 255), int(rng.integers(40, 210))
    graph.start = (graph.scale, graph.zero)
    graph.nodes.clear()
    graph.enter()
    if kind is operators:
        operators(graph)
    else:
        graph.quantised(kind(graph, graph.real()), 4.0)
    model = graph.model(TensorProto.FLOAT, TensorProto.UINT8, opset=18)
    return model, graph.answers(model, samples)
