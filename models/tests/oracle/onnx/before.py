"""Files that do something with their input before they quantise it, and what ONNX Runtime makes of all grey levels and other numbers.

    python before.py <folder> <seed> <count>

writes `<n>.onnx` and `<n>.json`: {"kind", "type": "<f4" or "|u1" or "|i1", "shape", "x", "y"}: x the file's input (floats as their bits), y
its answer, the quantised tensor.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtimes import runtime

F = np.float32
KINDS = ["nhwc", "nhwc_last", "bytes", "bytes_nhwc", "signed", "norm", "norm_nhwc", "pow", "unsqueeze", "reshape", "length", "clip", "relu"]
REFUSED = ["sqrt", "image", "root"]


class Graph:
    def __init__(self, rng, x):
        self.rng, self.x, self.nodes, self.constants = rng, x, [], []

    def constant(self, value, dtype=F):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op, *inputs, **attributes):
        self.nodes.append(helper.make_node(op, [self.x, *inputs], [f"t{len(self.nodes)}"], **attributes))
        self.x = self.nodes[-1].output[0]

    def step(self, channels, last=False):
        """A step with one number, or with one for each channel."""
        op = str(self.rng.choice(["Add", "Sub", "Mul", "Div"]))
        list_ = self.rng.uniform(0.3, 1.5, channels if self.rng.random() < 0.7 else 1)
        self.node(op, self.constant(list_ if last or list_.size == 1 else list_.reshape(-1, 1, 1)))

    def norm(self, channels):
        numbers = [self.rng.uniform(0.5, 1.5, channels), self.rng.normal(0, 0.3, channels), self.rng.normal(0, 0.3, channels)]
        self.node("BatchNormalization", *[self.constant(v) for v in numbers + [self.rng.uniform(0.1, 1, channels)]])


def grow(kind, rng):
    graph, channels = Graph(rng, "x"), int(rng.choice([1, 2, 3]))
    shape, dtype = [1, channels, 16, 16], "<f4"
    turned = [0, 3, 1, 2]
    if kind == "nhwc":
        shape = [1, 16, 16, channels]
        graph.node("Transpose", perm=turned)
        graph.step(channels)
    elif kind == "nhwc_last":
        shape = [1, 16, 16, channels]
        graph.step(channels, last=True)
        graph.node("Transpose", perm=turned)
        graph.step(channels)
    elif kind in ("bytes", "bytes_nhwc", "signed"):
        dtype = "|i1" if kind == "signed" else "|u1"
        graph.node("Cast", to=TensorProto.FLOAT)
        graph.node("Div", graph.constant(255.0))
        if kind == "bytes_nhwc":
            shape = [1, 16, 16, channels]
            graph.step(channels, last=True)
            graph.node("Transpose", perm=turned)
        graph.step(channels)
        graph.step(channels)
    elif kind == "norm":
        graph.norm(channels)
    elif kind == "norm_nhwc":
        shape = [1, 16, 16, channels]
        graph.node("Transpose", perm=turned)
        graph.norm(channels)
    elif kind == "pow":
        graph.step(channels)
        graph.node("Pow", graph.constant(float(rng.choice([2, 3]))))
        graph.step(channels)
    elif kind == "unsqueeze":
        shape, channels = [1, 16, 16], 1
        graph.node("Unsqueeze", graph.constant([1], np.int64))
        graph.step(1)
    elif kind == "reshape":
        shape = [1, 256 * channels]
        graph.node("Reshape", graph.constant([1, channels, 16, 16], np.int64))
        graph.step(channels)
    elif kind == "length":
        shape = [1, 256, channels]
        graph.node("Transpose", perm=[0, 2, 1])
        graph.node("Mul", graph.constant(rng.uniform(0.3, 1.5, channels).reshape(-1, 1)))
    elif kind == "clip":
        graph.step(channels)
        low, high = (graph.constant(F(v)) for v in (rng.uniform(-0.5, 0.2), rng.uniform(0.4, 0.9)))
        graph.node("Clip", *[[low, high], [low], ["", high]][int(rng.integers(3))])
        graph.step(channels)
    elif kind == "relu":
        graph.node("Relu")
        graph.step(channels)
    elif kind == "sqrt":
        graph.node("Sqrt")
    elif kind == "root":
        graph.node("Pow", graph.constant(0.5))
    elif kind == "image":
        graph.node("Sub", graph.constant(rng.normal(0, 1, [channels, 16, 16])))
    scale, zero = F(rng.uniform(0.008, 0.02)), int(rng.integers(90, 160))
    pair = [graph.constant(scale), graph.constant(zero, np.uint8)]
    graph.node("QuantizeLinear", *pair)
    graph.node("DequantizeLinear", *pair)
    graph.node("MaxPool", kernel_shape=[1] if kind == "length" else [1, 1])
    graph.node("QuantizeLinear", *pair)
    return graph, shape, dtype, scale


def main():
    folder, rng, count = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2])), int(sys.argv[3])
    for number in range(count):
        kinds = KINDS + REFUSED
        kind = kinds[number % len(kinds)]
        graph, shape, dtype, scale = grow(kind, rng)
        types = {"<f4": TensorProto.FLOAT, "|u1": TensorProto.UINT8, "|i1": TensorProto.INT8}
        inputs = [helper.make_tensor_value_info("x", types[dtype], shape)]
        outputs = [helper.make_tensor_value_info(graph.x, TensorProto.UINT8, None)]
        made = helper.make_graph(graph.nodes, "before", inputs, outputs, graph.constants)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, folder / f"{number}.onnx")
        if dtype == "<f4":
            ties = rng.integers(-300, 300, shape).astype(F) / F(2) * scale
            x = np.where(rng.random(shape) < 0.4, ties, np.abs(rng.normal(0, 1, shape))).astype(F)
            stored = x.reshape(-1).view(np.uint32).tolist()
        else:
            grey = np.arange(256).astype(np.uint8 if dtype == "|u1" else np.int8)
            x = np.tile(grey.reshape(16, 16), (shape[1] if shape[2] == 16 and shape[3] == 16 else shape[3], 1, 1))[None]
            x = np.ascontiguousarray(x if list(x.shape) == shape else x.transpose(0, 2, 3, 1))
            stored = x.reshape(-1).astype(int).tolist()
        (y,) = runtime(model, 1).run(None, {"x": x})
        case = {"kind": kind, "type": dtype, "shape": shape, "x": stored, "y": y.reshape(-1).astype(int).tolist()}
        case["refused"] = kind in REFUSED
        (folder / f"{number}.json").write_text(json.dumps(case))


main()
