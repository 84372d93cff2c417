"""Writes a trained network as a model file: a safetensors file with the architecture in its metadata."""

import json
import os

import numpy as np
import torch
from safetensors.numpy import save_file


@torch.no_grad()
def export(net, path, *, name, shape, input_bits, classes):
    """net: a QuantisedNet; shape: channels, height, width of the input; path: the file to write."""
    nodes, tensors, tensor = [], {}, 0

    def node(label, **operation):
        nonlocal tensor
        nodes.append({"name": label, **operation})
        tensor = len(nodes)

    for position, (layer, pool) in enumerate(zip(net.layers, net.pools), start=1):
        weight = layer.weight().numpy().astype(np.int8)
        outputs = weight.shape[0]
        if weight.ndim == 4:
            label = f"conv{position}"
            term = {"term": "conv", "input": tensor, "out_channels": outputs, "groups": 1}
            term |= {"kernel": list(weight.shape[2:]), "stride": [1, 1], "padding": [layer.padding] * 4}
        else:
            label = f"dense{position}"
            if not nodes or nodes[-1]["op"] != "flatten" and net.layers[position - 2].v.dim() == 4:
                node("flatten", op="flatten", input=tensor)
            term = {"term": "dense", "input": tensor, "outputs": outputs}
        node(label, op="linear", terms=[term | {"weight_bits": layer.weight_bits}])
        tensors[f"{label}.0.weight"] = np.ascontiguousarray(weight)
        tensors[f"{label}.bias"] = layer.bias().numpy().astype(np.int64)
        if layer.shift is not None:
            node(f"relu{position}", op="requantise", input=tensor, bits=layer.activation_bits, shift=[layer.shift])
        if pool > 1:
            node(f"pool{position}", op="max_pool", input=tensor, kernel=[pool, pool], stride=[pool, pool])
    architecture = {
        "name": name,
        "input": {"shape": list(shape), "bits": input_bits},
        "nodes": nodes,
        "output": tensor,
        "output_scale": float(net.log_scale.exp()),
        "classes": classes,
    }
    metadata = {"lowkey.format": "1", "lowkey.architecture": json.dumps(architecture)}
    save_file(tensors, path, metadata=metadata)
    os.chmod(path, 0o644)  # the safetensors package leaves 0600
