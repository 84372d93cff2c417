"""Writes the files of this folder: small networks, trained for a moment on the digits of scikit-learn, quantised and exported by
Brevitas, PyTorch (PT2E) and ONNX Runtime. Then runs each on random images (../run.py).

    python -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python make.py

What the exporters note about the Python code that made a node is removed; nothing else is changed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.inject.enum import ScalingPerOutputType
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU, TruncAvgPool2d
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Int32Bias,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.fixed_point import Int8ActPerTensorFixedPoint, Int8WeightPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

HERE = Path(__file__).parent
DIGITS = load_digits()
IMAGES = torch.tensor(DIGITS.images / 16, dtype=torch.float32)[:, None]
LABELS = torch.tensor(DIGITS.target)
#: Training images; the rest are for the accuracy.
TRAIN = 1400


class Int8WeightPerChannelFixedPoint(Int8WeightPerTensorFixedPoint):
    scaling_per_output_type = ScalingPerOutputType.CHANNEL


class Plain(nn.Module):
    """Convolution, max pool, residual block, average pool, matrix, in floating point."""

    def __init__(self, average):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool, self.average = nn.MaxPool2d(2), average
        self.fc = nn.Linear(8 if isinstance(average, nn.AdaptiveAvgPool2d) else 32, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = torch.relu(self.bn2(self.conv2(x)) + x)
        return self.fc(torch.flatten(self.average(x), 1))


class Brevitas(nn.Module):
    """The same with the layers of Brevitas; the residual has one quantiser for both summands, as Brevitas wants it.

    average: "trunc" (TruncAvgPool2d), "quant" (an average and a quantiser), "float" (an average that nothing quantises).
    """

    def __init__(self, bits, *, channel, power, average):
        super().__init__()
        if power:
            weight = Int8WeightPerChannelFixedPoint if channel else Int8WeightPerTensorFixedPoint
            unsigned, signed = Uint8ActPerTensorFixedPoint, Int8ActPerTensorFixedPoint
        else:
            weight = Int8WeightPerChannelFloat if channel else Int8WeightPerTensorFloat
            unsigned, signed = Uint8ActPerTensorFloat, Int8ActPerTensorFloat
        weights = {"weight_quant": weight, "weight_bit_width": bits}
        positive = {"act_quant": unsigned, "bit_width": bits, "return_quant_tensor": True}
        self.start = QuantIdentity(act_quant=unsigned, bit_width=4, return_quant_tensor=True)
        self.conv1, self.bn1 = QuantConv2d(1, 8, 3, padding=1, bias=False, **weights), nn.BatchNorm2d(8)
        self.relu1, self.pool = QuantReLU(**positive), nn.MaxPool2d(2)
        self.conv2, self.bn2 = QuantConv2d(8, 8, 3, padding=1, bias=False, **weights), nn.BatchNorm2d(8)
        self.common = QuantIdentity(act_quant=signed, bit_width=bits + 1, return_quant_tensor=True)
        self.relu2 = QuantReLU(**positive)
        self.average = TruncAvgPool2d(2) if average == "trunc" else nn.AvgPool2d(2)
        self.after = QuantIdentity(**positive) if average == "quant" else nn.Identity()
        self.fc = QuantLinear(32, 10, bias=True, **weights)

    def forward(self, x):
        x = self.pool(self.relu1(self.bn1(self.conv1(self.start(x)))))
        x = self.relu2(self.common(self.bn2(self.conv2(x))) + self.common(x))
        return self.fc(torch.flatten(self.after(self.average(x)), 1))


class Branches(nn.Module):
    """Two convolutions of one input whose results are joined, a depthwise one, a matrix; biases are quantised to 32 bits."""

    def __init__(self, power):
        super().__init__()
        weight = Int8WeightPerTensorFixedPoint if power else Int8WeightPerTensorFloat
        unsigned = Uint8ActPerTensorFixedPoint if power else Uint8ActPerTensorFloat
        layer = {"weight_quant": weight, "weight_bit_width": 3, "bias": True, "bias_quant": Int32Bias}
        positive = {"act_quant": unsigned, "bit_width": 3, "return_quant_tensor": True}
        self.start = QuantIdentity(**positive)
        self.conv1, self.conv2 = QuantConv2d(1, 4, 3, padding=1, **layer), QuantConv2d(1, 4, 1, **layer)
        self.relu, self.pool = QuantReLU(**positive), nn.MaxPool2d(2)
        self.depthwise, self.relu2 = QuantConv2d(8, 8, 3, groups=8, stride=2, padding=1, **layer), QuantReLU(**positive)
        self.fc = QuantLinear(32, 10, **layer)

    def forward(self, x):
        x = self.start(x)
        x = self.pool(torch.cat([self.relu(self.conv1(x)), self.relu(self.conv2(x))], 1))
        return self.fc(torch.flatten(self.relu2(self.depthwise(x)), 1))


class Calibration(CalibrationDataReader):
    def __init__(self):
        self.images = iter(IMAGES[:200])

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"x": image[None].numpy()}


def trained(net):
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        some = torch.randint(0, TRAIN, (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(IMAGES[some]), LABELS[some]).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        right = (net(IMAGES[TRAIN:]).argmax(1) == LABELS[TRAIN:]).float().mean()
    print(f"accuracy {100 * right.item():.0f} %")
    return net


def brevitas(folder):
    nets = [(f"w3-tensor-{'power' if power else 'any'}-branches", Branches(power)) for power in [True, False]]
    for name, bits, options in [
        ("w4-channel-power-trunc", 4, {"channel": True, "power": True, "average": "trunc"}),
        ("w4-tensor-power-float", 4, {"channel": False, "power": True, "average": "float"}),
        ("w4-channel-any-quant", 4, {"channel": True, "power": False, "average": "quant"}),
        ("w2-channel-power-quant", 2, {"channel": True, "power": True, "average": "quant"}),
        ("w2-tensor-any-trunc", 2, {"channel": False, "power": False, "average": "trunc"}),
        ("w2-channel-any-float", 2, {"channel": True, "power": False, "average": "float"}),
    ]:
        nets.append((name, Brevitas(bits, **options)))
    for name, net in nets:
        trained(net)
        for kind, export in [("qonnx", export_qonnx), ("qcdq", export_onnx_qcdq)]:
            # For QCDQ Brevitas wants version 13 of the operators and quantised biases, which only PyTorch's older exporter has.
            export(net, args=IMAGES[:1], export_path=folder / f"brevitas-{kind}-{name}.onnx", dynamo=kind == "qonnx")


def pt2e(folder):
    xnnpack, x86 = get_symmetric_quantization_config, get_default_x86_inductor_quantization_config
    nets = [trained(Plain(nn.AvgPool2d(2))), trained(Plain(nn.MaxPool2d(2)))]
    for name, net, quantiser in [
        ("xnnpack-tensor", nets[0], XNNPACKQuantizer().set_global(xnnpack(is_per_channel=False))),
        ("xnnpack-channel", nets[0], XNNPACKQuantizer().set_global(xnnpack(is_per_channel=True))),
        # It leaves averages of sums unquantised, which no network has.
        ("x86", nets[1], X86InductorQuantizer().set_global(x86())),
    ]:
        prepared = prepare_pt2e(torch.export.export(net, (IMAGES[:1],)).module(), quantiser)
        for image in IMAGES[:100]:
            prepared(image[None])
        path = folder / f"pt2e-{name}.onnx"
        torch.onnx.export(convert_pt2e(prepared), (IMAGES[:1],), path, dynamo=True, external_data=False, input_names=["x"])


def static(folder):
    for average, layer in [("global", nn.AdaptiveAvgPool2d(1)), ("windows", nn.AvgPool2d(2))]:
        path = folder / "float"
        net = trained(Plain(layer))
        torch.onnx.export(net, (IMAGES[:1],), path, dynamo=True, external_data=False, input_names=["x"])
        for form in [QuantFormat.QDQ, QuantFormat.QOperator] if average == "global" else [QuantFormat.QDQ]:
            for name in ["tensor", "channel"] if average == "global" else ["channel"]:
                out = folder / f"static-{form.name.lower()}-{name}-{average}.onnx"
                quantize_static(
                    path, out, Calibration(), quant_format=form, per_channel=name == "channel", weight_type=QuantType.QInt8)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        for tool in [brevitas, pt2e, static]:
            tool(work)
        for path in sorted(work.glob("*.onnx")):
            model = onnx.load(path)
            for part in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]:
                part.ClearField("metadata_props")
                part.ClearField("doc_string")
            onnx.save(model, HERE / path.name)
            case = HERE / f"{path.stem}.json"
            subprocess.run([sys.executable, HERE.parent / "run.py", HERE / path.name, case, "1", "8"], check=True)
            print(f"{path.name}: {(HERE / path.name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
