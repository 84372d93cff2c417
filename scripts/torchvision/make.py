"""Torchvision's architectures with seeded random weights, quantised by ONNX Runtime's static quantiser in all its forms.

    python make.py FOLDER [NETWORK ...] [--images 20] [--exporter dynamo|script]

writes FOLDER/NETWORK/float.onnx, and for each of the ten variants VARIANT.onnx and VARIANT.npz: `images` (floats) and `outputs`, what
ONNX Runtime makes of them: on its default settings, but that those called int8, QDQ of signed bytes, have session.qdqisint8allowed set to 1.
What is there already stays.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

SEED = 1
CLASSES = 10
# Side of the image: small where the network has a global average, and the least that its pools allow.
SIDES = {
    "resnet18": 64,
    "resnet50": 64,
    "mobilenet_v2": 64,
    "squeezenet1_1": 64,
    "regnet_x_400mf": 64,
    "mnasnet0_5": 64,
    "googlenet": 96,
    "vgg11_bn": 32,
    "densenet121": 64,
    "shufflenet_v2_x0_5": 64,
}
MORE = {"googlenet": {"aux_logits": False, "init_weights": False, "transform_input": False}}
VARIANTS = [
    f"{types}-{scales}-{form}"
    for types, forms in (("u8s8", ("qdq", "qoperator")), ("s8s8", ("qdq", "int8", "qoperator")))
    for scales in ("tensor", "channel")
    for form in forms
]


def network(name):
    """The architecture with random weights; normalisation has random factors, and the statistics of random images."""
    torch.manual_seed(SEED)
    net = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES, **MORE.get(name, {}))
    norms = [part for part in net.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.momentum = None
    with torch.no_grad():
        for _ in range(2 if norms else 0):
            net(images(16, SIDES[name]))
    return net.eval()


def images(count, side):
    """Noise of three coarsenesses, of variance 1."""
    parts = []
    for cell in (1, 4, 16):
        part = torch.randn(count, 3, -(-side // cell), -(-side // cell))
        parts.append(part.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[:, :, :side, :side])
    return sum(parts) / 3**0.5


def export(name, path, exporter):
    """The network in floats."""
    image = images(1, SIDES[name])
    options = {"input_names": ["image"], "output_names": ["logits"]}
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "a.onnx"), Path(folder, "b.onnx")
        if exporter == "dynamo":
            torch.onnx.export(network(name), (image,), first, dynamo=True, verbose=False, **options)
        else:
            torch.onnx.export(network(name), (image,), first, dynamo=False, opset_version=17, **options)
        quant_pre_process(first, second)
        onnx.save(onnx.load(second), path)


class Reader(CalibrationDataReader):
    def __init__(self, side):
        torch.manual_seed(SEED + 1)
        self.data = iter([{"image": images(1, side).numpy()} for _ in range(8)])

    def get_next(self):
        return next(self.data, None)


def quantise(source, path, variant, side):
    types, scales, form = variant.split("-")
    quantize_static(
        source,
        path,
        Reader(side),
        quant_format=QuantFormat.QOperator if form == "qoperator" else QuantFormat.QDQ,
        per_channel=scales == "channel",
        activation_type=QuantType.QUInt8 if types[0] == "u" else QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )


def answers(path, count, side, integers):
    torch.manual_seed(SEED + 2)
    inputs = images(count, side).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if integers:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = [session.run(None, {"image": image[None]})[0][0] for image in inputs]
    return {"images": inputs, "outputs": np.stack(outputs)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", choices=[[], *SIDES])
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--exporter", choices=["dynamo", "script"], default="dynamo")
    options = parser.parse_intermixed_args()
    for name in options.networks or SIDES:
        folder, side = options.folder / name, SIDES[name]
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "float.onnx"
        if not source.exists():
            export(name, source, options.exporter)
        for variant in VARIANTS:
            path, cases = folder / f"{variant}.onnx", folder / f"{variant}.npz"
            if not path.exists():
                part = path.with_suffix(".part")
                quantise(source, part, variant, side)
                os.replace(part, path)
            if not cases.exists():
                part = folder / "part.npz"
                np.savez(part, **answers(path, options.images, side, variant.endswith("int8")))
                os.replace(part, cases)
            print(name, variant, f"{path.stat().st_size / 1e6:.1f} MB", flush=True)


main()
