"""Trained networks: exactly what the interpreter computes, accurate, and refused by name where there is no layer of integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowkey

torch = pytest.importorskip("torch", reason="lowkey.train needs torch")
pytest.importorskip("safetensors", reason="lowkey.train needs safetensors")
nn = torch.nn
F = torch.nn.functional

from lowkey import train  # noqa: E402
from lowkey.train.data import data_of  # noqa: E402
from lowkey.train.fit import widths_of  # noqa: E402
from lowkey.train.graph import Sum  # noqa: E402
from lowkey.train.quantise import quantised  # noqa: E402
from lowkey.train.trace import graph_of  # noqa: E402

def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits, [1797, 1, 8, 8] between 0 and 1; the last 360 are held out."""
    load = pytest.importorskip("sklearn.datasets").load_digits
    x, y = load(return_X_y=True)
    return (x / 16).astype(np.float32).reshape(-1, 1, 8, 8), y


def plain() -> Any:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


class Residual(nn.Module):  # type: ignore[misc, name-defined]
    """Everything that there is a layer for: both kinds of skips, groups, strides, all pools, functions for modules."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding="same", bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.deep_norm = nn.BatchNorm2d(8, affine=False)
        self.wide = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.short = nn.Conv2d(8, 16, 1, stride=2, bias=False)
        self.short_norm = nn.BatchNorm2d(16)
        self.dilated = nn.Conv2d(16, 16, 2, dilation=2, padding=1, groups=4)
        self.mean = nn.AvgPool2d(3, stride=1, padding=1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(self.deep_norm(self.deep(x)) + x)
        x = (self.wide(x) + self.short_norm(self.short(x))).relu()
        x = x + self.dilated(x)  # of both signs
        x = F.relu(F.max_pool2d(self.mean(x), 2, stride=1))
        x = F.adaptive_avg_pool2d(x, 1)
        x = self.head(self.drop(x.view(x.size(0), -1)))
        return F.log_softmax(x, dim=1)


def same(model: train.Trained, x: Any) -> None:
    """Integers of torch, of the interpreter on the same reals, and a private answer."""
    with torch.no_grad():
        wanted = model.network.integers(torch.as_tensor(x)).numpy().astype(np.int64)
    classes, logits = model.predict_many(x)
    assert logits.tolist() == wanted.tolist() and classes.tolist() == wanted.argmax(1).tolist()


@pytest.mark.parametrize(("bits", "floor"), [(4, 0.93), (8, 0.93)])
def test_digits(bits: int, floor: float) -> None:
    x, y = digits()
    module = plain()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    model = train.fit(module, (x[:1437], y[:1437]), bits=bits, epochs=(8, 8), seed=1)
    assert model.evaluate(x[1437:], y[1437:]).accuracy >= floor
    assert [(one.stage, one.number) for one in model.history] == [(s, n) for s in ("floats", "integers") for n in range(1, 9)]
    assert all((before[key] == value).all() for key, value in module.state_dict().items()), "left as it was"
    same(model, x[1437:])
    assert [layer.name for layer in model.layers] == ["0", "4", "9"]
    with lowkey.serve(model) as server, lowkey.Client(server.address) as client:
        for one in x[1437:1439]:
            assert client.infer(one).logits.tolist() == model.predict(one).logits.tolist()


def test_every_layer_that_there_is() -> None:
    torch.manual_seed(2)
    x = torch.randn(96, 1, 9, 9)
    y = (x.mean((1, 2, 3)) > 0).long()
    model = train.fit(Residual(), (x, y), bits=3, activation_bits=4, epochs=(2, 4), batch=16, classes=[f"c{n}" for n in range(10)])
    kinds = [type(step).__name__ for step in model.network.steps]
    assert kinds.count("Pool") == 3 and kinds.count("Flatten") == 1
    activations = [step.activation for step in model.network.steps if isinstance(step, Sum)]
    assert activations == ["relu", "relu", "relu", "signed", "relu", None]
    same(model, x)
    same(model, 3 * torch.randn(64, 1, 9, 9))  # clipped inputs
    with lowkey.serve(model) as server, lowkey.Client(server.address) as client:
        assert client.infer(x[0]).logits.tolist() == model.predict(x[0]).logits.tolist()
    assert model.predict(x[0]).label in model.classes


def test_accumulators_stay_in_their_rings() -> None:
    x, y = digits()
    model = train.fit(plain(), (x[:512], y[:512]), bits=4, accumulator_bits={"4": 10, "9": 9}, epochs=(2, 3))
    found = {layer.name: layer.accumulator_bits for layer in model.layers}
    assert found["4"] == 10 and found["9"] == 9
    for layer in model.network.layers:
        half = 2 ** (layer.width.accumulator - 1)
        bias = layer.stored_bias().detach()
        weight = layer.weight(0).detach().flatten(1)
        read = layer.ranges[0]
        high = bias + weight.clamp(min=0).sum(1) * read.hi + weight.clamp(max=0).sum(1) * read.lo
        low = bias + weight.clamp(max=0).sum(1) * read.hi + weight.clamp(min=0).sum(1) * read.lo
        assert high.max() <= half - 1 and low.min() >= -half


def test_a_killed_training_goes_on(tmp_path: Path) -> None:
    x, y = digits()

    class Killed(Exception):
        pass

    class Batches:
        """Those of a generator; ends the training in the given epoch."""

        def __init__(self, last: int | None) -> None:
            self.epoch, self.last = -1, last  # the first pass is that for the sample

        def __len__(self) -> int:
            return 8

        def __iter__(self) -> Any:
            if self.epoch == self.last:
                raise Killed
            self.epoch += 1
            order = torch.randperm(512) if self.epoch else torch.arange(512)
            for part in order.view(8, 64).numpy():
                yield x[part], y[part]

    options: dict[str, Any] = {"epochs": (3, 3), "bits": 3}
    whole = train.fit(plain(), Batches(None), **options)
    for last in (2, 2, None):
        try:
            found = train.fit(plain(), Batches(last), **options, checkpoints=tmp_path / "kept")
        except Killed:
            pass
    assert found.predict_many(x[-99:])[1].tolist() == whole.predict_many(x[-99:])[1].tolist()
    assert {file.name for file in (tmp_path / "kept").iterdir()} == {"floats.pt", "integers.pt"}
    with pytest.raises(lowkey.InputError, match="another training"):
        train.fit(plain(), (x, y), epochs=(4, 3), checkpoints=tmp_path / "kept")
    with pytest.raises(lowkey.InputError, match="another training"):
        train.fit(InPlace(False), (x, y), epochs=(3, 3), checkpoints=tmp_path / "kept")


def made(forward: Any, **parts: Any) -> Any:
    """A module of these parts."""

    class Made(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

    Made.forward = forward
    return Made()


def flat(x: Any) -> Any:
    return torch.flatten(x, 1)


def scaling(channels: int) -> Any:
    """A batch normalisation that does something."""
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias, 0, 0.3)
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.5, 2)
    return norm


#: Small networks of [n, 3, 8, 8] and four classes: what ends a network, what is added to what, windows.
SMALL: dict[str, Any] = {
    "mean of activations": lambda: made(
        lambda m, x: flat(F.adaptive_avg_pool2d(F.relu(m.b(F.relu(m.a(x)))), 1)), a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 4, 1)
    ),
    "mean of a sum": lambda: made(lambda m, x: m.b(F.relu(m.a(x))).mean((2, 3)), a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 4, 1)),
    "a convolution of the image": lambda: made(lambda m, x: flat(m.b(F.relu(m.a(x)))), a=nn.Conv2d(3, 8, 3, 2), b=nn.Conv2d(8, 4, 3)),
    "the largest of a sum": lambda: made(lambda m, x: flat(F.max_pool2d(m.a(x), 6)), a=nn.Conv2d(3, 4, 3)),
    "one layer twice": lambda: made(
        lambda m, x: m.h(flat(F.relu(m.b(F.relu(m.b(F.relu(m.a(x)))))))),
        a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 8, 3, padding=1), h=nn.Linear(288, 4),
    ),
    "three summands": lambda: made(
        lambda m, x: m.h(flat(F.relu(m.a(x) + m.b(x) + x))),
        a=nn.Conv2d(3, 3, 3, padding=1), b=nn.Conv2d(3, 3, 1), h=nn.Linear(192, 4),
    ),
    "activations added": lambda: made(
        lambda m, x: m.h(flat(F.relu(F.relu(m.a(x)) + F.max_pool2d(x, 3, 1, 1)))), a=nn.Conv2d(3, 3, 3, padding=1), h=nn.Linear(192, 4)
    ),
    "the input clipped": lambda: made(lambda m, x: m.h(flat(F.relu(x))), h=nn.Linear(192, 4)),
    "a matrix": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4, bias=False)),
    "norms at the end": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.BatchNorm1d(4)),
    "nothing between matrices": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Linear(16, 4)),
    "a sum at the end": lambda: made(
        lambda m, x: m.a(flat(x)) + m.b(F.relu(m.c(flat(x)))), a=nn.Linear(192, 4), b=nn.Linear(16, 4), c=nn.Linear(192, 16)
    ),
    "a sum read twice": lambda: made(
        lambda m, x: (lambda z: m.h(flat(F.relu(z) + z)))(m.a(x)), a=nn.Conv2d(3, 3, 3, padding=1), h=nn.Linear(192, 4)
    ),
    "logits read twice": lambda: made(lambda m, x: (lambda z: F.relu(z) + z)(m.h(flat(x))), h=nn.Linear(192, 4)),
    "windows": lambda: made(
        lambda m, x: m.h(flat(F.avg_pool2d(F.max_pool2d(F.relu(m.a(x)), 3, 2, 1), (2, 3), (1, 1), (1, 1)))),
        a=nn.Conv2d(3, 4, (3, 2), (1, 2), (1, 0)), h=nn.Linear(40, 4),
    ),
    "even and same": lambda: made(lambda m, x: m.h(flat(F.relu(m.a(x)))), a=nn.Conv2d(3, 4, 4, padding="same"), h=nn.Linear(256, 4)),
    "the input scaled": lambda: made(lambda m, x: m.h(flat(F.relu(m.a(x / 8 * 3)))), a=nn.Conv2d(3, 4, 4), h=nn.Linear(100, 4)),
    "norms before activations": lambda: made(
        lambda m, x: (lambda z: m.h(flat(F.relu(m.o(z + m.b(F.relu(m.n(z))))))))(m.a(x)),
        a=nn.Conv2d(3, 8, 3), n=scaling(8), b=nn.Conv2d(8, 8, 3, padding=1), o=scaling(8), h=nn.Linear(288, 4),
    ),
    "a softmax": lambda: made(lambda m, x: F.softmax(m.h(flat(x)), dim=-1), h=nn.Linear(192, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_the_first_integers_are_near_the_floats(name: str) -> None:
    """At 8 bits, before any training in integers; and exactly what is exported."""
    torch.manual_seed(6)
    x = torch.randn(64, 3, 8, 8)
    module = SMALL[name]().eval()
    graph = graph_of(module, x[:2])
    data = data_of((x, torch.arange(64) % 4), 16, torch.device("cpu"))
    network = quantised(graph, data.reads(8), x, widths_of(graph, 8, 8, None)).eval()
    assert all(layer.width.accumulator <= 24 for layer in network.layers)
    with torch.no_grad():
        wanted = graph.module(x).flatten(1)
        found = network(x)
    assert ((found - wanted).square().mean() / wanted.square().mean()).sqrt() < 0.05
    same(train.fit(module, (x, torch.arange(64) % 4), bits=2, epochs=(0, 2), batch=16), torch.cat([x, 3 * x.flip(0)]))


class InPlace(nn.Module):  # type: ignore[misc, name-defined]
    """The same twice: activations and additions in place, and not."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.inplace = inplace
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace))
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.relu = nn.ReLU6(inplace)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10))

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        y = self.second(x)
        if self.inplace:
            y += x
        else:
            y = y + x
        return self.head(self.relu(y))


def test_in_place_makes_no_difference() -> None:
    x, y = digits()
    one, other = (train.fit(InPlace(inplace), (x[:512], y[:512]), epochs=(2, 2)) for inplace in (True, False))
    assert one.predict_many(x[-64:])[1].tolist() == other.predict_many(x[-64:])[1].tolist()

    class Shared(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            x = self.first(torch.flatten(x, 1))
            return self.head(torch.relu_(x) + x)

    with pytest.raises(lowkey.ImportRefused, match="in place, which others read"):
        train.fit(Shared(), (x, y))


@pytest.mark.parametrize("bits", [2, 8])
def test_clips_are_the_largest_activations(bits: int) -> None:
    x, y = digits()
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.Hardtanh(0, 0.25), nn.Linear(48, 10))
    model = train.fit(module, (x[:512], y[:512]), bits=bits, epochs=(2, 2))
    [layer, _] = model.network.layers
    assert 1 <= layer.top < 2**bits
    same(model, x[-64:])
    with pytest.raises(lowkey.ImportRefused, match="a clip from -1.0 to 1.0"):
        train.fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Hardtanh()), (x, y))


def test_wide_sums_stay_exact() -> None:
    """The worst inputs of a fan-in of 6,000 at 8 bits: floats hold every partial sum, because the ring is bounded."""
    torch.manual_seed(5)
    x = (torch.rand(64, 6000) > 0.5).float()
    module = nn.Sequential(nn.Linear(6000, 12), nn.ReLU(), nn.Linear(12, 10))
    model = train.fit(module, (x, torch.arange(64) % 10), bits=8, epochs=(1, 2), batch=32)
    assert model.layers[0].accumulator_bits <= 24
    sign = model.network.layers[0].weight(0).detach() > 0
    same(model, torch.cat([x, sign.float(), (~sign).float(), torch.ones(1, 6000)]))


def test_pictures() -> None:
    image = pytest.importorskip("PIL.Image")
    x, y = digits()
    pixels = np.round(255 * x).astype(np.uint8)
    inputs = ((pixels.astype(np.float32) / np.float32(255) - np.float32(0.3)) / np.float32(0.4)).astype(np.float32)
    model = train.fit(plain(), (inputs[:512], y[:512]), epochs=(1, 1), mean=0.3, std=0.4)
    for one in range(500, 520):
        wanted = model.predict(inputs[one]).logits.tolist()
        assert model.predict(image.fromarray(pixels[one, 0])).logits.tolist() == wanted
        assert model.predict(pixels[one, 0], pixels=True).logits.tolist() == wanted
    with pytest.raises(lowkey.InputError, match="std above 0"):
        train.fit(plain(), (inputs, y), mean=[0.1, 0.2], std=0.0)


def test_rings_narrower_than_the_first_weights_need() -> None:
    x, y = digits()
    wide, narrow, least = (
        train.fit(plain(), (x[:512], y[:512]), bits=4, accumulator_bits=bits, epochs=(1, 1)) for bits in (None, -2, {"9": -20})
    )
    assert [one.accumulator_bits - other.accumulator_bits for one, other in zip(wide.layers, narrow.layers)] == [2, 2, 2]
    assert narrow.plan().bytes < wide.plan().bytes
    assert least.layers[0] == wide.layers[0] and least.layers[2].accumulator_bits < 3
    same(narrow, x[-64:])
    same(least, x[-64:])


class Strange(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4 * 64, 10)

    def forward(self, x: Any) -> Any:
        x = F.gelu(self.norm(self.conv(x)))
        x = torch.cat([x, x], 1)[:, :4]
        return torch.sigmoid(self.head(torch.flatten(x, 1)))


def test_what_has_no_layer_is_refused_by_name() -> None:
    x, y = digits()
    with pytest.raises(lowkey.ImportRefused) as refused:
        train.fit(Strange(), (x, y))
    found = {(obstacle.operator, obstacle.node) for obstacle in refused.value.obstacles}
    assert {("Conv2d", "conv"), ("GroupNorm", "norm"), ("gelu", "gelu"), ("cat", "cat"), ("sigmoid", "sigmoid")} <= found
    assert "GroupNorm (norm)" in str(refused.value)

    class Branching(nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    for module, why in [
        (nn.Flatten(), "without layers"),
        (nn.Sequential(nn.Conv2d(1, 4, 8)), r"an output of shape \(2, 4, 1, 1\)"),
        (made(lambda m, x: (m.h(flat(x)), x), h=nn.Linear(64, 4)), "several outputs"),
    ]:
        with pytest.raises(lowkey.InputError, match=why):
            train.fit(module, (x, y))
    with pytest.raises(lowkey.InputError, match="traced"):
        train.fit(Branching(), (x, y))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda x, y: (x, y + 1), "labels from 1 to 10, and the module has 10 outputs"),
        (lambda x, y: (x, y[:-1]), "1797 inputs and 1796 labels"),
        (lambda x, y: (x[:, 0], y), r"inputs of shape \(1797, 8, 8\)\nhint: give \[n, channels"),
        (lambda x, y: (x.reshape(-1, 64), y), r"does not take inputs of shape \(2, 64\)"),
        (lambda x, y: (np.where(np.arange(len(x))[:, None, None, None] == 7, np.nan, x), y), "1 of 1797, the first is number 7"),
        (lambda x, y: (x, y.astype(np.float32)), "labels of float32"),
        (lambda x, y: (x, np.eye(10, dtype=np.int64)[y]), r"argmax"),
        (lambda x, y: (x, [f"d{one}" for one in y]), r"labels of <U2\nhint: give the number of each class, from 0: numpy.unique"),
        (lambda x, y: (list(x[:3]) + [x[0, 0]], y[:4]), "inputs of several shapes"),
        (lambda x, y: ((16 * x).astype(np.int64), y), "inputs of int64"),
        (lambda x, y: x, "data of type ndarray"),
        (lambda x, y: (x[:1], y[:1]), "one input"),
    ],
)
def test_data_that_do_not_fit_are_refused(change: Any, why: str) -> None:
    with pytest.raises(lowkey.InputError, match=why):
        train.fit(plain(), change(*digits()))


def test_options_that_do_not_fit_are_refused() -> None:
    data = digits()
    for options, why in [
        ({"bits": 9}, "bits=9"),
        ({"bits": "4"}, "bits='4'"),
        ({"epochs": (1, 0)}, r"epochs\[1\]=0"),
        ({"epochs": 10}, "two numbers"),
        ({"batch": 1}, "batch=1"),
        ({"rate": -1}, "rate=-1"),
        ({"accumulator_bits": {"nowhere": 9}}, "the layers are"),
        ({"accumulator_bits": 2}, "no room"),
        ({"accumulator_bits": 25}, "accumulator_bits=25"),
        ({"accumulator_bits": {"9": "8"}}, "accumulator_bits of 9='8'"),
        ({"classes": ["a"]}, "10 outputs"),
    ]:
        with pytest.raises(lowkey.InputError, match=why):
            train.fit(plain(), data, **{"epochs": (0, 1)} | options)
    with pytest.raises(lowkey.InputError, match="torch.nn.Module"):
        train.fit(object(), data)  # type: ignore[arg-type]


def test_modules_as_people_have_them() -> None:
    x, y = digits()
    data, options = (x[:256], y[:256]), {"epochs": (1, 1), "batch": 32}
    wanted = train.fit(plain(), data, **options).predict_many(x[-9:])[1].tolist()
    with torch.no_grad():
        assert train.fit(plain(), data, **options).predict_many(x[-9:])[1].tolist() == wanted
    assert train.fit(torch.compile(plain()), data, **options).predict_many(x[-9:])[1].tolist() == wanted
    same(train.fit(plain().half(), data, **options), x[-9:])
    frozen = plain().requires_grad_(False)
    with pytest.raises(lowkey.InputError, match=r"epochs=\(0, 20\)"):
        train.fit(frozen, data, **options)
    same(train.fit(frozen, data, epochs=(0, 1)), x[-9:])
    with pytest.raises(lowkey.InputError, match="diverged"):
        train.fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (3e38 * x, y), rate=0.9, epochs=(5, 1))


def test_loaders_and_bytes() -> None:
    x, y = digits()
    pixels = (16 * x).astype(np.uint8)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x[:400]), torch.from_numpy(y[:400]))
    same(train.fit(plain(), dataset, epochs=(1, 1)), x[:20])
    loader = torch.utils.data.DataLoader(dataset, batch_size=50, shuffle=True)
    same(train.fit(plain(), loader, epochs=(1, 1)), x[:20])
    model = train.fit(plain(), (pixels[:400], y[:400]), epochs=(1, 1))
    assert model.predict_many(pixels[:20])[1].tolist() == model.predict_many(pixels[:20].astype(np.float32))[1].tolist()
    assert model.notes == []
    few = train.fit(plain(), (pixels[:400], y[:400]), input_bits=4, epochs=(1, 1))
    assert any("as floats of 0 to 255" in note for note in few.notes)
    same(few, pixels[:20].astype(np.float32))
    broken = [(x[:50], y[:50]), (x[50:100], y[50:100] + 10)]
    with pytest.raises(lowkey.InputError, match="labels"):
        train.fit(plain(), broken, epochs=(1, 1))
