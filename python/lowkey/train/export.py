"""Writes a trained network as a model file: a safetensors file with the architecture in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from .graph import Step, Sum, Term, Window
from .layers import QuantisedPool, QuantisedSum
from .network import QuantisedNet

Record = dict[str, Any]

#: Holds SHA-256 of the file in which these zeros stand for it.
DIGEST_KEY = "lowkey.sha256"
ZEROS = "0" * 64


@dataclass(frozen=True)
class Pixels:
    """(pixel / 255 - mean) / std, one of each for all channels or one for each: how pictures become what a network reads."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def tables(self, net: QuantisedNet) -> list[list[int]]:
        """What the network reads for each pixel, by channel; in 32-bit floats, as in training."""
        channels = net.shape[0]
        mean, std = (torch.tensor(one, dtype=torch.float32).expand(channels)[:, None] for one in (self.mean, self.std))
        real = (torch.arange(256, dtype=torch.float32) / 255 - mean) / std
        found = net.input.integers(real) + net.input.zero_point
        return [[int(value) for value in row] for row in found.tolist()]


def export(
    net: QuantisedNet,
    path: Path,
    *,
    name: str,
    classes: Sequence[str] = (),
    coded: bool = True,
    pixels: Pixels | None = None,
) -> None:
    """net: in evaluation mode; path: the file to write; coded: whether the file says which real numbers the input are.

    pixels: how pictures become those.
    """
    Path(path).write_bytes(exported(net, name=name, classes=classes, coded=coded, pixels=pixels))


def exported(
    net: QuantisedNet, *, name: str, classes: Sequence[str] = (), coded: bool = True, pixels: Pixels | None = None
) -> bytes:
    """The bytes of that file."""
    tensors, metadata = record(net, name=name, classes=classes, coded=coded, pixels=pixels)
    return digested(save(tensors, metadata=metadata))


def digested(file: bytes) -> bytes:
    """A model file with its digest in place of the zeros that `record` wrote."""
    entry = f'"{DIGEST_KEY}":"{ZEROS}"'
    assert file.count(entry.encode()) == 1
    return file.replace(entry.encode(), entry.replace(ZEROS, hashlib.sha256(file).hexdigest()).encode())


@torch.no_grad()
def record(
    net: QuantisedNet, *, name: str, classes: Sequence[str], coded: bool, pixels: Pixels | None = None
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """Tensors and metadata of the file."""
    nodes: list[Record] = []
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    #: The file's tensor for each of the network's.
    ids = [0]

    def node(label: str, **operation: Any) -> int:
        nodes.append({"name": label, **operation})
        return len(nodes)

    for position, step in enumerate(net.steps):
        layer = net.made(position)
        if isinstance(layer, QuantisedSum):
            assert isinstance(step, Sum)
            terms, number = [], 0
            for place, term in enumerate(step.terms):
                terms.append(term_of(layer, place, term, ids[term.source]))
                if term.linear is None:
                    continue
                weight = layer.weight(number).cpu().numpy().astype(np.int8)
                tensors[f"{step.name}.{place}.weight"] = np.ascontiguousarray(weight)
                number += 1
            tensors[f"{step.name}.bias"] = layer.stored_bias().cpu().numpy().astype(np.int64)
            tensor = node(step.name, op="linear", terms=terms)
            if layer.shift is not None:
                more: Record = {"zero_point": layer.zero_point} if layer.zero_point else {}
                if layer.top < 2**layer.width.activation - 1:
                    more["top"] = layer.top
                bits = layer.width.activation
                tensor = node(step.label, op="requantise", input=tensor, bits=bits, shift=[layer.shift], **more)
        elif isinstance(layer, QuantisedPool):
            tensor = node(step.name, **pool_of(layer, source_of(step, ids)))
        else:
            tensor = node(step.name, op="flatten", input=source_of(step, ids))
        ids.append(tensor)
    shape = list(net.shape) if len(net.shape) == 3 else [*net.shape, 1, 1]
    reads: Record = {"shape": shape, "bits": net.input.bits}
    if net.input.zero_point:
        reads["zero_point"] = net.input.zero_point
    if pixels is not None:
        reads["pixels"] = pixels.tables(net)
    if coded:
        reads["coding"] = {
            "dims": list(net.shape),
            "order": "channels_first",
            "dtype": f"uint{net.input.bits}",
            "lowest": 0,
            "highest": 2**net.input.bits - 1,
            "scale": net.input.scale,
            "zero_point": net.input.zero_point,
            "rule": "onnx",
            "integers": False,
        }
    architecture: Record = {"name": name, "input": reads, "nodes": nodes, "output": ids[-1]}
    architecture["output_scale"] = float(net.log_scale.exp())
    if classes:
        architecture["classes"] = list(classes)
    return tensors, {"lowkey.format": "2: digest", DIGEST_KEY: ZEROS, "lowkey.architecture": json.dumps(architecture)}


def source_of(step: Step, ids: Sequence[int]) -> int:
    assert not isinstance(step, Sum)
    return ids[step.source]


def term_of(layer: QuantisedSum, place: int, term: Term, tensor: int) -> Record:
    width = {"weight_bits": layer.width.weights}
    if term.linear is None:
        return {"term": "identity", "input": tensor, "multiplier": layer.multipliers[place]}
    if term.window is None:
        return {"term": "dense", "input": tensor, "outputs": len(layer.beta)} | width
    channels = {"term": "conv", "input": tensor, "out_channels": len(layer.beta), "groups": layer.groups[place]}
    return channels | window_of(term.window) | {"padding": list(term.window.padding)} | width


def pool_of(pool: QuantisedPool, tensor: int) -> Record:
    made: Record = {"op": f"{pool.kind}_pool", "input": tensor} | window_of(pool.window)
    if any(pool.window.padding):
        made["padding"] = list(pool.window.padding)
    if pool.kind == "avg":
        made |= {"multiplier": 1, "offset": pool.offset, "shift": pool.shift}
    return made


def window_of(window: Window) -> Record:
    made: Record = {"kernel": list(window.kernel), "stride": list(window.stride)}
    if window.dilation != (1, 1):
        made["dilation"] = list(window.dilation)
    return made
