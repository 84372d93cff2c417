"""The integer network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .graph import Graph, Sum
from .layers import STEP, QuantisedPool, QuantisedSum, Range


@dataclass(frozen=True)
class Input:
    """How real numbers become the integers that the network reads.

    x = clamp(half_to_even(real / scale), -zero_point, 2^bits - 1 - zero_point)
    """

    scale: float
    """A 32-bit float: clients compute the same quotient."""
    bits: int
    zero_point: int = 0

    @property
    def range(self) -> Range:
        """Of x."""
        return Range(-self.zero_point, int(2**self.bits - 1) - self.zero_point)

    def integers(self, real: Tensor) -> Tensor:
        """x of real numbers, as floats."""
        # Of a number, some devices take the reciprocal instead.
        scale = torch.tensor(self.scale, dtype=torch.float32, device=real.device)
        return (real / scale).round().clamp(self.range.lo, self.range.hi)


class QuantisedNet(nn.Module):
    """The integer network of a graph; logits are integers times a learnt scale."""

    #: The part of the training after which means are frozen.
    FREEZE = 0.7

    def __init__(self, graph: Graph, reads: Input, made: Sequence[QuantisedSum | QuantisedPool | None], scale: float) -> None:
        """made: by step, None for a flattening."""
        super().__init__()
        self.input, self.shape, self.outputs = reads, graph.shape, graph.outputs
        self.steps = list(graph.steps)
        self.pools = {position: one for position, one in enumerate(made) if isinstance(one, QuantisedPool)}
        sums = {str(position): one for position, one in enumerate(made) if isinstance(one, QuantisedSum)}
        self.sums = nn.ModuleDict(sums)
        device = next(iter(sums.values())).beta.device
        self.log_scale = nn.Parameter(torch.tensor(float(scale), device=device).log())

    @property
    def layers(self) -> list[QuantisedSum]:
        """Those with weights or activations, in order."""
        return [one for one in self.sums.values() if isinstance(one, QuantisedSum)]

    def made(self, position: int) -> QuantisedSum | QuantisedPool | None:
        """What became of a step."""
        one = self.sums[str(position)] if str(position) in self.sums else self.pools.get(position)
        assert one is None or isinstance(one, (QuantisedSum, QuantisedPool))
        return one

    def integers(self, x: Tensor) -> Tensor:
        """The integer logits [n, outputs] of real inputs [n, ...]."""
        last = self.last_use()
        tensors: dict[int, Tensor] = {0: self.input.integers(x)}
        for position, step in enumerate(self.steps):
            layer = self.made(position)
            if isinstance(step, Sum):
                y = self.sums[str(position)]([tensors[term.source] for term in step.terms])
            elif isinstance(layer, QuantisedPool):
                y = layer(tensors[step.source])
            else:
                y = tensors[step.source].flatten(1)
            tensors[position + 1] = y
            for source in [tensor for tensor in tensors if last.get(tensor, 0) <= position and tensor != position + 1]:
                del tensors[source]
        return tensors[len(self.steps)].flatten(1)

    def last_use(self) -> dict[int, int]:
        """The last step that reads each tensor."""
        found = {}
        for position, step in enumerate(self.steps):
            for source in [term.source for term in step.terms] if isinstance(step, Sum) else [step.source]:
                found[source] = position
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.integers(x) * self.log_scale.exp()

    def project(self) -> None:
        """Keeps every reachable accumulator within its width; after each step of the training."""
        for layer in self.layers:
            layer.project()

    def begin(self, progress: float) -> None:
        """Called at the start of each epoch with the part of the training that is over."""
        if progress >= self.FREEZE and any(layer.centred for layer in self.layers):
            for layer in self.layers:
                layer.freeze()

    def groups(self) -> tuple[list[dict[str, list[nn.Parameter]]], list[float]]:
        """Groups of parameters and their highest rates, in units of what each parameter is measured in."""
        groups, rates = [{"params": [self.log_scale]}], [0.005]
        for layer in self.layers:
            groups += [{"params": list(layer.v)}, {"params": [layer.step]}, {"params": [layer.beta]}]
            weights, activation = layer.width.weights, layer.width.activation
            rates += [0.007 / STEP[weights], 0.003, max(0.004, 0.0013 * 2**activation)]
        return [group for group in groups if group["params"]], [r for r, group in zip(rates, groups) if group["params"]]
