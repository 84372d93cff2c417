"""How far a batch is, for who waits."""

from __future__ import annotations

import importlib
import sys
import time
from types import TracebackType
from typing import Any

#: Characters of the bar.
WIDTH = 24


class Progress:
    """A bar with the rate and what is left of the time: drawn over itself on a terminal, a bar of HTML in a notebook.

    total: of steps. shown: None where there is a terminal or a notebook.
    """

    def __init__(self, total: int, shown: bool | None = None) -> None:
        self._total, self._done = total, 0
        notebook = _notebook()
        self._shown = total > 0 and ((notebook is not None or sys.stderr.isatty()) if shown is None else shown)
        self._notebook = notebook
        self._display: Any = None
        self._length = 0
        self._began = time.monotonic()

    def __enter__(self) -> Progress:
        if self._shown:
            self._draw()
        return self

    def step(self) -> None:
        """One more is there."""
        self._done += 1
        if self._shown:
            self._draw()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown and self._notebook is None:
            print(file=sys.stderr, flush=True)

    def line(self) -> str:
        """As text, of at most 80 characters where the total has up to 8 digits."""
        full = self._done * WIDTH // self._total
        text = f"[{'#' * full}{'.' * (WIDTH - full)}] {self._done} of {self._total} answered"
        return f"{text}, {said}" if (said := self._pace()) else text

    def _pace(self) -> str:
        seconds = time.monotonic() - self._began
        if not self._done or seconds <= 0:
            return ""
        rate = self._done / seconds
        pace = f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} s each"
        if self._done == self._total:
            return f"{pace}, {_time(seconds)} in all"
        return f"{pace}, {_time((self._total - self._done) / rate)} left"

    def _draw(self) -> None:
        line = self.line()
        if self._notebook is None:
            # Over what was longer.
            print("\r" + line.ljust(self._length), end="", file=sys.stderr, flush=True)
            self._length = len(line)
            return
        words = line.partition("] ")[2]
        data = {"text/plain": line, "text/html": f'<progress value="{self._done}" max="{self._total}"></progress> {words}'}
        if self._display is None:
            self._display = self._notebook.display(data, raw=True, display_id=True)
        else:
            self._display.update(data, raw=True)


def _notebook() -> Any:
    """What draws in a notebook's page; None elsewhere."""
    if "ipykernel" not in sys.modules:
        return None
    try:
        display = importlib.import_module("IPython.display")
        kernel = importlib.import_module("IPython").get_ipython()
    except ImportError:
        return None
    return display if hasattr(kernel, "kernel") else None


def _time(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
