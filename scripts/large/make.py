"""ResNet-50 and MobileNet V2 for images of 224 x 224 pixels and 1000 classes, with random weights, quantised by ONNX Runtime.

    python make.py FOLDER [resnet50] [mobilenet_v2] [--seed 1] [--side 224] [--per-channel] [--float]

writes FOLDER/NETWORK.onnx (quantize_static: QDQ, unsigned activations, signed weights, by tensor unless told otherwise) and
FOLDER/NETWORK.npz: `images` (5 of noise, `[5, 3, side, side]`, float32) and `outputs`, what ONNX Runtime makes of them. The same
versions write the same bytes. With --float also FOLDER/NETWORK-float.onnx, before the quantiser, and FOLDER/NETWORK-images.npy, the images
alone: what `lowkey quantise` takes. It needs numpy, onnx and onnxruntime, and no network.

The architectures are those of He et al., "Deep Residual Learning for Image Recognition" (2015), with the stride in the 3 x 3 convolution as
torchvision has it, and of Sandler et al., "MobileNetV2" (2018), normalisation folded into the convolutions as exporters do. Weights are
normal with variance 2 / fan-in, of the last convolution of a residual block half of that, so that activations neither die nor grow; biases
are normal.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

CLASSES, CALIBRATION, IMAGES = 1000, 4, 5


class Graph:
    """A float network under construction. Methods take and return names of tensors."""

    def __init__(self, rng):
        self.rng, self.nodes, self.weights, self.channels = rng, [], [], {"image": 3}

    def constant(self, name, array):
        self.weights.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def add(self, op, inputs, channels, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        self.channels[name] = channels
        return name

    def conv(self, x, channels, kernel, stride=1, groups=1, gain=2.0):
        """A convolution with bias, of odd kernel, padded to the same size."""
        shape = (channels, self.channels[x] // groups, kernel, kernel)
        number = len(self.nodes)
        weight = self.constant(f"w{number}", self.rng.normal(0, (gain / np.prod(shape[1:])) ** 0.5, shape))
        bias = self.constant(f"b{number}", self.rng.normal(0, 0.1, channels))
        return self.add(
            "Conv",
            [x, weight, bias],
            channels,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=groups,
        )

    def relu(self, x):
        return self.add("Relu", [x], self.channels[x])

    def relu6(self, x):
        if not any(weight.name == "six" for weight in self.weights):
            self.constant("zero", 0.0)
            self.constant("six", 6.0)
        return self.add("Clip", [x, "zero", "six"], self.channels[x])

    def sum(self, x, y):
        return self.add("Add", [x, y], self.channels[x])

    def classes(self, x):
        """The mean of each channel, and a dense layer."""
        mean = self.add("GlobalAveragePool", [x], self.channels[x])
        flat = self.add("Flatten", [mean], self.channels[x], axis=1)
        weight = self.constant("w", self.rng.normal(0, self.channels[x] ** -0.5, (CLASSES, self.channels[x])))
        bias = self.constant("b", self.rng.normal(0, 0.1, CLASSES))
        return self.add("Gemm", [flat, weight, bias], CLASSES, transB=1)


def resnet50(graph):
    x = graph.relu(graph.conv("image", 64, 7, 2))
    x = graph.add("MaxPool", [x], 64, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for width, blocks, first in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for stride in [first] + (blocks - 1) * [1]:
            y = graph.relu(graph.conv(x, width, 1))
            y = graph.relu(graph.conv(y, width, 3, stride))
            y = graph.conv(y, 4 * width, 1, gain=1.0)
            if graph.channels[x] != 4 * width:
                x = graph.conv(x, 4 * width, 1, stride, gain=1.0)
            x = graph.relu(graph.sum(x, y))
    return graph.classes(x)


def mobilenet_v2(graph):
    x = graph.relu6(graph.conv("image", 32, 3, 2))
    settings = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, width, blocks, first in settings:
        for stride in [first] + (blocks - 1) * [1]:
            inner = expansion * graph.channels[x]
            y = x if expansion == 1 else graph.relu6(graph.conv(x, inner, 1))
            y = graph.relu6(graph.conv(y, inner, 3, stride, groups=inner))
            y = graph.conv(y, width, 1, gain=1.0)
            x = graph.sum(x, y) if stride == 1 and graph.channels[x] == width else y
    return graph.classes(graph.relu6(graph.conv(x, 1280, 1)))


NETWORKS = {"resnet50": resnet50, "mobilenet_v2": mobilenet_v2}


def images(rng, count, side):
    """Noise of three coarsenesses, of variance 1."""
    total = np.zeros((count, 3, side, side))
    for cell in (1, 4, 16):
        few = -(-side // cell)
        part = rng.normal(0, 3**-0.5, (count, 3, few, few))
        total += part.repeat(cell, 2).repeat(cell, 3)[:, :, :side, :side]
    return total.astype(np.float32)


class Reader(CalibrationDataReader):
    def __init__(self, data):
        self.data = iter([{"image": image[None]} for image in data])

    def get_next(self):
        return next(self.data, None)


def floats(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def write(name, folder, seed, side, per_channel, keep):
    rng = np.random.default_rng(seed)
    graph = Graph(rng)
    last = NETWORKS[name](graph)
    ends = ([floats("image", [1, 3, side, side])], [floats(last, [1, CLASSES])])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(graph.nodes, name, *ends, graph.weights), opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    path = folder / f"{name}.onnx"
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "float.onnx")
        onnx.save(model, source)
        quantize_static(
            source,
            path,
            Reader(images(rng, CALIBRATION, side)),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    data = images(rng, IMAGES, side)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = np.stack([session.run(None, {"image": image[None]})[0][0] for image in data])
    np.savez(folder / f"{name}.npz", images=data, outputs=outputs)
    if keep:
        onnx.save(model, folder / f"{name}-float.onnx")
        np.save(folder / f"{name}-images.npy", data)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; classes of its images: {outputs.argmax(1).tolist()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="*", choices=[[], *NETWORKS])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--per-channel", action="store_true")
    parser.add_argument("--float", action="store_true", help="keep the network before the quantiser")
    options = parser.parse_intermixed_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.networks or NETWORKS:
        write(name, options.folder, options.seed, options.side, options.per_channel, options.float)


main()
