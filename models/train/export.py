"""Writes a trained network as a model file: a safetensors file with the architecture in its metadata."""

import json
import os

import numpy as np
import torch
from safetensors.numpy import save_file


@torch.no_grad()
def export(net, path, *, name, shape, input_bits, classes):
    """net: a QuantisedNet; shape: channels, height, width of the input; path: the file to write."""
    nodes, tensors = [], {}
    #: The tensor that each layer reads, and the logits at the end.
    ids = [0]

    def node(label, **operation):
        nodes.append({"name": label, **operation})
        return len(nodes)

    for position, quantised in enumerate(net.layers, start=1):
        layer, tensor = quantised.layer, ids[-1]
        label = f"{layer.kind}{position}"
        if layer.kind == "dense" and (position == 1 or net.layers[position - 2].layer.kind == "conv"):
            tensor = node(f"flatten{position}", op="flatten", input=tensor)
        width = {"weight_bits": quantised.weight_bits}
        if layer.kind == "conv":
            terms = [convolution(tensor, layer.outputs, layer.kernel, layer.stride, layer.padding) | width]
        else:
            terms = [{"term": "dense", "input": tensor, "outputs": layer.outputs} | width]
        if layer.skip is not None:
            back = ids[position - layer.skip]
            if len(quantised.v) > 1:
                terms.append(convolution(back, layer.outputs, 1, quantised.skip_stride, 0) | width)
            else:
                terms.append({"term": "identity", "input": back, "multiplier": quantised.multiplier})
        for term in range(len(quantised.v)):
            tensors[f"{label}.{term}.weight"] = np.ascontiguousarray(quantised.weight(term).numpy().astype(np.int8))
        tensors[f"{label}.bias"] = quantised.bias().numpy().astype(np.int64)
        tensor = node(label, op="linear", terms=terms)
        if quantised.shift is not None:
            bits = quantised.activation_bits
            tensor = node(f"relu{position}", op="requantise", input=tensor, bits=bits, shift=[quantised.shift])
        if layer.pool is not None:
            kind, k = layer.pool
            pool = {"op": f"{kind}_pool", "input": tensor, "kernel": [k, k], "stride": [k, k]}
            if kind == "avg":
                pool |= {"multiplier": 1, "offset": k * k // 2, "shift": (k * k).bit_length() - 1}
            tensor = node(f"pool{position}", **pool)
        ids.append(tensor)
    architecture = {
        "name": name,
        "input": {"shape": list(shape), "bits": input_bits},
        "nodes": nodes,
        "output": ids[-1],
        "output_scale": float(net.log_scale.exp()),
        "classes": classes,
    }
    metadata = {"lowkey.format": "1", "lowkey.architecture": json.dumps(architecture)}
    save_file(tensors, path, metadata=metadata)
    os.chmod(path, 0o644)  # the safetensors package leaves 0600


def convolution(tensor, outputs, kernel, stride, padding):
    window = {"kernel": [kernel] * 2, "stride": [stride] * 2, "padding": [padding] * 4}
    return {"term": "conv", "input": tensor, "out_channels": outputs, "groups": 1} | window
