"""What a model and a session with one say of their network."""

from __future__ import annotations

from . import _lowkey


class Described:
    """A network as it describes itself."""

    _inner: _lowkey._Reads

    @property
    def classes(self) -> list[str]:
        """Names of its classes, in order of the outputs; empty where it has none."""
        return self._inner.classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input, without the batch."""
        return tuple(self._inner.input_shape)

    @property
    def input(self) -> str:
        """What it reads: shape, order, type, scale, zero point."""
        return self._inner.input

    @property
    def output(self) -> str:
        """What it answers, likewise."""
        return self._inner.output
