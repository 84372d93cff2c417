"""Nodes and constants of a graph, in the order in which they are added."""

import numpy as np
from onnx import helper, numpy_helper

F = np.float32


class Graph:
    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value, dtype):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def pair(self, x, scale, zero):
        scale, zero = self.constant(scale, F), self.constant(zero, np.uint8)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, scale, zero), scale, zero)
