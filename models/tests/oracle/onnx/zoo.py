"""Exports model files as ONNX graphs and runs them.

    python zoo.py <form> <folder> <name> ..

The form is "qonnx", for the QONNX executor, or "qdq", for ONNX Runtime. For every name, <folder>/<name>.lowkey is the model file and
<folder>/<name>.inputs the images, one byte for each element. Writes the graph, <folder>/<name>.onnx, and <folder>/<name>.outputs: the
results as 32-bit floats. The graph is exported by `train.qonnx`, which is found next to the tests.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from runtimes import executor, runtime

sys.path.insert(0, str(Path(__file__).parents[3]))

from train.integer import IntegerNet  # noqa: E402
from train.qonnx import Qdq, Qonnx, exported  # noqa: E402

#: Elements of the inputs that a runtime gets at once: the executor keeps all tensors.
BATCH = 100 * 28 * 28


def executed(model, batch):
    for info in [*model.graph.input, *model.graph.output]:
        info.type.tensor_type.shape.dim[0].dim_value = batch
    return executor(model)


def session(model, _):
    started = runtime(model)
    return lambda images: started.run(None, {"image": images})[0]


def run(start, model, images):
    """The outputs for images [N, C, H, W]."""
    size = max(1, BATCH // images[0].size)
    parts = [images[at : at + size].astype(np.float32) for at in range(0, len(images), size)]
    runs = {}
    for part in parts:
        if len(part) not in runs:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            runs[len(part)] = start(copy, len(part))
    return np.concatenate([runs[len(part)](part) for part in parts])


def main():
    form, folder = sys.argv[1], Path(sys.argv[2])
    for name in sys.argv[3:]:
        net = IntegerNet(folder / f"{name}.lowkey")
        model = exported(net, Qdq() if form == "qdq" else Qonnx())
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{name}.onnx")
        images = np.fromfile(folder / f"{name}.inputs", np.uint8).reshape(-1, *net.architecture["input"]["shape"])
        outputs = run(session if form == "qdq" else executed, model, images)
        (folder / f"{name}.outputs").write_bytes(outputs.astype("<f4").tobytes())


main()
