"""Writes `zoo/mobilenet-v1-025-128.tflite`: MobileNet V1 (width 0.25, 128 x 128 pixels) with random weights, quantised to int8.

    python3 train/mobilenet.py [--seed 1] [--out zoo/mobilenet-v1-025-128.tflite]            # in models/

It needs numpy, flatbuffers and ai-edge-litert (for the schema). The architecture is that of Howard et al., "MobileNets" (2017), as
TensorFlow exports it: SAME padding, RELU6, an average pool, a convolution to 1001 classes, softmax. Weights are drawn at random; on
random images each channel is then brought to a random mean and deviation, as batch normalisation leaves it, so that activations
neither die nor saturate. Scales are those of such images: one per output channel for weights, one per tensor for activations.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests" / "oracle" / "tflite"))

from writer import ACTIVATIONS, PADDINGS, Graph  # noqa: E402

SIDE, CLASSES, IMAGES = 128, 1001, 6
# Output channels and stride of each pair of a depthwise and a pointwise convolution, at width 1.
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + 5 * [(512, 1)] + [(1024, 2), (1024, 1)]


def images(rng, count):
    """Random pictures: noise of several coarsenesses, `[count, side, side, 3]` of 0..=255."""
    total = np.zeros((count, SIDE, SIDE, 3))
    for size in (2, 8, 32, 128):
        noise = rng.normal(0, 1, (count, size, size, 3))
        total += noise.repeat(SIDE // size, 1).repeat(SIDE // size, 2)
    return np.clip(np.rint(127.5 + 45 * total), 0, 255).astype(np.uint8)


def patches(x, kernel, stride):
    """The windows of x with SAME padding: `[images, height, width, kernel, kernel, channels]`."""
    count, height, width, channels = x.shape
    outputs = [-(-size // stride) for size in (height, width)]
    total = [max((n - 1) * stride + kernel - size, 0) for n, size in zip(outputs, (height, width))]
    x = np.pad(x, [(0, 0)] + [(t // 2, t - t // 2) for t in total] + [(0, 0)])
    rows = [x[:, r : r + (outputs[0] - 1) * stride + 1 : stride] for r in range(kernel)]
    taps = [[row[:, :, c : c + (outputs[1] - 1) * stride + 1 : stride] for c in range(kernel)] for row in rows]
    return np.stack([np.stack(row, 3) for row in taps], 3)


def tidy(scale):
    """Five digits of a scale, so that the order of sums does not show in it."""
    return np.float32(float(f"{scale:.4e}"))


class Network:
    """A graph with the tensor that grows: its number, its scale, its real values on the images."""

    def __init__(self, rng, pictures):
        self.rng, self.graph = rng, Graph()
        self.scale = np.float32(1 / 127.5)
        self.x = pictures / 127.5 - 1
        self.number = self.input = self.graph.tensor([1, SIDE, SIDE, 3], np.int8, self.scale, -1, name="image")

    def layer(self, name, weights, products, axis, operator, options, activation):
        """Adds a convolution; `products(weights, x)` is its floating-point result without biases."""
        rng, channels = self.rng, weights.shape[axis]
        along = [1] * weights.ndim
        along[axis] = channels
        z = products(weights, self.x)
        deviation = z.reshape(-1, channels).std(0)
        factor = np.exp(rng.normal(0, 0.2, channels)) / np.maximum(deviation, 0.2 * np.median(deviation))
        weights = weights * factor.reshape(along)
        bias = rng.normal(0.6, 0.7, channels) - z.reshape(-1, channels).mean(0) * factor
        scale = np.array([tidy(value) for value in np.abs(weights).max(tuple(a for a in range(weights.ndim) if a != axis)) / 127])
        weights = np.clip(np.rint(weights / scale.reshape(along)), -127, 127).astype(np.int8)
        bias_scale = scale * self.scale
        bias = np.rint(bias / bias_scale).astype(np.int32)
        real = products(weights * scale.astype(float).reshape(along), self.x) + bias * bias_scale.astype(float)
        self.x = np.clip(real, 0, 6) if activation else real
        if activation:
            step, zero_point = tidy(self.x.max() / 255), -128
        else:
            step = tidy((self.x.max() - self.x.min()) / 255)
            zero_point = int(np.rint(-128 - self.x.min() / step))
        shape = [1, *self.x.shape[1:]]
        inputs = [
            self.number,
            self.graph.constant(weights, scale=scale, axis=axis, name=f"{name}/weights"),
            self.graph.constant(bias, scale=bias_scale, name=f"{name}/bias"),
        ]
        self.number, self.scale = self.graph.tensor(shape, np.int8, step, zero_point, name=name), step
        self.zero_point = zero_point
        options["fusedActivationFunction"] = ACTIVATIONS[activation]
        self.graph.operator(operator, inputs, [self.number], (f"{'Depthwise' if axis == 3 else ''}Conv2DOptions", options))
        share = lambda mask: 100 * mask.mean()  # noqa: E731
        print(f"{name:12} {shape} zero {share(self.x == 0):.0f} %, clipped {share(self.x >= 6):.1f} %, scale {step:.4g}")

    def convolution(self, name, outputs, kernel, stride, activation="relu6"):
        inputs = self.x.shape[3]
        weights = self.rng.normal(0, 1, (outputs, kernel, kernel, inputs))
        products = lambda w, x: np.tensordot(patches(x, kernel, stride), w, ((3, 4, 5), (1, 2, 3)))  # noqa: E731
        self.layer(name, weights, products, 0, "CONV_2D", geometry(stride), activation)

    def depthwise(self, name, stride):
        weights = self.rng.normal(0, 1, (1, 3, 3, self.x.shape[3]))
        products = lambda w, x: (patches(x, 3, stride) * w).sum((3, 4))  # noqa: E731
        self.layer(name, weights, products, 3, "DEPTHWISE_CONV_2D", {**geometry(stride), "depthMultiplier": 1}, "relu6")

    def pool(self):
        side = self.x.shape[1]
        self.x = self.x.mean((1, 2), keepdims=True)
        pooled = self.graph.tensor([1, 1, 1, self.x.shape[3]], np.int8, self.scale, self.zero_point, name="pool")
        options = dict(
            padding=PADDINGS["valid"], strideW=side, strideH=side, filterWidth=side, filterHeight=side, fusedActivationFunction=0)
        self.graph.operator("AVERAGE_POOL_2D", [self.number], [pooled], ("Pool2DOptions", options))
        self.number = pooled

    def finish(self):
        shape = [1, CLASSES]
        logits = self.graph.tensor(shape, np.int8, self.scale, self.zero_point, name="logits")
        new_shape = self.graph.constant(np.array(shape, np.int32), name="shape")
        self.graph.operator("RESHAPE", [self.number, new_shape], [logits], ("ReshapeOptions", {"newShape": shape}))
        output = self.graph.tensor(shape, np.int8, np.float32(1 / 256), -128, name="probabilities")
        self.graph.operator("SOFTMAX", [logits], [output], ("SoftmaxOptions", {"beta": 1.0}))
        return self.graph.finish([self.input], [output])


def geometry(stride):
    return dict(padding=PADDINGS["same"], strideW=stride, strideH=stride, dilationWFactor=1, dilationHFactor=1)


def build(seed):
    rng = np.random.default_rng(seed)
    network = Network(rng, images(rng, IMAGES))
    network.graph.model.description = f"MobileNet V1 0.25_128, random weights, seed {seed}"
    network.convolution("conv0", 8, 3, 2)
    for number, (outputs, stride) in enumerate(BLOCKS, 1):
        network.depthwise(f"depthwise{number}", stride)
        network.convolution(f"pointwise{number}", outputs // 4, 1, 1)
    network.pool()
    network.convolution("classes", CLASSES, 1, 1, None)
    return network.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE.parent / "zoo" / "mobilenet-v1-025-128.tflite")
    options = parser.parse_args()
    file = build(options.seed)
    options.out.write_bytes(file)
    print(f"{options.out}: {len(file)} bytes")


if __name__ == "__main__":
    main()
