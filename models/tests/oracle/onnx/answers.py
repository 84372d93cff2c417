"""Files that end in every way, and what ONNX Runtime answers.

    python answers.py <folder> <seed> <count>

writes `<n>.onnx` and `<n>.json`: {"kind", "inputs": [[..]], "outputs": [[..]], "classes": [..]}: inputs are the integers q of the quantised
input, outputs the runtime's own answer, classes what it computes: of an arg max its result, of a sole sigmoid whether it is above a half,
absent where the file computes none.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from plain import Graph
from runtimes import runtime

F = np.float32
KINDS = [
    "argmax", "argmax_last", "argmax_keep", "argmax_image", "argmax_image_last", "softmax", "softmax_argmax", "log_softmax", "tanh",
    "sigmoid", "sigmoid_one", "sigmoid_one_quantised", "one", "quantised", "quantised_image", "qlinear", "dequantised", "softmax_image",
    "scaled", "negated", "complement",
]


def grow(kind, rng):
    graph = Graph()
    image = "image" in kind or kind == "qlinear"
    channels, classes = 3, 1 if "one" in kind else int(rng.integers(2, 6))
    shape = [1, channels, 3, 4] if image else [1, 8]
    scale, zero = 1 / 64, int(rng.integers(100, 156))
    x = graph.pair("x", scale, zero)
    size = (classes, channels, 2, 2) if image else (classes, 8)
    # Few values, so that outputs are often equal.
    weights = rng.integers(-2, 3, size).astype(np.int8)
    w = graph.node("DequantizeLinear", graph.constant(weights, np.int8), graph.constant(1 / 8, F), graph.constant(0, np.int8))
    if kind == "qlinear":
        q = graph.nodes[0].output[0]
        y_scale, y_zero = graph.constant(0.05, F), graph.constant(int(rng.integers(90, 160)), np.uint8)
        names = [graph.constant(scale, F), graph.constant(zero, np.uint8), graph.constant(weights, np.int8), graph.constant(1 / 8, F),
                 graph.constant(0, np.int8), y_scale, y_zero]
        del graph.nodes[1:]
        y = graph.node("QLinearConv", q, *names)
        return graph, y, shape, TensorProto.UINT8, classes
    y = graph.node("Conv", x, w) if image else graph.node("Gemm", x, w, transB=1)
    axis = {"axis": 1}
    if kind.startswith("argmax"):
        y = graph.node("ArgMax", y, keepdims=int("keep" in kind or rng.random() < 0.5), select_last_index=int("last" in kind), **axis)
    elif kind == "softmax_argmax":
        y = graph.node("ArgMax", graph.node("Softmax", y, **axis), keepdims=0, **axis)
    elif kind.startswith("softmax"):
        y = graph.node("Softmax", y, **axis)
    elif kind == "log_softmax":
        y = graph.node("LogSoftmax", y, **axis)
    elif kind == "tanh":
        y = graph.node("Tanh", y)
    elif kind == "sigmoid_one_quantised":
        y = graph.pair(graph.node("Sigmoid", graph.pair(y, 0.05, 128)), 1 / 256, 0)
    elif kind.startswith("sigmoid"):
        y = graph.node("Sigmoid", y)
    elif kind.startswith("quantised"):
        y = graph.node("QuantizeLinear", y, graph.constant(0.05, F), graph.constant(int(rng.integers(90, 160)), np.uint8))
        return graph, y, shape, TensorProto.UINT8, classes
    elif kind == "dequantised":
        y = graph.pair(y, 0.05, int(rng.integers(90, 160)))
    elif kind == "scaled":
        # The mean and the standard deviation of what was learnt.
        y = graph.pair(y, 0.05, int(rng.integers(90, 160)))
        y = graph.node("Mul", y, graph.constant(1.7, F))
        y = graph.node("Add", y, graph.constant(rng.normal(0, 3, classes), F))
    elif kind == "negated":
        y = graph.node("Neg", graph.pair(y, 0.05, int(rng.integers(90, 160))))
    elif kind == "complement":
        y = graph.pair(graph.node("Sigmoid", graph.pair(y, 0.05, 128)), 1 / 256, 0)
        y = graph.node("Sub", graph.constant(1, F), y)
    kind_of = TensorProto.INT64 if "argmax" in kind else TensorProto.FLOAT
    return graph, y, shape, kind_of, classes


def main():
    folder, rng, count = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2])), int(sys.argv[3])
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        graph, y, shape, dtype, _ = grow(kind, rng)
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info(y, dtype, None)]
        made = helper.make_graph(graph.nodes, "answer", inputs, outputs, graph.constants)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, folder / f"{number}.onnx")
        scale, zero = (numpy_helper.to_array(tensor) for tensor in graph.constants[:2])
        run = runtime(model, 1)
        case = {"kind": kind, "inputs": [], "outputs": [], "classes": []}
        for _ in range(30):
            q = rng.choice([zero, zero + 1, zero - 3, zero + 40, 7, 250], shape).astype(np.int64)
            (answer,) = run.run(None, {"x": ((q - int(zero)) * scale).astype(F)})
            case["inputs"].append(q.reshape(-1).tolist())
            case["outputs"].append(answer.reshape(-1).astype(float).tolist())
            if "argmax" in kind and "image" not in kind:
                case["classes"].append(int(answer.reshape(-1)[0]))
            elif kind.startswith("sigmoid_one"):
                case["classes"].append(int(answer.reshape(-1)[0] > 0.5))
        (folder / f"{number}.json").write_text(json.dumps(case))


main()
