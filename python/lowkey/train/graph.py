"""What a network is made of, as the integer layers see it: sums of products with an activation, pools, flattening.

Tensors are numbered: 0 is the input, i + 1 the result of step i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

#: Two sides: down and right.
Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Where a convolution or a pool looks."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right; of zeros."""
    dilation: Pair = (1, 1)

    @property
    def area(self) -> int:
        """Elements of the kernel."""
        return self.kernel[0] * self.kernel[1]

    def output(self, size: Pair) -> Pair:
        """Height and width of the result on an image of this size, what does not fill a window left out."""
        top, left, bottom, right = self.padding
        padded = (size[0] + top + bottom, size[1] + left + right)
        height, width = (
            (padded[side] - self.dilation[side] * (self.kernel[side] - 1) - 1) // self.stride[side] + 1 for side in (0, 1)
        )
        return height, width


@dataclass(frozen=True)
class Term:
    """One summand of a sum."""

    source: int
    """The tensor that it reads."""
    linear: Any = None
    """A Conv2d or a Linear; None for the tensor itself, times an integer that is chosen later."""
    norm: Any = None
    """The batch normalisation behind it."""
    window: Window | None = None
    """Of a convolution."""
    factors: bool = False
    """A batch normalisation that stands alone, `linear` being a convolution of ones; few weights, and of one sign: they have 8 bits."""

    @property
    def groups(self) -> int:
        """Of a convolution."""
        return int(self.linear.groups)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weights and bias with batch normalisation inside, [O, I, h, w] or [O, I], and [O]."""
        weight, bias = self.linear.weight, self.linear.bias
        if self.norm is None:
            return weight * torch.ones_like(weight[:, :1]), bias
        gain = torch.ones_like(self.norm.running_var) if self.norm.weight is None else self.norm.weight
        gain = gain / (self.norm.running_var + self.norm.eps).sqrt()
        offset = -self.norm.running_mean if bias is None else bias - self.norm.running_mean
        offset = offset * gain if self.norm.bias is None else offset * gain + self.norm.bias
        return weight * gain.view(-1, *[1] * (weight.dim() - 1)), offset


@dataclass(frozen=True)
class Sum:
    """A linear node, and the activation behind it."""

    name: str
    terms: tuple[Term, ...]
    before: str
    """The traced node whose value is the sum."""
    activation: str | None
    """"relu"; "signed", a tensor of both signs that nothing clips; None for the network's answer."""
    label: str = ""
    """Name of the activation."""
    clip: float | None = None
    """The largest real value that the activation lets through, where it has one."""


@dataclass(frozen=True)
class Pool:
    """The largest value or the mean of each window."""

    name: str
    source: int
    kind: str
    """"max" or "avg"."""
    window: Window
    whole: bool
    """One window that is the image."""


@dataclass(frozen=True)
class Flatten:
    """[C, H, W] to [C * H * W]."""

    name: str
    source: int


Step = Sum | Pool | Flatten


@dataclass(frozen=True)
class Graph:
    """A module, taken apart."""

    module: fx.GraphModule
    """In evaluation mode, as it was traced; it shares the parameters of the module."""
    shape: tuple[int, ...]
    """Of an input, without the batch."""
    outputs: int
    factor: float
    """What the module multiplies its input by before anything else."""
    steps: Sequence[Step]

    @torch.no_grad()
    def befores(self, x: Tensor) -> dict[str, Tensor]:
        """The value of every sum, before its activation, by the node's name."""
        wanted = {step.before for step in self.steps if isinstance(step, Sum)}
        found: dict[str, Tensor] = {}

        class Keep(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                value = super().run_node(n)
                if n.name in wanted:
                    # What stands behind may change it in place.
                    found[n.name] = value.clone()
                return value

        Keep(self.module).run(x)
        return found
