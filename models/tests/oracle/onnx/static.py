"""Float networks with residuals, quantised by ONNX Runtime's own static quantiser."""

import os
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphs import Graph, window
from runtimes import runtime


class Floats(Graph):
    """A network before quantisation."""

    def weights(self, shape):
        taps = np.prod(shape[1:])
        return self.constant(self.rng.normal(0, 1.4 / taps**0.5, shape).astype(np.float32))

    def conv(self, kernel=None, out=None, groups=1):
        channels = self.shape[0]
        out = out or int(self.rng.integers(2, 7))
        if kernel is None:
            attributes, size = window(self)
            kernel = attributes["kernel_shape"]
        else:
            attributes, size = {"kernel_shape": kernel, "pads": [k // 2 for k in kernel] * 2}, self.shape[1:]
        inputs = [self.x, self.weights([out, channels // groups, *kernel])]
        if self.chance(0.8):
            inputs.append(self.constant(self.rng.normal(0, 0.3, out).astype(np.float32)))
        self.x = self.node("Conv", inputs, group=groups, **attributes)
        self.shape = [out, *size]

    def activation(self):
        kind = self.rng.choice(["relu", "relu", "relu6", "none"])
        if kind == "relu":
            self.x = self.node("Relu", [self.x])
        elif kind == "relu6":
            self.x = self.node("Clip", [self.x, self.constant(np.float32(0)), self.constant(np.float32(6))])

    def block(self):
        kind = self.rng.choice(["conv", "conv", "depthwise", "residual", "pool", "concat"])
        if kind == "depthwise":
            self.conv([3, 3], self.shape[0], self.shape[0])
        elif kind == "residual":
            x = self.x
            self.conv([3, 3], self.shape[0])
            self.x = self.node("Add", [self.x, x])
        elif kind == "concat":
            x, channels = self.x, self.shape[0]
            self.conv([1, 1], 2)
            self.x = self.node("Concat", [x, self.x], axis=1)
            self.shape[0] = channels + 2
            return
        elif kind == "pool":
            attributes, size = window(self, pads=False, dilation=False)
            self.x = self.node("MaxPool", [self.x], **attributes)
            self.shape[1:] = size
            return
        else:
            self.conv()
        self.activation()

    def head(self):
        if self.chance(0.5):
            self.x = self.node("GlobalAveragePool", [self.x])
            self.shape[1:] = [1, 1]
        self.x = self.node("Flatten", [self.x], axis=1)
        inputs, outputs = int(np.prod(self.shape)), int(self.rng.integers(3, 8))
        bias = self.constant(self.rng.normal(0, 0.3, outputs).astype(np.float32))
        self.x = self.node("Gemm", [self.x, self.weights([outputs, inputs]), bias], transB=1)
        self.shape = [outputs]


def run(rng, samples, form):
    """The quantised model, and its inputs and outputs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    graph = Floats(rng, [int(rng.integers(1, 4)), int(rng.integers(5, 10)), int(rng.integers(5, 10))])
    graph.shape0 = list(graph.shape)
    graph.conv()
    graph.activation()
    for _ in range(int(rng.integers(1, 5))):
        graph.block()
    graph.head()
    model = graph.model(TensorProto.FLOAT, TensorProto.FLOAT, opset=17)
    del model.opset_import[1:]
    shape = [1] + graph.shape0

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.data = iter([{"input": rng.normal(0, 1, shape).astype(np.float32)} for _ in range(8)])

        def get_next(self):
            return next(self.data, None)

    signed = rng.random() < 0.3
    activations = QuantType.QInt8 if signed else QuantType.QUInt8
    with tempfile.TemporaryDirectory() as folder:
        before, after = os.path.join(folder, "a.onnx"), os.path.join(folder, "b.onnx")
        onnx.save(model, before)
        quantize_static(
            before,
            after,
            Reader(),
            quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
            per_channel=bool(rng.random() < 0.5),
            activation_type=activations,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(after)
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    first = next(node for node in model.graph.node if "input" in node.input)
    last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    scale, zero = (constants[name] for name in first.input[1:3])
    result = constants[last.input[1]]
    session = runtime(model)
    low, high = (-128, 127) if signed else (0, 255)
    inputs, outputs = [], []
    for _ in range(samples):
        q = rng.integers(low, high + 1, shape)
        x = q - int(zero)
        (y,) = session.run(None, {"input": (x.astype(np.float32) * scale).astype(np.float32)})
        inputs.append(x.flatten().tolist())
        outputs.append(np.round(y.flatten().astype(np.float64) / np.float64(result)).astype(int).tolist())
    assert last.op_type == "DequantizeLinear", last.op_type
    return model, {"inputs": inputs, "outputs": outputs, "exact": True}
