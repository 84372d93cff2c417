"""Small random ONNX graphs of every dialect, with the scales that keep their values in range."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
QONNX = "qonnx.custom_op.general"


class Graph:
    """Nodes and constants; `x` is the tensor that the next layer reads."""

    def __init__(self, rng, shape):
        self.rng = rng
        self.nodes, self.constants = [], []
        self.shape = list(shape)  # without the batch
        self.x = "input"
        self.count = 0

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def constant(self, values, dtype=None):
        name = self.name("c")
        array = np.asarray(values, dtype=dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def packed(self, values, kind):
        """A constant of 4-bit integers."""
        name = self.name("c")
        values = np.asarray(values)
        self.constants.append(helper.make_tensor(name, kind, values.shape, values.flatten().tolist()))
        return name

    def node(self, op, inputs, domain="", **attributes):
        output = self.name(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [output], name=output + "_node", domain=domain, **attributes))
        return output

    def chance(self, p):
        return self.rng.random() < p

    def model(self, input_type, output_type, opset=21, flat=False):
        batch = [1] + (self.shape0 if not flat else [int(np.prod(self.shape0))])
        source = helper.make_tensor_value_info("input", input_type, batch)
        result = helper.make_tensor_value_info(self.x, output_type, None)
        graph = helper.make_graph(self.nodes, "random", [source], [result], self.constants)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1), helper.make_opsetid(QONNX, 2)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="oracle")
        model.ir_version = 10
        return model


def scale_near(rng, value):
    """A scale of a random mantissa."""
    return np.float32(value * rng.uniform(0.7, 1.4))


def window(graph, pads=True, dilation=True):
    """Kernel, strides, pads and dilations that fit the current image."""
    rng = graph.rng
    _, height, width = graph.shape
    kernel, strides, before, after, dilations = [], [], [], [], []
    for size in (height, width):
        k = int(rng.integers(1, 4))
        d = int(rng.integers(1, 3)) if dilation and rng.random() < 0.3 else 1
        while d * (k - 1) + 1 > size:
            k, d = max(1, k - 1), 1
        p = int(rng.integers(0, k)) if pads else 0
        q = int(rng.integers(0, k)) if pads else 0
        kernel.append(k)
        strides.append(int(rng.integers(1, 3)))
        before.append(p)
        after.append(q)
        dilations.append(d)
    shape = [
        (size + b + a - (d * (k - 1) + 1)) // s + 1
        for size, b, a, d, k, s in zip((height, width), before, after, dilations, kernel, strides)
    ]
    return {"kernel_shape": kernel, "strides": strides, "pads": before + after, "dilations": dilations}, shape
