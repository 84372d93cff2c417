"""A second evaluation of a model file, in numpy, that shares nothing with the training code.

It covers what the training code writes: linear nodes of convolutions, matrices and identities, one shift per layer, pools of
windows side by side, flatten; and rings and coins as `lowkey optimise` declares them. Products are summed as 64-bit floats, which are exact for integers below 2^53.
"""

import json

import numpy as np
from safetensors import safe_open


FORMATS = ("1", "2: digest", "2: rings, digest", "2: coins, digest", "2: rings, coins, digest")


class IntegerNet:
    """A model file."""

    def __init__(self, path):
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            assert metadata["lowkey.format"] in FORMATS, metadata["lowkey.format"]
            self.architecture = json.loads(metadata["lowkey.architecture"])
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}

    def __call__(self, x, coins=None):
        """The integer logits [B, classes] of integer inputs [B, C, H, W].

        coins: by name of the requantisation, one for each of its results; where there are none roundings are the usual ones.
        """
        values = [x.astype(np.int64)]
        for node in self.architecture["nodes"]:
            values.append(self.node(node, values, coins or {}))
        return values[self.architecture["output"]]

    def declared(self, name, what):
        """The ring or the coin that is declared for a node; 0 for none."""
        found = self.architecture.get("declared", {}).get(name, {}).get(what, 0)
        if isinstance(found, list):
            assert len(set(found)) <= 1, f"{name}: a ring for each channel"
            found = found[0] if found else 0
        return found

    def node(self, node, values, coins):
        if node["op"] == "linear":
            terms = enumerate(node["terms"])
            z = sum(product(values[term["input"]], term, self.tensors.get(f"{node['name']}.{i}.weight")) for i, term in terms)
            b = self.tensors[node["name"] + ".bias"].astype(np.int64)
            return wrapped(z + b.reshape(-1, *[1] * (z.ndim - 2)), self.declared(node["name"], "ring"))
        x = values[node["input"]]
        if node["op"] == "requantise":
            if node["name"] in coins:
                ring = self.declared(self.architecture["nodes"][node["input"] - 1]["name"], "ring")
                x = wrapped(x - 2 ** self.declared(node["name"], "coin") // 2 + coins[node["name"]], ring)
            return np.clip(x >> node["shift"][0], 0, 2 ** node["bits"] - 1)
        if node["op"] == "flatten":
            return x.reshape(len(x), -1)
        (k, _) = node["kernel"]
        batch, channels, height, width = x.shape
        windows = x[:, :, : height // k * k, : width // k * k].reshape(batch, channels, height // k, k, width // k, k)
        if node["op"] == "max_pool":
            return windows.max((3, 5))
        total = windows.sum((3, 5))
        if node["op"] == "sum_pool":
            return total
        assert node["op"] == "avg_pool", node["op"]
        return (node["multiplier"] * total + node["offset"]) >> node["shift"]

    def table(self):
        """(layer, shapes of its weights, weight bits, shift, activation bits, worst-case accumulator bits, largest |bias|) of each linear layer."""
        rows, highest = [], [2 ** self.architecture["input"]["bits"] - 1]
        for node in self.architecture["nodes"]:
            if node["op"] == "requantise":
                highest.append(2 ** node["bits"] - 1)
                rows[-1][3:5] = node["shift"][0], node["bits"]
            elif node["op"] == "sum_pool":
                highest.append(highest[node["input"]] * node["kernel"][0] * node["kernel"][1])
            elif node["op"] != "linear":
                highest.append(highest[node["input"]])
            else:
                b = self.tensors[node["name"] + ".bias"].astype(np.int64)
                low, high, shapes, bits = b.copy(), b.copy(), [], None
                for i, term in enumerate(node["terms"]):
                    top = highest[term["input"]]
                    if term["term"] == "identity":
                        high += term["multiplier"] * top
                        shapes.append(f"{term['multiplier']} x'")
                        continue
                    w = self.tensors[f"{node['name']}.{i}.weight"].astype(np.int64)
                    shapes.append(" x ".join(map(str, w.shape)))
                    w = w.reshape(len(w), -1)
                    high += top * np.maximum(w, 0).sum(1)
                    low += top * np.minimum(w, 0).sum(1)
                    bits = term["weight_bits"]
                accumulator = 1 + max(int(max(high.max(), 0)).bit_length(), int(max(~low.min(), 0)).bit_length())
                rows.append([node["name"], " + ".join(shapes), bits, None, None, accumulator, int(np.abs(b).max())])
                highest.append(None)
        return rows


def wrapped(z, ring):
    """The signed number of `ring` bits that is congruent to z; z itself for a ring of 0 bits."""
    half = 2**ring // 2
    return (z + half) % (2 * half) - half if ring else z


def product(x, term, weight):
    """One term of a linear node."""
    if term["term"] == "identity":
        return term["multiplier"] * x
    w = weight.astype(np.float64)
    if term["term"] == "dense":
        return (x.astype(np.float64) @ w.T).astype(np.int64)
    top, left, bottom, right = term["padding"]
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(x, term["kernel"], (2, 3))
    windows = windows[:, :, :: term["stride"][0], :: term["stride"][1]]
    batch, _, height, width, _, _ = windows.shape
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(batch * height * width, -1)
    z = (columns @ w.reshape(len(w), -1).T).reshape(batch, height, width, -1)
    return z.transpose(0, 3, 1, 2).astype(np.int64)
