"""Files that quantise a real input and answer with the quantised tensor, and what LiteRT makes of real numbers.

    python inputs.py <folder> <seed> <count>

writes `<n>.tflite` and `<n>.json`: {"values", "double", "single"}: 256 numbers as the bits of 32-bit floats for each of the channels (the
last index), many of them at ties, and the quantised tensor of the reference kernels and of XNNPACK.
"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import interpreter as litert

from writer import Graph

F = np.float32


def main():
    folder, rng, count = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2])), int(sys.argv[3])
    for number in range(count):
        channels = int(rng.integers(1, 4))
        scale = float(F([2 / 255, 1 / 255, 1 / 128, rng.uniform(0.003, 0.03)][number % 4]))
        zero_point = int(rng.integers(-128, 128))
        shape = [1, 16, 16, channels]
        graph = Graph()
        x = graph.tensor(shape, np.float32)
        q = graph.tensor(shape, np.int8, scale, zero_point)
        y = graph.tensor(shape, np.int8, scale, zero_point)
        graph.operator("QUANTIZE", [x], [q], ("QuantizeOptions", {}))
        window = {"padding": 1, "strideW": 1, "strideH": 1, "filterWidth": 1, "filterHeight": 1}
        graph.operator("MAX_POOL_2D", [q], [y], ("Pool2DOptions", window))
        file = graph.finish([x], [y])
        (folder / f"{number}.tflite").write_bytes(file)
        pixels = np.arange(256, dtype=F).reshape(1, 16, 16, 1).repeat(channels, 3) / F(127.5) - F(1)
        steps = rng.integers(-300, 300, shape).astype(F) / F(2) * F(scale)
        values = np.where(rng.random(shape) < 0.5, steps, pixels if number % 2 else rng.normal(0, 1, shape)).astype(F)
        case = {"values": values.reshape(-1).view(np.uint32).tolist()}
        for name, resolver in [("double", litert.OpResolverType.BUILTIN_REF), ("single", litert.OpResolverType.BUILTIN)]:
            runtime = litert.Interpreter(model_content=file, experimental_op_resolver_type=resolver, num_threads=1)
            runtime.allocate_tensors()
            runtime.set_tensor(runtime.get_input_details()[0]["index"], values)
            runtime.invoke()
            result = runtime.get_tensor(runtime.get_output_details()[0]["index"])
            case[name] = result.reshape(-1).astype(int).tolist()
        (folder / f"{number}.json").write_text(json.dumps(case))


main()
