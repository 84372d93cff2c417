"""Trains a network with its choices in the loop: `python3 -m train.finetune LESS.lowkey --teacher ENTRY -o OUT.lowkey` in models/.

LESS.lowkey is what `lowkey optimise` wrote: its sums wrap in declared rings, its activations have fewer bits, coins round some of
them. Training starts from its integer weights, as latent ones, and computes what the file computes, wraps and coins included. What
is written differs from it in weights and biases alone, which keep their widths and no sum of which can get wider than it could.

- A wrap has no gradient: y has that of the sum as it was, which lies outside of the clip. So sums that come close to the ends of their
  ring add to the loss: the mean of relu(|z| - 0.9 2^(ring - 1)) of each layer, in units of y (`--wraps` times that).
- Coins are tossed anew for each batch, uniformly, as clients do.
- The teacher is the network of the zoo that the file was made from: its soft labels are half of the loss.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import types

import numpy as np
import torch
from lowkey.train.export import DIGEST_KEY, ZEROS, digested
from lowkey.train.graph import Flatten, Graph, Pool, Sum, Term, Window
from lowkey.train.layers import QuantisedPool, QuantisedSum, Range, Requantise, Width, call, straight_through
from lowkey.train.loop import train
from lowkey.train.network import Input, QuantisedNet
from safetensors import safe_open
from safetensors.numpy import save

from . import data
from .entries import ENTRIES
from .integer import FORMATS, IntegerNet

MODELS = pathlib.Path(__file__).parent.parent
#: Steps between two checkpoints.
ROUND = 50
#: From which part of a ring's half on sums add to the loss.
CLOSE = 0.9


class ChosenSum(QuantisedSum):
    """A sum that wraps in a declared ring, rounded by coins."""

    def __init__(self, *arguments, ring, coin, **named):
        """ring: its bits, coin: its bits; 0 for none."""
        super().__init__(*arguments, **named)
        self.ring, self.coin = ring, coin
        #: What the last batch adds to the loss; None where no sum came close to an end of the ring.
        self.excess = None
        #: Coins and wraps of the last batch.
        self.tossed, self.wraps = None, 0
        # Biases are those of the file: no means are taken off.
        self.centred = False

    def forward(self, inputs):
        t = self.scaled(inputs, self.bias() / self.unit())
        self.excess, self.tossed, self.wraps = None, None, 0
        if self.shift is None:
            return t
        half = 2 ** (self.ring - 1) / self.unit() if self.ring else None
        if half is not None:
            largest = t.detach().abs().max()
            if largest > CLOSE * half:
                self.excess = (t.abs() - CLOSE * half).relu().mean()
                self.wraps = int((t != around(t, half)).sum())
        if self.coin:
            self.tossed = torch.randint(0, 2**self.coin, t.shape, dtype=torch.int32)
            t = t + (self.tossed - 2 ** (self.coin - 1)) / self.unit()
        ends = self.range.lo, self.range.hi
        y = call(Requantise, t, *ends)
        # A coin can take a sum across the end by itself.
        if half is None or largest + 2**self.coin / self.unit() < half:
            return y
        return straight_through(y, around(t.detach(), half).floor().clamp(*ends))


def around(t, half):
    """t, wrapped into -half..half."""
    return (t + half).remainder(2 * half) - half


class ChosenNet(QuantisedNet):
    """A network of such sums."""

    #: How much excess counts.
    wraps = 1.0

    def penalty(self):
        """What wraps of the last batch, or what is close to one, adds to the loss."""
        found = [layer.excess for layer in self.layers if layer.excess is not None]
        return self.wraps * sum(found, torch.zeros(()))

    def coins(self):
        """Those of the last batch, by name of the requantisation."""
        return {layer.step_of.label: layer.tossed.numpy() for layer in self.layers if layer.tossed is not None}

    def wrapped(self):
        """Sums of the last batch that wrapped."""
        return sum(layer.wraps for layer in self.layers)


class File:
    """A model file, as training reads and writes it."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        with safe_open(self.path, framework="numpy") as file:
            self.metadata = dict(file.metadata())
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}
        form = self.metadata["lowkey.format"]
        require(form in FORMATS, f"the format {form!r}")
        self.architecture = json.loads(self.metadata["lowkey.architecture"])
        self.nodes = self.architecture["nodes"]

    def declared(self, name, what):
        """The ring or the coin that is declared for a node; 0 for none."""
        found = self.architecture.get("declared", {}).get(name, {}).get(what, 0)
        if isinstance(found, list):
            require(len(set(found)) <= 1, f"{name}: a ring for each channel")
            found = found[0] if found else 0
        return found

    @torch.no_grad()
    def network(self):
        """The network in torch: `integers` computes what the file does."""
        reads = self.architecture["input"]
        require(not reads.get("zero_point"), "an input with a zero point")
        given = Input(1.0, reads["bits"])
        #: By tensor of the file: the network's, and its values.
        ids, ranges = {0: 0}, {0: given.range}
        steps, made = [], []
        for index, node in enumerate(self.nodes):
            tensor, op = index + 1, node["op"]
            readers = [one for one in self.nodes if tensor in inputs_of(one)]
            if op == "linear" and self.architecture["output"] != tensor:
                require(
                    len(readers) == 1 and readers[0]["op"] == "requantise",
                    f"{node['name']}: read by {' and '.join(one['name'] for one in readers) or 'nothing'}, not by one requantisation",
                )
                continue
            if op in ("linear", "requantise"):
                linear = node if op == "linear" else self.nodes[node["input"] - 1]
                step, layer = self.sum_of(linear, node if op == "requantise" else None, ids, ranges)
                ranges[tensor] = layer.range if op == "requantise" else None
            elif op == "flatten":
                step, layer = Flatten(node["name"], ids[node["input"]]), None
                ranges[tensor] = ranges[node["input"]]
            else:
                layer = pool_of(node)
                step = Pool(node["name"], ids[node["input"]], layer.kind, layer.window, False)
                ranges[tensor] = layer.range(ranges[node["input"]])
            steps.append(step)
            made.append(layer)
            ids[tensor] = len(steps)
        require(self.architecture["output"] == len(self.nodes), "an answer that is not the last tensor")
        outputs = len(made[-1].beta)
        graph = Graph(None, tuple(reads["shape"]), outputs, 1.0, steps)
        return ChosenNet(graph, given, made, self.architecture.get("output_scale") or 1.0)

    def sum_of(self, linear, requantise, ids, ranges):
        """The step and the layer of a linear node and what rounds its sums; None for the answer."""
        name = linear["name"]
        shift, bits, top = None, 0, None
        if requantise is not None:
            shifts = set(requantise["shift"])
            require(len(shifts) == 1, f"{requantise['name']}: a shift for each channel")
            require(not requantise.get("zero_point"), f"{requantise['name']}: a zero point")
            (shift,) = shifts
            bits, top = requantise["bits"], requantise.get("top")
        terms, weights, widths, multipliers = [], [], [], []
        for place, term in enumerate(linear["terms"]):
            source = ids[term["input"]]
            if term["term"] == "identity":
                terms.append(Term(source))
                multipliers.append(term["multiplier"])
                continue
            require(term["term"] in ("conv", "dense"), f"{name}: a term {term['term']}")
            window = window_of(term) if term["term"] == "conv" else None
            terms.append(Term(source, types.SimpleNamespace(groups=term.get("groups", 1)), window=window))
            weights.append(torch.from_numpy(self.tensors[f"{name}.{place}.weight"].astype(np.float32)))
            widths.append(term["weight_bits"])
        require(bool(widths) and (set(widths) == {1} or 1 not in widths), f"{name}: weights of {widths} bits")
        bias = torch.from_numpy(self.tensors[f"{name}.bias"].astype(np.float32))
        unit = 2 ** (shift or 0)
        layer = ChosenSum(
            Sum(name, tuple(terms), "", None if requantise is None else "relu", "" if requantise is None else requantise["name"]),
            weights,
            bias if shift is None else (bias - unit / 2) / unit,
            shift=shift,
            multipliers=multipliers,
            width=Width(min(widths), bits, 24),
            ranges=[ranges[term["input"]] for term in linear["terms"]],
            top=top,
            weight_bits=widths,
            ring=self.declared(name, "ring"),
            coin=0 if requantise is None else self.declared(requantise["name"], "coin"),
        )
        layer.width = Width(min(widths), bits, needed(layer))
        return layer.step_of, layer

    @torch.no_grad()
    def bytes_with(self, net, name):
        """The file with the weights and biases of `net` in place of its own."""
        tensors = dict(self.tensors)
        for layer in net.layers:
            for number, place in enumerate(layer.weighted):
                key = f"{layer.step_of.name}.{place}.weight"
                tensors[key] = np.ascontiguousarray(layer.weight(number).numpy().astype(tensors[key].dtype))
            key = f"{layer.step_of.name}.bias"
            tensors[key] = layer.stored_bias().numpy().astype(tensors[key].dtype)
        architecture = self.architecture | {"name": name, "output_scale": float(net.log_scale.exp())}
        metadata = self.metadata | {"lowkey.architecture": json.dumps(architecture)}
        if DIGEST_KEY not in metadata:
            return save(tensors, metadata=metadata)
        return digested(save(tensors, metadata=metadata | {DIGEST_KEY: ZEROS}))


def require(held, what):
    """Ends the program where a file has what is not trained here."""
    if not held:
        sys.exit(f"not trained here: {what}")


def inputs_of(node):
    return [term["input"] for term in node["terms"]] if node["op"] == "linear" else [node["input"]]


def window_of(node):
    return Window(
        tuple(node["kernel"]), tuple(node["stride"]), tuple(node.get("padding", (0, 0, 0, 0))), tuple(node.get("dilation", (1, 1)))
    )


def pool_of(node):
    kind = {"max_pool": "max", "sum_pool": "sum", "avg_pool": "avg"}.get(node["op"])
    require(kind is not None, f"{node['name']}: {node['op']}")
    window, shift = window_of(node), node.get("shift", 0)
    top, left, bottom, right = window.padding
    require((top, left) == (bottom, right), f"{node['name']}: padding {window.padding}")
    pool = QuantisedPool(kind, window, shift)
    if kind == "avg":
        require(node["multiplier"] == 1 and node["offset"] == pool.offset, f"{node['name']}: an average with a scale")
    return pool


def needed(layer):
    """Bits of the worst sum."""
    below, above = layer.fixed()
    bias = layer.bias()
    low, high = bias + below, bias + above
    for number, position in enumerate(layer.weighted):
        weight, read = layer.weight(number).flatten(1), layer.ranges[position]
        p, n = weight.clamp(min=0).sum(1), (-weight).clamp(min=0).sum(1)
        low, high = low + read.lo * p - read.hi * n, high + read.hi * p - read.lo * n
    bits = 1 + max(int(high.max().clamp(min=0)).bit_length(), int(-low.min() - 1).bit_length() if low.min() < 0 else 0)
    require(bits <= 24, f"{layer.step_of.name}: sums of {bits} bits, which floats do not hold")
    return bits


class Rounds:
    """The batches of another, over and over, `size` at a time."""

    def __init__(self, batches, size):
        self.batches, self.size, self.left = batches, size, iter(())

    def __len__(self):
        return self.size

    def __iter__(self):
        for _ in range(self.size):
            batch = next(self.left, None)
            if batch is None:
                self.left = iter(self.batches)
                batch = next(self.left)
            yield batch


@torch.no_grad()
def measured(net, x, y):
    """(how many of x it gets right, how many sums wrapped), the coins tossed anew."""
    net.eval()
    right = wraps = 0
    for start in range(0, len(x), 500):
        right += int((net.integers(x[start : start + 500]).argmax(1) == y[start : start + 500]).sum())
        wraps += net.wrapped()
    return right, wraps


@torch.no_grad()
def compare(net, path, x):
    """Holds the file against the network, bit for bit, for the same coins."""
    net.eval()
    file = IntegerNet(path)
    for start in range(0, len(x), 100):
        batch = x[start : start + 100]
        trained = net.integers(batch).numpy().astype(np.int64)
        logits = file(np.ascontiguousarray(batch.numpy()).astype(np.int64), net.coins())
        require((trained == logits).all(), f"{path}: the file and the network in torch differ")


def tuned(file, source, teacher, *, steps, rate=0.3, wraps=1.0, checkpoint=None, stop=False, tell=lambda epoch: None):
    """The network of a file after so many steps; rate: a part of what first training has. Returns it, CPU seconds and steps done."""
    net = file.network().to(memory_format=torch.channels_last)
    net.wraps = wraps
    rounds = max(1, round(steps / ROUND))
    groups, rates = net.groups()
    seconds, done = train(
        net,
        Rounds(source.batches, min(steps, ROUND)),
        epochs=rounds,
        optimiser=torch.optim.Adam(groups),
        rates=[rate * highest for highest in rates],
        teacher=teacher,
        stage=file.architecture["name"],
        tell=tell,
        checkpoint=checkpoint,
        stop=stop,
    )
    return net, seconds, done * min(steps, ROUND)


def main():
    parser = argparse.ArgumentParser(prog="python3 -m train.finetune", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path, help="what lowkey optimise wrote")
    names = [entry.name for entry in ENTRIES]
    parser.add_argument("--teacher", required=True, choices=names, help="the network of the zoo it was made from")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="where the network goes")
    parser.add_argument("--steps", type=int, default=1000, help=f"batches of training images; a multiple of {ROUND}")
    parser.add_argument("--rate", type=float, default=0.3, help="of the rate that the network was trained at first")
    parser.add_argument("--wraps", type=float, default=1.0, help="how much sums near the ends of their rings count")
    parser.add_argument("--count", type=int, default=10000, help="test images that right answers are counted on, evenly spread")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", type=pathlib.Path, help="a file that is written on the way; training goes on from it")
    parser.add_argument("--export", action="store_true", help="write the network of the checkpoint as it is, without training on")
    options = parser.parse_args()
    if not options.output.parent.is_dir():
        sys.exit(f"{options.output}: there is no folder {options.output.parent}")
    (entry,) = [entry for entry in ENTRIES if entry.name == options.teacher]
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    file, zoo = File(options.file), MODELS / "zoo" / f"{entry.name}.lowkey"
    require(file.architecture["input"]["bits"] == entry.input_bits, f"inputs of {file.architecture['input']['bits']} bits")
    source = data.SOURCES[entry.data](entry.input_bits)
    x, y = source.test
    every = torch.arange(min(options.count, len(x))) * len(x) // min(options.count, len(x))
    x, y = x[every], y[every]
    teacher = File(zoo).network().eval()
    compare(teacher, zoo, x[:100])
    before = file.network()
    compare(before, options.file, x[:100])
    tell_of(*measured(before, x, y), len(x), "before")
    net, seconds, done = tuned(
        file,
        source,
        teacher,
        steps=options.steps,
        rate=options.rate,
        wraps=options.wraps,
        checkpoint=options.checkpoint,
        stop=options.export,
        tell=tell,
    )
    written = file.bytes_with(net, options.output.stem)
    with tempfile.NamedTemporaryFile(dir=options.output.parent, suffix=".lowkey") as part:
        part.write(written)
        part.flush()
        compare(net, part.name, x[:: max(1, len(x) // 200)])
    options.output.write_bytes(written)
    tell_of(*measured(net, x, y), len(x), f"after {done} steps")
    print(f"wrote {options.output}; {seconds:.0f} CPU s", flush=True)


def tell_of(right, wraps, count, when):
    print(f"{when}: {100 * right / count:.2f} % ({right} of {count}), {wraps} sums wrapped", flush=True)


def tell(epoch):
    """A line for each round."""
    print(
        f"{epoch.stage}: {epoch.number * ROUND} steps of {epoch.of * ROUND}, loss {epoch.loss:.4f}, "
        f"{100 * epoch.accuracy:.2f} % of the training images, {epoch.seconds:.0f} CPU s",
        flush=True,
    )


if __name__ == "__main__":
    main()
