"""From the trained floating-point network to the integer one that training continues with."""

import math

import torch

from .layers import QuantisedLayer, QuantisedNet


@torch.no_grad()
def quantised(model, sample, *, weight_bits, activation_bits, accumulator_bits):
    """Folds batch normalisation into weights and biases and chooses the steps. `accumulator_bits` has one entry per layer.

    A layer maps x * A_in to y * A_out, A the real value of one unit. A_out is chosen so that 15 (for 4 bits) stands for a large
    activation of `sample`. The weight step d follows from d * A_in / A_out = 2^-s, with s such that d is close to the step that
    suits weights of normal distribution at this width.
    """
    model.eval()
    results = model.activations(sample)
    top = 2**activation_bits - 1
    # Optimal uniform steps for a normal distribution, in standard deviations (Max 1960).
    step = {2: 1.0, 3: 0.65, 4: 0.353, 5: 0.193, 6: 0.106, 7: 0.057, 8: 0.031}[weight_bits]
    layers, pools, unit_in, input_max = [], [], 1 / model.input_max, model.input_max
    for position, (linear, norm) in enumerate(zip(model.linears, model.norms)):
        last = position == len(model.linears) - 1
        weight, bias = linear.weight, linear.bias
        if not last:
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = weight * gain.view(-1, *[1] * (weight.dim() - 1))
            bias = norm.bias - gain * norm.running_mean
        wanted = step * weight.std().item()
        if last:
            shift, unit_out, d = None, wanted * unit_in, wanted
            beta = bias / unit_out
        else:
            unit_out = torch.quantile(results[position].flatten()[:4_000_000], 0.999).item() / top
            shift = round(math.log2(unit_out / (wanted * unit_in)))
            d = unit_out * 2.0**-shift / unit_in
            beta = bias / unit_out + 0.5
        layer = QuantisedLayer(
            (weight / d).clone(),
            beta.clone(),
            shift=shift,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            input_max=input_max,
            accumulator_bits=accumulator_bits[position],
            padding=linear.padding[0] if weight.dim() == 4 else 0,
        )
        layers.append(layer)
        specification = model.specification[position]
        pools.append(specification[4] if specification[0] == "conv" else 1)
        unit_in, input_max = unit_out, top
    net = QuantisedNet(layers, pools, unit_in)
    net.project()
    return net
