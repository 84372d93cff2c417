"""Exports model files as QONNX graphs and runs them with the QONNX executor.

    python zoo.py <folder> <name> ..

For every name, <folder>/<name>.lowkey is the model file and <folder>/<name>.inputs the images, one byte for each element. Writes the
graph, <folder>/<name>.onnx, and <folder>/<name>.outputs: the executor's results as 32-bit floats. The graph is exported by
`train.qonnx`, which is found next to the tests.
"""

import functools
import sys
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[3]))

# The executor makes a model of every node, of a version that the runtime may not know yet.
onnx.helper.make_model = functools.partial(onnx.helper.make_model, ir_version=10)

from qonnx.core.modelwrapper import ModelWrapper  # noqa: E402
from qonnx.core.onnx_exec import execute_onnx  # noqa: E402
from qonnx.transformation.infer_shapes import InferShapes  # noqa: E402

from train.integer import IntegerNet  # noqa: E402
from train.qonnx import qonnx  # noqa: E402

#: Elements of the inputs that the executor gets at once: it keeps all tensors.
BATCH = 100 * 28 * 28


def run(model, images):
    """The outputs for images [N, C, H, W]."""
    size = max(1, BATCH // images[0].size)
    parts = [images[at : at + size] for at in range(0, len(images), size)]
    outputs, wrapper = [], None
    for part in parts:
        if wrapper is None or len(part) != size:
            batched = onnx.ModelProto()
            batched.CopyFrom(model)
            for info in [*batched.graph.input, *batched.graph.output]:
                info.type.tensor_type.shape.dim[0].dim_value = len(part)
            wrapper = ModelWrapper(batched).transform(InferShapes())
        (output,) = execute_onnx(wrapper, {"image": part.astype(np.float32)}).values()
        outputs.append(output)
    return np.concatenate(outputs)


def main():
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        net = IntegerNet(folder / f"{name}.lowkey")
        model = qonnx(net)
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{name}.onnx")
        images = np.fromfile(folder / f"{name}.inputs", np.uint8).reshape(-1, *net.architecture["input"]["shape"])
        (folder / f"{name}.outputs").write_bytes(run(model, images).astype("<f4").tobytes())


main()
