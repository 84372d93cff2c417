"""Writes a model file as a QONNX graph: `python3 -m train.qonnx FILE.lowkey OUT.onnx` in models/.

Every real number of the graph is exact in 32-bit floats, so any runtime of QONNX computes the integers of the model file:

- The input are the integers of the model file, as floats; activations have the scale 1.
- A layer whose requantisation shifts by s has weights of the scale 2^-s, and its bias is times 2^-s. The activation behind it,
  clamp((z + bias) >> s, 0, 2^bits - 1), is then a Quant of the scale 1 that rounds by FLOOR.
- A sum over a window is an AveragePool times the number of its elements, a power of two.
- An identity with the multiplier m is a Mul by m 2^-s.
"""

import argparse
import pathlib

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from .integer import IntegerNet

QONNX = "qonnx.custom_op.general"
#: Floats hold all integers up to here.
EXACT = 2**24


class Graph:
    """A graph that grows; its tensors are names."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def node(self, op, inputs, label, **attributes):
        """label: a part of the node's name."""
        self.count += 1
        output = f"{label}_{op.lower()}{self.count}"
        domain = QONNX if op in ("Quant", "BipolarQuant") else ""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def constant(self, values):
        self.count += 1
        name = f"constant{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def quant(self, x, label, *, scale, bits, signed, rounding):
        """narrow: signed integers are +-(2^(bits-1) - 1)."""
        numbers = [self.constant(value) for value in (scale, 0, bits)]
        return self.node("Quant", [x, *numbers], label, signed=signed, narrow=signed, rounding_mode=rounding)


def qonnx(net):
    """The graph of an IntegerNet, as a model of ONNX."""
    graph, architecture = Graph(), net.architecture
    assert architecture["input"].get("zero_point", 0) == 0, "an input without a zero point"
    bits = architecture["input"]["bits"]
    names = [graph.quant("image", "image", scale=1, bits=bits, signed=0, rounding="FLOOR")]
    tops = [2**bits - 1]
    for index, node in enumerate(architecture["nodes"], start=1):
        x = names[node["input"]] if "input" in node else None
        top = tops[node["input"]] if "input" in node else None
        label, op = node["name"], node["op"]
        if op == "linear":
            shifts = [n["shift"][0] for n in architecture["nodes"] if n["op"] == "requantise" and n["input"] == index]
            x = linear(graph, net, node, names, scale=2.0 ** -max(shifts, default=0))
            assert len(shifts) <= 1, f"{label}: one requantisation"
            top = None
        elif op == "requantise":
            assert len(node["shift"]) == 1 and not {"top", "zero_point"} & node.keys(), f"{label}: a shift and a width"
            x = graph.quant(x, label, scale=1, bits=node["bits"], signed=0, rounding="FLOOR")
            top = 2 ** node["bits"] - 1
        elif op == "flatten":
            x = graph.node("Flatten", [x], label, axis=1)
        else:
            x, top = pool(graph, node, x, top)
        names.append(x)
        tops.append(top)
    last = architecture["nodes"][architecture["output"] - 1]
    assert last["op"] == "linear" and last["terms"][0]["term"] == "dense", "a matrix at the end"
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *architecture["input"]["shape"]])
    shape = ["batch", last["terms"][0]["outputs"]]
    result = helper.make_tensor_value_info(names[architecture["output"]], TensorProto.FLOAT, shape)
    body = helper.make_graph(graph.nodes, architecture["name"], [image], [result], graph.constants)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(QONNX, 1)]
    return helper.make_model(body, opset_imports=opsets, producer_name="lowkey", ir_version=10)


def linear(graph, net, node, names, *, scale):
    """scale * (sum of the terms + bias): the first product has the bias, the others are added."""
    label, total = node["name"], None
    bias = net.tensors[label + ".bias"].astype(np.float64)
    assert np.abs(bias).max(initial=0) < EXACT, f"{label}: a bias that floats hold"
    # The first of these is added to nothing.
    order = sorted(enumerate(node["terms"]), key=lambda term: term[1]["term"] == "identity")
    for number, term in order:
        x = names[term["input"]]
        if term["term"] == "identity":
            assert total is not None, f"{label}: weights"
            part = graph.node("Mul", [x, graph.constant(term["multiplier"] * scale)], label)
        else:
            inputs = [x, weights(graph, net.tensors[f"{label}.{number}.weight"], term["weight_bits"], label, scale)]
            if total is None:
                inputs.append(graph.constant(bias * scale))
            if term["term"] == "dense":
                part = graph.node("Gemm", inputs, label, transB=1)
            else:
                window = {"strides": term["stride"], "pads": term["padding"], "dilations": term.get("dilation", [1, 1])}
                part = graph.node("Conv", inputs, label, kernel_shape=term["kernel"], group=term["groups"], **window)
        total = part if total is None else graph.node("Add", [total, part], label)
    return total


def weights(graph, values, bits, label, scale):
    values = graph.constant(values * scale)
    if bits == 1:
        return graph.node("BipolarQuant", [values, graph.constant(scale)], label)
    return graph.quant(values, label, scale=scale, bits=bits, signed=1, rounding="ROUND")


def pool(graph, node, x, top):
    """A pool's name and largest value."""
    window = {"kernel_shape": node["kernel"], "strides": node["stride"], "pads": node.get("padding", [0] * 4)}
    label, count = node["name"], int(np.prod(node["kernel"]))
    if node["op"] == "max_pool":
        return graph.node("MaxPool", [x], label, **window), top
    assert count & (count - 1) == 0 and count * top < EXACT, f"{label}: a mean that floats hold"
    x = graph.node("AveragePool", [x], label, count_include_pad=1, **window)
    if node["op"] == "sum_pool":
        return graph.node("Mul", [x, graph.constant(count)], label), count * top
    assert node["op"] == "avg_pool", node["op"]
    multiplier, offset, divisor = node["multiplier"], node["offset"], 2 ** node["shift"]
    assert multiplier * count * top + offset < EXACT, f"{label}: sums that floats hold"
    if count * multiplier != divisor:
        x = graph.node("Mul", [x, graph.constant(count * multiplier / divisor)], label)
    if offset != 0:
        x = graph.node("Add", [x, graph.constant(offset / divisor)], label)
    top = (multiplier * count * top + offset) // divisor
    return graph.quant(x, label, scale=1, bits=max(top.bit_length(), 1), signed=0, rounding="FLOOR"), top


def main():
    parser = argparse.ArgumentParser(prog="python3 -m train.qonnx", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    model = qonnx(IntegerNet(options.file))
    checker.check_model(model)
    save(model, options.out)


if __name__ == "__main__":
    main()
