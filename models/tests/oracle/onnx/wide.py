"""Layers of thousands of inputs, quantised by channel by ONNX Runtime's own static quantiser."""

import os
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtimes import runtime

# Inputs and outputs of a dense layer, or channels of a 3x3 convolution; the first two of every run, then these in turn.
DENSE = [(4096, 64), (4096, 4096), (2048, 10), (8192, 3)]
CONV = [(256, 32), (512, 16)]


def floats(rng, index):
    """A float network of one wide layer, a Relu and a small layer."""

    def weights(*shape):
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    if index % 3 < 2:
        inputs, outputs = DENSE[index // 3 * 2 % len(DENSE) + index % 3]
        shape, end = [1, inputs], [1, 5]
        arrays = {"w": weights(outputs, inputs), "v": weights(5, outputs)}
        nodes = [("Gemm", ["x", "w", "b"], "a", {"transB": 1}), ("Relu", ["a"], "r", {}), ("Gemm", ["r", "v"], "y", {"transB": 1})]
    else:
        inputs, outputs = CONV[index // 3 % len(CONV)]
        shape, end = [1, inputs, 4, 4], [1, 3, 2, 2]
        arrays = {"w": weights(outputs, inputs, 3, 3), "v": weights(3, outputs, 1, 1)}
        nodes = [("Conv", ["x", "w", "b"], "a", {}), ("Relu", ["a"], "r", {}), ("Conv", ["r", "v"], "y", {})]
    arrays["b"] = (0.1 * rng.standard_normal(outputs)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, end)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model, shape


def run(rng, samples, index):
    """The quantised model, and its inputs and outputs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model, shape = floats(rng, index)

    def image():
        return np.maximum(rng.standard_normal(shape), 0).astype(np.float32)

    class Images(CalibrationDataReader):
        def __init__(self):
            self.images = iter([{"x": image()} for _ in range(6)])

        def get_next(self):
            return next(self.images, None)

    form = QuantFormat.QDQ if rng.random() < 0.5 else QuantFormat.QOperator
    with tempfile.TemporaryDirectory() as folder:
        before, after = os.path.join(folder, "before.onnx"), os.path.join(folder, "after.onnx")
        onnx.save(model, before)
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(before, after, Images(), quant_format=form, per_channel=True, **types)
        model = onnx.load(after)
    constants = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    quantiser = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    scale, zero = constants[quantiser.input[1]], int(constants[quantiser.input[2]])
    last = next(node for node in model.graph.node if "y" in node.output)
    assert last.op_type == "DequantizeLinear", last.op_type
    unit = np.float64(constants[last.input[1]])
    session = runtime(model)
    inputs, outputs = [], []
    for sample in range(samples):
        levels = rng.integers(0, 256, shape) if sample % 2 else np.clip(np.rint(image() / scale) + zero, 0, 255)
        values = levels.astype(np.int64) - zero
        [y] = session.run(None, {"x": (values.astype(np.float32) * scale).astype(np.float32)})
        inputs.append(values.ravel().tolist())
        outputs.append(np.round(y.ravel().astype(np.float64) / unit).astype(int).tolist())
    return model, {"inputs": inputs, "outputs": outputs, "exact": True}
