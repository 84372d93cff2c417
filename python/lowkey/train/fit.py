"""From a module and data to a model that is served."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .. import _lowkey
from .._checks import names, whole
from .._errors import InputError, InternalError
from .._model import Model
from . import loop
from .data import Loader, check_labels, data_of
from .export import Pixels, exported
from .graph import Graph, Sum
from .layers import Width
from .loop import Epoch
from .network import QuantisedNet
from .quantise import quantised
from .trace import ends_cut, graph_of, shape_all, traced

#: How many inputs the finished model is compared on with what was trained.
COMPARED = 200


class TrainedLayer(NamedTuple):
    """What became of a layer."""

    name: str
    weight_bits: int
    activation_bits: int
    """0 for the layer that is the answer."""
    accumulator_bits: int
    """Of the ring that every reachable sum fits."""
    shift: int | None
    """None for the layer that is the answer."""


class Trained(Model):
    """A model that was trained here; it is served, planned and evaluated as any other."""

    network: QuantisedNet
    """The integer network in torch, on the CPU: `network.integers(x)` are the model's logits, bit for bit."""
    module: nn.Module
    """The float module that it comes from, trained."""
    history: list[Epoch]
    """Of both stages."""

    def __init__(
        self, inner: _lowkey.Model, network: QuantisedNet, module: nn.Module, history: list[Epoch], notes: Sequence[str] = ()
    ) -> None:
        super().__init__(inner, notes)
        self.network, self.module, self.history = network, module, history
        self.layers = [
            TrainedLayer(one.step_of.name, one.width.weights, one.width.activation, one.width.accumulator, one.shift)
            for one in network.layers
        ]


def fit(
    module: nn.Module,
    data: Any,
    *,
    bits: int = 4,
    activation_bits: int | None = None,
    input_bits: int = 8,
    accumulator_bits: int | Mapping[str, int] | None = None,
    epochs: tuple[int, int] = (20, 20),
    batch: int = 64,
    rate: float = 3e-3,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    seed: int = 0,
    checkpoints: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Trained:
    """Trains a classifier, first as it is, then as a network of small integers, and makes a model of it.

    module: reads [n, features] or [n, channels, height, width] and gives logits [n, classes]; made of Conv2d, Linear, BatchNorm, ReLU,
    additions, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d and flattening. It is left as it was: a copy is trained. data: (X, y), arrays or
    tensors; or a DataLoader or Dataset of such pairs. y: the classes' numbers from 0.

    bits: width of weights, 1 to 8, and of activations unless `activation_bits` says otherwise. input_bits: of the input, which is
    quantised evenly between its least and largest number. accumulator_bits: the ring that every reachable sum of a layer is kept in, for
    all layers or by name; 0, -1, -2, ..: so many fewer bits than the first integer weights need, which is what is taken otherwise.
    epochs: in floats and in integers; (0, n) for a module that is trained already. rate: the highest one, of the float stage. mean and
    std (one, or one for each channel): pictures become inputs by (pixel / 255 - mean) / std, so that the model takes them too. Training
    runs on the device of the module's parameters; the same seed gives the same network there. checkpoints: a folder that is written
    after each epoch; the same call goes on from what is in it. progress: a line for each epoch on standard error; None: at a terminal.

    Raises ImportRefused with all of the module's parts that have no layer of integers, and InputError for data that do not fit.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"a {type(module).__name__}", "give a torch.nn.Module")
    bits = whole("bits", bits, 1, 8)
    activation_bits = bits if activation_bits is None else whole("activation_bits", activation_bits, 1, 8)
    input_bits = whole("input_bits", input_bits, 1, 8)
    if not isinstance(epochs, (tuple, list)) or len(epochs) != 2:
        raise InputError(f"epochs={epochs!r}", "give two numbers: in floats and in integers, like (20, 20)")
    epochs = (whole("epochs[0]", epochs[0], 0), whole("epochs[1]", epochs[1], 1))
    batch = whole("batch", batch, 2)
    if not 0 < rate < 1:
        raise InputError(f"rate={rate}", "give a number between 0 and 1, like 0.003")
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    found = data_of(data, batch, device)
    if len(found.sample) < 2:
        raise InputError("one input", "give some hundred")
    # Of torch.compile: what it compiles.
    module = deepcopy(getattr(module, "_orig_mod", module)).float()
    graph = graph_of(module, found.sample[:2])
    check_labels(found.labels, graph.outputs)
    if isinstance(found.batches, Loader):
        found.batches.outputs = graph.outputs
    named = names(classes)
    if named is not None and len(named) != graph.outputs:
        raise InputError(f"{len(named)} names of classes, and the module has {graph.outputs} outputs", "give a name for each output")
    pixels = pixels_of(mean, std, graph.shape)
    widths = widths_of(graph, bits, activation_bits, accumulator_bits)
    history: list[Epoch] = []
    kept = None if checkpoints is None else Path(checkpoints)
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    shown = sys.stderr.isatty() if progress is None else progress

    def tell(epoch: Epoch) -> None:
        history.append(epoch)
        if shown:
            print(
                f"{epoch.stage}: epoch {epoch.number} of {epoch.of}, loss {epoch.loss:.4f}, {100 * epoch.accuracy:.2f} % right",
                file=sys.stderr,
                flush=True,
            )

    with torch.enable_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if epochs[0]:
            floating(module, found.batches, found.sample[:2], epochs[0], rate, tell, kept and kept / "floats.pt")
        module.eval()
        graph = graph_of(module, found.sample[:2])
        network = quantised(graph, found.reads(input_bits), found.sample, widths)
        groups, rates = network.groups()
        loop.train(
            network,
            found.batches,
            epochs=epochs[1],
            optimiser=torch.optim.Adam(groups),
            rates=rates,
            teacher=fused(graph.module),
            stage="integers",
            tell=tell,
            checkpoint=kept and kept / "integers.pt",
        )
    # Libraries of other devices may sum in ways that are not exact: that is noise in training, and no more.
    network.cpu()
    inner = compiled(network, name or type(module).__name__.lower(), named or (), pixels)
    compare(inner, network, found.sample[:COMPARED])
    notes = []
    if found.bytes and input_bits < 8:
        notes.append(f"trained on uint8, quantised to {input_bits} bits: hand inputs over as floats of 0 to 255")
    return Trained(inner, network, module, history, notes)


def widths_of(
    graph: Graph, bits: int, activation_bits: int, accumulator_bits: int | Mapping[str, int] | None
) -> list[Width]:
    """By sum."""
    sums = [step for step in graph.steps if isinstance(step, Sum)]
    given = accumulator_bits if isinstance(accumulator_bits, Mapping) else {}
    unknown = given.keys() - {step.name for step in sums}
    if unknown:
        raise InputError(f"accumulator_bits of {sorted(unknown)}", f"the layers are {[step.name for step in sums]}")
    by_name = {name: whole(f"accumulator_bits of {name}", bound, -20, 24) for name, bound in given.items()}
    every = 0
    if accumulator_bits is not None and not isinstance(accumulator_bits, Mapping):
        every = whole("accumulator_bits", accumulator_bits, -20, 24)
    # A tensor of both signs needs a bit for the sign.
    activation = {"relu": activation_bits, "signed": max(2, activation_bits), None: 0}
    weights = [8 if any(term.factors for term in step.terms) else bits for step in sums]
    return [
        Width(width, activation[step.activation], by_name.get(step.name, every))
        for step, width in zip(sums, weights)
    ]


def floating(
    module: nn.Module,
    batches: loop.Batches,
    example: Tensor,
    epochs: int,
    rate: float,
    tell: Callable[[Epoch], None],
    checkpoint: Path | None,
) -> None:
    """Trains the module itself, without the softmax that it may end with."""
    module.train()
    graph = traced(module)
    graph.graph.eliminate_dead_code()
    # Shapes alone: statistics stay as they are.
    graph.eval()
    shape_all(graph, example)
    ends_cut(graph)
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not learnt:
        raise InputError("no parameter of the module is trained (requires_grad)", "epochs=(0, 20) trains the integers alone")
    decayed = [parameter for parameter in learnt if parameter.dim() > 1]
    others = [parameter for parameter in learnt if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], lr=rate)
    loop.train(graph, batches, epochs=epochs, optimiser=optimiser, rates=rate, stage="floats", tell=tell, checkpoint=checkpoint)


def fused(module: fx.GraphModule) -> fx.GraphModule:
    """A copy for evaluation, with batch normalisation inside the convolutions."""
    copy = deepcopy(module).eval()
    parts = dict(copy.named_modules())
    for node in list(copy.graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        conv, norm = parts[str(source.target)], parts[str(node.target)]
        once = len([one for one in copy.graph.nodes if one.target == source.target]) == 1
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and once:
            parent, _, last = str(source.target).rpartition(".")
            setattr(parts[parent], last, fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(source)
            copy.graph.erase_node(node)
    copy.recompile()
    return copy


def pixels_of(
    mean: float | Sequence[float] | None, std: float | Sequence[float] | None, shape: tuple[int, ...]
) -> Pixels | None:
    """None where neither is given."""
    if mean is None and std is None:
        return None
    given = [0.0 if mean is None else mean, 1.0 if std is None else std]
    means, stds = (tuple(float(one) for one in np.atleast_1d(np.asarray(value, dtype=np.float64))) for value in given)
    if len(shape) != 3 or not {len(means), len(stds)} <= {1, shape[0]} or not all(one > 0 for one in stds):
        raise InputError(
            f"mean={mean}, std={std} for inputs of shape {shape}",
            "give images, and one number for all channels or one for each; std above 0",
        )
    return Pixels(means, stds)


def compiled(network: QuantisedNet, name: str, classes: Sequence[str], pixels: Pixels | None) -> _lowkey.Model:
    """The model that `lowkey` serves."""
    data = exported(network, name=name, classes=classes, pixels=pixels)
    return _lowkey.Model.from_bytes(data, (None, None, None, False))


@torch.no_grad()
def compare(inner: _lowkey.Model, network: QuantisedNet, x: Tensor) -> None:
    """Holds the model against what was trained."""
    network.eval()
    x = x.cpu()
    trained = network.integers(x).numpy().astype("int64")
    _, logits = Model(inner).predict_many(x.numpy())
    if (trained != logits).any():
        different = int((trained != logits).any(1).sum())
        raise InternalError(f"the model and the trained network differ on {different} of {len(x)} inputs")
