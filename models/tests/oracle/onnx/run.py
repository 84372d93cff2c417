"""What the runtime of a file computes: ONNX Runtime, or the QONNX executor for files with nodes of QONNX.

    python run.py <file.onnx> <case.json> <seed> <count>

writes a case: {"inputs": [[..]], "outputs": [[..]]} with `count` random images, an input as integers x = q - zero_point of the quantised
input, an output as the real numbers (or integers) that the runtime makes of it.
"""

import json
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

from runtimes import executor, runtime

warnings.filterwarnings("ignore")


def constants(model):
    """The numbers that are known, by name."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
    return known


def steps(model, name, known):
    """What the file does with real numbers before it quantises them: the node that quantises, and the numbers before it as a function."""
    done = []
    while True:
        reader = next(node for node in model.graph.node if name in node.input)
        other = [known.get(n) for n in reader.input if n != name]
        if reader.op_type in ("Add", "Sub", "Mul", "Div"):
            done.append((reader.op_type, list(reader.input).index(name) == 0, np.float32(other[0])))
        elif reader.op_type not in ("Reshape", "Flatten", "Identity"):
            return reader, done
        name = reader.output[0]


def undone(done, v):
    """The input that the steps make `v` of."""
    for op, first, c in reversed(done):
        v = {"Add": v - c, "Mul": v / c, "Sub": v + c if first else c - v, "Div": v * c if first else c / v}[op]
    return v


def redone(done, v):
    """The steps in 32-bit floats."""
    v = np.float32(v)
    for op, first, c in done:
        v = {"Add": v + c, "Mul": v * c, "Sub": v - c if first else c - v, "Div": v / c if first else c / v}[op]
    return v


def quantised(model, rng, shape):
    """Random integers x for the input, and what the graph reads for them."""
    source, known = model.graph.input[0], constants(model)
    kind = source.type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        limits = np.iinfo(dtype)
        q = smooth(rng, shape, limits.min, limits.max)
        reader = next(node for node in model.graph.node if source.name in node.input)
        zero = known.get(reader.input[2]) if len(reader.input) > 2 else 0
        return q - int(zero), q.astype(dtype)
    reader, done = steps(model, source.name, known)
    if reader.op_type == "BipolarQuant":
        # The network's input is 0 or 1.
        x = smooth(rng, shape, 0, 1)
        feed = np.float32(undone(done, 2.0 * x - 1.0))
        assert ((redone(done, feed) >= 0) == x).all()
        return x, feed
    scale, zero = float(known[reader.input[1]]), known[reader.input[2]] if len(reader.input) > 2 else np.uint8(0)
    if reader.op_type == "QuantizeLinear":
        low, high = np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max
        for clip in model.graph.node:
            if clip.op_type == "Clip" and clip.input[0] == reader.output[0]:
                low, high = max(low, int(known[clip.input[1]])), min(high, int(known[clip.input[2]]))
    else:
        bits = int(known[reader.input[3]])
        signed, narrow = ({a.name: a.i for a in reader.attribute}[name] for name in ("signed", "narrow"))
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    x = smooth(rng, shape, low, high) - int(zero)
    feed = np.float32(undone(done, x * np.float32(scale)))
    assert (np.rint(redone(done, feed) / np.float32(scale)) == x).all()
    return x, feed


def smooth(rng, shape, low, high):
    """Noise of several coarsenesses over the whole range."""
    sides = [1] * (4 - len(shape)) + list(shape)
    total = sum(
        rng.normal(0, 1, (*sides[:2], -(-sides[2] // cell), -(-sides[3] // cell)))
        .repeat(cell, 2)
        .repeat(cell, 3)[:, :, : sides[2], : sides[3]]
        for cell in (1, 2, 4)
    )
    middle = (low + high) / 2
    return np.clip(np.rint(middle + total * (high - low) / 5), low, high).astype(np.int64).reshape(shape)


def main():
    path, case, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    model = onnx.load(path)
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in known]
    shape = [dim.dim_value or 1 for dim in inputs[0].type.tensor_type.shape.dim]
    for info in [*inputs, *model.graph.output]:
        if info.type.tensor_type.shape.dim:
            info.type.tensor_type.shape.dim[0].dim_value = 1
    if any("qonnx" in node.domain for node in model.graph.node):
        run = executor(model, fold=True)
    else:
        session = runtime(model, threads=1)

        def run(x):
            return session.run(None, {session.get_inputs()[0].name: x})[0]

    rng = np.random.default_rng(seed)
    result = {"inputs": [], "outputs": []}
    for _ in range(count):
        x, feed = quantised(model, rng, [1, *shape[1:]])
        result["inputs"].append(x.flatten().tolist())
        result["outputs"].append(run(feed).flatten().astype(np.float64).tolist())
    with open(case, "w") as file:
        json.dump(result, file)


main()
