"""Private inference for low-bit neural networks.

A server holds the weights of a network of small integers, a client an input. The client gets exactly what the network answers in
the clear; the server learns nothing of the input, the client nothing of the weights beyond the answer.

    import lowkey

    model = lowkey.load("digits")  # or "net.onnx", "net.tflite", "net.lowkey"
    images, labels = model.demo()
    with lowkey.serve(model) as server, lowkey.Client(server.address) as client:
        answer = client.infer(images[0])
        print(answer.label, answer.report.online.milliseconds)
"""

from typing import TYPE_CHECKING, Any

from ._answers import Answer, Evaluation, LayerReport, Plan, Report, Stage
from ._errors import Error, ImportRefused, InputError, InternalError, Obstacle, PeerError, Refused
from ._model import Model, bundled, load
from ._parties import Client, Server, models, serve
from ._quantise import QuantisedLayer, quantise

__all__ = [
    "Answer",
    "Client",
    "Error",
    "Evaluation",
    "ImportRefused",
    "InputError",
    "InternalError",
    "LayerReport",
    "Model",
    "Obstacle",
    "PeerError",
    "Plan",
    "QuantisedLayer",
    "Refused",
    "Report",
    "Server",
    "Stage",
    "bundled",
    "load",
    "models",
    "quantise",
    "serve",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # What needs more packages is imported when it is asked for.
        if name in ("sklearn", "train"):
            import importlib

            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
