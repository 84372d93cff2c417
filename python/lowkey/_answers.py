"""What comes out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _lowkey
from ._errors import InputError

Integers = npt.NDArray[np.int64]


class Stage(NamedTuple):
    """What a stage took."""

    milliseconds: float
    bytes: int
    """Both directions."""
    flights: int
    """One-way latencies on the critical path."""


class LayerReport(NamedTuple):
    """What a layer took."""

    name: str
    offline_bytes: int
    online_bytes: int
    online_milliseconds: float


class Found:
    """What Rust found, of which each part is made when it is first asked for: who waits for a label pays for no table."""

    _found: _lowkey.Answer

    def __init__(self, found: _lowkey.Answer) -> None:
        self.__dict__["_found"] = found

    @classmethod
    def _parts(cls) -> list[str]:
        return [name for name, value in vars(cls).items() if isinstance(value, cached_property)]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is not changed")

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._parts()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Report(Found):
    """What an answer took: before its input was known, and with it; all zero of an answer in the clear."""

    @cached_property
    def _stages(self) -> list[Stage]:
        return [Stage(*stage) for stage in self._found.stages]

    @property
    def offline(self) -> Stage:
        """Before the input was known."""
        return self._stages[0]

    @property
    def online(self) -> Stage:
        """With it."""
        return self._stages[1]

    @cached_property
    def layers(self) -> list[LayerReport]:
        """By layer, in the network's order."""
        return [LayerReport(*layer) for layer in self._found.layers]

    @property
    def bytes(self) -> int:
        """Of both stages and directions."""
        return self.offline.bytes + self.online.bytes

    def __repr__(self) -> str:
        return f"Report(offline={self.offline}, online={self.online})"


class Answer(Found):
    """The answer to one input: what the model's own file computes."""

    @cached_property
    def index(self) -> int | None:
        """The class; None where the network computes none."""
        return self._found.class_index

    @cached_property
    def label(self) -> str | int | None:
        """The name of the class where the model has names, its index elsewhere."""
        name = self._found.name
        return self.index if name is None else name

    @cached_property
    def logits(self) -> Integers | None:
        """The network's integer outputs, [outputs], zero points subtracted; None if the class alone was revealed."""
        return integers(self._found.logits)

    @cached_property
    def scores(self) -> npt.NDArray[np.float64] | None:
        """The real outputs, [outputs], through the softmax, sigmoid or tanh that ends the network; None where their unit is not known."""
        scores = self._found.scores
        return None if scores is None else np.array(scores, dtype=np.float64)

    @cached_property
    def quantised(self) -> Integers | None:
        """The quantised tensor that is the file's own output, where it is one."""
        return integers(self._found.quantised)

    @cached_property
    def report(self) -> Report:
        """What it took; all zero of an answer in the clear."""
        return Report(self._found)

    @property
    def probabilities(self) -> npt.NDArray[np.float64] | None:
        """The scores where they sum to one, and their softmax elsewhere; None where their unit is not known."""
        if self.scores is None or not self.scores.size:
            return None
        if (self.scores >= 0).all() and abs(float(self.scores.sum()) - 1) < 1e-3:
            return self.scores
        powers = np.exp(self.scores - self.scores.max())
        total: npt.NDArray[np.float64] = powers / powers.sum()
        return total

    def __repr__(self) -> str:
        return f"Answer(index={self.index!r}, label={self.label!r})"


def integers(values: bytes | None) -> Integers | None:
    return None if values is None else np.frombuffer(values, dtype=np.int64)


@dataclass(frozen=True)
class Evaluation:
    """How a model does on labelled inputs."""

    count: int
    correct: int
    predictions: Integers = field(repr=False)
    """The class of each input, -1 where the network computes none."""

    @property
    def accuracy(self) -> float:
        """Between 0 and 1."""
        return self.correct / self.count


class Plan:
    """How a model would run: exact bytes and flights, estimated seconds and memory."""

    def __init__(self, text: str) -> None:
        self.record: dict[str, Any] = json.loads(text)

    @property
    def layers(self) -> list[dict[str, Any]]:
        """By layer, in the network's order: bytes, flights, rings, parameters. Seconds and memory are of the whole."""
        layers: list[dict[str, Any]] = self.record["layers"]
        return layers

    @property
    def bytes(self) -> int:
        """Of one inference, both stages and directions."""
        total = self.record["total"]
        return int(total["offline_bytes"] + total["online_bytes"])

    @property
    def flights(self) -> int:
        """One-way latencies of the online stage."""
        return int(self.record["total"]["flights"])

    def seconds(self, link: str | None = None) -> tuple[float, float]:
        """Offline and online, estimated: over the link it was planned for, or over loopback, lan or wan."""
        chosen = link or ("wan" if self.record["link"] == "metered" else self.record["link"])
        if chosen not in ("loopback", "lan", "wan"):
            raise InputError(f"link {chosen!r}", "give loopback, lan or wan")
        times = self.record["estimate"][chosen]
        return times["offline_ms"] / 1e3, times["online_ms"] / 1e3

    def to_dataframe(self) -> Any:
        """The layers as a pandas DataFrame."""
        import importlib

        return importlib.import_module("pandas").DataFrame(self.layers)

    def __repr__(self) -> str:
        return f"<lowkey.Plan of {self.record['model']} for {self.record['link']}: {self.bytes} bytes, {self.flights} flights>"

    def __str__(self) -> str:
        total, estimate = self.record["total"], self.record["estimate"]
        rows = [
            (layer["name"], layer["kind"], layer["offline_bytes"], layer["online_bytes"], layer["flights"]) for layer in self.layers
        ]
        # Keys, input, output, and what asks for them.
        besides = [total[key] - sum(layer[key] for layer in self.layers) for key in ("offline_bytes", "online_bytes", "flights")]
        rows += [("besides", "keys, ends", *besides), ("in all", "", total["offline_bytes"], total["online_bytes"], total["flights"])]
        width = max(len(name) for name, *_ in rows)
        lines = [
            f"{self.record['model']}, planned for {self.record['link']}",
            f"{'layer':<{width}}  {'kind':<12} {'offline':>10} {'online':>10} {'flights':>8}",
        ]
        lines += [
            f"{name:<{width}}  {kind:<12} {human(offline):>10} {human(online):>10} {flights:>8}"
            for name, kind, offline, online, flights in rows
        ]
        lines.append(f"once per client {human(total['setup_bytes'])}; flights are online's")
        for link in ("loopback", "lan", "wan"):
            times = estimate[link]
            lines.append(f"about {times['offline_ms']:.0f} ms offline and {times['online_ms']:.0f} ms online over {link}")
        client, server = human(estimate["client_memory_bytes"]), human(estimate["server_memory_bytes"])
        lines.append(f"memory about {client} at the client, {server} at the server")
        return "\n".join(lines)


def human(count: float) -> str:
    """Bytes in a unit that a person reads."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
