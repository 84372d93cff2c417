"""Layers that compute exactly what the integer network computes, with gradients that pass through the rounding.

Every tensor holds integers (as float32, exact below 2^24). A layer is

    z = conv(x, w) + m x' + b       w = round(v / e^step_c) within +-(2^(w-1) - 1), its sign at one bit; m x' only with a skip
    y = clamp(floor(z / 2^s), 0, 2^a - 1)                       b includes the rounding constant 2^(s-1)

with one shift s for the whole layer. The weights' scale on output channel c therefore belongs to that channel (e^step_c times
what the layers around it fix) and training chooses it, so that one shift suits all channels. Rounding, sign, floor and clamp let
gradients through as if they were the identity inside their interval (straight-through estimator; learnt steps as in LSQ,
Esser et al., "Learned step size quantization", ICLR 2020).

During the first part of the training the mean of z over the batch is taken off each channel (batch normalisation without its
division, which the shift replaces); `freeze` makes the running mean a part of the bias.

Accumulator bound (after A2Q, Colbert et al. 2023, and A2Q+, 2024): with inputs in 0..hi, a channel's accumulator lies in
[b - hi n, b + hi p + m hi'], p and n the sums of its positive and negative weights in magnitude. `project` shrinks the latent
weights (soft thresholding, which is the projection onto an L1 ball) until p and n keep that interval inside a ring of ell bits.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


def straight_through(value, target):
    """`target` in the forward pass, the gradient of `value` in the backward pass."""
    return value + (target - value).detach()


class Requantise(torch.autograd.Function):
    """clamp(floor(t), 0, top), with the gradient of clamp(t - 1/2, 0, top)."""

    @staticmethod
    def forward(ctx, t, top):
        ctx.save_for_backward(t)
        ctx.top = top
        return t.floor().clamp_(0, top)

    @staticmethod
    def backward(ctx, gradient):
        (t,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, t, 0.5, ctx.top + 0.5), None


class CentredRequantise(torch.autograd.Function):
    """The same of t - mean + offset, `mean` the mean of t on each channel, an argument because the caller needs it too."""

    @staticmethod
    def forward(ctx, t, mean, offset, top):
        t = t + per_channel(offset - mean, t)
        ctx.save_for_backward(t)
        ctx.top = top
        return t.floor().clamp_(0, top)

    @staticmethod
    def backward(ctx, gradient):
        (t,) = ctx.saved_tensors
        gradient = torch.ops.aten.hardtanh_backward(gradient, t, 0.5, ctx.top + 0.5)
        total = gradient.sum(others(t))
        return gradient.sub_(per_channel(total / (t.numel() / t.shape[1]), t)), None, total, None


def others(t):
    """All dimensions but that of the channels."""
    return [0, *range(2, t.dim())]


def per_channel(values, t):
    return values.view(1, -1, *[1] * (t.dim() - 2))


def top_weight(bits):
    return 1 if bits == 1 else 2 ** (bits - 1) - 1


class QuantisedLayer(nn.Module):
    """A linear node with integer weights, and, unless it is the last layer, its requantisation."""

    def __init__(self, layer, weights, beta, *, shift, multiplier, skip_stride, weight_bits, activation_bits, accumulator_bits, input_top, skip_top):
        """layer: an `architectures.Layer`; weights: latent, [O, I, k, k] or [O, I], then that of the skip if it has one.

        beta: in units of y; shift: None for the last layer; multiplier: of a skip without weights; skip_stride: of one with
        weights; input_top: the largest x; skip_top: the largest x'.
        """
        super().__init__()
        self.layer, self.shift, self.multiplier, self.skip_stride = layer, shift, multiplier, skip_stride
        self.weight_bits, self.activation_bits, self.accumulator_bits = weight_bits, activation_bits, accumulator_bits
        self.input_top, self.skip_top = input_top, skip_top
        self.v = nn.ParameterList(weights)
        self.step = nn.Parameter(torch.zeros(len(weights), len(beta)))
        self.beta = nn.Parameter(beta)
        self.register_buffer("mean", torch.zeros(len(beta)))
        self.centred = shift is not None

    def unit(self):
        return 2.0 ** (self.shift or 0)

    def latent(self, term):
        """v / e^step, in units of the integer weights."""
        v = self.v[term]
        return v * (-self.step[term]).exp().view(-1, *[1] * (v.dim() - 1))

    def weight(self, term):
        """Integer weights of the layer (term 0) or of its skip (term 1)."""
        top = top_weight(self.weight_bits)
        v = self.latent(term).clamp(-top, top)
        return straight_through(v, torch.where(v < 0, -1.0, 1.0) if self.weight_bits == 1 else v.round())

    def bias(self):
        b = self.unit() * (self.beta - self.mean)
        if self.shift is not None:
            b = b + self.unit() / 2
        return straight_through(b, b.round())

    def forward(self, x, back):
        """y, or z for the last layer; back: the tensor x' of the skip, if any."""
        centring = self.centred and self.training
        # Powers of two: dividing by the unit is exact.
        bias = None if centring else self.bias() / self.unit()
        weight = self.weight(0) / self.unit()
        if self.layer.kind == "conv":
            t = F.conv2d(x, weight, bias, stride=self.layer.stride, padding=self.layer.padding)
        else:
            t = F.linear(x, weight, bias)
        if len(self.v) > 1:
            weight = self.weight(1) / self.unit()
            t = t + F.conv2d(back, weight, stride=self.skip_stride)
        elif back is not None:
            t = t.add(back, alpha=self.multiplier / self.unit())
        if self.shift is None:
            return t
        top = 2**self.activation_bits - 1
        if not centring:
            return Requantise.apply(t, top)
        mean = t.detach().mean(others(t))
        self.mean.lerp_(mean, 0.1)
        return CentredRequantise.apply(t, mean, self.beta + 0.5, top)

    @torch.no_grad()
    def freeze(self):
        """From here on the training sees the very integers of inference."""
        self.beta -= self.mean
        self.mean.zero_()
        self.centred = False

    @torch.no_grad()
    def project(self):
        """Keeps latent values in range and every reachable accumulator within `accumulator_bits`."""
        top = top_weight(self.weight_bits)
        half = 2 ** (self.accumulator_bits - 1)
        above = self.multiplier * self.skip_top if self.multiplier else 0
        if self.weight_bits > 1:
            # A bias of at most half of one sign's range leaves room for the weights.
            lowest, highest = torch.tensor(-half / 2), torch.tensor((half - above) / 2)
        else:
            ones = [self.weight(term).flatten(1) * hi for term, hi in zip(range(len(self.v)), (self.input_top, self.skip_top))]
            ones = torch.cat(ones, 1)
            lowest = ones.clamp(max=0).sum(1).neg() - half
            highest = half - 1 - above - ones.clamp(min=0).sum(1)
        offset = self.mean - (0 if self.shift is None else 0.5)
        self.beta.clamp_(lowest / self.unit() + offset, highest / self.unit() + offset)
        latent = [self.latent(term).clamp_(-top - 0.49, top + 0.49) for term in range(len(self.v))]
        if self.weight_bits > 1:
            b = self.bias()
            rows = torch.cat([v.flatten(1) for v in latent], 1)
            positive = shrink(rows.clamp(min=0), torch.floor((half - 1 - above - b) / self.input_top))
            negative = shrink((-rows).clamp(min=0), torch.floor((half + b) / self.input_top))
            rows = positive - negative
            latent = [r.view_as(v) for r, v in zip(rows.split([v[0].numel() for v in latent], 1), latent)]
        for v, step, value in zip(self.v, self.step, latent):
            v.copy_(value * step.exp().view(-1, *[1] * (v.dim() - 1)))


def shrink(magnitude, limit):
    """max(magnitude - t_c, 0), where t_c >= 0 is about the smallest value per row for which the rounded row sums to at most limit_c."""
    rows = (magnitude.round().sum(1) > limit).nonzero()[:, 0]
    if len(rows) == 0:
        return magnitude
    chosen, limit = magnitude[rows], limit[rows]
    low, high = torch.zeros_like(limit), chosen.amax(1)
    for _ in range(12):
        middle = (low + high) / 2
        fits = (chosen - middle[:, None]).clamp(min=0).round().sum(1) <= limit
        high = torch.where(fits, middle, high)
        low = torch.where(fits, low, middle)
    # A little more, so that no later rounding error matters.
    return magnitude.index_copy(0, rows, (chosen - high[:, None] - 1e-4).clamp(min=0))


class QuantisedNet(nn.Module):
    """The integer network; logits are integers times a learnt scale."""

    #: The part of the training after which means are frozen.
    FREEZE = 0.7

    def __init__(self, layers, scale):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def integers(self, x):
        """The integer logits of integer inputs [B, C, H, W]."""
        tensors = [x]
        for position, layer in enumerate(self.layers):
            skip = layer.layer.skip
            x = layer(x.flatten(1) if layer.layer.kind == "dense" else x, None if skip is None else tensors[position + 1 - skip])
            x = pooled(x, layer.layer.pool)
            tensors.append(x)
        return x

    def forward(self, x):
        return self.integers(x) * self.log_scale.exp()

    def project(self):
        for layer in self.layers:
            layer.project()

    def begin(self, progress):
        """Called at the start of each epoch with the part of the training that is over."""
        if progress >= self.FREEZE and any(layer.centred for layer in self.layers):
            for layer in self.layers:
                layer.freeze()

    def groups(self):
        """Groups of parameters and their highest rates, in units of what each parameter is measured in."""
        groups, rates = [{"params": [self.log_scale]}], [0.005]
        for layer in self.layers:
            groups += [{"params": list(layer.v)}, {"params": [layer.step]}, {"params": [layer.beta]}]
            rates += [0.007 / STEP[layer.weight_bits], 0.003, max(0.004, 0.0013 * 2**layer.activation_bits)]
        return groups, rates


#: Optimal uniform steps for a normal distribution by width, in standard deviations (Max 1960).
STEP = {1: 0.8, 2: 1.0, 3: 0.65, 4: 0.353, 5: 0.193, 6: 0.106, 7: 0.057, 8: 0.031}


def pooled(x, pool):
    """`pool` as in `architectures.Layer`; an average is rounded to nearest, ties upwards."""
    if pool is None:
        return x
    kind, k = pool
    if kind == "max":
        return F.max_pool2d(x, k)
    if kind == "sum":
        return F.avg_pool2d(x, k, divisor_override=1)
    y = F.avg_pool2d(x, k)
    return straight_through(y, (y + 0.5).floor())
