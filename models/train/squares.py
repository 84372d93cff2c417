"""Networks with squares for activations, for homomorphic encryption alone: `python3 -m train.squares mnist-hcnn-square-w4` in models/.

BFV adds and multiplies integers and cannot round, so nothing is requantised between layers. With u the real value of a unit,

    z_l = conv(y_(l-1), w_l) + b_l        w_l = round(v_l / e^step_l) within +-(2^(w-1) - 1),  b_l an integer
    y_l = z_l^2                           u_l = e^step_l u_(l-1)^2, and the logits are z_3

with one step per layer; y_0 are the pixels. Training computes the same network in units of u. The floating-point network has batch
normalisation, which goes into its weights; training then continues with rounded weights (LSQ, as in `lowkey.train.layers`) and the
floating-point network as teacher. `benches/he_only` reads the files.
"""

import argparse
import json
import math
import pathlib
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from . import architectures, data

ROOT = pathlib.Path(__file__).parent.parent.parent
FAMILIES = {"mnist-hcnn-square": architectures.MNIST_HCNN, "mnist-cryptonets-square": architectures.MNIST_CRYPTONETS}
#: Weights to bits of a pixel. 16: integers as large as rounding without training needs.
WIDTHS = {2: 2, 3: 3, 4: 4, 6: 4, 8: 4, 16: 8}
SIDE = 28
#: Bits of a bias, apart from a power of two.
BIAS_BITS = 15


def rounded(value):
    """Rounded, with the gradient of `value`."""
    return value + (value.round() - value).detach()


class Floating(nn.Module):
    """Logits of pixels in 0..top, in floating point with batch normalisation before each square."""

    def __init__(self, layers, top):
        super().__init__()
        self.layers, self.top = layers, top
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        channels, side = 1, SIDE
        for position, layer in enumerate(layers):
            last = position == len(layers) - 1
            if layer.kind == "conv":
                self.linears.append(nn.Conv2d(channels, layer.outputs, layer.kernel, layer.stride, layer.padding))
                self.norms.append(nn.Identity() if last else nn.BatchNorm2d(layer.outputs))
                side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
            else:
                self.linears.append(nn.Linear(channels * side * side, layer.outputs))
                self.norms.append(nn.Identity() if last else nn.BatchNorm1d(layer.outputs))
                side = 1
            channels = layer.outputs

    def forward(self, x):
        x = x / self.top
        for position, (layer, linear, norm) in enumerate(zip(self.layers, self.linears, self.norms)):
            z = norm(linear(x.flatten(1) if layer.kind == "dense" else x))
            x = z if position == len(self.layers) - 1 else z.square()
        return x

    def fused(self):
        """(weights, bias) of each layer, batch normalisation inside."""
        copy = deepcopy(self).eval()
        found = []
        for linear, norm in zip(copy.linears, copy.norms):
            if isinstance(norm, nn.BatchNorm2d):
                linear = fuse_conv_bn_eval(linear, norm)
            elif isinstance(norm, nn.BatchNorm1d):
                linear = fuse_linear_bn_eval(linear, norm)
            found.append((linear.weight.detach(), linear.bias.detach()))
        return found


class Integers(nn.Module):
    """The integer network in units of u."""

    def __init__(self, floating, bits):
        super().__init__()
        self.layers, self.limit, self.top = floating.layers, 2 ** (bits - 1) - 1, floating.top
        weights = floating.fused()
        self.v = nn.ParameterList([weight for weight, _ in weights])
        self.b = nn.ParameterList([bias for _, bias in weights])
        # At few bits the step is a part of the deviation, at many the largest weight decides.
        share = {2: 1.2, 3: 0.65, 4: 0.353, 6: 0.106, 8: 0.031}.get(bits)
        steps = [weight.std() * share if share else weight.abs().max() / self.limit for weight, _ in weights]
        self.steps = nn.ParameterList([step.log() for step in steps])

    def integer(self, position):
        """The layer's weights, with gradients."""
        v = self.v[position] / self.steps[position].exp()
        return rounded(v.clamp(-self.limit, self.limit))

    def forward(self, x):
        x, unit = x / self.top, 1 / self.top
        for position, layer in enumerate(self.layers):
            step = self.steps[position].exp()
            unit = (step * unit).detach()
            weight, bias = self.integer(position) * step, unit * rounded(self.b[position] / unit)
            if layer.kind == "conv":
                z = F.conv2d(x, weight, bias, layer.stride, layer.padding)
            else:
                z = F.linear(x.flatten(1), weight, bias)
            if position == len(self.layers) - 1:
                return z
            x, unit = z.square(), unit * unit

    @torch.no_grad()
    def exported(self):
        """Per layer: integer weights, integers m and the shift e of the bias m 2^e."""
        found, unit = [], 1 / self.top
        for position in range(len(self.layers)):
            unit = unit * math.exp(self.steps[position].item())
            bias = self.b[position].double().numpy() / unit
            shift = max(0, math.frexp(np.abs(bias).max())[1] - BIAS_BITS)
            weight = self.integer(position).numpy().astype(np.int32)
            found.append((weight, np.rint(bias / 2.0**shift).astype(np.int32), shift))
            unit = unit * unit
        return found


def fit(model, batches, *, epochs, rate, decay=0.0, teacher=None, name):
    """Adam with a one-cycle rate; `teacher` adds its soft labels."""
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * len(batches), pct_start=0.15)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for x, y in batches:
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            if teacher is not None:
                with torch.no_grad():
                    soft = teacher(x).softmax(1)
                loss = loss + F.cross_entropy(logits, soft)
            optimiser.zero_grad()
            loss.backward()
            # Squares of squares: an outlier's gradient is large.
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"{name}: epoch {epoch + 1} of {epochs}, loss {total / len(batches):.4f}", flush=True)


@torch.no_grad()
def accuracy(logits, test):
    """The part of the test images that `logits` gets right, batch by batch."""
    inputs, labels = test
    right = sum((logits(x).argmax(1) == y).sum().item() for x, y in zip(inputs.split(500), labels.split(500)))
    return right / len(labels)


def evaluated(layers, exported, x):
    """Logits of the exported integers, in doubles: exact but for rounding of the last layers, one part in 2^50."""
    x = x.double()
    for position, (layer, (weight, mantissa, shift)) in enumerate(zip(layers, exported)):
        weight, bias = torch.from_numpy(weight).double(), torch.from_numpy(mantissa).double() * 2.0**shift
        if layer.kind == "conv":
            z = F.conv2d(x, weight, bias, layer.stride, layer.padding)
        else:
            z = F.linear(x.flatten(1), weight, bias)
        x = z if position == len(layers) - 1 else z.square()
    return x


def write(path, name, bits, pixel_bits, layers, exported, found):
    """found: the accuracy of the integer network."""
    small = np.int8 if bits <= 8 else np.int16
    tensors, described = {}, []
    for position, (layer, (weight, mantissa, shift)) in enumerate(zip(layers, exported)):
        tensors[f"{position}.weight"], tensors[f"{position}.bias"] = weight.astype(small), mantissa
        window = {"kernel": layer.kernel, "stride": layer.stride, "padding": layer.padding} if layer.kind == "conv" else None
        described.append({"outputs": layer.outputs, "bias_shift": shift, "window": window})
    network = {"name": name, "side": SIDE, "pixel_bits": pixel_bits, "weight_bits": bits, "accuracy": found, "layers": described}
    save_file(tensors, path, metadata={"square": json.dumps(network)})


def main():
    names = [f"{family}-w{bits}" for family in FAMILIES for bits in WIDTHS]
    parser = argparse.ArgumentParser(prog="python3 -m train.squares", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="+", choices=names)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, nargs=2, default=(8, 8), metavar=("FLOAT", "INTEGER"))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benches" / "he_only" / "models")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "squares", help="where floating-point networks are kept")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in options.name:
        make(name, options)


def make(name, options):
    family, bits = name.rsplit("-w", 1)
    bits, layers = int(bits), FAMILIES[family]
    pixel_bits = WIDTHS[bits]
    source = data.SOURCES["mnist"](pixel_bits)
    torch.manual_seed(options.seed)
    floating = Floating(layers, 2**pixel_bits - 1)
    kept = options.work / f"{family}-{pixel_bits}bits-seed{options.seed}-e{options.epochs[0]}.pt"
    if kept.exists():
        floating.load_state_dict(torch.load(kept))
    else:
        fit(floating, source.batches, epochs=options.epochs[0], rate=4e-3, decay=0.02, name=f"{family}, floating point")
        torch.save(floating.state_dict(), kept)
    floating.eval()
    print(f"{family}, floating point: {100 * accuracy(floating, source.test):.2f} %", flush=True)
    net = Integers(floating, bits)
    # Sixteen bits are rounded and not trained.
    if bits <= 8:
        fit(net, source.batches, epochs=options.epochs[1], rate=1e-3, teacher=floating, name=name)
    exported = net.exported()
    found = accuracy(lambda x: evaluated(layers, exported, x), source.test)
    print(f"{name}: {100 * found:.2f} %", flush=True)
    write(options.out / f"{name}.safetensors", name, bits, pixel_bits, layers, exported, found)


if __name__ == "__main__":
    main()
