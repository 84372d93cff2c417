"""What can go wrong, by whose fault it is."""

from __future__ import annotations

from typing import NamedTuple


class Error(Exception):
    """Anything that goes wrong; `hint` says what to do about it."""

    hint: str | None

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nhint: {self.hint}" if self.hint else message


class InputError(Error, ValueError):
    """An argument, a file or an array at this end."""


class Obstacle(NamedTuple):
    """What stands in the way of an import."""

    operator: str
    node: str
    reason: str
    hint: str


class ImportRefused(InputError):
    """An ONNX or TFLite file that cannot be imported exactly; `obstacles` has all of its operations that stand in the way."""

    obstacles: list[Obstacle]

    def __init__(
        self, message: str, hint: str | None = None, obstacles: list[tuple[str, str, str, str]] | None = None
    ) -> None:
        super().__init__(message, hint)
        self.obstacles = [Obstacle(*row) for row in obstacles or []]


class PeerError(Error, ConnectionError):
    """The connection, or the program at the other end."""


class Refused(Error, PermissionError):
    """Refused for safety or by the server's policy: not the model that was pinned or noted, no protection on the way, a quota."""


class InternalError(Error, RuntimeError):
    """A bug; please report it."""
