"""Exports Brevitas' own architectures with seeded random weights, as QONNX and as QCDQ, with nothing edited by hand.

    python make.py FOLDER [words in a file's name ...]

TFC, SFC, LFC and CNV are those of brevitas_examples.bnn_pynq; the LeNets are those of the tutorials. Batch normalisations and scales see
random images before the export, so that no number is a special one. A file that Brevitas does not export is named with the reason.
"""

import sys
from pathlib import Path

import torch
from brevitas import nn as qnn
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.quant import Int32Bias
from brevitas_examples.bnn_pynq.models import model_with_cfg
from torch import nn
from torch.nn import functional

EXAMPLES = [f"{name}_{bits}" for name in ("tfc", "sfc", "lfc", "cnv") for bits in ("1w1a", "1w2a", "2w2a")]
EXAMPLES.remove("lfc_2w2a")


class LeNet(nn.Module):
    """The network of Brevitas' tutorials: 4-bit weights and activations; biases of 32 bits, or in floating point."""

    def __init__(self, bias_quant, bits=4, channels=3):
        super().__init__()
        weights = {"weight_bit_width": bits, "bias": True, "bias_quant": bias_quant}
        positive = {"bit_width": bits, "return_quant_tensor": True}
        side = 5 if channels == 3 else 4
        self.quant_inp = qnn.QuantIdentity(**positive)
        self.conv1, self.relu1 = qnn.QuantConv2d(channels, 6, 5, **weights), qnn.QuantReLU(**positive)
        self.conv2, self.relu2 = qnn.QuantConv2d(6, 16, 5, **weights), qnn.QuantReLU(**positive)
        self.fc1, self.relu3 = qnn.QuantLinear(16 * side * side, 120, **weights), qnn.QuantReLU(**positive)
        self.fc2, self.relu4 = qnn.QuantLinear(120, 84, **weights), qnn.QuantReLU(**positive)
        self.fc3 = qnn.QuantLinear(84, 10, **weights)

    def forward(self, x):
        out = self.relu1(self.conv1(self.quant_inp(x)))
        out = functional.max_pool2d(out, 2)
        out = functional.max_pool2d(self.relu2(self.conv2(out)), 2)
        out = out.reshape(out.shape[0], -1)
        out = self.relu4(self.fc2(self.relu3(self.fc1(out))))
        return self.fc3(out)


def networks():
    """Names, networks, and the shapes of their inputs; weights depend on the name alone."""
    for name in EXAMPLES:
        shape = [3, 32, 32] if name.startswith("cnv") else [1, 28, 28]
        yield name, shape, lambda name=name: model_with_cfg(name, False)[0]
    for bits in (3, 4, 5):
        for channels, shape in [(1, [1, 28, 28]), (3, [3, 32, 32])]:
            for kind, bias in [("bias", Int32Bias), ("float", None)]:
                make = lambda bias=bias, bits=bits, channels=channels: LeNet(bias, bits, channels)
                yield f"lenet_{bits}bit_{channels}ch_{kind}", shape, make


def settled(net, shape):
    """The network after batches of random images: its scales and means are of these."""
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        for _ in range(20):
            net(torch.rand(16, *shape))
    return net.eval()


def main():
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for index, (name, shape, make) in enumerate(networks()):
        if not all(word in name for word in words):
            continue
        torch.manual_seed(1000 + index)
        net = settled(make(), shape)
        for kind, export in [("qonnx", export_qonnx), ("qcdq", export_onnx_qcdq)]:
            path = folder / f"{name}_{kind}.onnx"
            try:
                # For QCDQ Brevitas wants version 13 of the operators, which only PyTorch's older exporter has.
                export(net, args=torch.rand(1, *shape), export_path=path, dynamo=kind == "qonnx")
                print(f"{path.name}: {path.stat().st_size} bytes", flush=True)
            except Exception as error:
                path.unlink(missing_ok=True)
                print(f"{path.name}: Brevitas does not export it: {type(error).__name__}: {str(error).splitlines()[:1]}", flush=True)


main()
