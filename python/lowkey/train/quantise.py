"""From the float network to the first integer network, which training continues with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._errors import InputError
from .graph import Flatten, Graph, Pool, Sum
from .layers import STEP, QuantisedPool, QuantisedSum, Range, Width, others, top_weight
from .network import Input, QuantisedNet

#: Floats hold all integers of so many bits and their sign.
MOST_ACCUMULATOR_BITS = 24
#: The largest value that a mean over the whole image is kept at.
MOST_MEAN = 255


@torch.no_grad()
def quantised(
    graph: Graph, reads: Input, sample: Tensor, widths: Sequence[Width], *, by_first: bool = False
) -> QuantisedNet:
    """Folds batch normalisation into weights and biases and chooses the steps.

    sample: some hundred inputs, [n, ...]; widths: one entry for each sum, an accumulator of 0 bits or less being so many fewer than
    the first weights need.
    by_first: steps are chosen by the weights of each sum's first term alone, as the bundled networks were made.

    A layer maps x * A_in to y * A_out, A the real value of one unit. The weight step d and the shift s fix A_out = 2^s d A_in;
    they are chosen so that the errors of the weights and of the activations of `sample`, each relative to their squares, have
    the least sum. Weights of a further term, on a tensor of unit A', have the step d A_in / A'; a tensor without weights is multiplied
    by the integer closest to A' / (d A_in). Biases are such that the means before the activation are those of the float network.
    """
    befores = graph.befores(sample)
    units, ranges = [reads.scale * graph.factor], [reads.range]
    made: list[QuantisedSum | QuantisedPool | None] = []
    left = list(widths)
    for step in graph.steps:
        if isinstance(step, Flatten):
            made.append(None)
            units.append(units[step.source])
            ranges.append(ranges[step.source])
        elif isinstance(step, Pool):
            pool = pooled(step, ranges[step.source])
            made.append(pool)
            units.append(units[step.source] * (1 if pool.kind == "max" else 2**pool.shift / pool.window.area))
            ranges.append(pool.range(ranges[step.source]))
        else:
            layer, unit = layer_of(step, befores[step.before], left.pop(0), units, ranges, by_first)
            made.append(layer)
            units.append(unit)
            ranges.append(layer.range)
    net = QuantisedNet(graph, reads, made, units[-1])
    net.train()
    net(sample)  # moves each mean a tenth of the way, from zero
    for layer in net.layers:
        layer.mean.mul_(10)
        fit_accumulator(layer)
    net.eval()
    net.project()
    return net


def pooled(step: Pool, read: Range) -> QuantisedPool:
    """The integer pool; a mean is a sum without the bits that nobody needs, which changes its unit."""
    if step.kind == "max":
        return QuantisedPool("max", step.window)
    area, most = step.window.area, max(read.hi, -read.lo)
    shift = area.bit_length() - 1
    if step.whole:
        shift = max(0, (area * most).bit_length() - MOST_MEAN.bit_length())
    return QuantisedPool("avg" if shift else "sum", step.window, shift)


def layer_of(
    step: Sum, before: Tensor, width: Width, units: Sequence[float], ranges: Sequence[Range], by_first: bool
) -> tuple[QuantisedSum, float]:
    """A sum with its first integer weights, and the unit of its result. before: the float network's sums of the sample."""
    weighted = [term for term in step.terms if term.linear is not None]
    plain = [term for term in step.terms if term.linear is None]
    folded = [term.folded() for term in weighted]
    last = step.activation is None
    zero_point = 2 ** (width.activation - 1) if step.activation == "signed" else 0
    lo, hi = -zero_point, 2**width.activation - 1 - zero_point
    generator = torch.Generator().manual_seed(0)
    values = before.flatten()[torch.randperm(before.numel(), generator=generator)[:30000].to(before.device)]
    if step.activation == "relu":
        values = values.relu() if step.clip is None else values.clamp(0, step.clip)

    best: tuple[float, float, int | None, float] = (float("inf"), 1.0, None, 1.0)
    reads = [units[term.source] for term in weighted]
    if not folded:
        tried = [min(units[term.source] for term in plain) / 2**k for k in range(5)]
    else:
        tried = bases(folded[0][0], width.weights)
        for (weight, _), read in zip(folded[1:], [] if by_first else reads[1:]):
            tried += [base * read / reads[0] for base in bases(weight, width.weights)]
    for base in tried:
        # The unit of the sum, and the weights' step on the first term.
        whole = base * reads[0] if folded else base
        sizes = [base, *([] if by_first else (whole / read for read in reads[1:]))]
        error = weight_error([weight for weight, _ in folded], sizes, width.weights)
        error += misses([units[term.source] / whole for term in plain])
        if last:
            best = min(best, (error, base, None, whole), key=lambda one: one[0])
            continue
        for power in range(20):
            unit = 2**power * whole
            most = top_of(step.clip, unit, hi)
            loss = error + relative_error(values, lambda y: (y / unit).round().clamp(lo, most) * unit)
            best = min(best, (loss, base, power, unit), key=lambda one: one[0])
    _, base, shift, unit = best
    whole = base * reads[0] if folded else base
    steps = [base, *(whole / read for read in reads[1:])]
    if last:
        biases = [bias for _, bias in folded if bias is not None]
        beta = sum(biases[1:], biases[0]) / unit if biases else torch.zeros(before.shape[1], device=before.device)
    else:
        beta = before.mean(others(before)) / unit
    layer = QuantisedSum(
        step,
        [(weight / one).clone() for (weight, _), one in zip(folded, steps)],
        beta.clone(),
        shift=shift,
        multipliers=[max(1, round(units[term.source] / whole)) for term in plain],
        width=width,
        ranges=[ranges[term.source] for term in step.terms],
        zero_point=zero_point,
        top=None if last else top_of(step.clip, unit, hi) + zero_point,
    )
    return layer, unit


def top_of(clip: float | None, unit: float, hi: int) -> int:
    """The largest integer of an activation."""
    return hi if clip is None else min(hi, max(1, round(clip / unit)))


def bases(weight: Tensor, bits: int) -> list[float]:
    """Steps of weights to try."""
    size = weight.square().mean().sqrt().item()
    spread = weight.std().item() if weight.numel() > 1 else 0.0
    # Weights of one sign are not spread around 0.
    wanted = STEP[bits] * (size if size > 2 * spread else spread)
    if not wanted:
        wanted = weight.abs().max().item() / top_weight(bits) or 1.0
    return [wanted * 2 ** (k / 4) for k in range(-4, 5)]


def weight_error(weights: Sequence[Tensor], steps: Sequence[float], bits: int) -> float:
    """What rounding to multiples of the steps takes from the weights of a sum, relative to their squares; of as many as have steps."""
    if not weights:
        return 0.0
    every = torch.cat([weight.flatten() for weight, _ in zip(weights, steps)])
    wanted = torch.cat([(rounded(weight / step, bits) * step).flatten() for weight, step in zip(weights, steps)])
    return relative_error(every, lambda _: wanted)


def misses(wanted: Sequence[float]) -> float:
    """What it costs that multipliers are integers: nothing below a quarter."""
    errors = [abs(max(1, round(one)) / one - 1) for one in wanted]
    return sum(error for error in errors if error > 0.25)


def fit_accumulator(layer: QuantisedSum) -> None:
    """Sets the width of a layer whose width is relative, and refuses one that leaves no room."""
    below, above = layer.fixed()
    rounding = int(layer.unit() / 2) if layer.shift is not None else 0
    least = 1 + max(above + rounding, -below).bit_length()
    if layer.width.accumulator <= 0:
        bias, low, high = layer.bias(), 0 * layer.beta, 0 * layer.beta
        for number, position in enumerate(layer.weighted):
            weight, read = layer.weight(number).flatten(1), layer.ranges[position]
            p, n = weight.clamp(min=0).sum(1), (-weight).clamp(min=0).sum(1)
            low, high = low + read.lo * p - read.hi * n, high + read.hi * p - read.lo * n
        largest = max((high + bias).max().item() + above, -((low + bias).min().item() + below))
        needed = max(least, 1 + int(largest).bit_length())
        needed = max(least, min(needed, MOST_ACCUMULATOR_BITS) + layer.width.accumulator)
        layer.width = Width(layer.width.weights, layer.width.activation, needed)
    if not least <= layer.width.accumulator <= MOST_ACCUMULATOR_BITS:
        raise InputError(
            f"{layer.step_of.name}: an accumulator of {layer.width.accumulator} bits",
            f"give it {least} to {MOST_ACCUMULATOR_BITS}: a smaller one has no room for what is added",
        )


def relative_error(values: Tensor, quantiser: Callable[[Tensor], Tensor]) -> float:
    return float(((quantiser(values) - values).square().mean() / values.square().mean().clamp(min=1e-30)).item())


def rounded(values: Tensor, bits: int) -> Tensor:
    top = top_weight(bits)
    return torch.where(values < 0, -1.0, 1.0) if bits == 1 else values.round().clamp(-top, top)
