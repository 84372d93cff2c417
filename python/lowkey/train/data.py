"""A user's data: checked, in batches, on the module's device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._errors import InputError
from .network import Input

#: How many inputs choose units and steps, and how many batches of a loader are looked at for that.
SAMPLE, LOOKED_AT = 1000, 100
#: Most numbers of the sample.
SAMPLE_NUMBERS = 1 << 24


@dataclass
class Data:
    """What a network is trained on."""

    batches: Arrays | Loader
    """Both are gone through once for each epoch."""
    sample: Tensor
    """Some inputs, [n, ...]."""
    labels: Tensor
    """Of the sample."""
    ends: tuple[float, float]
    """The least and the largest number of an input."""
    bytes: bool
    """Inputs are of uint8."""

    def reads(self, bits: int) -> Input:
        """How the inputs are quantised to `bits` bits: from 0 where none is negative."""
        top = 2**bits - 1
        lo, hi = min(self.ends[0], 0.0), max(self.ends[1], 0.0)
        if self.bytes:
            lo, hi = 0.0, 255.0
        scale = float(np.float32((hi - lo) / top)) or 1.0
        return Input(scale, bits, round(-lo / scale))


class Arrays:
    """Random batches of an array, in another order each time; what is left over is left out."""

    def __init__(self, x: Tensor, y: Tensor, size: int) -> None:
        self.x, self.y, self.size = x, y, min(size, len(x))

    def __len__(self) -> int:
        return len(self.x) // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.x)).to(self.x.device)
        for i in range(len(self)):
            chosen = order[i * self.size : (i + 1) * self.size]
            yield self.x[chosen], self.y[chosen]


class Loader:
    """The batches of a loader, each of them checked."""

    def __init__(self, loader: Any, device: torch.device) -> None:
        self.loader, self.device = loader, device
        self.outputs: int | None = None
        self.bytes = False

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in enumerate(self.loader):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise InputError(f"batch {number} of the loader is no pair", "yield (inputs, labels)")
            where = f"batch {number}: "
            self.bytes = is_bytes(batch[0])
            x, y = inputs_of(batch[0], self.device, where), labels_of(batch[1], self.device, where)
            if len(x) != len(y):
                raise InputError(f"{where}{len(x)} inputs and {len(y)} labels", "give a label for each input")
            if self.outputs is not None:
                check_labels(y, self.outputs, where)
            yield x, y


def data_of(data: Any, size: int, device: torch.device) -> Data:
    """data: (X, y), a DataLoader (or anything with a length that yields (inputs, labels) each time), or a Dataset."""
    if isinstance(data, torch.utils.data.Dataset):
        data = torch.utils.data.DataLoader(data, batch_size=size, shuffle=True, drop_last=True)
    if isinstance(data, tuple) or (isinstance(data, list) and not any(isinstance(one, (tuple, list)) for one in data)):
        if len(data) != 2:
            raise InputError(f"data of {len(data)} parts", "give (X, y): inputs and their labels")
        x, y = inputs_of(data[0], device), labels_of(data[1], device)
        if len(x) != len(y):
            raise InputError(f"{len(x)} inputs and {len(y)} labels", "give a label for each input")
        step = -(-len(x) // limit(x))
        ends = float(x.min().item()), float(x.max().item())
        return Data(Arrays(x, y, size), x[::step], y[::step], ends, is_bytes(data[0]))
    array = isinstance(data, (np.ndarray, Tensor))
    if hasattr(data, "__iter__") and hasattr(data, "__len__") and not array:
        return loaded(data, device)
    raise InputError(f"data of type {type(data).__name__}", "give (X, y), a DataLoader or a Dataset")


def loaded(loader: Any, device: torch.device) -> Data:
    found: list[tuple[Tensor, Tensor]] = []
    lo, hi, count = float("inf"), -float("inf"), 0
    batches = Loader(loader, device)
    for number, (x, y) in enumerate(batches):
        lo, hi = min(lo, float(x.min().item())), max(hi, float(x.max().item()))
        if count < limit(x):
            found.append((x, y))
            count += len(x)
        if number + 1 == LOOKED_AT:
            break
    if not found:
        raise InputError("the loader yields nothing", "give one with a batch at least")
    x, y = (torch.cat(parts)[:SAMPLE] for parts in zip(*found))
    return Data(batches, x, y, (lo, hi), batches.bytes)


def limit(x: Tensor) -> int:
    """How many inputs the sample has at most."""
    return max(64, min(SAMPLE, SAMPLE_NUMBERS // max(1, x[0].numel())))


def is_bytes(x: Any) -> bool:
    return bool(x.dtype == torch.uint8) if isinstance(x, Tensor) else np.asarray(x).dtype == np.uint8


def inputs_of(x: Any, device: torch.device, where: str = "") -> Tensor:
    """Inputs as 32-bit floats, [n, features] or [n, channels, height, width]."""
    found = x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.array(array_of(x, where)))
    if found.dtype not in (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise InputError(f"{where}inputs of {str(found.dtype).removeprefix('torch.')}", "give floats, or uint8: X.astype('float32')")
    shape = tuple(found.shape)
    if len(shape) == 3:
        raise InputError(
            f"{where}inputs of shape {shape}",
            "give [n, channels, height, width]: X[:, None] adds the channel of grey images, X[None] the batch of a single one",
        )
    if len(shape) not in (2, 4) or 0 in shape:
        raise InputError(f"{where}inputs of shape {shape}", "give a batch: [n, features] or [n, channels, height, width]")
    found = found.to(device=device, dtype=torch.float32)
    bad = ~torch.isfinite(found.flatten(1)).all(1)
    if bad.any():
        first = int(bad.nonzero()[0].item())
        raise InputError(
            f"{where}inputs that are not finite: {int(bad.sum().item())} of {len(bad)}, the first is number {first}",
            "fill them or leave them out",
        )
    return found


def array_of(
    x: Any, where: str, what: str = "inputs", hint: str = "give numbers: one array, all inputs of one shape"
) -> np.ndarray[Any, Any]:
    try:
        found = np.asarray(x)
    except ValueError as error:
        raise InputError(f"{where}{what} of several shapes", hint) from error
    if found.dtype.kind not in "biufc":
        raise InputError(f"{where}{what} of {found.dtype}", hint)
    return found


def labels_of(y: Any, device: torch.device, where: str = "") -> Tensor:
    """Labels as 64-bit integers, [n]."""
    hint = "give the number of each class, from 0: numpy.unique(y, return_inverse=True)[1] of names"
    found = y.detach() if isinstance(y, Tensor) else torch.from_numpy(np.array(array_of(y, where, "labels", hint)))
    if found.dim() == 2 and found.shape[1] > 1:
        raise InputError(f"{where}labels of shape {tuple(found.shape)}", "give the class of each input: y.argmax(1) of one-hot rows")
    if found.dtype.is_floating_point or found.dtype == torch.bool or found.dtype.is_complex:
        raise InputError(
            f"{where}labels of {str(found.dtype).removeprefix('torch.')}", "give whole numbers from 0, the number of each class"
        )
    return found.reshape(-1).to(device=device, dtype=torch.int64)


def check_labels(y: Tensor, outputs: int, where: str = "") -> None:
    """Whether labels are numbers of outputs."""
    lo, hi = int(y.min().item()), int(y.max().item())
    if lo < 0 or hi >= outputs:
        raise InputError(
            f"{where}labels from {lo} to {hi}, and the module has {outputs} outputs", f"number the classes from 0 to {outputs - 1}"
        )
