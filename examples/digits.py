"""Makes digits.onnx, which the examples in Rust read: a small network for the digits that come with Lowkey, trained in numpy and
quantised by ONNX Runtime. From the top of the repository.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

# The 360 images are those that the bundled network never saw; here all but the last 60 are for training.
images = np.load("models/zoo/digits-images.npy").astype(np.float32).reshape(-1, 64) / 15
labels = np.load("models/zoo/digits-labels.npy")

rng = np.random.default_rng(1)
w1, b1 = rng.normal(0, 0.15, (64, 32)).astype(np.float32), np.zeros(32, np.float32)
w2, b2 = rng.normal(0, 0.2, (32, 10)).astype(np.float32), np.zeros(10, np.float32)
x, y = images[:300], np.eye(10, dtype=np.float32)[labels[:300]]
for step in range(600):
    hidden = np.maximum(x @ w1 + b1, 0)
    scores = hidden @ w2 + b2
    p = np.exp(scores - scores.max(1, keepdims=True))
    back = (p / p.sum(1, keepdims=True) - y) / len(x)
    inner = (back @ w2.T) * (hidden > 0)
    for value, slope in ((w2, hidden.T @ back), (b2, back.sum(0)), (w1, x.T @ inner), (b1, inner.sum(0))):
        value -= 0.5 * slope.astype(np.float32)

weights = [numpy_helper.from_array(value, name) for name, value in (("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2))]
nodes = [
    helper.make_node("Flatten", ["image"], ["flat"], name="flatten"),
    helper.make_node("Gemm", ["flat", "w1", "b1"], ["sum"], name="hidden"),
    helper.make_node("Relu", ["sum"], ["positive"], name="relu"),
    helper.make_node("Gemm", ["positive", "w2", "b2"], ["scores"], name="scores"),
    helper.make_node("Softmax", ["scores"], ["probabilities"], name="softmax", axis=1),
]
real = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
graph = helper.make_graph(
    nodes, "digits", [real("image", ["n", 1, 8, 8])], [real("probabilities", ["n", 10])], initializer=weights
)
opset = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "float.onnx")


class Calibration(CalibrationDataReader):
    def __init__(self):
        self.images = iter(images[:100])

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"image": image.reshape(1, 1, 8, 8)}


quantize_static(
    "float.onnx",
    "examples/digits.onnx",
    Calibration(),
    quant_format=QuantFormat.QDQ,
    op_types_to_quantize=["Flatten", "Gemm", "Relu"],
)
