"""A second evaluation of a model file, in numpy with 64-bit integers, that shares nothing with the training code.

It covers what the training code writes: convolutions and matrices of one term, one shift per layer, max pools, flatten.
"""

import json

import numpy as np
from safetensors import safe_open


class IntegerNet:
    """A model file."""

    def __init__(self, path):
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            assert metadata["lowkey.format"] == "1", metadata["lowkey.format"]
            self.architecture = json.loads(metadata["lowkey.architecture"])
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}

    def __call__(self, x):
        """The integer logits [B, classes] of integer inputs [B, C, H, W]."""
        values = [x.astype(np.int64)]
        for node in self.architecture["nodes"]:
            values.append(self.node(node, values))
        return values[self.architecture["output"]]

    def node(self, node, values):
        if node["op"] == "linear":
            (term,) = node["terms"]
            w = self.tensors[node["name"] + ".0.weight"].astype(np.int64)
            b = self.tensors[node["name"] + ".bias"].astype(np.int64)
            x = values[term["input"]]
            if term["term"] == "dense":
                return x @ w.T + b
            top, left, bottom, right = term["padding"]
            x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
            windows = np.lib.stride_tricks.sliding_window_view(x, term["kernel"], (2, 3))
            return np.einsum("bihwkl,oikl->bohw", windows, w, optimize=True) + b[:, None, None]
        x = values[node["input"]]
        if node["op"] == "requantise":
            return np.clip(x >> node["shift"][0], 0, 2 ** node["bits"] - 1)
        if node["op"] == "max_pool":
            (k, _) = node["kernel"]
            batch, channels, height, width = x.shape
            x = x[:, :, : height // k * k, : width // k * k]
            return x.reshape(batch, channels, height // k, k, width // k, k).max((3, 5))
        assert node["op"] == "flatten", node["op"]
        return x.reshape(len(x), -1)

    def table(self):
        """(layer, weight bits, shift, worst-case accumulator bits, largest |bias|) of each linear layer."""
        rows, nodes = [], self.architecture["nodes"]
        top = 2 ** self.architecture["input"]["bits"] - 1
        for node in nodes:
            if node["op"] == "requantise":
                top = 2 ** node["bits"] - 1
                rows[-1][2] = node["shift"][0]
            if node["op"] == "linear":
                w = self.tensors[node["name"] + ".0.weight"].astype(np.int64)
                w = w.reshape(len(w), -1)
                b = self.tensors[node["name"] + ".bias"].astype(np.int64)
                highest = (b + top * np.maximum(w, 0).sum(1)).max()
                lowest = (b + top * np.minimum(w, 0).sum(1)).min()
                bits = 1 + max(int(max(highest, 0)).bit_length(), int(max(~lowest, 0)).bit_length())
                rows.append([node["name"], node["terms"][0]["weight_bits"], None, bits, int(np.abs(b).max())])
        return rows
