"""`QLinearAdd` on all pairs of bytes, signed and unsigned, with scales and zero points for which the order of its operations decides."""

import numpy as np
from onnx import TensorProto, helper

from graphs import MICROSOFT, Graph
from runtimes import runtime

F = np.float32


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


def run(rng, index):
    low, dtype, kind = [(0, np.uint8, TensorProto.UINT8), (-128, np.int8, TensorProto.INT8)][index % 2]
    _, (sa, sb, sc), z, zc = max((candidate(rng, low) for _ in range(40)), key=lambda found: found[0])
    graph = Graph(rng, [2, 256, 256])
    graph.shape0 = list(graph.shape)
    unit, sa, sb, sc = (graph.constant(s) for s in (F(1), sa, sb, sc))
    zero, zero_c = (graph.constant(v, dtype) for v in (z, zc))
    quantised = graph.node("QuantizeLinear", ["input", unit, zero])
    names = [graph.name("s") for _ in range(2)]
    graph.nodes.append(helper.make_node("Split", [quantised], names, name="split", axis=1, num_outputs=2))
    graph.x = graph.node("QLinearAdd", [names[0], sa, zero, names[1], sb, zero, sc, zero_c], domain=MICROSOFT)
    model = graph.model(TensorProto.FLOAT, kind, opset=18)
    x = np.stack(np.meshgrid(*[np.arange(low, low + 256) - z] * 2))
    (y,) = runtime(model).run(None, {"input": x[None].astype(F)})
    return model, {"inputs": [x.flatten().tolist()], "outputs": [(y.astype(int) - zc).flatten().tolist()], "exact": True}
