"""An architecture in floating point with batch normalisation: the starting point of the integer network, and its teacher."""

from copy import deepcopy
from dataclasses import replace

import torch.nn as nn
import torch.nn.functional as F
from lowkey.train import trace
from lowkey.train.graph import Flatten, Graph, Pool
from torch.nn.utils import fuse_conv_bn_eval


def pooled(x, pool):
    """`pool` as in `architectures.Layer`; "sum" is the mean here, a matter of scale."""
    if pool is None:
        return x
    kind, k = pool
    return F.max_pool2d(x, k) if kind == "max" else F.avg_pool2d(x, k)


class FloatNet(nn.Module):
    """Logits of inputs [B, C, H, W] in 0..input_max."""

    def __init__(self, shape, layers, input_max):
        """shape: channels, height, width of the input."""
        super().__init__()
        self.layers, self.input_max = layers, input_max
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        self.skips, self.skip_norms = nn.ModuleList(), nn.ModuleList()
        channels, *size = shape
        shapes = [tuple(shape)]
        for position, layer in enumerate(layers):
            last = position == len(layers) - 1
            if layer.kind == "conv":
                window = dict(stride=layer.stride, padding=layer.padding, bias=last)
                self.linears.append(nn.Conv2d(channels, layer.outputs, layer.kernel, **window))
                self.norms.append(nn.BatchNorm2d(layer.outputs))
                size = [(side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in size]
            else:
                self.linears.append(nn.Linear(channels * size[0] * size[1], layer.outputs, bias=last))
                self.norms.append(nn.Identity() if last else nn.BatchNorm1d(layer.outputs))
                size = [1, 1]
            channels = layer.outputs
            skip, norm = None, None
            if layer.skip is not None:
                before = shapes[position + 1 - layer.skip]
                if before != (channels, *size):
                    skip = nn.Conv2d(before[0], channels, 1, stride=before[1] // size[0], bias=False)
                    norm = nn.BatchNorm2d(channels)
            self.skips.append(skip)
            self.skip_norms.append(norm)
            if layer.pool is not None:
                size = [side // layer.pool[1] for side in size]
            shapes.append((channels, *size))

    def befores(self, x):
        """The result of every layer before its activation; the last one is the logits."""
        x = x / self.input_max
        tensors, results = [x], []
        for position, layer in enumerate(self.layers):
            if layer.kind == "dense":
                x = x.flatten(1)
            x = self.norms[position](self.linears[position](x))
            if layer.skip is not None:
                back = tensors[position + 1 - layer.skip]
                skip = self.skips[position]
                x = x + (back if skip is None else self.skip_norms[position](skip(back)))
            results.append(x)
            x = pooled(F.relu(x), layer.pool)
            tensors.append(x)
        return results

    def forward(self, x):
        return self.befores(x)[-1]

    def fused(self):
        """A copy for evaluation, with batch normalisation inside the convolutions."""
        copy = deepcopy(self).eval()
        for linears, norms in ((copy.linears, copy.norms), (copy.skips, copy.skip_norms)):
            for i, (linear, norm) in enumerate(zip(linears, norms)):
                if isinstance(norm, nn.BatchNorm2d):
                    linears[i], norms[i] = fuse_conv_bn_eval(linear, norm), nn.Identity()
        return copy


def graph_of(model, sample):
    """The layers of a `FloatNet`, named by kind and position from 1: conv1, relu1, pool1, flatten2, dense2."""
    found = trace.graph_of(model, sample)
    steps, position = [], 0
    for step in found.steps:
        if isinstance(step, Flatten):
            steps.append(replace(step, name=f"flatten{position + 1}"))
        elif isinstance(step, Pool):
            steps.append(replace(step, name=f"pool{position}"))
        else:
            position += 1
            kind = model.layers[position - 1].kind
            steps.append(replace(step, name=f"{kind}{position}", label=f"relu{position}"))
    return Graph(found.module, found.shape, found.outputs, found.factor, steps)
