"""Operations between a layer and its quantisers: over some ONNX Runtime moves these and merges all into integers, behind others it adds up floats.

Accumulators lie halfway between two steps every so often (`ties`), where the order of additions decides, or never.
"""

import tempfile

import numpy as np
import onnx
from onnx import TensorProto

from moves import ints
from qdq import Qdq
from runtimes import runtime

# Outputs of a matrix, and samples of each graph.
OUTPUTS, SAMPLES = 8, 24
# Most inputs of a matrix for which the bound on its float errors says something.
FEW = 16
SHAPE = [4, 2, 2]


def flat(graph, x):
    return graph.node("Reshape", [x, ints(graph, [1, -1])])


def image(graph, x):
    return graph.node("Reshape", [x, ints(graph, [1, *SHAPE])])


def squeezed(graph, x, axes):
    """Takes dimensions away, and adds them again."""
    if graph.opset < 13:
        return graph.node("Unsqueeze", [graph.node("Squeeze", [x], axes=axes)], axes=axes)
    return graph.node("Unsqueeze", [graph.node("Squeeze", [x, ints(graph, axes)]), ints(graph, axes)])


def clip(graph, x):
    return graph.node("Clip", [x, graph.constant(np.float32(-1)), graph.constant(np.float32(0.7))])


def padded(graph, x):
    return graph.node("Pad", [x, ints(graph, [0, 0, 1, 0, 0, 0, 0, 1])])


def expanded(graph, x):
    row = graph.node("Slice", [x, ints(graph, [0]), ints(graph, [1]), ints(graph, [2])])
    return graph.node("Expand", [row, ints(graph, [1, 1, 2, 1])])


def resized(graph, x):
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    return graph.node("Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


BETWEEN = {
    "nothing": lambda graph, x: x,
    "MaxPool": lambda graph, x: graph.node("MaxPool", [x], kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
    "Reshape": lambda graph, x: image(graph, flat(graph, x)),
    "Transpose": lambda graph, x: graph.node("Transpose", [x], perm=[0, 1, 3, 2]),
    "Squeeze": lambda graph, x: squeezed(graph, x, [0]),
    "Slice": lambda graph, x: graph.node("Slice", [x, ints(graph, [0]), ints(graph, [1]), ints(graph, [2])]),
    "Flatten": lambda graph, x: image(graph, graph.node("Flatten", [x])),
    "Gather": lambda graph, x: graph.node("Gather", [x, ints(graph, [2, 0, 0, 3])], axis=1),
    "Split": lambda graph, x: graph.node("Split", [x, ints(graph, [4])], axis=1) if graph.opset >= 13 else x,
    "Concat": lambda graph, x: graph.node("Concat", [x, x], axis=2),
    "Expand": expanded,
    "DepthToSpace": lambda graph, x: graph.node("SpaceToDepth", [graph.node("DepthToSpace", [x], blocksize=2)], blocksize=2),
    "Resize": resized,
    "Pad": padded,
    "Relu": lambda graph, x: graph.node("Relu", [x]),
    "Clip": clip,
}
LAYERS = ["Conv", "Gemm", "MatMul", "GlobalAveragePool"]
PLACES = ["before", "behind", "weights"]


def weights(graph, shape, unit, place, between):
    """Small weights, so that sums of floats are near exact ones."""
    values = graph.rng.integers(-20, 21, shape).astype(np.int8)
    parameters = [graph.constant(np.float32(unit)), graph.constant(np.int8(0))]
    if place != "weights":
        return graph.node("DequantizeLinear", [graph.constant(values)] + parameters)
    stored = {"Transpose": values.T, "Reshape": values.flatten()}.get(between, values)
    w = graph.node("DequantizeLinear", [graph.constant(np.ascontiguousarray(stored))] + parameters)
    if between == "Transpose":
        return graph.node("Transpose", [w])
    if between in ("Reshape", "Flatten"):
        return graph.node("Reshape", [graph.node("Flatten", [w]) if between == "Flatten" else w, ints(graph, shape)])
    return graph.node("Identity", [w])


def layer(graph, x, kind, unit, bias, place, between):
    """A layer on x, which is an image; the number of its channels stays small."""
    count = SHAPE[0] if kind == "Conv" else OUTPUTS
    real = graph.rng.normal(0, 1, count).astype(np.float32) if bias else None
    extra = [graph.constant(real)] if bias and kind != "MatMul" else []
    if kind == "Conv":
        channels = [count, SHAPE[0], 1, 1]
        w = weights(graph, channels, unit, place if between != "Transpose" else "", between)
        return graph.node("Conv", [x, w] + extra, kernel_shape=[1, 1])
    if kind == "GlobalAveragePool":
        return graph.node(kind, [x])
    w = weights(graph, [graph.elements, OUTPUTS], unit, place, between)
    y = graph.node(kind, [x, w] + extra)
    return graph.node("Add", [y, graph.constant(real)]) if bias and kind == "MatMul" else y


def merged(model):
    """Whether the optimised graph has no layer of floats, and no quantiser at its end."""
    import onnxruntime

    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = file.name
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(file.name).graph
    floats = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits", "Add", "GlobalAveragePool"}
    last = next(node.op_type for node in graph.node if graph.output[0].name in node.output)
    return last != "QuantizeLinear" and not {node.op_type for node in graph.node} & floats


def run(rng, samples, index):
    place = PLACES[index % 3]
    between = list(BETWEEN)[index // 3 % len(BETWEEN)]
    if (place, between) == ("before", "Clip"):
        # No network has a layer on real numbers.
        between = "Relu"
    if place == "behind" and between in ("Pad", "Concat"):
        between = "Gather"
    kind = LAYERS[int(rng.integers(0, 4))] if place == "before" else LAYERS[int(rng.integers(0, 3))]
    ties, bias = bool(rng.random() < 0.6), bool(rng.random() < 0.3)
    graph = Qdq(rng, SHAPE, np.uint8)
    graph.opset = int(rng.choice([11, 12, 13, 14, 17, 19, 20, 21, 22, 23]))
    graph.unit = None
    graph.enter()
    x = graph.real()
    if place == "before":
        x = BETWEEN[between](graph, x)
    (probe,) = runtime(with_output(graph, x)).run(None, {"input": np.zeros([1, *SHAPE], np.float32)})
    graph.elements = probe.size
    if kind in ("Gemm", "MatMul"):
        # The last step before the layer is a passed one, or the Flatten.
        if (place, between) == ("before", "Relu"):
            # Right before the layer: a network has none on an activation that is moved.
            x = graph.node("Relu", [flat(graph, graph.real())])
        else:
            x = graph.node("Flatten", [x]) if place == "before" and between == "Flatten" else flat(graph, x)
    unit = np.float32(rng.uniform(0.003, 0.01))
    y = layer(graph, x, kind, unit, bias, place, between)
    if place == "behind":
        y = BETWEEN[between](graph, y) if kind == "Conv" else behind(graph, y, between)
    # A step of 8 units has ties, one of 7 has none.
    step = np.float32(graph.scale * unit) * np.float32(8 if ties else 7)
    step = step if kind in ("Conv", "Gemm", "MatMul") else np.float32(graph.scale * np.float32(2 if ties else 1.37))
    graph.zero = 0 if between in ("Relu", "Clip") and place == "behind" else int(rng.integers(60, 200))
    graph.x = graph.node("QuantizeLinear", [y] + graph.parameters(step, graph.zero))
    model = graph.model(TensorProto.FLOAT, TensorProto.UINT8, opset=graph.opset)
    # Biases that are no whole units add roundings of their own, and averages of many values have ties at most steps.
    doubtful = ties or bias or kind == "GlobalAveragePool" or kind in ("Gemm", "MatMul") and graph.elements > FEW
    return model, graph.answers(model, SAMPLES) | {"merged": merged(model), "ties": doubtful, "what": f"{between} {place} {kind}, opset {graph.opset}"}


def behind(graph, y, between):
    """The operation on a vector."""
    if between in ("Relu", "Clip", "Flatten"):
        return BETWEEN[between](graph, y) if between != "Flatten" else graph.node("Flatten", [y])
    if between == "Reshape":
        return graph.node("Reshape", [y, ints(graph, [1, 4, 2])])
    if between == "Transpose":
        return graph.node("Transpose", [y], perm=[1, 0])
    if between == "Slice":
        return graph.node("Slice", [y, ints(graph, [2]), ints(graph, [7]), ints(graph, [1])])
    if between == "Squeeze":
        return squeezed(graph, y, [0])
    if between == "Gather":
        return graph.node("Gather", [y, ints(graph, [2, 0, 0, 3])], axis=1)
    return y


def with_output(graph, name):
    """The graph up to a tensor."""
    last, graph.x = graph.x, name
    model = graph.model(TensorProto.FLOAT, TensorProto.FLOAT, opset=graph.opset)
    graph.x = last
    return model
