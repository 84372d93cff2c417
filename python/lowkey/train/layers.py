"""Layers that compute exactly what the integer network computes, with gradients that pass through the rounding.

Every tensor holds integers (as float32, exact below 2^24). A sum and its activation are

    z = conv(x, w) + conv(x', w') + m x'' + b          w = round(v / e^step_c) within +-(2^(w-1) - 1), its sign at one bit
    y = clamp(floor(z / 2^s), 0, top) - zero_point            b includes the rounding constant 2^(s-1)

with one shift s for the whole layer; m is a public integer, zero_point is 0 behind a ReLU, and top is 2^a - 1, or what a clip like
that of ReLU6 comes to. The weights' scale on output channel c therefore belongs to that channel (e^step_c times what the layers around
it fix) and training chooses it, so that one shift suits all channels. Rounding, sign, floor and clamp let gradients through as if they
were the identity inside their interval (straight-through estimator; learnt steps as in LSQ, Esser et al., "Learned step size
quantization", ICLR 2020).

During the first part of the training the mean of z over the batch is taken off each channel (batch normalisation without its
division, which the shift replaces); `freeze` makes the running mean a part of the bias.

Accumulator bound (after A2Q, Colbert et al. 2023, and A2Q+, 2024): with inputs in lo..hi, lo <= 0, a channel's accumulator lies in
[b - hi n + lo p, b + hi p - lo n] and what identities add, p and n the sums of its positive and negative weights in magnitude.
`project` shrinks the latent weights (soft thresholding, which is the projection onto an L1 ball) until p and n keep that interval
inside a ring of ell bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .graph import Sum, Window

#: Optimal uniform steps for a normal distribution by width, in standard deviations (Max 1960).
STEP = {1: 0.8, 2: 1.0, 3: 0.65, 4: 0.353, 5: 0.193, 6: 0.106, 7: 0.057, 8: 0.031}


@dataclass(frozen=True)
class Range:
    """The closed interval of a tensor's integers; 0 is in it."""

    lo: int
    hi: int


@dataclass(frozen=True)
class Width:
    """How many bits a layer has."""

    weights: int
    activation: int
    """0 for the network's answer."""
    accumulator: int
    """What training keeps every reachable sum within."""


def straight_through(value: Tensor, target: Tensor) -> Tensor:
    """`target` in the forward pass, the gradient of `value` in the backward pass."""
    return value + (target - value).detach()


class Requantise(torch.autograd.Function):
    """clamp(floor(t), lo, hi), with the gradient of clamp(t - 1/2, lo, hi)."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, lo: int, hi: int) -> Tensor:
        ctx.save_for_backward(t)
        ctx.ends = lo, hi
        return t.floor().clamp_(lo, hi)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (t,) = ctx.saved_tensors
        return clipped(gradients[0], t, *ctx.ends), None, None


class CentredRequantise(torch.autograd.Function):
    """The same of t - mean + offset, `mean` the mean of t on each channel, an argument because the caller needs it too."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, mean: Tensor, offset: Tensor, lo: int, hi: int) -> Tensor:
        t = t + per_channel(offset - mean, t)
        ctx.save_for_backward(t)
        ctx.ends = lo, hi
        return t.floor().clamp_(lo, hi)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (t,) = ctx.saved_tensors
        gradient = clipped(gradients[0], t, *ctx.ends)
        total = gradient.sum(others(t))
        return gradient.sub_(per_channel(total / (t.numel() / t.shape[1]), t)), None, total, None, None


def clipped(gradient: Tensor, t: Tensor, lo: int, hi: int) -> Tensor:
    """A new tensor: the gradient where t is inside, 0 elsewhere."""
    passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, t, lo + 0.5, hi + 0.5)
    return passed


def others(t: Tensor) -> list[int]:
    """All dimensions but that of the channels."""
    return [0, *range(2, t.dim())]


def per_channel(values: Tensor, t: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (t.dim() - 2))


def top_weight(bits: int) -> int:
    """The largest weight."""
    return 1 if bits == 1 else int(2 ** (bits - 1) - 1)


class QuantisedSum(nn.Module):
    """A sum with integer weights, and, unless it is the network's answer, its requantisation."""

    mean: Tensor

    def __init__(
        self,
        step: Sum,
        weights: Sequence[Tensor],
        beta: Tensor,
        *,
        shift: int | None,
        multipliers: Sequence[int],
        width: Width,
        ranges: Sequence[Range],
        zero_point: int = 0,
        top: int | None = None,
        weight_bits: Sequence[int] | None = None,
    ) -> None:
        """weights: latent, [O, I, h, w] or [O, I], of each term that has some; beta: [O], in units of y; shift: None for the answer.

        multipliers: of each term that has no weights; ranges: of the tensor that each term reads; top: the largest y + zero_point,
        where it is less than what the width holds; weight_bits: of each term that has weights, where they have other widths than the
        layer: all of one bit, or none.
        """
        super().__init__()
        self.step_of, self.shift, self.width, self.zero_point = step, shift, width, zero_point
        self.top = int(2**width.activation - 1) if top is None else top
        kinds = [term.linear is not None for term in step.terms]
        self.weighted = [position for position, kind in enumerate(kinds) if kind]
        self.multipliers = dict(zip([position for position, kind in enumerate(kinds) if not kind], multipliers, strict=True))
        self.ranges = list(ranges)
        self.weight_bits = [width.weights] * len(weights) if weight_bits is None else list(weight_bits)
        # What the forward pass needs of the user's modules, without holding them.
        self.windows = [term.window for term in step.terms]
        self.groups = [term.groups if term.window else 1 for term in step.terms]
        self.v = nn.ParameterList(weights)
        self.step = nn.Parameter(torch.zeros(len(weights), len(beta), device=beta.device))
        self.beta = nn.Parameter(beta)
        self.register_buffer("mean", torch.zeros_like(beta))
        self.centred = shift is not None

    @property
    def range(self) -> Range:
        """Of y."""
        return Range(-self.zero_point, self.top - self.zero_point)

    def unit(self) -> float:
        return float(2.0 ** (self.shift or 0))

    def latent(self, term: int) -> Tensor:
        """v / e^step, in units of the integer weights; term: of those with weights."""
        v: Tensor = self.v[term]
        return v * (-self.step[term]).exp().view(-1, *[1] * (v.dim() - 1))

    def weight(self, term: int) -> Tensor:
        """Integer weights; term: of those with weights."""
        bits = self.weight_bits[term]
        top = top_weight(bits)
        v = self.latent(term).clamp(-top, top)
        return straight_through(v, torch.where(v < 0, -1.0, 1.0) if bits == 1 else v.round())

    def bias(self) -> Tensor:
        """b without what the zero point adds."""
        b = self.unit() * (self.beta - self.mean)
        if self.shift is not None:
            b = b + self.unit() / 2
        return straight_through(b, b.round())

    def stored_bias(self) -> Tensor:
        """b of the model's file."""
        return self.bias() + self.zero_point * self.unit()

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """y, or z for the answer; inputs: the tensor of each term."""
        centring = self.centred and self.training
        # Powers of two: dividing by the unit is exact.
        t = self.scaled(inputs, None if centring else self.bias() / self.unit())
        if self.shift is None:
            return t
        ends = self.range.lo, self.range.hi
        if not centring:
            return call(Requantise, t, *ends)
        mean = t.detach().mean(others(t))
        self.mean.lerp_(mean, 0.1)
        return call(CentredRequantise, t, mean, self.beta + 0.5, *ends)

    def scaled(self, inputs: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        """z / 2^s; bias: [O], of that."""
        t: Tensor | None = None
        for number, position in enumerate(self.weighted):
            weight = self.weight(number) / self.unit()
            product = self.product(inputs[position], weight, bias if t is None else None, position)
            t = product if t is None else t + product
        for position, multiplier in self.multipliers.items():
            x, factor = inputs[position], multiplier / self.unit()
            if t is not None:
                t = t.add(x, alpha=factor)
            else:
                t = x * factor if bias is None else x * factor + per_channel(bias, x)
        assert t is not None, "a sum has terms"
        return t

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None, position: int) -> Tensor:
        window = self.windows[position]
        if window is None:
            return F.linear(x, weight, bias)
        top, left, bottom, right = window.padding
        padding = (top, left)
        if (top, left) != (bottom, right):
            x, padding = F.pad(x, [left, right, top, bottom]), (0, 0)
        return F.conv2d(x, weight, bias, window.stride, padding, window.dilation, self.groups[position])

    @torch.no_grad()
    def freeze(self) -> None:
        """From here on the training sees the very integers of inference."""
        self.beta.sub_(self.mean)
        self.mean.zero_()
        self.centred = False

    def fixed(self) -> tuple[int, int]:
        """The least and the most that identities and the zero point add."""
        pairs = [(m * self.ranges[position].lo, m * self.ranges[position].hi) for position, m in self.multipliers.items()]
        zero = self.zero_point * int(self.unit())
        return zero + sum(pair[0] for pair in pairs), zero + sum(pair[1] for pair in pairs)

    @torch.no_grad()
    def project(self) -> None:
        """Keeps latent values in range and every reachable accumulator within the layer's width."""
        narrow = 1 in self.weight_bits
        half = 2 ** (self.width.accumulator - 1)
        below, above = self.fixed()
        reads = [self.ranges[position] for position in self.weighted]
        sizes = [v[0].numel() for v in self.v]
        if not reads:
            lowest, highest = torch.tensor(-float(half + below)), torch.tensor(float(half - 1 - above))
        elif not narrow:
            # A bias of at most half of one sign's range leaves room for the weights.
            lowest, highest = torch.tensor(-(half + below) / 2), torch.tensor((half - above) / 2)
        else:
            lows, highs = [], []
            for number, read in enumerate(reads):
                weight = self.weight(number).flatten(1)
                lows.append(weight.clamp(max=0) * read.hi + weight.clamp(min=0) * read.lo)
                highs.append(weight.clamp(min=0) * read.hi + weight.clamp(max=0) * read.lo)
            lowest = torch.cat(lows, 1).sum(1).neg() - half - below
            highest = half - 1 - above - torch.cat(highs, 1).sum(1)
        offset = self.mean - (0 if self.shift is None else 0.5)
        lowest, highest = lowest.to(offset), highest.to(offset)
        self.beta.clamp_(lowest / self.unit() + offset, highest / self.unit() + offset)
        if not reads:
            return
        tops = [top_weight(bits) + 0.49 for bits in self.weight_bits]
        latent = [self.latent(number).clamp_(-top, top) for number, top in enumerate(tops)]
        if not narrow:
            b = self.bias()
            rows = torch.cat([v.flatten(1) for v in latent], 1)
            hi = torch.cat([rows.new_full((size,), read.hi) for size, read in zip(sizes, reads)])
            lo = torch.cat([rows.new_full((size,), -read.lo) for size, read in zip(sizes, reads)])
            rows = bounded(rows, hi, lo, half - 1 - above - b, half + below + b)
            latent = [r.view_as(v) for r, v in zip(torch.split(rows, sizes, 1), latent)]
        for v, step, value in zip(self.v, self.step, latent):
            v.copy_(value * step.exp().view(-1, *[1] * (v.dim() - 1)))


def call(function: Any, *arguments: Any) -> Tensor:
    """torch.autograd.Function.apply, typed."""
    result: Tensor = function.apply(*arguments)
    return result


def bounded(rows: Tensor, hi: Tensor, lo: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """Weights [O, n] moved towards 0 until no inputs in -lo..hi ([n]) take a sum above `above` or below -`below` ([O])."""
    if not lo.any():
        positive = shrink(rows.clamp(min=0), lambda m, at: (m.round() * hi).sum(1) > above[at])
        negative = shrink((-rows).clamp(min=0), lambda m, at: (m.round() * hi).sum(1) > below[at])
        return positive - negative
    sign = rows.sign()

    def exceeds(magnitude: Tensor, at: Tensor) -> Tensor:
        values = magnitude.round() * sign[at]
        p, n = values.clamp(min=0), (-values).clamp(min=0)
        return ((p * hi + n * lo).sum(1) > above[at]) | ((n * hi + p * lo).sum(1) > below[at])

    return shrink(rows.abs(), exceeds) * sign


def shrink(magnitude: Tensor, exceeds: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """max(magnitude - t_c, 0) row by row, where t_c >= 0 is about the smallest value for which the rounded row is no longer too much.

    exceeds: of magnitudes and the numbers of their rows, which of the rows are too much.
    """
    rows = exceeds(magnitude, torch.arange(len(magnitude), device=magnitude.device)).nonzero()[:, 0]
    if len(rows) == 0:
        return magnitude
    chosen = magnitude[rows]
    low, high = torch.zeros_like(chosen[:, 0]), chosen.amax(1)
    for _ in range(12):
        middle = (low + high) / 2
        fits = ~exceeds((chosen - middle[:, None]).clamp(min=0), rows)
        high = torch.where(fits, middle, high)
        low = torch.where(fits, low, middle)
    # A little more, so that no later rounding error matters.
    return magnitude.index_copy(0, rows, (chosen - high[:, None] - 1e-4).clamp(min=0))


@dataclass(frozen=True)
class QuantisedPool:
    """A pool of integers: the largest, the sum, or (sum + 2^(shift-1)) >> shift of each window."""

    kind: str
    """"max", "sum" or "avg"."""
    window: Window
    shift: int = 0

    @property
    def offset(self) -> int:
        return 2 ** (self.shift - 1) if self.shift else 0

    def range(self, read: Range) -> Range:
        """Of the result, by that of what it reads."""
        if self.kind == "max":
            return read
        ends = [(self.window.area * end + self.offset) >> self.shift for end in (read.lo, read.hi)]
        return Range(*ends)

    def __call__(self, x: Tensor) -> Tensor:
        window = self.window
        padding = window.padding[:2]
        if self.kind == "max":
            return F.max_pool2d(x, window.kernel, window.stride, padding, window.dilation)
        total = F.avg_pool2d(x, window.kernel, window.stride, padding, divisor_override=1)
        if not self.shift:
            return total
        y = total / 2**self.shift
        return straight_through(y, (y + 0.5).floor())
