"""Random small TFLite graphs, and what LiteRT computes on random inputs.

    python graphs.py <folder> <seed> <count> [kind]

writes, for each graph, `<n>.tflite`, `<n>.inputs` (the input's values less its smallest stored value, bytes, batch after batch),
`<n>.double` and `<n>.single` (the output's values less its zero point, 32-bit integers): what the reference kernels and what
XNNPACK compute. Prints one line per graph: its number and its operators.
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import interpreter as litert
from more import More
from writer import ACTIVATIONS, PADDINGS, Graph

IMAGES = 6
RESOLVERS = [("double", litert.OpResolverType.BUILTIN_REF), ("single", litert.OpResolverType.BUILTIN)]
# Kinds that the reference kernels have not, or have wrong.
SINGLE = ("elu", "sum_axes")


class Random(More):
    """A graph that grows at random; `self.x` is a tensor number with what is known of it."""

    def __init__(self, rng, unsigned=False):
        self.rng, self.graph, self.names = rng, Graph(), []
        self.dtype = np.uint8 if unsigned else np.int8
        self.lo, self.hi = (0, 255) if unsigned else (-128, 127)

    def tensor(self, shape, scale, zero_point, **more):
        number = self.graph.tensor(shape, self.dtype, scale, zero_point, **more)
        return {"number": number, "shape": list(shape), "scale": float(np.float32(scale)), "zero_point": zero_point}

    def zero_point(self):
        return int(self.rng.choice([self.lo, self.hi - 127, int(self.rng.integers(self.lo, self.hi + 1))]))

    def start(self, shape):
        self.x = self.input = self.tensor(shape, self.rng.uniform(0.005, 0.05), self.zero_point())

    def operator(self, name, inputs, output, options=None):
        self.names.append(name)
        self.graph.operator(name, inputs, [output["number"]], options)
        self.x = output

    def activation(self):
        return self.rng.choice([None, "relu", "relu6", "relu_n1_to_1"], p=[0.4, 0.25, 0.3, 0.05])

    def filter(self, shape, axis, zeroes=0.1):
        """Random weights and biases; the axis of channels is that of scales."""
        rng, channels = self.rng, shape[axis]
        each = rng.random() < 0.8 and self.dtype == np.int8 and not (axis == 0 and len(shape) == 2 and rng.random() < 0.5)
        scale = rng.uniform(0.001, 0.02, channels if each else 1).astype(np.float32)
        if self.dtype == np.int8:
            weights, zero_point = rng.integers(-127, 128, shape), 0
        else:
            weights, zero_point = rng.integers(0, 256, shape), int(rng.integers(1, 255))
        if rng.random() < zeroes:
            weights[rng.random(shape) < 0.5] = zero_point
        taps = np.prod(shape) // channels
        spread = 40 * 73 * np.sqrt(taps)
        bias = rng.normal(0, spread * rng.choice([0, 0.3, 1]), channels).astype(np.int32)
        number = self.graph.constant(weights.astype(self.dtype), scale=scale, zero_point=zero_point, axis=axis if each else 0)
        bias_scale = scale * np.float32(self.x["scale"])
        return number, self.graph.constant(bias, scale=bias_scale, zero_point=0), spread, scale

    def result(self, shape, spread, scale):
        """A tensor in which sums of this spread fill a good part of the range."""
        step = self.x["scale"] * float(np.median(scale)) * spread / self.rng.uniform(10, 70)
        return self.tensor(shape, step, self.zero_point())

    def window(self, size, kernel, stride, dilation, padding):
        extent = dilation * (kernel - 1) + 1
        return -(-size // stride) if padding == "same" else (size - extent) // stride + 1

    def geometry(self, kernels, strides, dilations=(1,)):
        """Kernel, stride, dilation (down and right each), padding and the size of the result."""
        rng, size = self.rng, self.x["shape"][1:3]
        kernel, stride, dilation = ([int(v) for v in rng.choice(of, 2)] for of in (kernels, strides, dilations))
        if stride != [1, 1]:
            dilation = [1, 1]
        padding = str(rng.choice(["same", "valid"]))
        if any(s < d * (k - 1) + 1 for s, d, k in zip(size, dilation, kernel)):
            padding = "same"
        result = [self.window(*part, padding) for part in zip(size, kernel, stride, dilation)]
        fields = dict(padding=PADDINGS[padding], strideH=stride[0], strideW=stride[1])
        return kernel, result, fields, dict(dilationHFactor=dilation[0], dilationWFactor=dilation[1])

    def conv(self):
        rng, channels = self.rng, self.x["shape"][3]
        kernel, size, fields, dilation = self.geometry([1, 2, 3], [1, 1, 2], [1, 1, 2])
        groups = 2 if channels % 2 == 0 and self.dtype == np.int8 and rng.random() < 0.3 else 1
        outputs = groups * int(rng.integers(1, 9 // groups))
        weights, bias, spread, scale = self.filter([outputs, *kernel, channels // groups], 0)
        options = fields | dilation | dict(fusedActivationFunction=ACTIVATIONS[self.activation()])
        output = self.result([1, *size, outputs], spread, scale)
        inputs = [self.x["number"], weights, bias]
        self.operator("CONV_2D", inputs, output, ("Conv2DOptions", options))

    def depthwise(self):
        multiplier = int(self.rng.choice([1, 1, 2]))
        kernel, size, fields, dilation = self.geometry([1, 2, 3], [1, 2], [1, 1, 2])
        if fields["strideH"] != fields["strideW"]:  # the runtime knows no others
            fields["strideH"] = fields["strideW"] = 1
            parts = zip(self.x["shape"][1:3], kernel, [1, 1], [1, 1], 2 * ["same"])
            size, fields["padding"] = [self.window(*part) for part in parts], PADDINGS["same"]
            dilation = dict(dilationHFactor=1, dilationWFactor=1)
        outputs = self.x["shape"][3] * multiplier
        weights, bias, spread, scale = self.filter([1, *kernel, outputs], 3)
        activation = dict(depthMultiplier=multiplier, fusedActivationFunction=ACTIVATIONS[self.activation()])
        output = self.result([1, *size, outputs], spread, scale)
        inputs = [self.x["number"], weights, bias]
        self.operator("DEPTHWISE_CONV_2D", inputs, output, ("DepthwiseConv2DOptions", fields | dilation | activation))

    def dense(self):
        """A matrix on a vector, on an image as a vector, or at each position of an image."""
        shape, outputs = self.x["shape"], int(self.rng.integers(1, 12))
        inputs = int(np.prod(shape))
        if inputs > 400:  # accumulators times multipliers of more than 50 bits are refused
            return self.mean()
        way = self.rng.choice(["reshape", "as it is", "everywhere"]) if len(shape) == 4 else "vector"
        options = dict(fusedActivationFunction=ACTIVATIONS[self.activation()])
        result = [1, outputs]
        if way == "reshape":
            self.reshape([1, inputs])
        elif way == "everywhere":
            inputs, result, options["keepNumDims"] = shape[3], [*shape[:3], outputs], True
        weights, bias, spread, scale = self.filter([outputs, inputs], 0)
        output = self.result(result, spread, scale)
        # Biases may be left out.
        bias = -1 if self.rng.random() < 0.2 else bias
        self.operator("FULLY_CONNECTED", [self.x["number"], weights, bias], output, ("FullyConnectedOptions", options))

    def squeeze(self):
        """To one position, without the dimensions of 1, and back."""
        self.mean(keep=True)
        channels, scale, zero_point = self.x["shape"][3], self.x["scale"], self.x["zero_point"]
        output = self.tensor([1, channels], scale, zero_point)
        self.operator("SQUEEZE", [self.x["number"]], output, ("SqueezeOptions", {"squeezeDims": [1, 2]}))
        output = self.tensor([1, 1, channels], scale, zero_point)
        axis = self.graph.constant(np.array(1, np.int32))
        self.operator("EXPAND_DIMS", [self.x["number"], axis], output, ("ExpandDimsOptions", {}))
        self.reshape([1, 1, 1, channels])

    def reshape(self, shape):
        number = self.graph.constant(np.array(shape, np.int32))
        output = self.tensor(shape, self.x["scale"], self.x["zero_point"])
        self.operator("RESHAPE", [self.x["number"], number], output, ("ReshapeOptions", {"newShape": shape}))

    def dynamic_reshape(self):
        """As exports with a free batch have it: SHAPE, STRIDED_SLICE, PACK, RESHAPE."""
        graph, inputs = self.graph, int(np.prod(self.x["shape"]))
        number = lambda values: graph.constant(np.array(values, np.int32))
        shape = graph.tensor([len(self.x["shape"])], np.int32)
        graph.operator("SHAPE", [self.x["number"]], [shape], ("ShapeOptions", {"outType": 2}))
        batch = graph.tensor([], np.int32)
        ends = [number([0]), number([1]), number([1])]
        graph.operator("STRIDED_SLICE", [shape, *ends], [batch], ("StridedSliceOptions", {"shrinkAxisMask": 1}))
        packed = graph.tensor([2], np.int32)
        graph.operator("PACK", [batch, number(inputs)], [packed], ("PackOptions", {"valuesCount": 2, "axis": 0}))
        output = self.tensor([1, inputs], self.x["scale"], self.x["zero_point"], signature=[-1, inputs])
        self.names += ["SHAPE", "STRIDED_SLICE", "PACK"]
        self.operator("RESHAPE", [self.x["number"], packed], output, ("ReshapeOptions", {"newShape": []}))

    def pool(self, name, padding=None):
        kernel, size, fields, _ = self.geometry([1, 2, 3], [1, 2])
        if padding and fields["padding"] != PADDINGS[padding]:
            return
        output = self.tensor([1, *size, self.x["shape"][3]], self.x["scale"], self.x["zero_point"])
        fields |= dict(
            filterHeight=kernel[0], filterWidth=kernel[1], fusedActivationFunction=ACTIVATIONS[self.activation()])
        self.operator(name, [self.x["number"]], output, ("Pool2DOptions", fields))

    def max_pool(self):
        self.pool("MAX_POOL_2D")

    def average_pool(self):
        self.pool("AVERAGE_POOL_2D", "valid")

    def mean(self, keep=None):
        _, height, width, channels = self.x["shape"]
        keep = bool(self.rng.random() < 0.5) if keep is None else keep
        shape = [1, 1, 1, channels] if keep else [1, channels]
        output = self.tensor(shape, self.x["scale"] * self.rng.uniform(0.2, 1.2), self.zero_point())
        axes = self.graph.constant(np.array([1, 2], np.int32))
        self.operator("MEAN", [self.x["number"], axes], output, ("ReducerOptions", {"keepDims": keep}))

    def pad(self):
        _, height, width, channels = self.x["shape"]
        pads = self.rng.integers(0, 3, 4)
        shape = [1, height + int(pads[0] + pads[1]), width + int(pads[2] + pads[3]), channels]
        pads = self.graph.constant(np.array([[0, 0], pads[:2], pads[2:], [0, 0]], np.int32))
        output = self.tensor(shape, self.x["scale"], self.x["zero_point"])
        self.operator("PAD", [self.x["number"], pads], output, ("PadOptions", {}))
        self.average_pool() if self.rng.random() < 0.3 else self.conv()
        if self.names[-1] == "PAD":
            self.depthwise()

    def add(self):
        first = self.x
        shape = first["shape"]
        self.conv_like(shape)
        second = self.x
        if self.rng.random() < 0.2:
            second = first
        scale = np.hypot(first["scale"], second["scale"]) * self.rng.uniform(0.5, 1.2)
        output = self.tensor(shape, scale, self.zero_point())
        options = {"fusedActivationFunction": ACTIVATIONS[self.rng.choice([None, "relu", "relu6"])]}
        self.operator("ADD", [first["number"], second["number"]], output, ("AddOptions", options))

    def conv_like(self, shape):
        weights, bias, spread, scale = self.filter([shape[3], 3, 3, shape[3]], 0)
        options = dict(
            padding=PADDINGS["same"], strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1,
            fusedActivationFunction=ACTIVATIONS[self.activation()],
        )
        output = self.result(shape, spread, scale)
        self.operator("CONV_2D", [self.x["number"], weights, bias], output, ("Conv2DOptions", options))

    def concatenate(self):
        first, shape = self.x, self.x["shape"]
        pooled = self.tensor(shape, first["scale"], first["zero_point"])
        options = dict(
            padding=PADDINGS["same"], strideW=1, strideH=1, filterWidth=3, filterHeight=3,
            fusedActivationFunction=ACTIVATIONS[None],
        )
        self.operator("MAX_POOL_2D", [first["number"]], pooled, ("Pool2DOptions", options))
        output = self.tensor(shape[:3] + [2 * shape[3]], first["scale"], first["zero_point"])
        options = {"axis": int(self.rng.choice([3, -1])), "fusedActivationFunction": 0}
        self.operator("CONCATENATION", [first["number"], pooled["number"]], output, ("ConcatenationOptions", options))

    def movement(self):
        """Two of those that only move elements; an image comes out."""
        for _ in range(2):
            ways = ["transpose", "split", "slice", "strided", "pack", "pad_all", "to_blocks", "nearest", "gather", "join", "revolve", "reverse", "broadcast"]
            getattr(self, str(self.rng.choice(ways)))()

    def move(self, name, inputs, shape, options=None, outputs=1):
        results = [self.tensor(shape, self.x["scale"], self.x["zero_point"]) for _ in range(outputs)]
        self.names.append(name)
        self.graph.operator(name, inputs, [result["number"] for result in results], options)
        self.x = results[int(self.rng.integers(outputs))]

    def numbers(self, values, dtype=np.int32):
        return self.graph.constant(np.array(values, dtype))

    def transpose(self):
        order = [0, *(1 + self.rng.permutation(3))]
        shape = [self.x["shape"][int(axis)] for axis in order]
        self.move("TRANSPOSE", [self.x["number"], self.numbers(order)], shape, ("TransposeOptions", {}))

    def revolve(self):
        """Through three dimensions and back to an image of another shape."""
        _, height, width, channels = self.x["shape"]
        self.reshape([height, width * channels])
        self.move("TRANSPOSE", [self.x["number"], self.numbers([1, 0])], [width * channels, height], ("TransposeOptions", {}))
        self.reshape([1, width, channels, height])

    def reverse(self):
        first = self.axis()
        axes = list(range(first, int(self.rng.integers(first, 4)) + 1))
        self.move("REVERSE_V2", [self.x["number"], self.numbers(axes)], self.x["shape"], ("ReverseV2Options", {}))

    def broadcast(self):
        """Of one row or channel, or to the shape that the tensor has."""
        shape = list(self.x["shape"])
        if self.rng.random() < 0.7:
            axis = self.axis()
            wide, shape[axis] = shape[axis], 1
            ends = [self.numbers(values) for values in ([0] * 4, shape)]
            self.move("SLICE", [self.x["number"], *ends], shape, ("SliceOptions", {}))
            shape[axis] = wide
        self.move("BROADCAST_TO", [self.x["number"], self.numbers(shape)], shape, ("BroadcastToOptions", {}))

    def axis(self):
        return int(self.rng.integers(1, 4))

    def split(self):
        axis, shape = self.axis(), list(self.x["shape"])
        size = shape[axis]
        if self.rng.random() < 0.5 and size > 1:
            first = int(self.rng.integers(1, size))
            sizes = [first, size - first]
            results = [self.tensor(shape[:axis] + [part] + shape[axis + 1:], self.x["scale"], self.x["zero_point"]) for part in sizes]
            self.names.append("SPLIT_V")
            inputs = [self.x["number"], self.numbers(sizes), self.numbers(axis)]
            numbers = [result["number"] for result in results]
            self.graph.operator("SPLIT_V", inputs, numbers, ("SplitVOptions", {"numSplits": 2}))
            self.x = results[int(self.rng.integers(2))]
            return
        parts = int(self.rng.choice([part for part in (1, 2, 3) if size % part == 0]))
        shape[axis] //= parts
        self.move("SPLIT", [self.numbers(axis), self.x["number"]], shape, ("SplitOptions", {"numSplits": parts}), parts)

    def slice(self):
        shape = self.x["shape"]
        start = [int(self.rng.integers(0, size)) for size in shape]
        size = [int(self.rng.integers(1, size - at + 1)) for size, at in zip(shape, start)]
        given = [-1 if at + part == whole and self.rng.random() < 0.3 else part for at, part, whole in zip(start, size, shape)]
        self.move("SLICE", [self.x["number"], self.numbers(start), self.numbers(given)], size, ("SliceOptions", {}))

    def strided(self):
        shape, start, end, step, left = self.x["shape"], [], [], [], []
        for size in shape:
            by = int(self.rng.choice([1, 1, 2, -1])) if size > 1 else 1
            first, last = sorted(int(at) for at in self.rng.integers(0, size, 2))
            start.append(first if by > 0 else last)
            end.append(last + 1 if by > 0 else first - 1 - (size if first == 0 else 0))
            step.append(by)
            left.append(-(-(last - first + 1) // abs(by)))
        inputs = [self.x["number"], *(self.numbers(values) for values in (start, end, step))]
        fields = dict(beginMask=0, endMask=0, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0)
        self.move("STRIDED_SLICE", inputs, left, ("StridedSliceOptions", fields))

    def pack(self):
        """Rows as tensors of their own, and together again along another axis."""
        _, height, width, channels = self.x["shape"]
        rows = [self.tensor([1, width, channels], self.x["scale"], self.x["zero_point"]) for _ in range(height)]
        self.names.append("UNPACK")
        numbers = [row["number"] for row in rows]
        self.graph.operator("UNPACK", [self.x["number"]], numbers, ("UnpackOptions", {"num": height, "axis": 1}))
        axis = self.axis()
        shape = [1, width, channels]
        shape.insert(axis, height)
        self.move("PACK", list(self.rng.permutation(numbers)), shape, ("PackOptions", {"valuesCount": height, "axis": axis}))

    def pad_all(self):
        pads = self.rng.integers(0, 3, (4, 2))
        pads[0] = 0
        shape = [size + int(pair.sum()) for size, pair in zip(self.x["shape"], pads)]
        self.move("PAD", [self.x["number"], self.numbers(pads)], shape, ("PadOptions", {}))

    def to_blocks(self):
        _, height, width, channels = self.x["shape"]
        if channels % 4 == 0:
            shape = [1, 2 * height, 2 * width, channels // 4]
            self.move("DEPTH_TO_SPACE", [self.x["number"]], shape, ("DepthToSpaceOptions", {"blockSize": 2}))
        elif height % 2 == 0 and width % 2 == 0:
            shape = [1, height // 2, width // 2, 4 * channels]
            self.move("SPACE_TO_DEPTH", [self.x["number"]], shape, ("SpaceToDepthOptions", {"blockSize": 2}))
        else:
            self.transpose()

    def nearest(self):
        _, height, width, channels = self.x["shape"]
        size = [int(size) for size in self.rng.integers(1, 12, 2)]
        fields = [dict(), dict(alignCorners=True), dict(halfPixelCenters=True)][int(self.rng.integers(3))]
        inputs = [self.x["number"], self.numbers(size)]
        self.move("RESIZE_NEAREST_NEIGHBOR", inputs, [1, *size, channels], ("ResizeNearestNeighborOptions", fields))

    def bilinear(self):
        """By powers of 2, in all ways of counting."""
        _, height, width, channels = self.x["shape"]
        way = int(self.rng.integers(3))
        fields = [dict(), dict(alignCorners=True), dict(halfPixelCenters=True)][way]
        factors = [int(factor) for factor in self.rng.choice([1, 2, 4], 2)]
        by = lambda size, factor: (size - 1) * factor + 1 if way == 1 else size * factor  # noqa: E731
        size = [by(*part) for part in zip((height, width), factors)]
        output = self.tensor([1, *size, channels], self.x["scale"], self.x["zero_point"])
        self.operator("RESIZE_BILINEAR", [self.x["number"], self.numbers(size)], output, ("ResizeBilinearOptions", fields))

    def gather(self):
        axis, shape = self.axis(), list(self.x["shape"])
        which = self.rng.integers(0, shape[axis], int(self.rng.integers(1, 6)))
        shape[axis] = len(which)
        self.move("GATHER", [self.x["number"], self.numbers(which)], shape, ("GatherOptions", {"axis": axis, "batchDims": 0}))

    def join(self):
        axis, shape, first = self.axis(), list(self.x["shape"]), self.x
        self.transpose()
        if self.x["shape"][:axis] + self.x["shape"][axis + 1:] != shape[:axis] + shape[axis + 1:]:
            self.x = first
        inputs = [first["number"], self.x["number"], first["number"]]
        shape[axis] = 2 * shape[axis] + self.x["shape"][axis]
        fields = {"axis": axis, "fusedActivationFunction": 0}
        self.move("CONCATENATION", inputs, shape, ("ConcatenationOptions", fields))

    def constant(self, shape, scale=None):
        """A constant operand, signed or unsigned as the rest."""
        scale = self.rng.uniform(0.005, 0.05) if scale is None else scale
        values = self.rng.integers(self.lo, self.hi + 1, shape).astype(self.dtype)
        return self.graph.constant(values, scale=scale, zero_point=self.zero_point()), scale

    def shapes(self):
        """What a constant is repeated along: nothing, places, channels, all."""
        shape = self.x["shape"]
        return [shape, shape[3:], [1, 1, 1, shape[3]], [], [1], [shape[1], 1, 1]][int(self.rng.integers(6))]

    def sum_constant(self):
        name = str(self.rng.choice(["ADD", "SUB"]))
        number, scale = self.constant(self.shapes(), self.x["scale"] * self.rng.uniform(0.2, 3))
        output = self.tensor(self.x["shape"], np.hypot(self.x["scale"], scale) * self.rng.uniform(0.5, 1.2), self.zero_point())
        inputs = [self.x["number"], number] if self.rng.random() < 0.7 else [number, self.x["number"]]
        table = {"ADD": "AddOptions", "SUB": "SubOptions"}[name]
        self.operator(name, inputs, output, (table, {"fusedActivationFunction": ACTIVATIONS[self.activation()]}))

    def product_constant(self):
        number, scale = self.constant(self.shapes())
        output = self.tensor(self.x["shape"], self.x["scale"] * scale * self.rng.uniform(10, 100), self.zero_point())
        inputs = [self.x["number"], number] if self.rng.random() < 0.7 else [number, self.x["number"]]
        self.operator("MUL", inputs, output, ("MulOptions", {"fusedActivationFunction": ACTIVATIONS[self.activation()]}))

    def prelu(self):
        channels = self.x["shape"][3]
        values = self.rng.integers(self.lo, self.hi + 1, [1, 1, channels])
        zero = self.zero_point() if self.rng.random() < 0.5 else int(values.min())  # slopes of both signs, or of one
        number = self.graph.constant(values.astype(self.dtype), scale=self.rng.uniform(0.001, 0.006), zero_point=zero)
        output = self.tensor(self.x["shape"], self.x["scale"] * self.rng.uniform(0.5, 1.2), self.zero_point())
        self.operator("PRELU", [self.x["number"], number], output)

    def extreme(self):
        """With a constant, or of an image and another one of it."""
        name = str(self.rng.choice(["MAXIMUM", "MINIMUM"]))
        first = self.x
        if self.rng.random() < 0.5:
            values = self.rng.integers(self.lo, self.hi + 1, self.shapes()).astype(self.dtype)
            number = self.graph.constant(values, scale=first["scale"], zero_point=first["zero_point"])
        else:
            _, height, width, channels = first["shape"]
            self.move("TRANSPOSE", [first["number"], self.numbers([0, 1, 2, 3])], first["shape"], ("TransposeOptions", {}))
            start, size = self.numbers([0, 0, 0, 0]), self.numbers([1, 1, width, channels])
            self.move("SLICE", [self.x["number"], start, size], [1, 1, width, channels], ("SliceOptions", {}))
            self.move("TILE", [self.x["number"], self.numbers([1, height, 1, 1])], first["shape"], ("TileOptions", {}))
            number = self.x["number"]
        output = self.tensor(first["shape"], first["scale"], first["zero_point"])
        self.operator(name, [first["number"], number], output, ("MaximumMinimumOptions", {}))

    def leaky(self):
        alpha = float(self.rng.choice([0.01, 0.1, 0.2, 0.3, 0.5, 1.5, -0.2, 0.001]))
        output = self.tensor(self.x["shape"], self.x["scale"] * self.rng.uniform(0.5, 1.5), self.zero_point())
        self.operator("LEAKY_RELU", [self.x["number"]], output, ("LeakyReluOptions", {"alpha": alpha}))

    def join_scales(self):
        """Two images of different scales, unsigned."""
        first = self.x
        self.conv_like(first["shape"])
        shape = first["shape"][:3] + [2 * first["shape"][3]]
        output = self.tensor(shape, max(first["scale"], self.x["scale"]) * self.rng.uniform(0.8, 1.5), self.zero_point())
        options = {"axis": 3, "fusedActivationFunction": 0}
        self.operator("CONCATENATION", [first["number"], self.x["number"]], output, ("ConcatenationOptions", options))

    def mean_axes(self):
        """A mean over any axes, and an image again."""
        axes = sorted(int(axis) for axis in self.rng.choice([1, 2, 3], int(self.rng.integers(1, 4)), replace=False))
        shape = [1 if at in axes else size for at, size in enumerate(self.x["shape"])]
        output = self.tensor(shape, self.x["scale"] * self.rng.uniform(0.2, 1.2), self.zero_point())
        self.operator("MEAN", [self.x["number"], self.numbers(axes)], output, ("ReducerOptions", {"keepDims": True}))

    def quantise(self):
        output = self.tensor(self.x["shape"], self.x["scale"] * self.rng.uniform(0.5, 2), self.zero_point())
        self.operator("QUANTIZE", [self.x["number"]], output, ("QuantizeOptions", {}))

    def relu(self):
        output = self.tensor(self.x["shape"], self.x["scale"] * self.rng.choice([1, 0.7]), self.zero_point())
        self.operator(str(self.rng.choice(["RELU", "RELU6"])), [self.x["number"]], output)

    def logistic(self):
        output = self.tensor(self.x["shape"], 1 / 256, self.lo)
        self.operator("LOGISTIC", [self.x["number"]], output)

    def tanh(self):
        output = self.tensor(self.x["shape"], 1 / 128, self.lo + 128)
        self.operator("TANH", [self.x["number"]], output)

    def hard_swish(self):
        output = self.tensor(self.x["shape"], self.x["scale"] * self.rng.uniform(0.6, 1), self.zero_point())
        self.operator("HARD_SWISH", [self.x["number"]], output, ("HardSwishOptions", {}))

    def begin_elsewhere(self):
        """Puts another type before the input: unsigned numbers or floating-point numbers, and QUANTIZE."""
        first, shape = self.x, self.x["shape"]
        if self.rng.random() < 0.5:
            before = {**first, "number": self.graph.tensor(shape, np.uint8, first["scale"], first["zero_point"] + 128)}
            last = before["number"]
        else:
            before = {**first, "number": self.graph.tensor(shape, np.float32), "real": True}
            last = before["number"]
            if self.rng.random() < 0.4:
                before["factor"] = factor = self.rng.uniform(0.3, 3)
                last = self.graph.tensor(shape, np.float32)
                inputs = [before["number"], self.graph.constant(np.array(factor, np.float32))]
                self.graph.operator("MUL", inputs, [last], ("MulOptions", {}))
                self.names.append("MUL")
            if self.rng.random() < 0.3:
                # There and back.
                order, back = self.numbers([0, 2, 3, 1]), self.numbers([0, 3, 1, 2])
                middle, moved = self.graph.tensor([shape[at] for at in (0, 2, 3, 1)], np.float32), self.graph.tensor(shape, np.float32)
                self.graph.operator("TRANSPOSE", [last, order], [middle], ("TransposeOptions", {}))
                self.graph.operator("TRANSPOSE", [middle, back], [moved], ("TransposeOptions", {}))
                self.names.append("TRANSPOSE")
                last = moved
        self.graph.operator("QUANTIZE", [last], [first["number"]], ("QuantizeOptions", {}))
        self.names.append("QUANTIZE")
        self.input = before

    def end_elsewhere(self):
        """Puts another type behind the output; what it stands for is the same."""
        last, shape = self.x, self.x["shape"]
        if self.rng.random() < 0.5:
            behind = {**last, "number": self.graph.tensor(shape, np.uint8, last["scale"], last["zero_point"] + 128)}
            self.graph.operator("QUANTIZE", [last["number"]], [behind["number"]], ("QuantizeOptions", {}))
            self.names.append("QUANTIZE")
        else:
            behind = {**last, "number": self.graph.tensor(shape, np.float32)}
            self.graph.operator("DEQUANTIZE", [last["number"]], [behind["number"]], ("DequantizeOptions", {}))
            self.names.append("DEQUANTIZE")
            if self.rng.random() < 0.5:
                flat = {**behind, "number": self.graph.tensor([1, int(np.prod(shape))], np.float32)}
                numbers = self.numbers([1, int(np.prod(shape))])
                self.graph.operator("RESHAPE", [behind["number"], numbers], [flat["number"]], ("ReshapeOptions", {}))
                self.names.append("RESHAPE")
                return flat
        return behind

    def left_out(self):
        """Puts behind the output what an import leaves out: an operator of its own, or a resizing to more than 2^20 numbers."""
        shape = self.x["shape"]
        self.runs = self.graph.finish([self.input["number"]], [self.x["number"]])  # no runtime has an operator of its own
        if len(shape) != 4 or self.rng.random() < 0.3:
            last = self.tensor(shape, self.x["scale"], self.x["zero_point"])
            self.graph.operator("CUSTOM", [self.x["number"]], [last["number"]], custom="Mine")
            self.names.append("CUSTOM")
            return last
        size = int(np.ceil(np.sqrt((1 << 20) / shape[3]))) + 1
        last = self.tensor([1, size, size, shape[3]], self.x["scale"], self.x["zero_point"])
        inputs, fields = [self.x["number"], self.numbers([size, size])], {"alignCorners": True}
        self.graph.operator("RESIZE_BILINEAR", inputs, [last["number"]], ("ResizeBilinearOptions", fields))
        self.names.append("RESIZE_BILINEAR")
        if self.rng.random() < 0.5:
            classes, axis = self.graph.tensor([1, size, size], np.int64), self.graph.constant(np.array(3, np.int32))
            self.graph.operator("ARG_MAX", [last["number"], axis], [classes], ("ArgMaxOptions", {"outputType": 4}))
            self.names.append("ARG_MAX")
            return {**last, "number": classes}
        return last

    def softmax(self):
        """Left out by an import: the expected output is that of the tensor before it."""
        output = self.tensor(self.x["shape"], 1 / 256, self.lo)
        self.graph.operator("SOFTMAX", [self.x["number"]], [output["number"]], ("SoftmaxOptions", {"beta": 1.0}))
        self.names.append("SOFTMAX")
        return output


FIRST = ["conv", "depthwise", "max_pool", "average_pool"]


def grow(rng, kind):
    unsigned = kind in ("unsigned", "join_scales", "sum_unsigned") or kind not in ("ends", *SINGLE) and rng.random() < 0.15
    grown = Random(rng, unsigned)
    side = int(rng.integers(4, 9))
    grown.start([1, side, int(rng.integers(4, 9)), int(rng.integers(1, 5))])
    steps = [str(step) for step in rng.choice(FIRST, int(rng.integers(1, 4)), p=[0.5, 0.3, 0.1, 0.1])]
    if kind == "ends":
        grown.begin_elsewhere()
    elif kind == "left_out":
        pass
    elif kind not in ("linear", "unsigned"):
        steps.insert(len(steps) if kind == "mean" else int(rng.integers(1, len(steps) + 1)), kind)
    for step in steps:
        getattr(grown, step)()
    if not set(grown.names) - {"QUANTIZE"}:
        grown.conv()
    ending = "none" if kind == "mean" else rng.choice(["dense", "none", "dynamic"])
    if ending == "dynamic":
        if np.prod(grown.x["shape"]) <= 400:
            grown.dynamic_reshape()
        grown.dense()
    elif ending == "dense":
        grown.dense()
    logits = grown.x
    if kind in ("ends", "left_out"):
        return grown, grown.end_elsewhere() if kind == "ends" else grown.left_out(), logits
    last = grown.softmax() if len(logits["shape"]) == 2 and rng.random() < 0.3 else logits
    return grown, last, logits


def several(rng):
    """Two inputs of one type, the first of which is a part of an image that both make; two or three outputs."""
    grown = Random(rng, rng.random() < 0.3)
    height, width = (int(size) for size in rng.integers(3, 7, 2))
    grown.start([1, height, width, int(rng.integers(1, 4))])
    first = grown.x
    second = grown.tensor([1, height, width, int(rng.integers(1, 4))], first["scale"], first["zero_point"])
    grown.inputs = [first, second]
    if rng.random() < 0.5:  # another zero point, and another scale
        second |= grown.tensor(second["shape"], first["scale"] * 1.3, grown.zero_point())
        grown.x = second
        grown.conv_like(second["shape"])
        made, outputs = grown.x, [grown.x]
        grown.x = first
        grown.conv()
        outputs.append(grown.x)
        grown.x = made
    else:
        shape = [1, height, width, first["shape"][3] + second["shape"][3]]
        inputs, fields = [second["number"], first["number"]], {"axis": 3, "fusedActivationFunction": 0}
        grown.move("CONCATENATION", inputs, shape, ("ConcatenationOptions", fields))
        outputs = [grown.x] if rng.random() < 0.5 else []
    grown.conv()
    outputs.append(grown.x)
    grown.dense()
    outputs.append(grown.x)
    grown.outputs = [outputs[int(at)] for at in rng.permutation(len(outputs))]
    return grown


def run_several(grown, file, inputs, resolver):
    """The outputs one behind the other, each less its zero point."""
    model = litert.Interpreter(model_content=file, experimental_op_resolver_type=resolver, num_threads=1)
    model.allocate_tensors()
    results = []
    for number in range(IMAGES):
        for tensor, images in zip(grown.inputs, inputs):
            model.set_tensor(tensor["number"], images[number])
        model.invoke()
        parts = [model.get_tensor(y["number"]).astype(np.int32).ravel() - y["zero_point"] for y in grown.outputs]
        results.append(np.concatenate(parts))
    return np.stack(results)


def run(grown, logits, inputs, resolver):
    file = getattr(grown, "runs", None) or grown.graph.finish([grown.input["number"]], [logits["number"]])
    model = litert.Interpreter(model_content=file, experimental_op_resolver_type=resolver, num_threads=1)
    model.allocate_tensors()
    results = []
    for image in inputs:
        details = model.get_input_details()[0]
        if details["dtype"] == np.float32:
            image = np.float32(grown.input["scale"]) * (image.astype(np.float32) - grown.input["zero_point"])
            image = (image / grown.input.get("factor", 1)).astype(np.float32)
        elif details["dtype"] == np.uint8 and grown.dtype == np.int8:
            image = (image.astype(np.int16) + 128).astype(np.uint8)
        model.set_tensor(grown.input["number"], image)
        model.invoke()
        results.append(model.get_tensor(logits["number"]).astype(np.int32) - logits["zero_point"])
    return np.stack(results)


def main():
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    kind = sys.argv[4] if len(sys.argv) > 4 else "linear"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        if kind == "several":
            grown = several(rng)
            file = grown.graph.finish(*([x["number"] for x in ends] for ends in (grown.inputs, grown.outputs)))
            inputs = [
                rng.integers(grown.lo, grown.hi + 1, [IMAGES] + x["shape"]).astype(grown.dtype) for x in grown.inputs]
            (folder / f"{number}.tflite").write_bytes(file)
            flat = np.concatenate([x.reshape(IMAGES, -1) for x in inputs], 1)
            (folder / f"{number}.inputs").write_bytes((flat.astype(np.int32) - grown.lo).astype(np.uint8).tobytes())
            for name, resolver in RESOLVERS:
                results = run_several(grown, file, inputs, resolver)
                (folder / f"{number}.{name}").write_bytes(results.astype("<i4").tobytes())
            print(number, " ".join(grown.names), flush=True)
            continue
        grown, last, logits = grow(rng, kind)
        file = grown.graph.finish([grown.input["number"]], [last["number"]])
        shape = [IMAGES] + grown.input["shape"]
        inputs = rng.integers(grown.lo, grown.hi + 1, shape).astype(grown.dtype)
        (folder / f"{number}.tflite").write_bytes(file)
        (folder / f"{number}.inputs").write_bytes((inputs.astype(np.int32) - grown.lo).astype(np.uint8).tobytes())
        for name, resolver in RESOLVERS[kind in SINGLE:]:
            results = run(grown, logits, inputs, resolver)
            (folder / f"{number}.{name}").write_bytes(results.astype("<i4").tobytes())
        print(number, " ".join(grown.names), flush=True)


main()
