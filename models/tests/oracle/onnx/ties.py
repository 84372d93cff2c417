"""Sums of all pairs of bytes and normalisations of all bytes, with numbers for which the order and rounding of float operations decides."""

import numpy as np
from onnx import TensorProto, helper

from graphs import MICROSOFT, Graph
from runtimes import runtime

F = np.float32
TYPES = [(0, np.uint8, TensorProto.UINT8), (-128, np.int8, TensorProto.INT8)]


def fma(x, y, z):
    return (np.float64(x) * np.float64(y) + np.float64(z)).astype(F)


def candidate(rng, low):
    """Random scales and zero points, and for how many pairs it matters whether both constant products are rounded."""
    sa, sb, sc = rng.uniform(0.01, 0.1, 3).astype(F)
    z, zc = (int(zero) for zero in rng.integers(low, low + 256, 2))
    ra, rb = sa / sc, sb / sc
    a, b = np.meshgrid(*[np.arange(low, low + 256).astype(F)] * 2)
    sums = [fma(a, ra, fma(b, rb, F(zc) - part)) for part in (fma(ra, z, rb * F(z)), ra * F(z) + rb * F(z))]
    one, other = (np.clip(np.rint(v), low, low + 255) for v in sums)
    return int((one != other).sum()), (sa, sb, sc), z, zc


def integer_sum(rng, low, dtype):
    """`QLinearAdd` of the parts of one tensor; the values q of its input."""
    _, (sa, sb, sc), z, zc = max((candidate(rng, low) for _ in range(40)), key=lambda found: found[0])
    graph = Graph(rng, [2, 256, 256])
    unit, sa, sb, sc = (graph.constant(s) for s in (F(1), sa, sb, sc))
    zero, zero_c = (graph.constant(v, dtype) for v in (z, zc))
    quantised = graph.node("QuantizeLinear", ["input", unit, zero])
    names = [graph.name("s") for _ in range(2)]
    graph.nodes.append(helper.make_node("Split", [quantised], names, name="split", axis=1, num_outputs=2))
    graph.x = graph.node("QLinearAdd", [names[0], sa, zero, names[1], sb, zero, sc, zero_c], domain=MICROSOFT)
    return graph, np.stack(np.meshgrid(*[np.arange(low, low + 256)] * 2)), F(1), z, zc


def normalised(rng, low, dtype):
    """`BatchNormalization` of a quantised tensor, with factors that depend on how a reciprocal square root is rounded."""
    count, z, zc = 40_000, int(rng.integers(low, low + 256)), int(rng.integers(low + 64, low + 192))
    sx, sy = rng.uniform(0.01, 0.05, 2).astype(F)
    gamma, beta = rng.uniform(0.5, 1.5, count).astype(F), rng.normal(0, 0.3, count).astype(F)
    mean, variance = rng.normal(0, 1, count).astype(F), rng.uniform(0.1, 3, count).astype(F)
    x = (np.arange(low, low + 256) - z).astype(F) * sx
    root = np.sqrt(variance + F(1e-5))
    one, other = (np.rint((x * s[:, None] + (beta - mean * s)[:, None]) / sy) for s in (gamma * (F(1) / root), gamma / root))
    chosen = np.argsort(-(one != other).sum(1), kind="stable")[:32]
    graph = Graph(rng, [32, 16, 16])
    pairs = [[graph.constant(s), graph.constant(zero, dtype)] for s, zero in ((sx, z), (sy, zc))]
    quantised = graph.node("QuantizeLinear", ["input", *pairs[0]])
    numbers = [graph.constant(numbers[chosen]) for numbers in (gamma, beta, mean, variance)]
    real = graph.node("BatchNormalization", [graph.node("DequantizeLinear", [quantised, *pairs[0]]), *numbers])
    graph.x = graph.node("QuantizeLinear", [real, *pairs[1]])
    return graph, np.arange(low, low + 256).reshape(1, 16, 16).repeat(32, 0), sx, z, zc


def run(rng, _, index):
    low, dtype, kind = TYPES[index % 2]
    graph, q, scale, z, zc = (normalised if index % 4 > 1 else integer_sum)(rng, low, dtype)
    graph.shape0 = list(graph.shape)
    model = graph.model(TensorProto.FLOAT, kind, opset=18)
    x = q - z
    (y,) = runtime(model).run(None, {"input": x[None].astype(F) * scale})
    return model, {"inputs": [x.flatten().tolist()], "outputs": [(y.astype(int) - zc).flatten().tolist()], "exact": True}
