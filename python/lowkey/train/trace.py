"""A module of torch, traced and taken apart into a `Graph`; what has no layer of integers is refused, all of it at once."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .._errors import ImportRefused, InputError, Obstacle
from .graph import Flatten, Graph, Pair, Pool, Step, Sum, Term, Window

#: What does nothing in evaluation mode.
PASSING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
#: Functions and methods by what they do; modules are told by their class.
NAMES: dict[str, set[Any]] = {
    "relu": {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"},
    "clip": {F.relu6, F.hardtanh, torch.clamp, torch.clip, "clamp", "clip", "clamp_", "clip_"},
    "add": {operator.add, operator.iadd, torch.add, "add", "add_"},
    "max": {F.max_pool2d, torch.max_pool2d},
    "avg": {F.avg_pool2d},
    "adaptive": {F.adaptive_avg_pool2d},
    "mean": {torch.mean, "mean"},
    "flatten": {torch.flatten, "flatten", "view", "reshape", torch.reshape, "squeeze", torch.squeeze},
    "pass": {F.dropout, F.dropout2d, "contiguous", "clone"},
    "end": {F.log_softmax, F.softmax, torch.log_softmax, torch.softmax, "log_softmax", "softmax"},
    "divide": {operator.truediv, torch.div, "div"},
    "multiply": {operator.mul, torch.mul, "mul"},
    "number": {"size", "dim", getattr, operator.getitem, operator.floordiv},
}
#: What can be done instead, by the class or the function that was found.
HINTS = {
    "activation": "put nn.ReLU in its place: other activations have no layer of integers",
    "other": "take it out, or put it before the data: see docs/train-your-own.md for what there is",
}
ACTIVATIONS = {
    "Sigmoid", "Tanh", "GELU", "SiLU", "ELU", "SELU", "LeakyReLU", "PReLU", "Hardswish", "Hardsigmoid", "Softplus",
    "Mish", "sigmoid", "tanh", "gelu", "silu", "elu", "selu", "leaky_relu", "hardswish", "softplus", "mish",
}  # fmt: skip


class Misfit(Exception):
    """Why a node cannot be part of the integer network."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.hint = hint


def traced(module: nn.Module) -> fx.GraphModule:
    """The module as it is now, training or not; parameters are shared."""
    try:
        return fx.symbolic_trace(module)
    except Exception as error:
        raise InputError(
            f"{type(module).__name__} cannot be traced by torch.fx: {error}",
            "its forward must not branch on values of tensors; move such code out of the module",
        ) from error


def graph_of(module: nn.Module, example: Tensor) -> Graph:
    """A module's layers, from its trace in evaluation mode. example: some inputs, [n, ...], n at least 2.

    Raises ImportRefused with all nodes that the integer network has no layer for.
    """
    training = module.training
    module.eval()
    try:
        found = traced(module)
    finally:
        module.train(training)
    found.eval()
    found.graph.eliminate_dead_code()
    shape_all(found, example)
    ends_cut(found)
    tidy(found)
    return Builder(found, tuple(example.shape[1:])).build()


def shape_all(module: fx.GraphModule, example: Tensor) -> None:
    """Writes the shape of every tensor's value into its node."""

    class Shapes(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            n.meta["shape"] = tuple(value.shape) if isinstance(value, Tensor) else None
            return value

    try:
        with torch.no_grad():
            Shapes(module).run(example)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"the module does not take inputs of shape {tuple(example.shape)}: {first}",
            "give a batch as the module reads it: [n, ...]",
        ) from error


def shape_of(node: fx.Node) -> tuple[int, ...]:
    shape: tuple[int, ...] = node.meta["shape"]
    return shape


def kind_of(module: fx.GraphModule, node: fx.Node) -> str:
    """What a node does, in one word; "" if it is none of ours."""
    if node.op in ("placeholder", "output"):
        return node.op
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        kinds: list[tuple[Any, str]] = [
            (nn.Conv2d, "conv"),
            (nn.Linear, "dense"),
            ((nn.BatchNorm1d, nn.BatchNorm2d), "norm"),
            (nn.Hardtanh, "clip"),
            (nn.ReLU, "relu"),
            (nn.MaxPool2d, "max"),
            (nn.AvgPool2d, "avg"),
            (nn.AdaptiveAvgPool2d, "adaptive"),
            (nn.Flatten, "flatten"),
            (PASSING, "pass"),
            ((nn.LogSoftmax, nn.Softmax), "end"),
        ]
        return next((kind for classes, kind in kinds if isinstance(part, classes)), "")
    return next((kind for kind, targets in NAMES.items() if node.target in targets), "")


def tensors_of(node: fx.Node) -> list[fx.Node]:
    """The tensors that a node reads."""
    return [one for one in node.all_input_nodes if one.meta.get("shape") is not None]


def readers(node: fx.Node) -> int:
    """How many nodes read its value, not just its shape."""
    return len([one for one in node.users if one.op == "output" or one.meta.get("shape") is not None])


def ends_cut(module: fx.GraphModule) -> None:
    """Takes a softmax, or its logarithm, off the end: the loss has its own, and clients apply it."""
    (output,) = [node for node in module.graph.nodes if node.op == "output"]
    last = output.args[0]
    if isinstance(last, fx.Node) and kind_of(module, last) == "end" and len(shape_of(last)) == 2:
        output.args = (last.args[0],)
        module.graph.eliminate_dead_code()
        module.recompile()


def tidy(module: fx.GraphModule) -> None:
    """Takes out what does nothing, and moves a ReLU before the max pool or the flattening that it stands behind (they commute)."""
    graph = module.graph
    for node in list(graph.nodes):
        kind = kind_of(module, node)
        same = kind == "flatten" and shape_of(node) == shape_of(tensors_of(node)[0])
        if kind == "pass" or same:
            node.replace_all_uses_with(tensors_of(node)[0])
            graph.erase_node(node)
    moved = True
    while moved:
        moved = False
        for node in list(graph.nodes):
            if kind_of(module, node) != "relu":
                continue
            [source] = tensors_of(node)
            if kind_of(module, source) not in ("max", "flatten") or readers(source) > 1:
                continue
            [before] = tensors_of(source)
            with graph.inserting_before(source):
                relu = graph.call_function(F.relu, (before,))
            relu.meta.update(shape=shape_of(before), path=path_of(node))
            source.replace_input_with(before, relu)
            node.replace_all_uses_with(source)
            graph.erase_node(node)
            moved = True
    graph.lint()
    module.recompile()


def path_of(node: fx.Node) -> str:
    """The module's path in the user's module; of a function, the traced node's name."""
    found = node.meta.get("path")
    return str(found or (node.target if node.op == "call_module" else node.name))


class Pending:
    """A sum that still grows, or waits for its activation."""

    def __init__(self, name: str, terms: list[Term], node: fx.Node) -> None:
        self.name, self.terms, self.node = name, terms, node


class Builder:
    """Goes through a trace and makes steps of it."""

    def __init__(self, module: fx.GraphModule, shape: tuple[int, ...]) -> None:
        self.module, self.shape = module, shape
        self.steps: list[Step] = []
        self.names: set[str] = set()
        self.factor = 1.0
        self.values: dict[fx.Node, int | Pending] = {}
        self.obstacles: list[Obstacle] = []

    def build(self) -> Graph:
        if len([node for node in self.module.graph.nodes if node.op == "placeholder"]) != 1:
            raise InputError("a module of several inputs", "give one whose forward takes one tensor")
        for node in self.module.graph.nodes:
            if node.op == "output":
                continue
            kind = kind_of(self.module, node)
            if kind == "number" and node.meta["shape"] is None:
                continue
            try:
                self.values[node] = self.read(kind, node)
            except Misfit as misfit:
                operation = node.target if node.op != "call_module" else type(self.module.get_submodule(str(node.target)))
                name = operation if isinstance(operation, str) else getattr(operation, "__name__", str(operation))
                self.obstacles.append(Obstacle(name, path_of(node), str(misfit), misfit.hint))
                # Goes on as if it were a tensor, so that all obstacles are found.
                self.values[node] = 0
        (output,) = [node for node in self.module.graph.nodes if node.op == "output"]
        last = output.args[0]
        if self.obstacles:
            listed = "".join(f"\n  {one.operator} ({one.node}): {one.reason}" for one in self.obstacles)
            rows = [(one.operator, one.node, one.reason, one.hint) for one in self.obstacles]
            raise ImportRefused(f"the integer network has no layer for these:{listed}", self.obstacles[0].hint, rows)
        if not isinstance(last, fx.Node) or len(shape_of(last)) != 2:
            what = f"an output of shape {shape_of(last)}" if isinstance(last, fx.Node) else "several outputs"
            raise InputError(f"the module has {what}", "give one whose output are the classes' logits, [n, classes]")
        value = self.values[last]
        if not isinstance(value, Pending) and not any(isinstance(step, Sum) for step in self.steps):
            raise InputError("a module without layers", "give one with a Conv2d or a Linear")
        if isinstance(value, Pending):
            self.emit(Sum(value.name, tuple(value.terms), value.node.name, None))
        elif value == 0 or value != len(self.steps):
            raise InputError("the module's last layer is no sum and no pool", "end it with a Linear")
        return Graph(self.module, self.shape, shape_of(last)[1], self.factor, self.steps)

    def emit(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps)

    def name(self, wanted: str) -> str:
        """The same, or with a number behind it if it was there already."""
        name, number = wanted, 1
        while name in self.names:
            number += 1
            name = f"{wanted}_{number}"
        self.names.add(name)
        return name

    def tensor(self, node: fx.Node) -> int:
        """The tensor that a node's value is; a sum that nothing clips becomes one of both signs."""
        value = self.values[node]
        if isinstance(value, Pending):
            label = self.name(f"{value.name}.signed")
            value = self.emit(Sum(value.name, tuple(value.terms), value.node.name, "signed", label))
            self.values[node] = value
        return value

    def read(self, kind: str, node: fx.Node) -> int | Pending:
        if kind == "placeholder":
            return 0
        reader: Callable[[fx.Node], int | Pending] | None = getattr(self, f"read_{kind}", None)
        if reader is None:
            name = str(getattr(node.target, "__name__", node.target))
            if node.op == "call_module":
                name = type(self.module.get_submodule(str(node.target))).__name__
            activation = name in ACTIVATIONS
            raise Misfit("no layer of integers does that", HINTS["activation" if activation else "other"])
        return reader(node)

    def part(self, node: fx.Node) -> Any:
        return self.module.get_submodule(str(node.target))

    def read_conv(self, node: fx.Node) -> Pending:
        conv = self.part(node)
        if conv.padding_mode != "zeros":
            raise Misfit(f"padding of {conv.padding_mode}", "pad with zeros")
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        window = Window(pair(conv.kernel_size), pair(conv.stride), (top, left, bottom, right), pair(conv.dilation))
        return self.pending(node, Term(self.tensor(tensors_of(node)[0]), conv, None, window))

    def read_dense(self, node: fx.Node) -> Pending:
        [source] = tensors_of(node)
        if len(shape_of(source)) != 2:
            raise Misfit(f"it reads a tensor of shape {shape_of(source)}", "flatten before it: nn.Flatten()")
        return self.pending(node, Term(self.tensor(source), self.part(node)))

    def pending(self, node: fx.Node, term: Term) -> Pending:
        return Pending(self.name(path_of(node)), [term], node)

    def read_norm(self, node: fx.Node) -> Pending:
        [source] = tensors_of(node)
        norm, value = self.part(node), self.values[source]
        if norm.running_var is None:
            raise Misfit("it keeps no running statistics", "track_running_stats=True")
        term = value.terms[0] if isinstance(value, Pending) and len(value.terms) == 1 and readers(source) == 1 else None
        if isinstance(value, Pending) and term is not None and term.linear is not None and term.norm is None:
            return Pending(value.name, [Term(term.source, term.linear, norm, term.window)], node)
        if len(shape_of(source)) != 4:
            raise Misfit("it stands behind no matrix of its own", "put it right behind a Linear")
        # A factor for each channel: a convolution of its own.
        factors = nn.Conv2d(norm.num_features, norm.num_features, 1, groups=norm.num_features, bias=False)
        nn.init.ones_(factors.weight).requires_grad_(False)
        return self.pending(node, Term(self.tensor(source), factors.to(norm.running_var), norm, Window((1, 1)), factors=True))

    def read_add(self, node: fx.Node) -> Pending:
        if node.target in (operator.iadd, "add_"):
            self.in_place(node)
        sources = [one for one in node.args[:2] if isinstance(one, fx.Node)]
        plain = len(node.args) == 2 and not node.kwargs
        if len(sources) != 2 or not plain:
            raise Misfit("not the sum of two tensors", "fold constants into a layer's bias")
        if shape_of(sources[0]) != shape_of(sources[1]):
            raise Misfit(f"the sum of shapes {shape_of(sources[0])} and {shape_of(sources[1])}", "give both one shape")
        terms, name = [], None
        for source in sources:
            value = self.values[source]
            if isinstance(value, Pending) and readers(source) == 1:
                terms += value.terms
                name = name or value.name
            else:
                terms.append(Term(self.tensor(source)))
        return Pending(name or self.name(path_of(node)), terms, node)

    def in_place(self, node: fx.Node) -> None:
        """Refuses what changes a tensor that others read: they would read what it makes of it, depending on the order."""
        source = node.args[0]
        if isinstance(source, fx.Node) and readers(source) > 1:
            raise Misfit(f"it changes {path_of(source)} in place, which others read", "inplace=False, or x = x + y for x += y")

    def read_relu(self, node: fx.Node) -> int:
        return self.rectified(node, None)

    def read_clip(self, node: fx.Node) -> int:
        """0 to a number: ReLU6 and what it is a case of."""
        if node.op == "call_module":
            lo, hi = self.part(node).min_val, self.part(node).max_val
        elif node.target is F.relu6:
            lo, hi = 0, 6
        elif node.target is F.hardtanh:
            lo, hi = self.arguments(node, ("min_val", -1.0), ("max_val", 1.0))
        else:
            lo, hi = self.arguments(node, ("min", None), ("max", None))
        if lo != 0 or not (hi is None or (isinstance(hi, (int, float)) and hi > 0)):
            raise Misfit(f"a clip from {lo} to {hi}", "clip from 0: nn.ReLU or nn.ReLU6")
        return self.rectified(node, None if hi is None else float(hi))

    def rectified(self, node: fx.Node, clip: float | None) -> int:
        [source] = tensors_of(node)
        in_place = getattr(self.part(node), "inplace", False) if node.op == "call_module" else node.kwargs.get("inplace", False)
        if in_place or str(getattr(node.target, "__name__", node.target)).endswith("_"):
            self.in_place(node)
        value = self.values[source]
        if isinstance(value, Pending) and readers(source) == 1:
            label = self.name(path_of(node))
            return self.emit(Sum(value.name, tuple(value.terms), value.node.name, "relu", label, clip))
        tensor = self.tensor(source)
        step = self.steps[tensor - 1] if tensor else None
        if isinstance(step, Sum) and step.activation == "relu" and (clip is None or step.clip == clip):
            return tensor
        name = self.name(path_of(node))
        return self.emit(Sum(name, (Term(tensor),), source.name, "relu", self.name(f"{name}.clip"), clip))

    def read_max(self, node: fx.Node) -> int:
        kernel, stride, padding, dilation, ceil, indices = self.arguments(
            node,
            ("kernel_size", None),
            ("stride", None),
            ("padding", 0),
            ("dilation", 1),
            ("ceil_mode", False),
            ("return_indices", False),
        )
        if indices:
            raise Misfit("it returns indices", "return_indices=False")
        return self.pool(node, "max", kernel, stride or kernel, padding, dilation, ceil)

    def read_avg(self, node: fx.Node) -> int:
        kernel, stride, padding, ceil, include, divisor = self.arguments(
            node,
            ("kernel_size", None),
            ("stride", None),
            ("padding", 0),
            ("ceil_mode", False),
            ("count_include_pad", True),
            ("divisor_override", None),
        )
        if divisor is not None:
            raise Misfit("it has a divisor of its own", "divisor_override=None")
        if pair(padding) != (0, 0) and not include:
            raise Misfit("its mean leaves padding out", "count_include_pad=True")
        return self.pool(node, "avg", kernel, stride or kernel, padding, 1, ceil)

    def read_adaptive(self, node: fx.Node) -> int:
        [size] = self.arguments(node, ("output_size", None))
        image, wanted = shape_of(tensors_of(node)[0])[-2:], shape_of(node)[-2:]
        if image[0] % wanted[0] or image[1] % wanted[1]:
            raise Misfit(f"windows of several sizes: {image} to {wanted}", "output_size=1, or one that divides the image")
        kernel = (image[0] // wanted[0], image[1] // wanted[1])
        return self.pool(node, "avg", kernel, kernel, 0, 1, False)

    def read_mean(self, node: fx.Node) -> int:
        [source] = tensors_of(node)
        dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        listed = sorted(dim % 4 for dim in (dims if isinstance(dims, (tuple, list)) else [dims]) if isinstance(dim, int))
        if len(shape_of(source)) != 4 or listed != [2, 3]:
            raise Misfit("a mean that is not over height and width", "x.mean((2, 3)), or nn.AdaptiveAvgPool2d(1)")
        image = shape_of(source)[2:]
        tensor = self.pool(node, "avg", image, image, 0, 1, False)
        if len(shape_of(node)) == 4:
            return tensor
        return self.emit(Flatten(self.name(f"{path_of(node)}.flat"), tensor))

    def read_flatten(self, node: fx.Node) -> int:
        source = tensors_of(node)[0]
        before, after = shape_of(source), shape_of(node)
        if after != (before[0], math.prod(before[1:])):
            raise Misfit(f"from shape {before} to {after}", "flatten everything but the batch: torch.flatten(x, 1)")
        return self.emit(Flatten(self.name(path_of(node)), self.tensor(source)))

    def read_divide(self, node: fx.Node) -> int:
        return self.scaled(node, lambda a: 1 / a)

    def read_multiply(self, node: fx.Node) -> int:
        return self.scaled(node, lambda a: a)

    def scaled(self, node: fx.Node, factor: Callable[[float], float]) -> int:
        """The input times a number: a part of how it is quantised."""
        numbers = [one for one in node.args if isinstance(one, (int, float))]
        sources = tensors_of(node)
        if len(numbers) != 1 or len(sources) != 1 or self.values[sources[0]] != 0 or readers(sources[0]) != 1 or numbers[0] <= 0:
            raise Misfit("only the input can be multiplied, by a positive number", HINTS["other"])
        self.factor *= factor(float(numbers[0]))
        return 0

    def read_number(self, node: fx.Node) -> int:
        raise Misfit("a part of a tensor", HINTS["other"])

    def read_end(self, node: fx.Node) -> int:
        raise Misfit("it does not end the network", "take it out: the client applies it to the logits")

    def arguments(self, node: fx.Node, *wanted: tuple[str, Any]) -> list[Any]:
        """Of a module its attributes, of a function its arguments by position or name."""
        if node.op == "call_module":
            return [getattr(self.part(node), name) for name, _ in wanted]
        given = dict(zip((name for name, _ in wanted), node.args[1:])) | dict(node.kwargs)
        return [given.get(name, default) for name, default in wanted]

    def pool(self, node: fx.Node, kind: str, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> int:
        [source] = tensors_of(node)
        down, right = pair(padding)
        window = Window(pair(kernel), pair(stride), (down, right, down, right), pair(dilation))
        image = shape_of(source)[-2:]
        if len(shape_of(source)) != 4:
            raise Misfit(f"a pool on a tensor of shape {shape_of(source)}", "pool images: [n, channels, height, width]")
        size = window.output((image[0], image[1]))
        if ceil and size != shape_of(node)[-2:]:
            raise Misfit("windows that hang over the border", "ceil_mode=False")
        whole = size == (1, 1) and window.kernel == image
        return self.emit(Pool(self.name(path_of(node)), self.tensor(source), kind, window, whole))


def pair(value: Any) -> Pair:
    """Of one number, both sides."""
    if isinstance(value, int):
        return value, value
    first, second = (value[0], value[0]) if len(value) == 1 else value
    return int(first), int(second)
