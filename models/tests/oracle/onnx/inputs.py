"""Files that quantise a real input, some after arithmetic with constants, and answer with the quantised tensor, and what ONNX Runtime makes of all grey levels.

    python inputs.py <folder> <seed> <count>

writes `<n>.onnx` and `<n>.json`: {"scale", "over", "mean", "std", "values", "q", "more", "more_q"}. `values` are
(scale * p / over - mean) / std for the pixels p = 0..255 of each channel, in 32-bit floats as numpy and torchvision compute them, `q` what
the runtime makes of them; `more` are other numbers, many of them near or at ties.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtimes import runtime

F = np.float32


def model(channels, scale, zero, steps):
    constants = [numpy_helper.from_array(np.array(scale, F), "scale"), numpy_helper.from_array(zero, "zero")]
    nodes, name = [], "x"
    for number, (op, list_, behind) in enumerate(steps):
        constants.append(numpy_helper.from_array(np.asarray(list_, F).reshape(-1, 1, 1), f"a{number}"))
        nodes.append(helper.make_node(op, [f"a{number}", name] if behind else [name, f"a{number}"], [f"s{number}"]))
        name = f"s{number}"
    nodes += [
        helper.make_node("QuantizeLinear", [name, "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["v"]),
        helper.make_node("MaxPool", ["v"], ["m"], kernel_shape=[1, 1]),
        helper.make_node("QuantizeLinear", ["m", "scale", "zero"], ["y"]),
    ]
    kind = TensorProto.INT8 if zero.dtype == np.int8 else TensorProto.UINT8
    shape = ["N", channels, 16, 16]
    graph = helper.make_graph(
        nodes,
        "input",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


KNOWN = [([0.5], [0.5], 2 / 255, 128), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 0.0186, 114), ([0.0], [1.0], 1 / 255, 0)]


def main():
    folder, rng, count = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2])), int(sys.argv[3])
    for number in range(count):
        signed = bool(rng.random() < 0.5)
        if number < len(KNOWN):
            mean, std, scale, middle = KNOWN[number]
            over = 255.0
        else:
            size = int(rng.choice([1, 3]))
            mean = [round(float(m), 3) for m in rng.uniform(0, 1, size)]
            std = [round(float(s), 3) for s in rng.uniform(0.2, 1, size)]
            over = float(rng.choice([255, 127.5, 256]))
            top, bottom = (255 / over - min(mean)) / min(std), -max(mean) / min(std)
            # Scales of which many grey levels are ties or nearly so, and any.
            scale = [(top - bottom) / 255, 2 / over / min(std), 0.5 / over / std[0], rng.uniform(0.003, 0.03)][number % 4]
            middle = int(np.clip(round(-bottom / scale), 0, 255))
        channels = 3 if len(mean) == 3 else int(rng.choice([1, 2]))
        zero = np.array(middle - 128, np.int8) if signed else np.array(middle, np.uint8)
        steps = []
        if number % 5 == 4:
            for _ in range(int(rng.integers(1, 4))):
                op = str(rng.choice(["Add", "Sub", "Mul", "Div"]))
                list_ = rng.uniform(0.3, 1.5, int(rng.choice([1, channels])))
                steps.append((op, list_, op != "Div" and rng.random() < 0.4))
        file = model(channels, scale, zero, steps)
        onnx.save(file, folder / f"{number}.onnx")
        pixels = np.arange(256, dtype=F).reshape(1, 1, 16, 16).repeat(channels, 1)
        each = [np.broadcast_to(np.asarray(list_, F), channels).reshape(1, channels, 1, 1) for list_ in (mean, std)]
        values = (F(1) * pixels / F(over) - each[0]) / each[1]
        assert values.dtype == F
        steps = rng.integers(-300, 300, values.shape).astype(F) / F(2)
        more = np.where(rng.random(values.shape) < 0.6, steps * F(scale), rng.normal(0, 1, values.shape)).astype(F)
        more.reshape(-1)[:2] = [np.inf, -np.inf]
        run = runtime(file, 1)
        case = {"scale": 1.0, "over": over, "mean": mean, "std": std}
        for name, x in [("values", values), ("more", more)]:
            (y,) = run.run(None, {"x": x})
            case[name] = x.reshape(-1).view(np.uint32).tolist()
            case["q" if name == "values" else name + "_q"] = y.reshape(-1).astype(int).tolist()
        (folder / f"{number}.json").write_text(json.dumps(case))


main()
