"""More steps of random graphs: operators that are several nodes of a network, or functions of one tensor."""

import numpy as np

from writer import ACTIVATIONS, PADDINGS

# Operators that `mixed` draws from.
MIXED = [
    "conv", "depthwise", "max_pool", "average_pool", "border_pool", "add", "difference", "spread", "concatenate", "movement",
    "sum_constant", "product_constant", "prelu", "leaky", "extreme", "mean_axes", "reduce", "quantise", "relu", "logistic", "tanh",
    "hard_swish", "elementwise", "own_product", "split_swish", "fill", "mirror", "transposed", "bilinear", "island",
    "quotient", "dilated"]


class More:
    """Steps of `Random`, by kind."""

    def border_pool(self):
        """Windows at the border have fewer elements."""
        if self.rng.random() < 0.3:
            self.fill_around(0)
        kernel, size, fields, _ = self.geometry([1, 2, 3, 4], [1, 2])
        fields["padding"] = PADDINGS["same"]
        size = [-(-whole // by) for whole, by in zip(self.x["shape"][1:3], (fields["strideH"], fields["strideW"]))]
        output = self.tensor([1, *size, self.x["shape"][3]], self.x["scale"], self.x["zero_point"])
        fields |= dict(
            filterHeight=kernel[0], filterWidth=kernel[1], fusedActivationFunction=ACTIVATIONS[self.activation()])
        self.operator("AVERAGE_POOL_2D", [self.x["number"]], output, ("Pool2DOptions", fields))

    def difference(self):
        """Of two tensors, or of one and what was made of it."""
        self.pair("SUB")

    def spread(self):
        """A sum or a difference with a tensor that is repeated."""
        first, shape = self.x, self.x["shape"]
        self.conv_like(shape)
        axes = [[1, 2], [3], [1]][int(self.rng.integers(3))]
        over = [1 if at in axes else size for at, size in enumerate(shape)]
        mean = self.tensor(over, self.x["scale"] * self.rng.uniform(0.3, 1), self.zero_point())
        self.operator("MEAN", [self.x["number"], self.numbers(axes)], mean, ("ReducerOptions", {"keepDims": True}))
        self.join_two(str(self.rng.choice(["ADD", "SUB"])), first, mean, shape)

    def pair(self, name):
        first = self.x
        self.conv_like(first["shape"])
        self.join_two(name, first, self.x, first["shape"])

    def join_two(self, name, first, second, shape):
        if self.rng.random() < 0.5:
            first, second = second, first
        scale = np.hypot(first["scale"], second["scale"]) * self.rng.uniform(0.5, 1.2)
        output = self.tensor(shape, scale, self.zero_point())
        options = {"fusedActivationFunction": ACTIVATIONS[self.rng.choice([None, "relu", "relu6"])]}
        table = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}[name]
        self.operator(name, [first["number"], second["number"]], output, (table, options))

    def own_product(self):
        """A product, sum or difference of a tensor and a function of it, or of two functions of it."""
        first = self.x
        ways = ["logistic", "tanh", "relu", "leaky", "quantise", "hard_swish"]
        getattr(self, str(self.rng.choice(ways)))()
        second = self.x
        if self.rng.random() < 0.3:
            self.x = first
            getattr(self, str(self.rng.choice(ways)))()
            first = self.x
        elif self.rng.random() < 0.2:
            first = second
        name = str(self.rng.choice(["MUL", "MUL", "ADD", "SUB"]))
        if name != "MUL":
            return self.join_two(name, first, second, first["shape"])
        scale = first["scale"] * second["scale"] * self.rng.uniform(20, 130)
        output = self.tensor(first["shape"], scale, self.zero_point())
        options = {"fusedActivationFunction": ACTIVATIONS[self.activation()]}
        self.operator(name, [first["number"], second["number"]], output, ("MulOptions", options))

    def split_swish(self):
        """x relu6(x + 3) / 6 in four operators."""
        first, shape = self.x, self.x["shape"]
        three = self.graph.constant(np.full([1], self.hi, self.dtype), scale=3 / (self.hi - self.lo), zero_point=self.lo)
        output = self.tensor(shape, 6 / 255, self.lo)
        options = {"fusedActivationFunction": ACTIVATIONS["relu6"]}
        self.operator("ADD", [first["number"], three], output, ("AddOptions", options))
        gate = self.x
        middle = self.tensor(shape, first["scale"] * 6 * self.rng.uniform(0.5, 1), self.zero_point())
        self.operator("MUL", [first["number"], gate["number"]], middle, ("MulOptions", {}))
        sixth = self.graph.constant(np.full([], self.hi, self.dtype), scale=1 / 6 / (self.hi - self.lo), zero_point=self.lo)
        output = self.tensor(shape, first["scale"] * self.rng.uniform(0.6, 1), self.zero_point())
        self.operator("MUL", [middle["number"], sixth], output, ("MulOptions", {}))

    def elementwise(self):
        """A function of single values that has a kernel for signed numbers only; most are tables."""
        shape, scale = self.x["shape"], self.x["scale"]
        if self.dtype != np.int8:
            output = self.tensor(shape, self.rng.uniform(0.005, 0.01), self.zero_point())
            return self.operator("TANH", [self.x["number"]], output)
        name = str(self.rng.choice(["ABS", "NEG", "EXP", "LOG", "SQRT", "RELU_N1_TO_1", "RELU_0_TO_1", "GELU", "TANH"]))
        if name == "SQRT":
            self.operator("RELU", [self.x["number"]], self.tensor(shape, scale, self.lo))
        step = {
            "ABS": scale * self.rng.choice([1, 0.7]), "NEG": scale, "EXP": np.exp(min(60 * scale, 80)) / 200, "LOG": 0.02,
            "SQRT": np.sqrt(scale) * self.rng.uniform(0.05, 0.1),
            "RELU_N1_TO_1": scale * self.rng.choice([1, 0.6]), "RELU_0_TO_1": scale * self.rng.choice([1, 0.6, 0.1]),
            "GELU": scale * self.rng.uniform(0.4, 1), "TANH": self.rng.uniform(0.005, 0.01)}[name]
        output = self.tensor(shape, step, self.zero_point())
        options = ("GeluOptions", {"approximate": bool(self.rng.random() < 0.5)}) if name == "GELU" else None
        self.operator(name, [self.x["number"]], output, options)

    def elu(self):
        """The reference kernels have none."""
        output = self.tensor(self.x["shape"], self.x["scale"] * self.rng.uniform(0.5, 1), self.zero_point())
        self.operator("ELU", [self.x["number"]], output)

    def quotient(self):
        """By a constant that is not 0."""
        shape = self.shapes()
        zero_point = self.lo if self.rng.random() < 0.5 else self.hi
        values = self.rng.integers(self.lo + 1, self.hi, shape).astype(self.dtype)
        scale = self.rng.uniform(0.005, 0.05)
        number = self.graph.constant(values, scale=scale, zero_point=zero_point)
        output = self.tensor(self.x["shape"], self.x["scale"] / scale * self.rng.uniform(0.002, 0.0155), self.zero_point())
        options = {"fusedActivationFunction": ACTIVATIONS[self.rng.choice([None, "relu", "relu6"])]}
        self.operator("DIV", [self.x["number"], number], output, ("DivOptions", options))

    def axes(self):
        axes = sorted(int(axis) for axis in self.rng.choice([1, 2, 3], int(self.rng.integers(1, 4)), replace=False))
        return axes, [1 if at in axes else size for at, size in enumerate(self.x["shape"])]

    def reduce(self):
        axes, shape = self.axes()
        output = self.tensor(shape, self.x["scale"], self.x["zero_point"])
        name = str(self.rng.choice(["REDUCE_MAX", "REDUCE_MIN"]))
        self.operator(name, [self.x["number"], self.numbers(axes)], output, ("ReducerOptions", {"keepDims": True}))

    def sum_axes(self):
        """The reference kernel of LiteRT 2.3 reads signed numbers as unsigned ones."""
        axes, shape = self.axes()
        count = np.prod([self.x["shape"][at] for at in axes])
        scale = self.x["scale"] * np.sqrt(count) * self.rng.choice([0.5, 1, 2])
        scale, zero_point = (scale, self.zero_point()) if self.rng.random() < 0.8 else (self.x["scale"], self.x["zero_point"])
        output = self.tensor(shape, scale, zero_point)
        self.operator("SUM", [self.x["number"], self.numbers(axes)], output, ("ReducerOptions", {"keepDims": True}))

    sum_unsigned = sum_axes

    def fill(self):
        """Padding with the least value, or with any, and what reads it."""
        self.fill_around(self.lo if self.rng.random() < 0.5 else int(self.rng.integers(self.lo, self.hi + 1)))
        getattr(self, str(self.rng.choice(["max_pool", "max_pool", "conv", "quantise", "border_pool"])))()

    def fill_around(self, value):
        pads = self.rng.integers(0, 3, (4, 2))
        pads[0] = 0
        if self.rng.random() < 0.7:
            pads[3] = 0
        shape = [size + int(pair.sum()) for size, pair in zip(self.x["shape"], pads)]
        value = self.graph.constant(
            np.full([1], value, self.dtype), scale=self.x["scale"], zero_point=self.x["zero_point"])
        output = self.tensor(shape, self.x["scale"], self.x["zero_point"])
        self.operator("PADV2", [self.x["number"], self.numbers(pads), value], output, ("PadV2Options", {}))

    def mirror(self):
        mode = int(self.rng.integers(2))
        less = 1 - mode
        pads = np.array([self.rng.integers(0, min(size - less, 3) + 1, 2) for size in self.x["shape"]])
        pads[0] = 0
        shape = [size + int(pair.sum()) for size, pair in zip(self.x["shape"], pads)]
        output = self.tensor(shape, self.x["scale"], self.x["zero_point"])
        self.operator("MIRROR_PAD", [self.x["number"], self.numbers(pads)], output, ("MirrorPadOptions", {"mode": mode}))

    def transposed(self):
        rng = self.rng
        _, height, width, channels = self.x["shape"]
        outputs = int(rng.integers(1, 6))
        kernel, stride = ([int(v) for v in rng.choice(of, 2)] for of in ([1, 2, 3, 4, 5], [1, 2, 3]))
        padding = str(rng.choice(["same", "valid"]))
        size = []
        for whole, taps, by in zip((height, width), kernel, stride):
            # All sizes that the convolution makes this one of.
            least, most = ((whole - 1) * by + 1, whole * by) if padding == "same" else (
                (whole - 1) * by + taps, (whole - 1) * by + taps + by - 1)
            size.append(int(rng.integers(least, most + 1)) if rng.random() < 0.3 else (most if padding == "same" else least))
        weights, bias, spread, scale = self.filter([outputs, *kernel, channels], 0)
        if self.dtype != np.int8:
            scale = np.atleast_1d(scale)
        output = self.result([1, *size, outputs], spread / np.prod(stride) ** 0.5, scale)
        shape = self.numbers([1, *size, outputs])
        fields = dict(padding=PADDINGS[padding], strideH=stride[0], strideW=stride[1])
        inputs = [shape, weights, self.x["number"]] + ([bias] if rng.random() < 0.7 else [])
        self.operator("TRANSPOSE_CONV", inputs, output, ("TransposeConvOptions", fields))

    def batches(self, size, kernel, block, crops):
        """Borders of an image that make it a multiple of `block`, and what is cut off of the result (or nothing)."""
        rng = self.rng
        before = int(rng.integers(0, block * (kernel - 1) + 1))
        after = int(rng.integers(0, block + 1))
        while size + before + after < block * kernel or (size + before + after) % block:
            after += 1
        made = size + before + after - block * (kernel - 1)
        cut = [int(rng.integers(0, 2)) if crops and made > 2 else 0 for _ in range(2)]
        return [before, after], cut, (size + before + after) // block, made - sum(cut)

    def apart(self, shape, block, pads):
        output = self.tensor(shape, self.x["scale"], self.x["zero_point"])
        inputs = [self.x["number"], self.numbers(block), self.numbers(pads)]
        self.operator("SPACE_TO_BATCH_ND", inputs, output, ("SpaceToBatchNDOptions", {}))

    def together(self, shape, block, crops):
        output = self.tensor(shape, self.x["scale"], self.x["zero_point"])
        inputs = [self.x["number"], self.numbers(block), self.numbers(crops)]
        self.operator("BATCH_TO_SPACE_ND", inputs, output, ("BatchToSpaceNDOptions", {}))

    def dilated(self):
        """A convolution over an image in batches, along both axes or along one of three dimensions."""
        rng, channels = self.rng, self.x["shape"][3]
        row = rng.random() < 0.3
        if row:
            self.reshape([1, self.x["shape"][1] * self.x["shape"][2], channels])
        sizes = [1, self.x["shape"][1]] if row else self.x["shape"][1:3]
        kernel, block = ([int(v) for v in rng.choice(of, 2)] for of in ([1, 2, 3], [1, 2, 3]))
        if row:
            kernel[0] = block[0] = 1
        same = rng.random() < 0.3
        parts = [self.batches(size, 1 if same else taps, by, rng.random() < 0.5) for size, taps, by in zip(sizes, kernel, block)]
        pads, cuts, inside, made = ([part[n] for part in parts] for n in range(4))
        batches = block[0] * block[1]
        if row:
            pads[0] = cuts[0] = [0, 0]
            inside[0] = made[0] = 1
            self.apart([batches, inside[1], channels], block[1:], pads[1:])
            upright = rng.random() < 0.5
            if upright:
                kernel.reverse(), inside.reverse()
            self.batch_shape([batches, *inside, channels], str(rng.choice(["EXPAND_DIMS", "RESHAPE"])), 2 if upright else 1)
        else:
            self.apart([batches, *inside, channels], block, pads)
        if rng.random() < 0.3:
            self.hard_swish() if rng.random() < 0.5 else self.logistic()
        deep = rng.random() < 0.4
        outputs = channels if deep else int(rng.integers(1, 6))
        shape, axis = ([1, *kernel, outputs], 3) if deep else ([outputs, *kernel, channels], 0)
        weights, bias, spread, scale = self.filter(shape, axis)
        if not same:
            inside = [size - taps + 1 for size, taps in zip(inside, kernel)]
        output = self.result([batches, *inside, outputs], spread, scale)
        fields = dict(
            padding=PADDINGS["same" if same else "valid"], strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1,
            fusedActivationFunction=ACTIVATIONS[self.activation()])
        name, table = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if deep else ("CONV_2D", "Conv2DOptions")
        fields |= dict(depthMultiplier=1) if deep else {}
        self.operator(name, [self.x["number"], weights, bias], output, (table, fields))
        if row:
            self.batch_shape([batches, max(inside), outputs], str(rng.choice(["SQUEEZE", "RESHAPE"])), 2 if upright else 1)
            self.together([1, made[1], outputs], block[1:], cuts[1:])
            self.reshape([1, 1, made[1], outputs])
        else:
            self.together([1, *made, outputs], block, cuts)

    def batch_shape(self, shape, name, axis):
        if name == "RESHAPE":
            return self.reshape(shape)
        output = self.tensor(shape, self.x["scale"], self.x["zero_point"])
        if name == "SQUEEZE":
            return self.operator(name, [self.x["number"]], output, ("SqueezeOptions", {"squeezeDims": [axis]}))
        axis = self.graph.constant(np.array(axis, np.int32))
        self.operator(name, [self.x["number"], axis], output, ("ExpandDimsOptions", {}))

    def real(self, shape):
        return {**self.x, "number": self.graph.tensor(shape, np.float32), "shape": list(shape)}

    def island(self):
        """Float32 numbers that are moved, or made one by one of others, and quantised again."""
        self.operator("DEQUANTIZE", [self.x["number"]], self.real(self.x["shape"]), ("DequantizeOptions", {}))
        scale = self.x["scale"]
        for _ in range(int(self.rng.integers(1, 4))):
            shape = self.x["shape"]
            way = str(self.rng.choice(["TRANSPOSE", "PAD", "RELU", "RELU6", "NEG", "MUL", "ADD", "SUB", "CONCATENATION", "MAXIMUM"]))
            if way == "TRANSPOSE":
                output, inputs, options = self.real([1, shape[2], shape[1], shape[3]]), [self.numbers([0, 2, 1, 3])], None
            elif way == "PAD":
                if "PAD" in self.names or "SUB" in self.names or "ADD" in self.names:
                    continue
                output = self.real([1, shape[1] + 1, shape[2] + 2, shape[3]])
                inputs, options = [self.numbers([[0, 0], [1, 0], [1, 1], [0, 0]])], ("PadOptions", {})
            elif way == "CONCATENATION":
                output, inputs = self.real(shape[:3] + [2 * shape[3]]), [self.x["number"]]
                options = ("ConcatenationOptions", {"axis": 3, "fusedActivationFunction": 0})
            elif way in ("MUL", "ADD", "SUB", "MAXIMUM"):
                number = np.float32(self.rng.uniform(-1.5, 1.5))
                output, inputs, options = self.real(shape), [self.graph.constant(np.full([], number))], None
                if way != "MAXIMUM":
                    options = ({"MUL": "MulOptions", "ADD": "AddOptions", "SUB": "SubOptions"}[way], {})
            else:
                output, inputs, options = self.real(shape), [], None
            inputs = [self.x["number"], *inputs]
            if way == "SUB" and self.rng.random() < 0.5:
                inputs.reverse()
            self.operator(way, inputs, output, options)
        output = self.tensor(self.x["shape"], scale * self.rng.choice([1, self.rng.uniform(0.5, 1.5)]), self.zero_point())
        self.operator("QUANTIZE", [self.x["number"]], output, ("QuantizeOptions", {}))

    def mixed(self):
        """Several of all kinds; the tensors stay small."""
        for _ in range(int(self.rng.integers(2, 5))):
            step = str(self.rng.choice(MIXED))
            if np.prod(self.x["shape"]) > 1500 and step in ("bilinear", "transposed", "movement", "fill", "mirror", "concatenate"):
                step = "max_pool"
            getattr(self, step)()
