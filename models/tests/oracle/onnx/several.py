"""Files with several outputs, or with the index of the largest by TopK, and what ONNX Runtime answers.

    python several.py <folder> <seed> <count>

writes `<n>.onnx` and `<n>.json`: {"kind", "shape", "inputs": [[..]], "outputs": [[[..], ..]]}: inputs are the integers q of the quantised input,
outputs real numbers, a list for each output that is part of the answer.
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
KINDS = ["heads", "auxiliary", "quantised", "images", "mixed", "softmax", "softmaxes", "topk", "topk_both", "middle", "turned"]


class Several(Graph):
    def node(self, op, *inputs, results=1, **attributes):
        names = [f"t{len(self.nodes)}_{i}" for i in range(results)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if results == 1 else names

    def layer(self, rng, x, shape, unit):
        w = self.constant(rng.integers(-100, 101, shape), np.int8)
        w = self.node("DequantizeLinear", w, self.constant(unit, F), self.constant(0, np.int8))
        return self.node("Conv", x, w) if len(shape) == 4 else self.node("Gemm", x, w, transB=1)


def grow(kind, rng):
    graph = Several()
    images = kind in ("images", "turned")
    shape = [1, 3, 5, 4] if images else [1, 8]
    x = graph.pair("x", 2.0**-6, int(rng.integers(100, 156)))
    n, m = (int(v) for v in rng.integers(2, 6, 2))
    if kind == "turned":
        y = graph.layer(rng, x, [n, 3, 2, 2], 2.0**-7)
        return graph, shape, [graph.node("Transpose", y, perm=[0, 2, 3, 1])], [0]
    if images:
        a = graph.pair(graph.layer(rng, x, [n, 3, 2, 2], 2.0**-7), 0.11, 120)
        b = graph.pair(graph.layer(rng, a, [m, n, 2, 2], 2.0**-7), 0.31, 77)
        return graph, shape, [a, b], [0, 1]
    hidden = graph.pair(graph.node("Relu", graph.layer(rng, x, [6, 8], 2.0**-7)), 2.0**-5, 0)
    a = graph.layer(rng, hidden, [n, 6], 2.0**-7)
    if kind in ("topk", "topk_both"):
        values, indices = graph.node("TopK", a, graph.constant([1], np.int64), results=2, axis=1)
        return graph, shape, [indices] if kind == "topk" else [values, indices], [0] if kind == "topk" else [1]
    if kind == "softmax":
        return graph, shape, [a, graph.node("Softmax", a, axis=1)], [0]
    if kind == "middle":
        # The softmax is an output, and something reads it.
        softmax = graph.node("Softmax", a, axis=1)
        return graph, shape, [softmax, graph.pair(softmax, F(1 / 256), 0)], [0, 1]
    if kind == "auxiliary":
        return graph, shape, [a, graph.layer(rng, x, [m, 8], 2.0**-9)], [0, 1]
    b = graph.layer(rng, hidden, [m, 6], 2.0**-7 if kind == "softmaxes" else F(0.0123))
    if kind == "softmaxes":
        return graph, shape, [graph.node("Softmax", a, axis=1), graph.node("LogSoftmax", b, axis=1)], [0, 1]
    if kind == "mixed":
        return graph, shape, [graph.pair(a, 0.2, 99), b], [0, 1]
    if kind == "quantised":
        return graph, shape, [graph.pair(a, 0.2, 99), graph.pair(b, 0.3, 140)], [0, 1]
    return graph, shape, [a, b], [0, 1]


def main():
    folder, rng, count = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2])), int(sys.argv[3])
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        graph, shape, names, wanted = grow(kind, rng)
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        kinds = [TensorProto.INT64 if "topk" in kind and at in wanted else TensorProto.FLOAT for at in range(len(names))]
        outputs = [helper.make_tensor_value_info(y, dtype, None) for y, dtype in zip(names, kinds)]
        made = helper.make_graph(graph.nodes, "several", inputs, outputs, graph.constants)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, folder / f"{number}.onnx")
        scale, zero = (numpy_helper.to_array(tensor) for tensor in graph.constants[:2])
        run = runtime(model, 1)
        case = {"kind": kind, "shape": shape, "inputs": [], "outputs": []}
        for _ in range(12):
            q = rng.integers(0, 256, shape)
            answers = run.run(None, {"x": ((q - int(zero)) * scale).astype(F)})
            case["inputs"].append(q.reshape(-1).tolist())
            case["outputs"].append([answers[at].reshape(-1).astype(float).tolist() for at in wanted])
        (folder / f"{number}.json").write_text(json.dumps(case))


main()
