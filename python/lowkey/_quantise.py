"""From a network of real numbers to one of small integers."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _lowkey
from ._checks import names, whole
from ._errors import InputError
from ._model import Model


class QuantisedLayer(NamedTuple):
    """What became of a linear layer."""

    name: str
    shifts: list[int]
    """One, or one for each channel; none for the layer that is the answer."""
    error: float
    """Mean square of what is off in its result on the calibration data, over that of the result."""


def quantise(
    source: Any,
    calibration: Any,
    *,
    bits: int = 8,
    channel_shifts: bool = False,
    classes: Sequence[str] | None = None,
    name: str | None = None,
) -> Model:
    """A network of small integers, with shifts alone, of a float network: without training.

    source: a torch.nn.Module, what torch.export.export gives of one, a model of the package onnx, the bytes of an ONNX file or its path.
    calibration: some hundred inputs as the network reads them, [n, ...] (an array or a tensor); units and shifts are chosen by them. bits:
    width of weights and activations, 8 to 2; the input has 8. channel_shifts: a shift for each channel instead of one for each layer, more
    accurate at few bits and 10 to 20 % more bytes. `model.layers` says what became of each layer, `model.notes` what one should know.

    Raises ImportRefused where the network has layers that are not quantised, with all of them.
    """
    bits = whole("bits", bits, 2, 8)
    named = names(classes)
    inputs = _inputs(calibration)
    onnx, folder, found = _onnx(source, inputs)
    inner, layers, warnings = _lowkey.Model.quantise(
        onnx, folder, name or found, inputs.tobytes(), bits, channel_shifts
    )
    if _integers(calibration):
        warnings.append("calibrated on integers: hand inputs over as floats, since uint8 arrays are the quantised input itself")
    if bits < 5:
        warnings.append(f"{bits} bits cost accuracy without training: train such a network instead (lowkey.train.fit), or take 6 or 8")
    model = Model(inner if named is None else inner.with_classes(named), warnings)
    model.layers = [QuantisedLayer(*layer) for layer in layers]
    return model


def _inputs(calibration: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    if hasattr(calibration, "detach"):
        calibration = calibration.detach().cpu().numpy()
    try:
        inputs = np.ascontiguousarray(calibration, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"calibration data of type {type(calibration).__name__}", "give one array or tensor of inputs: [n, ...], some hundred"
        ) from error
    if inputs.ndim < 2:
        raise InputError(f"calibration data of shape {inputs.shape}", "give a batch: [n, ...]")
    return inputs


def _integers(calibration: Any) -> bool:
    if hasattr(calibration, "is_floating_point"):
        return not calibration.is_floating_point()
    return np.asarray(calibration).dtype.kind in "iub"


def _onnx(source: Any, inputs: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[bytes, str | None, str]:
    """Bytes of an ONNX file, the folder that it lies in, and a name."""
    if isinstance(source, bytes):
        return source, None, "network"
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", "give the path of an ONNX file") from error
        return data, os.path.dirname(path) or ".", os.path.splitext(os.path.basename(path))[0]
    if hasattr(source, "model_proto"):  # of torch.onnx.export
        source = source.model_proto
    if hasattr(source, "SerializeToString"):
        data = source.SerializeToString()
        return data, None, getattr(getattr(source, "graph", None), "name", "") or "network"
    if isinstance(source, type):
        raise InputError(f"the class {source.__name__}", f"give a module, made and trained: {source.__name__}(...)")
    if hasattr(source, "graph_module") and hasattr(source, "example_inputs"):  # of torch.export.export
        return _exported(*_unpacked(source, inputs)), None, "network"
    if hasattr(source, "state_dict") and hasattr(source, "eval"):
        return _exported(source, inputs[:1]), None, type(source).__name__.lower()
    raise InputError(
        f"a {type(source).__name__}", "give a torch.nn.Module, a model of the package onnx, or an ONNX file (path or bytes)"
    )


def _unpacked(program: Any, inputs: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[Any, np.ndarray[Any, np.dtype[np.float32]]]:
    """A module of an exported program, and as many inputs as it was exported with."""
    import importlib

    module = program.module()
    size = program.example_inputs[0][0].shape[0]
    return importlib.import_module("torch.fx").GraphModule(module, module.graph), np.resize(inputs, (size, *inputs.shape[1:]))


def _exported(module: Any, inputs: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    """What torch exports of a module in evaluation mode; inputs: an example."""
    import importlib
    import importlib.util
    import inspect
    import warnings

    if importlib.util.find_spec("onnx") is None:
        raise InputError("torch exports modules with the package onnx, which is not installed", "pip install onnx")

    torch = importlib.import_module("torch")
    training = module.training
    module.eval()
    buffer = io.BytesIO()
    # The exporter of old needs no package besides onnx.
    options = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    try:
        device = next((parameter.device for parameter in module.parameters()), None)
        example = torch.from_numpy(inputs.copy()).to(device)
        with torch.no_grad():
            try:
                module(example)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                raise InputError(
                    f"the module does not take inputs of shape {tuple(example.shape)}: {str(error).splitlines()[0]}",
                    "give calibration data as the module reads them: [n, ...]",
                ) from error
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(module, (example,), buffer, opset_version=17, **options)
    finally:
        module.train(training)
    return buffer.getvalue()
