"""Files that an import refuses, and words of the error that each must give.

    python refused.py <folder>

prints one line per file: its name, a tab, and the words. Those named xnnpack_ are refused under its rounding only.
"""

import sys
from pathlib import Path

import numpy as np
from writer import PADDINGS, Graph

SAME, VALID = PADDINGS["same"], PADDINGS["valid"]
POOL = dict(padding=VALID, strideW=2, strideH=2, filterWidth=2, filterHeight=2, fusedActivationFunction=0)
CONV = dict(
    padding=SAME, strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1, fusedActivationFunction=0)


def image(graph, shape=(1, 4, 4, 2), dtype=np.int8, scale=0.1, zero_point=0, **more):
    return graph.tensor(shape, dtype, scale, zero_point, **more)


def conv(graph, x, y, weights=None, **fields):
    if weights is None:
        weights = graph.constant(np.ones((2, 1, 1, 2), np.int8), scale=0.1, name="weights")
    bias = graph.constant(np.zeros(2, np.int32), scale=0.01)
    graph.operator("CONV_2D", [x, weights, bias], [y], ("Conv2DOptions", CONV | fields))


def simple(build):
    """A graph with an input and an output, and what `build` puts between them."""
    graph = Graph()
    x, y = image(graph, name="image"), image(graph, name="result")
    build(graph, x, y)
    return graph.finish([x], [y])


def cases():
    graph = Graph()
    x, y = graph.tensor((1, 4, 4, 2), np.float32, name="image"), graph.tensor((1, 4, 4, 2), np.float32)
    weights, bias = graph.constant(np.ones((2, 1, 1, 2), np.float32)), graph.constant(np.zeros(2, np.float32))
    graph.operator("CONV_2D", [x, weights, bias], [y], ("Conv2DOptions", CONV))
    yield "floats", graph.finish([x], [y]), "a float network: all its layers compute with float32 numbers"

    graph = Graph()
    x, y = graph.tensor((1, 4, 4, 2), np.float32, name="image"), graph.tensor((1, 4, 4, 2), np.float32)
    weights = graph.constant(np.ones((2, 1, 1, 2), np.int8), scale=[0.1, 0.2])
    bias = graph.constant(np.zeros(2, np.float32))
    graph.operator("CONV_2D", [x, weights, bias], [y], ("Conv2DOptions", CONV))
    yield "hybrid", graph.finish([x], [y]), "dynamic range quantisation: its weights are 8-bit integers"

    graph = Graph()
    x, y = image(graph, name="image"), image(graph, (1, 6, 4, 2), name="result")
    shape = graph.constant(np.array([1, 6, 4, 2], np.int32))
    weights = graph.constant(np.ones((2, 3, 1, 2), np.int8), scale=0.1)
    graph.operator("TRANSPOSE_CONV", [shape, weights, x], [y], ("TransposeConvOptions", dict(padding=SAME, strideW=1, strideH=1)))
    yield "transposed", graph.finish([x], [y]), "it makes [1, 6, 4, 2] of [1, 4, 4, 2]"

    graph = Graph()
    x, y = image(graph, dtype=np.uint8, name="image"), image(graph, (1, 8, 8, 2), np.uint8, name="result")
    shape = graph.constant(np.array([1, 8, 8, 2], np.int32))
    weights = graph.constant(np.ones((2, 1, 2, 2), np.uint8), scale=0.1)
    graph.operator("TRANSPOSE_CONV", [shape, weights, x], [y], ("TransposeConvOptions", dict(padding=SAME, strideW=2, strideH=2)))
    yield "xnnpack_transposed", graph.finish([x], [y]), "XNNPACK does not run it"

    graph = Graph()
    x, rooted, pooled, y = (image(graph, name=name) for name in ("image", "rooted", "pooled", "result"))
    pooled = image(graph, name="pooled", scale=0.2)
    graph.operator("COS", [x], [rooted])
    graph.operator("AVERAGE_POOL_2D", [rooted], [pooled], ("Pool2DOptions", POOL | dict(padding=SAME, filterWidth=3)))
    graph.operator("SQUARED_DIFFERENCE", [pooled, pooled], [y])
    words = "3 obstacles:\\n  COS \"rooted\": no network has this operation; replace"
    yield "all", graph.finish([x], [y]), words
    words = "AVERAGE_POOL_2D \"pooled\": its input and its output have different scales"
    yield "all", graph.finish([x], [y]), words
    yield "all", graph.finish([x], [y]), "SQUARED_DIFFERENCE \"result\": it multiplies or divides"

    graph = Graph()
    x, y, z = image(graph), image(graph), image(graph, scale=1 / 256, zero_point=-128)
    conv(graph, x, y)
    graph.operator("SOFTMAX", [y], [z], ("SoftmaxOptions", {"beta": -2.0}))
    yield "beta", graph.finish([x], [z]), "SOFTMAX"

    graph = Graph()
    x, y = image(graph, (2, 4, 4, 2)), image(graph, (2, 4, 4, 2))
    conv(graph, x, y)
    yield "batch", graph.finish([x], [y]), "export it for a batch of one image"

    graph = Graph()
    x, y = image(graph, dtype=np.int16), image(graph, dtype=np.int16)
    conv(graph, x, y)
    yield "wide", graph.finish([x], [y]), "a network of 16-bit activations"

    graph = Graph()
    x, y = image(graph, scale=[0.1, 0.2]), image(graph)
    conv(graph, x, y)
    yield "scales", graph.finish([x], [y]), "activations need one scale"

    graph = Graph()
    x, y = image(graph), image(graph, scale=0.0)
    conv(graph, x, y)
    yield "zero", graph.finish([x], [y]), "scales must be positive"

    graph = Graph()
    x, y = image(graph), image(graph, scale=1e-12)
    conv(graph, x, y)
    yield "steep", graph.finish([x], [y]), "channel 0 reaches"

    graph = Graph()
    x, middle, y = image(graph), image(graph, scale=1 / 256, zero_point=-128, name="soft"), image(graph)
    graph.operator("SOFTMAX", [x], [middle], ("SoftmaxOptions", {"beta": 1.0}))
    conv(graph, middle, y)
    yield "softmax", graph.finish([x], [y]), "SOFTMAX \"soft\": no network has this operation; a softmax is left out"

    yield "tanh", simple(lambda g, x, y: conv(g, x, y, fusedActivationFunction=4)), "its activation function is unknown"
    yield "activation", simple(lambda g, x, y: conv(g, x, y, weights=x)), "tensor image is no constant"
    wrong = lambda g, x, y: conv(g, x, y, g.constant(np.ones((2, 1, 1, 3), np.int8), scale=0.1))  # noqa: E731
    yield "channels", simple(wrong), "its weights read 3 of 2 channels"
    shifted = lambda g, x, y: conv(g, x, y, g.constant(np.ones((2, 1, 1, 2), np.int8), scale=0.1, zero_point=3))  # noqa: E731
    yield "zero_point", simple(shifted), "signed weights need zero point 0"
    def multiply(g, x, y):
        middle = image(g)
        conv(g, x, middle)
        g.operator("MUL", [x, middle], [y], ("MulOptions", {}))

    yield "product", simple(multiply), "MUL \"result\": it multiplies activations"
    filter = lambda g, x, y: g.operator("SVDF", [x], [y], ("SVDFOptions", {}))  # noqa: E731
    yield "state", simple(filter), "SVDF \"result\": it keeps a state from one input to the next"
    once = lambda g, x, y: (g.operator("VAR_HANDLE", [], [y], ("VarHandleOptions", {})), conv(g, y, y))  # noqa: E731
    yield "variable", simple(once), "its output does not depend on its input"
    compiled = lambda g, x, y: g.operator("CUSTOM", [x], [y], custom="ethos-u")  # noqa: E731
    yield "compiled", simple(compiled), "compiled for an accelerator"
    graph = Graph()
    x, middle, y = image(graph), image(graph, name="middle"), image(graph)
    graph.operator("CUSTOM", [x], [middle], custom="Mine")
    conv(graph, middle, y)
    yield "custom", graph.finish([x], [y]), "Mine \"middle\""
    roots = lambda g, x, y: g.operator("L2_POOL_2D", [x], [y], ("Pool2DOptions", POOL))  # noqa: E731
    yield "roots", simple(roots), "L2_POOL_2D \"result\": it takes roots of sums of squares"
    quotient = lambda g, x, y: g.operator("DIV", [x, x], [y], ("DivOptions", {}))  # noqa: E731
    yield "quotient", simple(quotient), "DIV \"result\": it divides activations"
    zeros = lambda g: g.constant(np.zeros([2], np.int8), scale=0.1)  # noqa: E731
    infinite = lambda g, x, y: g.operator("DIV", [x, zeros(g)], [y], ("DivOptions", {}))  # noqa: E731
    yield "infinite", simple(infinite), "DIV \"result\": it divides the scales"
    branch = lambda g, x, y: g.operator("IF", [x, x], [y], ("IfOptions", {}))  # noqa: E731
    yield "branch", simple(branch), "IF \"result\": it is a branch"

    graph = Graph()
    x, y = image(graph, name="image"), image(graph, name="result")
    real = [graph.tensor((1, 4, 4, 2), np.float32, name=name) for name in ("one", "other", "both")]
    graph.operator("DEQUANTIZE", [x], [real[0]])
    graph.operator("COS", [real[0]], [real[1]])
    graph.operator("ADD", real[:2], [real[2]], ("AddOptions", {}))
    graph.operator("QUANTIZE", [real[2]], [y])
    yield "island", graph.finish([x], [y]), "COS \"other\": no network has this operation"

    graph = Graph()
    x, y = image(graph, name="image"), image(graph, name="result")
    real = [graph.tensor((1, 4, 4, 2), np.float32, name=name) for name in ("one", "both")]
    graph.operator("DEQUANTIZE", [x], [real[0]])
    graph.operator("ADD", [real[0], real[0]], [real[1]], ("AddOptions", {}))
    graph.operator("QUANTIZE", [real[1]], [y])
    yield "doubled", graph.finish([x], [y]), "ADD \"both\": it computes with float32 numbers, in a way"


    graph = Graph()
    x, y = image(graph, name="image"), image(graph, name="result")
    real = [graph.tensor((1, 4, 4, 2), np.float32, name=name) for name in ("one", "inverse")]
    graph.operator("DEQUANTIZE", [x], [real[0]])
    graph.operator("DIV", [graph.constant(np.ones([], np.float32)), real[0]], [real[1]], ("DivOptions", {}))
    graph.operator("QUANTIZE", [real[1]], [y])
    yield "inverse", graph.finish([x], [y]), "DIV \"inverse\": it divides by 0, or overflows, for a value"

    def apart(graph, x, stride=1, join=True, back=2):
        """A convolution over an image in batches."""
        apart, made, y = (image(graph, (4, 2, 2, 2), name=name) for name in ("apart", "made", "batches"))
        block, none = graph.constant(np.array([2, 2], np.int32)), graph.constant(np.zeros([2, 2], np.int32))
        graph.operator("SPACE_TO_BATCH_ND", [x, block, none], [apart], ("SpaceToBatchNDOptions", {}))
        conv(graph, apart, made, strideW=stride, strideH=stride)
        if not join:
            graph.operator("MAX_POOL_2D", [made], [y], ("Pool2DOptions", POOL | dict(strideW=1, strideH=1)))
            made = y
        y = image(graph, name="whole")
        block = graph.constant(np.array([back, 4 // back], np.int32))
        graph.operator("BATCH_TO_SPACE_ND", [made, block, none], [y], ("BatchToSpaceNDOptions", {}))
        return y

    for name, words, more in [
        ("apart_stride", "CONV_2D \"made\": it steps over rows of batches", dict(stride=2)),
        ("apart_pool", "MAX_POOL_2D \"batches\": it reads the batches of a SPACE_TO_BATCH_ND", dict(join=False)),
        ("apart_blocks", "BATCH_TO_SPACE_ND \"whole\": it puts blocks of [1, 4] together, of [2, 2]", dict(back=1)),
    ]:
        graph = Graph()
        x = image(graph, name="image")
        yield name, graph.finish([x], [apart(graph, x, **more)]), words


def main():
    folder = Path(sys.argv[1])
    for name, file, words in cases():
        (folder / f"{name}.tflite").write_bytes(file)
        print(name, words, sep="\t")


main()
