"""Writes a model file as an ONNX graph: `python3 -m train.qonnx FILE.lowkey OUT.onnx [--qdq]` in models/.

The graph is one of QONNX (Quant and BipolarQuant nodes), or with --qdq one that ONNX Runtime knows (QuantizeLinear, Clip and
DequantizeLinear). Every real number in it is exact in 32-bit floats, so the runtime computes the integers of the model file:

- The input are the integers of the model file, as floats; activations have the scale 1.
- A layer whose requantisation shifts by s has weights of the scale 2^-s, and its bias is times 2^-s. The activation behind it,
  clamp((z + bias) >> s, 0, 2^bits - 1), is then a quantiser of the scale 1 that rounds down.
- QuantizeLinear rounds to the nearest, halves to even. There 1/2 - 2^-(s+1) is taken off before, so that v = (z + bias) / 2^s is
  rounded down and no half ever occurs: v <= floor(v) + 1 - 2^-s. Weights are doubled and have the scale 2^-(s+1), because ONNX Runtime
  has biases in units of weight times input. Weights of 8 bits do not fit then.
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

    def constant(self, values, dtype=np.float32):
        self.count += 1
        name = f"constant{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name


class Qonnx(Graph):
    """Quantisers of QONNX."""

    #: What is subtracted from (z + bias) / divisor so that the quantiser rounds down: its numerator over 2 * divisor.
    rounding = staticmethod(lambda divisor: 0)

    def activation(self, x, bits, label):
        numbers = [self.constant(value) for value in (1, 0, bits)]
        return self.node("Quant", [x, *numbers], label, signed=0, narrow=0, rounding_mode="FLOOR")

    def weights(self, values, scale, bits, label):
        values = self.constant(values * scale)
        if bits == 1:
            return self.node("BipolarQuant", [values, self.constant(scale)], label)
        numbers = [self.constant(value) for value in (scale, 0, bits)]
        return self.node("Quant", [values, *numbers], label, signed=1, narrow=1, rounding_mode="ROUND")


class Qdq(Graph):
    """Quantisers of ONNX."""

    rounding = staticmethod(lambda divisor: divisor - 1)

    def activation(self, x, bits, label):
        scale = [self.constant(1), self.constant(0, np.uint8)]
        x = self.node("QuantizeLinear", [x, *scale], label)
        if bits < 8:
            x = self.node("Clip", [x, self.constant(0, np.uint8), self.constant(2**bits - 1, np.uint8)], label)
        return self.node("DequantizeLinear", [x, *scale], label)

    def weights(self, values, scale, bits, label):
        assert np.abs(values).max() <= 127, f"{label}: weights that int8 holds when they are doubled"
        inputs = [self.constant(values, np.int8), self.constant(scale), self.constant(0, np.int8)]
        return self.node("DequantizeLinear", inputs, label)


def exported(net, graph):
    """An IntegerNet as a model of ONNX; graph: an empty Qonnx or Qdq."""
    architecture = net.architecture
    assert architecture["input"].get("zero_point", 0) == 0, "an input without a zero point"
    bits = architecture["input"]["bits"]
    names, tops = [graph.activation("image", bits, "image")], [2**bits - 1]
    for index, node in enumerate(architecture["nodes"], start=1):
        label, op = node["name"], node["op"]
        x, top = (names[node["input"]], tops[node["input"]]) if "input" in node else (None, None)
        if op == "linear":
            shifts = [n["shift"][0] for n in architecture["nodes"] if n["op"] == "requantise" and n["input"] == index]
            assert len(shifts) <= 1, f"{label}: one requantisation"
            x = linear(graph, net, node, names, divisor=2 ** shifts[0] if shifts else None)
        elif op == "requantise":
            assert len(node["shift"]) == 1 and not {"top", "zero_point"} & node.keys(), f"{label}: a shift and a width"
            x, top = graph.activation(x, node["bits"], label), 2 ** node["bits"] - 1
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


def linear(graph, net, node, names, *, divisor):
    """(sum of the terms + bias) / divisor, ready to be rounded down; without a divisor it is the network's output."""
    label, total = node["name"], None
    less = graph.rounding(divisor) if divisor else 0
    fine = 2 if less else 1
    scale = 1 / (fine * (divisor or 1))
    bias = fine * net.tensors[label + ".bias"].astype(np.int64) - less
    assert np.abs(bias).max(initial=0) < EXACT, f"{label}: a bias that floats hold"
    # Identities come last: the first product has the bias.
    for number, term in sorted(enumerate(node["terms"]), key=lambda term: term[1]["term"] == "identity"):
        x = names[term["input"]]
        if term["term"] == "identity":
            assert total is not None, f"{label}: weights"
            part = graph.node("Mul", [x, graph.constant(fine * term["multiplier"] * scale)], label)
        else:
            weight = fine * net.tensors[f"{label}.{number}.weight"].astype(np.int64)
            inputs = [x, graph.weights(weight, scale, term["weight_bits"], label)]
            if total is None:
                inputs.append(graph.constant(bias * scale))
            if term["term"] == "dense":
                part = graph.node("Gemm", inputs, label, transB=1)
            else:
                window = {"strides": term["stride"], "pads": term["padding"], "dilations": term.get("dilation", [1, 1])}
                part = graph.node("Conv", inputs, label, kernel_shape=term["kernel"], group=term["groups"], **window)
        total = part if total is None else graph.node("Add", [total, part], label)
    return total


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
    assert 2 * (multiplier * count * top + offset) < EXACT, f"{label}: sums that floats hold"
    if count * multiplier != divisor:
        x = graph.node("Mul", [x, graph.constant(count * multiplier / divisor)], label)
    x = graph.node("Add", [x, graph.constant((2 * offset - graph.rounding(divisor)) / (2 * divisor))], label)
    top = (multiplier * count * top + offset) // divisor
    return graph.activation(x, max(top.bit_length(), 1), label), top


def main():
    parser = argparse.ArgumentParser(prog="python3 -m train.qonnx", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--qdq", action="store_true", help="for ONNX Runtime")
    options = parser.parse_args()
    model = exported(IntegerNet(options.file), Qdq() if options.qdq else Qonnx())
    checker.check_model(model)
    save(model, options.out)


if __name__ == "__main__":
    main()
