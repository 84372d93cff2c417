"""A model in the clear."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _lowkey
from ._answers import Answer, Evaluation, Integers, Plan
from ._arrays import read
from ._checks import labels, names
from ._described import Described
from ._errors import InputError


class Model(Described):
    """A network of small integers with its weights. Nothing of it is published before it is served."""

    _inner: _lowkey.Model

    def __init__(self, inner: _lowkey.Model, notes: Sequence[str] = ()) -> None:
        self._inner = inner
        self._notes = list(notes)
        self.layers: list[Any] = []

    @property
    def name(self) -> str:
        """Its name."""
        return self._inner.name

    @property
    def notes(self) -> list[str]:
        """What its import, or its quantisation, had to say."""
        return self._inner.notes + self._notes

    def predict(self, x: Any, *, pixels: bool = False) -> Answer:
        """Answers one input in the clear. This is what is right: a private answer equals it."""
        [values], kind = read(x, self._inner, pixels=pixels)
        return Answer(self._inner.answer(values.tobytes(), kind))

    def predict_many(self, x: Any, *, pixels: bool = False) -> tuple[Integers, Integers]:
        """Classes ([n], -1 where there is none) and logits ([n, outputs]) of a batch in the clear, on all threads."""
        inputs, kind = read(x, self._inner, pixels=pixels, batch=True)
        if not inputs:
            raise InputError("no inputs", "give at least one")
        found, logits = self._inner.answers(b"".join(one.tobytes() for one in inputs), kind)
        return np.frombuffer(found, np.int64), np.frombuffer(logits, np.int64).reshape(len(inputs), -1)

    def evaluate(self, x: Any, y: npt.ArrayLike, *, pixels: bool = False) -> Evaluation:
        """The integer network in the clear on inputs with their classes: numbers from 0, or names that the model has."""
        predictions, logits = self.predict_many(x, pixels=pixels)
        wanted = labels(y, len(predictions), self.classes, logits.shape[1])
        return Evaluation(len(wanted), int((predictions == wanted).sum()), predictions)

    def plan(self, link: str = "lan") -> Plan:
        """How it would run over loopback, lan, wan or metered: bytes and flights by layer, seconds and memory of the whole."""
        return Plan(self._inner.plan(link))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a .lowkey file."""
        self._inner.write(os.fspath(path))

    def demo(self) -> tuple[npt.NDArray[np.uint8], Integers] | None:
        """Images to try it on (its quantised inputs) and their classes, where they come with it."""
        found = self._inner.demo()
        if found is None:
            return None
        values, labels = found
        images = np.frombuffer(values, np.uint8).reshape(len(labels), *self.input_shape)
        return images, np.array(list(labels), dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy needs: the bytes of its file in place of the network."""
        return {**self.__dict__, "_inner": self._inner.to_bytes(), "_notes": self.notes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _inner=_lowkey.Model.from_bytes(state["_inner"], (None, None, None, False)))

    def __repr__(self) -> str:
        return f"<lowkey.Model {self.name}: {self.input} -> {self.output}>"


def load(
    path: str | os.PathLike[str] | bytes | Any,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    rounding: str | None = None,
    approximate: bool = False,
) -> Model:
    """A model from a .lowkey, ONNX or TFLite file, or the bundled one of that name; also from the bytes of a file, or a model of
    the package onnx, neither of which touch a disk.

    mean and std (one, or one for each channel) say how pictures become the real numbers that an imported network reads:
    (pixel / 255 - mean) / std. rounding: which arithmetic of its runtime the network has, "reference" or "xnnpack" (TFLite), or "int8" (ONNX Runtime with
    session.qdqisint8allowed=1). approximate: accept what is
    not equal to the file's own runtime bit for bit; `notes` of the model say where and by how much.

    Raises ImportRefused where a file cannot be imported.
    """

    def listed(value: float | Sequence[float] | None) -> list[float] | None:
        return None if value is None else [float(one) for one in np.atleast_1d(np.asarray(value))]

    named = names(classes)
    options = (listed(mean), listed(std), rounding, approximate)
    if isinstance(path, (str, os.PathLike)):
        inner = _lowkey.Model.open(os.fspath(path), options)
    else:
        inner = _lowkey.Model.from_bytes(_bytes(path), options)
    return Model(inner if named is None else inner.with_classes(named))


def _bytes(path: Any) -> bytes:
    """Of a file: given as such, or as a model of the package onnx."""
    if hasattr(path, "model_proto"):  # of torch.onnx.export
        path = path.model_proto
    data = path.SerializeToString() if hasattr(path, "SerializeToString") else path
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InputError(
            f"a {type(path).__name__} for a path",
            "give a file, its bytes, a model of onnx, or the name of a bundled model; lowkey.quantise takes modules of torch",
        )
    return bytes(data)


def bundled() -> list[str]:
    """Names of the bundled models."""
    return _lowkey.bundled()
