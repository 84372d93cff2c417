"""From what people have to what the network reads."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ._errors import InputError

Array = npt.NDArray[Any]

_HINT = (
    "floats are quantised by the model's own scale; int8 and uint8 arrays are the quantised input itself; "
    "for pixels of 0 to 255 give a PIL image, or pixels=True"
)


class Reader(Protocol):
    """What says how a network's input looks."""

    @property
    def input(self) -> str: ...
    @property
    def input_shape(self) -> list[int]: ...
    @property
    def image_shape(self) -> tuple[int, int, int] | list[int]: ...
    @property
    def takes_reals(self) -> bool: ...


def _is_picture(x: object) -> bool:
    return any(cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(x).__mro__)


def _picture(x: Any, reader: Reader) -> Array:
    channels, height, width = reader.image_shape
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
    if mode is None:
        raise InputError(f"a picture, but the network reads {channels} channels", f"it reads {reader.input}")
    if (x.width, x.height) != (width, height):
        raise InputError(
            f"a picture of {x.width} x {x.height} pixels, the network reads {width} x {height}",
            f"resize it as the network was trained: image.resize(({width}, {height}))",
        )
    return np.asarray(x.convert(mode))


def read(x: Any, reader: Reader, *, pixels: bool = False, batch: bool = False) -> tuple[list[Array], str]:
    """One contiguous array for each input, and the name of what its elements are.

    An input is in the shape of the model's file, with a batch of one before it or not; a batch has any number.
    """
    if type(x) is np.ndarray and x.dtype in (np.uint8, np.int8) and not (pixels or batch) and x.flags.c_contiguous:
        # As most are; what follows takes a hundredth of a small network's answer.
        if x.shape == tuple(reader.input_shape):
            return [x], x.dtype.name
    if _is_picture(x):
        return [_picture(x, reader)], "pixels"
    if batch and isinstance(x, (list, tuple)) and x and all(_is_picture(one) for one in x):
        return [_picture(one, reader) for one in x], "pixels"
    if hasattr(x, "detach") and hasattr(x, "cpu"):  # a tensor of torch
        x = x.detach().cpu().numpy()
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise InputError("rows of several lengths", "give one array: all inputs of one shape") from error
    if array.dtype.kind not in "fiubc":
        raise InputError(f"a {type(x).__name__}", "give a numpy array, a torch tensor or a PIL image")
    if pixels:
        channels, height, width = reader.image_shape
        shapes = [(height, width, channels), *([(height, width)] if channels == 1 else [])]
        if array.dtype != np.uint8:
            raise InputError(f"pixels of {array.dtype}", "give uint8")
        kind = "pixels"
    else:
        shapes = [tuple(reader.input_shape)]
        if array.dtype.kind == "f":
            if not reader.takes_reals:
                raise InputError(f"an array of {array.dtype}, and nothing says how reals are quantised", _HINT)
            if np.isnan(array).any():
                many = int(np.isnan(array).sum())
                raise InputError(f"{many} of {array.size} values are not numbers (NaN)", "fill them in, as in training")
            array, kind = array.astype(np.float32), "float32"
        elif array.dtype in (np.uint8, np.int8):
            kind = str(array.dtype)
        else:
            raise InputError(f"an array of {array.dtype}", _HINT)
    for shape in shapes:
        if array.shape == shape:
            array = array[np.newaxis]
            break
        # Ones may be left out or added before: only their order says which value is which.
        if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
            break
    else:
        flat = tuple(size for size in shapes[0] if size != 1)
        squeezed = tuple(size for size in array.shape if size != 1)
        if squeezed == flat:
            array = array[np.newaxis]
        elif len(array) > 0 and tuple(size for size in array.shape[1:] if size != 1) == flat:
            pass
        else:
            wanted = " or ".join(str(shape) for shape in shapes)
            elements = int(np.prod(shapes[0]))
            raise InputError(
                f"an array of shape {array.shape}, the network reads {wanted} ({elements} values)", f"it reads {reader.input}"
            )
    if not batch and len(array) == 0:
        raise InputError("no inputs", "give one")
    if not batch and len(array) != 1:
        raise InputError(f"{len(array)} inputs at once", "infer_many and evaluate take several")
    return [np.ascontiguousarray(one) for one in array], kind
