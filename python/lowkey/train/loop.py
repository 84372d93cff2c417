"""The training loop, for the float network and for the integer one."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._errors import InputError


class Batches(Protocol):
    """Batches of inputs [n, ...] and labels [n], in another order each time."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


@dataclass(frozen=True)
class Epoch:
    """How a pass over the data went."""

    stage: str
    number: int
    """From 1."""
    of: int
    loss: float
    accuracy: float
    """Of the training inputs, as they came: between 0 and 1."""
    seconds: float
    """Of the processor, of all epochs so far."""


def train(
    model: nn.Module,
    batches: Batches,
    *,
    epochs: int,
    optimiser: torch.optim.Optimizer,
    rates: float | list[float],
    teacher: nn.Module | None = None,
    stage: str,
    tell: Callable[[Epoch], None] = lambda epoch: None,
    checkpoint: Path | None = None,
    stop: bool = False,
) -> tuple[float, int]:
    """A one-cycle rate; `rates` has the highest rate of each parameter group of the optimiser.

    `teacher`, if given, adds its soft labels (distillation). A model's method `begin` is called before each epoch, with the part of
    the training that is over, `project` after each step; what its method `penalty` says of the last batch is added to the loss.
    `checkpoint`: a file that is written after each epoch; if it is there at the start, training goes on from it, or, with `stop`, ends.
    Returns CPU seconds and epochs.
    """
    steps = len(batches)
    highest: Any = rates
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, highest, total_steps=epochs * steps, pct_start=0.15)
    project: Callable[[], None] = getattr(model, "project", lambda: None)
    begin: Callable[[float], None] = getattr(model, "begin", lambda progress: None)
    penalty: Callable[[], Tensor] | None = getattr(model, "penalty", None)
    first, seconds = 0, 0.0
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint)
        try:
            if state["epochs"] != epochs:
                raise ValueError(f"it is of {state['epochs']} epochs, not of {epochs}")
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"{checkpoint} belongs to another training: {str(error).splitlines()[0]}", "remove it, or give another folder"
            ) from error
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        first, seconds = state["epoch"], state["seconds"]
    last = first if stop else epochs
    for epoch in range(first, last):
        start = time.process_time()
        model.train()
        begin(epoch / epochs)
        total, right, seen = 0.0, 0, 0
        for x, y in batches:
            logits = model(x)
            loss = loss_of(logits, y, None if teacher is None else teacher, x)
            if penalty is not None:
                loss = loss + penalty()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimiser.step()
            project()
            schedule.step()
            total += loss.item()
            right += int((logits.argmax(1) == y).sum().item())
            seen += len(y)
            if not math.isfinite(total):
                raise InputError(f"{stage}: the loss of epoch {epoch + 1} is no number: training diverged", "give a lower rate=")
        seconds += time.process_time() - start
        tell(Epoch(stage, epoch + 1, epochs, total / steps, right / seen, seconds))
        if checkpoint is not None:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
            state |= {"random": torch.get_rng_state(), "epochs": epochs, "epoch": epoch + 1, "seconds": seconds}
            torch.save(state, checkpoint.with_suffix(".part"))
            os.replace(checkpoint.with_suffix(".part"), checkpoint)
    model.eval()
    return seconds, last


def loss_of(logits: Tensor, y: Tensor, teacher: nn.Module | None, x: Tensor) -> Tensor:
    """The cross entropy, half of it against the teacher's soft labels where there is one."""
    loss = F.cross_entropy(logits, y)
    if teacher is None:
        return loss
    with torch.no_grad():
        soft = F.softmax(teacher(x) / 2, 1)
    return 0.5 * loss + 2 * F.kl_div(F.log_softmax(logits / 2, 1), soft, reduction="batchmean")


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The fraction of inputs whose largest logit is the label's."""
    model.eval()
    right = sum(int((model(x[i : i + 500]).argmax(1) == y[i : i + 500]).sum().item()) for i in range(0, len(x), 500))
    return right / len(x)
