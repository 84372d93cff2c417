"""What is asked of arguments before they are used, so that mistakes are told in the words of this package."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._errors import InputError


def whole(what: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number of an interval."""
    hint = f"give a whole number from {least} to {most}" if most is not None else f"give a whole number, {least} or more"
    try:
        found = operator.index(value)
    except TypeError:
        raise InputError(f"{what}={value!r}", hint) from None
    if found < least or (most is not None and found > most):
        raise InputError(f"{what}={value!r}", hint)
    return found


def names(classes: Sequence[str] | None) -> list[str] | None:
    """Names of classes, in order of the outputs."""
    if classes is None:
        return None
    if isinstance(classes, str) or not all(isinstance(one, str) for one in classes):
        raise InputError(f"classes={classes!r}", "give a list of names, one for each output: ['cat', 'dog']")
    return list(classes)


def labels(y: npt.ArrayLike, count: int, classes: Sequence[str], outputs: int) -> npt.NDArray[np.int64]:
    """Numbers of classes, [count], of labels that are numbers or names."""
    found = np.asarray(y)
    if found.ndim == 2 and found.shape[1] == outputs and outputs > 1:
        raise InputError(f"labels of shape {found.shape}", "give the class of each input: y.argmax(1) of rows of zeros and ones")
    found = found.reshape(-1)
    if len(found) != count:
        raise InputError(f"{count} inputs and {len(found)} labels", "give a label for each input")
    if found.dtype.kind in "UO" and all(isinstance(one, str) for one in found):
        numbers = {name: number for number, name in enumerate(classes)}
        unknown = sorted({str(one) for one in found} - numbers.keys())
        if unknown:
            what = f"the model's classes are {list(classes)}" if classes else "the model has no names of classes"
            raise InputError(f"labels {unknown[:5]}", f"give the numbers of the classes; {what}")
        return np.array([numbers[str(one)] for one in found], dtype=np.int64)
    if found.dtype.kind == "f" and (np.isfinite(found).all() and (found == np.floor(found)).all()):
        found = found.astype(np.int64)
    if found.dtype.kind not in "iu":
        raise InputError(f"labels of {found.dtype} that are no whole numbers", "give the number of each input's class, from 0")
    wrong = (found < 0) | (found >= max(outputs, 2))
    if wrong.any():
        raise InputError(
            f"labels from {found.min()} to {found.max()}, and the model has {outputs} outputs",
            "number the classes from 0, in order of the outputs",
        )
    return found.astype(np.int64)
