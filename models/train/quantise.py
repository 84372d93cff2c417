"""From the trained floating-point network to the integer one that training continues with."""

import torch

from .layers import STEP, QuantisedLayer, QuantisedNet, top_weight


@torch.no_grad()
def quantised(model, sample, *, weight_bits, activation_bits, accumulator_bits):
    """Folds batch normalisation into weights and biases and chooses the steps.

    activation_bits, accumulator_bits: one entry per layer; the last layer has no activation.

    A layer maps x * A_in to y * A_out, A the real value of one unit. The weight step d and the shift s fix A_out = 2^s d A_in;
    they are chosen so that the errors of the weights and of the activations of `sample`, each relative to their squares, have
    the least sum. A skip's weights have the step d A_in / A_back; without weights it is multiplied by the integer closest to
    A_back / (d A_in). Biases are such that the means before the activation are those of the floating-point network.
    """
    model.eval()
    befores = model.befores(sample)
    units, tops = [1 / model.input_max], [model.input_max]
    layers = []
    for position, (layer, before) in enumerate(zip(model.layers, befores)):
        last = position == len(model.layers) - 1
        weights = model.folded(position)
        wanted = STEP[weight_bits] * weights[0].std().item()
        top = 2 ** activation_bits[position] - 1
        values = before.flatten()[torch.randperm(before.numel(), generator=torch.Generator().manual_seed(0))[:30000]].relu()
        best = (float("inf"),)
        for d in [wanted * 2 ** (k / 4) for k in range(-4, 5)]:
            error = relative_error(weights[0], lambda w: rounded(w / d, weight_bits) * d)
            if last:
                best = min(best, (error, d, None, d * units[-1]))
                continue
            for shift in range(20):
                unit = 2**shift * d * units[-1]
                loss = error + relative_error(values, lambda y: (y / unit).round().clamp(0, top) * unit)
                best = min(best, (loss, d, shift, unit))
        _, d, shift, unit = best
        multiplier, back = None, None
        if layer.skip is not None:
            back = position + 1 - layer.skip
            if len(weights) == 1:
                multiplier = max(1, round(units[back] / (d * units[-1])))
            else:
                assert tops[back] == tops[-1], "a skip's weights share the bound of the layer's weights"
        steps = [d] if len(weights) == 1 else [d, d * units[-1] / units[back]]
        channels = [0, *range(2, before.dim())]
        beta = before.mean(channels) / unit if not last else model.linears[position].bias / unit
        layers.append(
            QuantisedLayer(
                layer,
                [(weight / step).clone() for weight, step in zip(weights, steps)],
                beta.clone(),
                shift=shift,
                multiplier=multiplier,
                skip_stride=model.skips[position].stride[0] if len(weights) > 1 else None,
                weight_bits=weight_bits,
                activation_bits=activation_bits[position],
                accumulator_bits=accumulator_bits[position],
                input_top=tops[-1],
                skip_top=None if back is None else tops[back],
            )
        )
        pool = layer.pool or ("max", 1)
        area = pool[1] ** 2 if pool[0] == "sum" else 1
        units.append(unit / area)
        tops.append(top * area)
    net = QuantisedNet(layers, units[-1])
    net.train()
    net(sample)  # moves each mean a tenth of the way, from zero
    for layer in layers:
        layer.mean.mul_(10)
    net.eval()
    net.project()
    return net


def relative_error(values, quantiser):
    return ((quantiser(values) - values).square().mean() / values.square().mean()).item()


def rounded(values, bits):
    top = top_weight(bits)
    return torch.where(values < 0, -1.0, 1.0) if bits == 1 else values.round().clamp(-top, top)
