"""Training with the choices in the loop: run `python3 -m pytest train` in models/."""

import json
import pathlib
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from lowkey.train.export import DIGEST_KEY, ZEROS, digested  # noqa: E402
from safetensors.numpy import save  # noqa: E402

from train import finetune  # noqa: E402
from train.data import Batches, Source  # noqa: E402
from train.integer import IntegerNet  # noqa: E402

DIGITS = pathlib.Path(__file__).parent.parent / "zoo" / "digits.lowkey"


def with_choices(path, declared, form):
    """The digits network with rings and coins."""
    file = finetune.File(DIGITS)
    architecture = file.architecture | {"declared": declared}
    metadata = {"lowkey.format": form, "lowkey.architecture": json.dumps(architecture), DIGEST_KEY: ZEROS}
    path.write_bytes(digested(save(file.tensors, metadata=metadata)))
    return finetune.File(path)


def linears():
    """(name of a linear node, of what rounds its sums, its shift) of the digits network."""
    nodes = finetune.File(DIGITS).nodes
    return [(nodes[node["input"] - 1]["name"], node["name"], node["shift"][0]) for node in nodes if node["op"] == "requantise"]


@pytest.fixture
def chosen(tmp_path):
    """Rings that some sums wrap in, and coins of all bits of the shifts."""
    declared = {}
    for linear, relu, shift in linears():
        declared |= {linear: {"ring": [shift + 4]}, relu: {"coin": shift}}
    return with_choices(tmp_path / "less.lowkey", declared, "2: rings, coins, digest")


def made_up(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 16, (count, 1, 8, 8), generator=generator).float()


def test_rings_and_coins_are_those_of_a_second_evaluation(chosen):
    net, x = chosen.network().eval(), made_up(64, 1)
    logits = net.integers(x).detach().numpy()
    assert net.wrapped() > 0
    file, inputs = IntegerNet(chosen.path), x.numpy().astype(np.int64)
    assert sorted(net.coins()) == sorted(relu for _, relu, _ in linears())
    assert (file(inputs, net.coins()) == logits).all()
    # Without coins it rounds as usual, and other coins are other roundings; without rings it is another network.
    assert (file(inputs) != logits).any()
    net.integers(x)
    assert (file(inputs, net.coins()) != logits).any()
    assert (IntegerNet(DIGITS)(inputs) != file(inputs)).any()


def test_a_coin_can_take_a_sum_across_the_end_of_its_ring(tmp_path):
    ((linear, relu, shift), *_) = linears()
    chosen = with_choices(tmp_path / "less.lowkey", {linear: {"ring": [shift + 4]}, relu: {"coin": shift}}, "2: rings, coins, digest")
    (layer, *_) = chosen.network().eval().layers
    # Sums just below the end of the ring, whatever the input: half of the coins take them across, to the least result.
    half = 2 ** (shift + 3)
    with torch.no_grad():
        layer.v[0].zero_()
        layer.beta.fill_((half - 1 - layer.unit() / 2) / layer.unit())
        y = layer([torch.zeros(4, 1, 8, 8)])
    crossed = half - 1 - 2 ** (shift - 1) + layer.tossed >= half
    assert layer.wraps == 0 and 0.3 < crossed.float().mean() < 0.7
    assert (y[crossed] == 0).all() and (y[~crossed] == 7).all()


def test_training_keeps_what_was_chosen_and_the_file_equals_it(chosen, tmp_path):
    torch.manual_seed(1)
    x, y = made_up(96, 2), torch.arange(96) % 10
    batches = Batches(x, y, size=32, prepare=lambda images: images)
    source = Source(batches, (x, y), x, 0.1, [], "made up")
    teacher = finetune.File(DIGITS).network().eval()
    checkpoint = tmp_path / "state.pt"
    net, _, done = finetune.tuned(chosen, source, teacher, steps=20, rate=1.0, checkpoint=checkpoint)
    assert done == 20
    path = tmp_path / "out.lowkey"
    path.write_bytes(chosen.bytes_with(net, "out"))
    finetune.compare(net, path, x)
    written = finetune.File(path)
    same = {"output_scale": None, "name": None}
    assert written.architecture | same == chosen.architecture | same
    assert written.architecture["name"] == "out"
    assert {name: (one.shape, one.dtype) for name, one in written.tensors.items()} == {
        name: (one.shape, one.dtype) for name, one in chosen.tensors.items()
    }
    assert any((written.tensors[name] != chosen.tensors[name]).any() for name in chosen.tensors if name.endswith("weight"))
    for before, after in zip(chosen.network().layers, written.network().layers):
        assert after.width.accumulator <= before.width.accumulator
        assert all(np.abs(after.weight(0).detach().numpy()).max() <= 2 ** (bits - 1) - 1 for bits in after.weight_bits)
    # The same file and checkpoint: nothing is left to be done.
    again, _, _ = finetune.tuned(chosen, source, teacher, steps=20, rate=1.0, checkpoint=checkpoint, stop=True)
    path.write_bytes(chosen.bytes_with(again, "out"))
    assert all((one == written.tensors[name]).all() for name, one in finetune.File(path).tensors.items())


def test_sums_near_the_ends_of_a_ring_add_to_the_loss(chosen):
    """What they add has a gradient that moves them away from the ends."""
    net, x = chosen.network().train(), made_up(64, 3)
    net.integers(x)
    before = net.penalty()
    assert before > 0
    before.backward()
    with torch.no_grad():
        for layer in net.layers:
            if layer.excess is not None:
                layer.v[0] -= 0.5 / layer.v[0].grad.abs().max() * layer.v[0].grad
    net.integers(x)
    assert net.penalty() < 0.97 * before
    wide = finetune.File(DIGITS).network().train()
    wide.integers(x)
    assert wide.penalty() == 0


def test_weights_of_terms_keep_their_own_widths(tmp_path):
    """A skip's weights that were made wider stay wider, and only they."""
    file = finetune.File(DIGITS)
    ((linear, relu, shift), *_) = linears()
    term = next(node for node in file.nodes if node["name"] == linear)["terms"][0]
    bits = term["weight_bits"]
    term["weight_bits"] = bits + 2
    file.tensors[f"{linear}.0.weight"] = file.tensors[f"{linear}.0.weight"] * 4
    layer = file.network().layers[0]
    assert layer.weight_bits == [bits + 2]
    assert (layer.weight(0).detach().numpy() == file.tensors[f"{linear}.0.weight"]).all()
    with torch.no_grad():
        layer.v[0].mul_(100)
    layer.width = finetune.Width(bits, layer.width.activation, 24)
    layer.project()
    assert layer.weight(0).detach().abs().max() == 2 ** (bits + 1) - 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda nodes: nodes[1].update(zero_point=3), "a zero point"),
        (lambda nodes: nodes[1].update(shift=[1, 2]), "a shift for each channel"),
        (lambda nodes: nodes[0]["terms"][0].update(term="depthwise"), "a term depthwise"),
    ],
)
def test_what_is_not_trained_is_refused_by_name(change, said):
    file = finetune.File(DIGITS)
    change(file.nodes)
    with pytest.raises(SystemExit, match=said):
        file.network()
