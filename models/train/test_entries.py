"""The networks of the zoo are still made as their files say: run `python3 -m pytest train` in models/."""

import json
import pathlib
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from lowkey.train.layers import Width  # noqa: E402
from lowkey.train.network import Input  # noqa: E402
from lowkey.train.quantise import quantised  # noqa: E402
from safetensors import safe_open  # noqa: E402

from train import card  # noqa: E402
from train.data import Batches, Source  # noqa: E402
from train.entries import ENTRIES  # noqa: E402
from train.floating import FloatNet, graph_of  # noqa: E402

ZOO = pathlib.Path(__file__).parent.parent / "zoo"
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def architecture(path):
    """Of a model file, without what training chooses, and the shapes of its weights."""
    with safe_open(path, framework="numpy") as file:
        found = json.loads(file.metadata()["lowkey.architecture"])
        shapes = {name: (file.get_tensor(name).shape, str(file.get_tensor(name).dtype)) for name in file.keys()}
    del found["output_scale"], found["classes"]
    for node in found["nodes"]:
        if node["op"] == "requantise":
            del node["shift"]
        for term in node.get("terms", []):
            term.pop("multiplier", None)
    return found, shapes


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_gives_its_file(entry, tmp_path):
    """On made-up data, without training: `finish` compares the file with torch, bit for bit, and bounds the accumulators."""
    torch.manual_seed(1)
    x = torch.randint(0, 2**entry.input_bits, (16, *SHAPES[entry.data])).float()
    y = torch.arange(16) % 10
    source = Source(Batches(x, y, size=8, prepare=lambda images: images), (x, y), x, 0.1, [str(n) for n in range(10)], "made up")
    floating = FloatNet(SHAPES[entry.data], entry.layers, input_max=2**entry.input_bits - 1)
    floating(x)  # the statistics of batch normalisation
    floating.eval()
    widths = zip([*entry.activation_bits, 0], entry.accumulator_bits, strict=True)
    widths = [Width(entry.weight_bits, activation, accumulator) for activation, accumulator in widths]
    net = quantised(graph_of(floating, x[:2]), Input(1.0, entry.input_bits), x, widths, by_first=True)
    for layer in net.layers:
        layer.freeze()
    net.project()
    (tmp_path / "zoo").mkdir()
    card.finish(net, entry, source, tmp_path / "zoo", float_accuracy=0.0, command="", trained="")
    assert architecture(tmp_path / "zoo" / f"{entry.name}.lowkey") == architecture(ZOO / f"{entry.name}.lowkey")
    assert np.load(tmp_path / "tests" / "golden" / f"{entry.name}-logits.npy").shape == (8, 10)
