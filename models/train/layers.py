"""Layers that compute exactly what the integer network computes, with gradients that pass through the rounding.

Every tensor holds integers (as float32, exact below 2^24). A layer is

    z = conv(x, w) + b          w = round(v) within +-(2^(w-1) - 1), b = round(beta * 2^s)
    y = clamp(floor(z / 2^s), 0, 2^a - 1)

with one shift s for the whole layer. The latent weights v are in units of the integer weights, beta in units of y. Rounding,
floor and clamp let gradients through as if they were the identity inside their interval (straight-through estimator).

Accumulator bound (after A2Q, Colbert et al. 2023, and A2Q+, 2024): with inputs in 0..hi, a channel's accumulator lies in
[b - hi * n, b + hi * p], p and n the sums of its positive and negative weights in magnitude. `project` shrinks the latent weights
(soft thresholding, which is the projection onto an L1 ball) until p and n keep that interval inside a ring of ell bits.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


def straight_through(value, target):
    """`target` in the forward pass, the gradient of `value` in the backward pass."""
    return value + (target - value).detach()


class QuantisedLayer(nn.Module):
    """A convolution or a matrix with integer weights, and, unless it is the last layer, a requantisation."""

    def __init__(self, weight, bias, *, shift, weight_bits, activation_bits, input_max, accumulator_bits, padding=0):
        """weight: latent, [O, I, k, k] or [O, I]; bias: latent, in units of 2^shift; shift None: the last layer (logits)."""
        super().__init__()
        self.v = nn.Parameter(weight)
        self.beta = nn.Parameter(bias)
        self.shift, self.weight_bits, self.activation_bits = shift, weight_bits, activation_bits
        self.input_max, self.accumulator_bits, self.padding = input_max, accumulator_bits, padding

    def unit(self):
        return 2.0 ** (self.shift or 0)

    def weight(self):
        top = 2 ** (self.weight_bits - 1) - 1
        v = self.v.clamp(-top, top)
        return straight_through(v, v.round())

    def bias(self):
        b = self.beta * self.unit()
        return straight_through(b, b.round())

    def forward(self, x):
        w, b = self.weight(), self.bias()
        z = F.conv2d(x, w, b, padding=self.padding) if w.dim() == 4 else F.linear(x, w, b)
        if self.shift is None:
            return z
        y = z / self.unit()
        top = 2**self.activation_bits - 1
        return straight_through(y.clamp(0, top), y.floor().clamp(0, top))

    @torch.no_grad()
    def project(self):
        """Keeps latent values in range and every reachable accumulator within `accumulator_bits`."""
        top = 2 ** (self.weight_bits - 1) - 1
        half = 2 ** (self.accumulator_bits - 1)
        # A bias of at most a quarter of the ring leaves room for the weights.
        limit = half // 2 / self.unit()
        self.beta.clamp_(-limit, limit)
        self.v.clamp_(-top - 0.49, top + 0.49)
        b = self.bias()
        v = self.v.flatten(1)
        positive = shrink(v.clamp(min=0), torch.floor((half - 1 - b) / self.input_max))
        negative = shrink((-v).clamp(min=0), torch.floor((half + b) / self.input_max))
        self.v.copy_((positive - negative).view_as(self.v))


def shrink(magnitude, limit):
    """max(magnitude - t_c, 0), where t_c >= 0 is about the smallest value per row for which the rounded row sums to at most limit_c."""
    low = torch.zeros_like(limit)
    high = torch.where(magnitude.round().sum(1) > limit, magnitude.amax(1), low)
    for _ in range(16):
        middle = (low + high) / 2
        fits = (magnitude - middle[:, None]).clamp(min=0).round().sum(1) <= limit
        high = torch.where(fits, middle, high)
        low = torch.where(fits, low, middle)
    return (magnitude - high[:, None]).clamp(min=0)


class QuantisedNet(nn.Module):
    """Layers and max pools in a row; logits are integers times a learnt scale."""

    def __init__(self, layers, pools, scale):
        """pools[i]: window of the max pool after layer i, or 1."""
        super().__init__()
        self.layers, self.pools = nn.ModuleList(layers), pools
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def integers(self, x):
        """The integer logits of integer inputs [B, C, H, W]."""
        for layer, pool in zip(self.layers, self.pools):
            if layer.v.dim() == 2:
                x = x.flatten(1)
            x = layer(x)
            if pool > 1:
                x = F.max_pool2d(x, pool)
        return x

    def forward(self, x):
        return self.integers(x) * self.log_scale.exp()

    def project(self):
        for layer in self.layers:
            layer.project()


class FloatNet(nn.Module):
    """The same network in floating point with batch normalisation: the starting point, and the teacher."""

    def __init__(self, shape, layers, input_max):
        """shape: channels, height, width of the input; layers: ("conv", kernel, outputs, padding, pool) or ("dense", outputs)."""
        super().__init__()
        self.specification, self.input_max = layers, input_max
        channels, height, width = shape
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        for position, layer in enumerate(layers):
            last = position == len(layers) - 1
            if layer[0] == "conv":
                _, kernel, outputs, padding, pool = layer
                self.linears.append(nn.Conv2d(channels, outputs, kernel, padding=padding, bias=last))
                channels = outputs
                height, width = [(side + 2 * padding - kernel + 1) // pool for side in (height, width)]
                self.norms.append(nn.BatchNorm2d(outputs))
            else:
                inputs, channels, height, width = channels * height * width, layer[1], 1, 1
                self.linears.append(nn.Linear(inputs, channels, bias=last))
                self.norms.append(nn.Identity() if last else nn.BatchNorm1d(channels))

    def activations(self, x):
        """The result of every layer, before its pool."""
        x, results = x / self.input_max, []
        for layer, linear, norm in zip(self.specification, self.linears, self.norms):
            if layer[0] == "dense":
                x = x.flatten(1)
            x = norm(linear(x))
            if linear is not self.linears[-1]:
                x = F.relu(x)
            results.append(x)
            if layer[0] == "conv" and layer[4] > 1:
                x = F.max_pool2d(x, layer[4])
        return results

    def forward(self, x):
        return self.activations(x)[-1]
