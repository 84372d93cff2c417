"""The package against the interpreter of integers, and against what people do wrong."""

from __future__ import annotations

import copy
import io
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowkey
from lowkey import _lowkey
from lowkey._progress import Progress


@pytest.fixture(scope="module")
def digits() -> lowkey.Model:
    return lowkey.load("digits")


@pytest.fixture(scope="module")
def images(digits: lowkey.Model) -> np.ndarray:
    found = digits.demo()
    assert found is not None
    return found[0]


def test_evaluation_counts_what_is_right(digits: lowkey.Model) -> None:
    found = digits.demo()
    assert found is not None
    images, labels = found
    assert images.shape == (360, 1, 8, 8) and images.dtype == np.uint8
    evaluation = digits.evaluate(images, labels)
    assert evaluation.count == 360 and 0.9 < evaluation.accuracy <= 1
    one_by_one = [digits.predict(image).index for image in images[:40]]
    assert evaluation.predictions[:40].tolist() == one_by_one
    with pytest.raises(lowkey.InputError, match="360 inputs and 359 labels"):
        digits.evaluate(images, labels[1:])


def test_private_answers_equal_those_in_the_clear(digits: lowkey.Model, images: np.ndarray) -> None:
    with lowkey.serve(digits) as server, lowkey.Client(server.address, digest=server.digest, prepare=2) as client:
        assert client.model == digits.name and client.ready == 2 and client.digest == server.digest
        for image in images[:3]:
            private, clear = client.infer(image), digits.predict(image)
            assert private.logits is not None and clear.logits is not None
            assert private.logits.tolist() == clear.logits.tolist()
            assert (private.index, private.label) == (clear.index, clear.label)
            assert private.report.bytes > 1000 and clear.report.bytes == 0
        many = client.infer_many(images[3:7])
        _, logits = digits.predict_many(images[3:7])
        assert [answer.logits.tolist() for answer in many if answer.logits is not None] == logits.tolist()


class Recorded:
    """A session of which the steps that compute are written down, each with what was ready before it."""

    def __init__(self, inner: Any, steps: list[tuple[str, int]], delay: float = 0) -> None:
        self._inner, self._steps, self._delay = inner, steps, delay

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def infer(self, values: bytes, kind: str) -> Any:
        self._steps.append(("infer", self._inner.ready))
        return self._inner.infer(values, kind)

    def prepare(self, count: int) -> int:
        self._steps.append(("prepare", self._inner.ready))
        time.sleep(self._delay)
        return self._inner.prepare(count)


def recorded(client: lowkey.Client, delay: float = 0) -> list[tuple[str, int]]:
    steps: list[tuple[str, int]] = []
    client._inner = Recorded(client._inner, steps, delay)  # type: ignore[assignment]
    return steps


def waited(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within a minute."""
    until = time.monotonic() + 60
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.002)
    return found


def test_the_next_slot_is_prepared_while_an_answer_is_looked_at(digits: lowkey.Model, images: np.ndarray) -> None:
    with lowkey.serve(digits) as server, lowkey.Client(server.address) as client:
        steps = recorded(client)
        answers = client.infer_each(images[:4])
        assert steps == [], "nothing before the first is asked for"
        for left, answer in zip((3, 2, 1, 0), answers):
            assert waited(lambda: client.ready == min(left, 1)), steps
            assert answer.index == digits.predict(images[3 - left]).index
        assert steps == [("infer", 0), ("prepare", 0), ("infer", 1), ("prepare", 0), ("infer", 1), ("prepare", 0), ("infer", 1)]
        with pytest.raises(lowkey.InputError, match="an array of shape"):
            client.infer_each(images[:, :, :4])


def test_a_batch_finds_its_slots_ready(digits: lowkey.Model, images: np.ndarray) -> None:
    with lowkey.serve(digits) as server, lowkey.Client(server.address, prepare=2) as client:
        steps = recorded(client)
        found = client.infer_many(images[:5])
        assert [answer.index for answer in found] == digits.predict_many(images[:5])[0].tolist()
        # The two at hand go first, what is used is made up for while there are inputs to come, and at the end two are kept again.
        assert waited(lambda: client.ready == 2)
        batch = [("infer", 2), ("prepare", 1), ("infer", 2), ("prepare", 1), ("infer", 2), ("prepare", 1), ("infer", 2), ("prepare", 1)]
        assert steps == [*batch, ("infer", 1), ("prepare", 0), ("prepare", 1)]


def test_an_answer_waits_for_one_slot_and_not_for_all(digits: lowkey.Model, images: np.ndarray) -> None:
    with lowkey.serve(digits) as server, lowkey.Client(server.address) as client:
        steps = recorded(client, delay=0.2)
        client._keep = 20
        client.infer(images[0])
        client.infer(images[1])
        assert steps[:3] == [("infer", 0), ("prepare", 0), ("infer", 1)]
    assert len(steps) < 6, "closing waits for no more than one either"


def test_threads_take_turns(digits: lowkey.Model, images: np.ndarray) -> None:
    wanted = digits.predict_many(images[:24])[0].tolist()
    found = [-1] * 24
    with lowkey.serve(digits) as server, lowkey.Client(server.address, prepare=1) as client:

        def ask(first: int) -> None:
            for number in range(first, 24, 3):
                index = client.infer(images[number]).index
                assert index is not None
                found[number] = index

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == wanted


def test_a_lost_line_is_told_at_the_next_step(digits: lowkey.Model, images: np.ndarray) -> None:
    server = lowkey.serve(digits)
    client = lowkey.Client(server.address, prepare=1)
    steps = recorded(client, delay=0.5)
    client.infer(images[0])
    server.close()  # before the background has asked for the next slot
    with pytest.raises(lowkey.PeerError):
        client.infer(images[1])
    assert [step for step, _ in steps] == ["infer", "prepare"]
    client.close()


def test_a_program_ends_though_its_client_prepares() -> None:
    script = """
import lowkey
model = lowkey.load("digits")
images, _ = model.demo()
client = lowkey.Client(lowkey.serve(model).address, prepare=1)
client._keep = 64
client.infer(images[0])
print("the end")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "the end\n", "")


def test_several_models_at_one_address(digits: lowkey.Model, images: np.ndarray) -> None:
    large = lowkey.load("mnist-minionn-w2a2")
    with lowkey.serve({"small": digits, "large": large}) as server:
        assert list(server.digests) == ["small", "large"] and lowkey.models(server.address) == server.digests
        assert server.models["large"] is large and server.model is digits
        for name, model in server.models.items():
            with lowkey.Client(server.address, model=name, digest=server.digests[name]) as client:
                assert client.model == model.name
        with lowkey.Client(server.address, model="small") as client:
            assert client.infer(images[0]).index == digits.predict(images[0]).index
        with pytest.raises(lowkey.Error, match="several models"):
            lowkey.Client(server.address)


def test_the_line_between_machines(tmp_path: Path, digits: lowkey.Model, images: np.ndarray) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    request = ["-subj", "/CN=lowkey", "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", *request, "-keyout", str(key), "-out", str(chain)]
    subprocess.run(make, check=True, capture_output=True, timeout=60)
    with pytest.raises(lowkey.Refused, match="nothing protects|TLS|plain"):
        lowkey.serve(digits, "0.0.0.0:0")
    with lowkey.serve(digits, "0.0.0.0:0", certificate=(chain, key)) as server:
        assert server.pin is not None and len(server.pin) == 64
        address = f"localhost:{server.address.rsplit(':', 1)[1]}"
        for trust in ({"ca": chain}, {"pin": server.pin}):
            assert lowkey.models(address, **trust) == server.digests
            with lowkey.Client(address, digest=server.digest, **trust) as client:
                assert client.infer(images[0]).index == digits.predict(images[0]).index
        with pytest.raises(lowkey.Error, match="certificate"):
            lowkey.Client(address, pin="00" * 32)
        with pytest.raises(lowkey.InputError, match="both an authority and a pin"):
            lowkey.Client(address, ca=chain, pin=server.pin)


def test_the_plan_is_what_it_takes(digits: lowkey.Model, images: np.ndarray) -> None:
    plan = digits.plan("loopback")
    with lowkey.serve(digits, link="loopback") as server, lowkey.Client(server.address) as client:
        answer = client.infer(images[0])
    assert answer.report.bytes == plan.bytes and answer.report.online.flights == plan.flights
    assert sum(plan.seconds()) > 0
    # The rows for people add up, to the three digits that they have.
    lines = str(plan).splitlines()
    first, last = (next(n for n, line in enumerate(lines) if line.startswith(name)) for name in ("conv1", "in all"))
    assert [line.split()[0] for line in lines[first:last]] == [layer["name"] for layer in plan.layers] + ["besides"]
    units = {"B": 1, "kB": 1e3, "MB": 1e6}
    for back in (-5, -3):
        *parts, total = (float((cells := line.split())[back]) * units[cells[back + 1]] for line in lines[first : last + 1])
        assert sum(parts) == pytest.approx(total, rel=0.01)
    *parts, total = (int(line.split()[-1]) for line in lines[first : last + 1])
    assert sum(parts) == total == plan.flights and {layer["name"]: layer["flights"] for layer in plan.layers}["pool1"] > 0


def test_the_class_alone(digits: lowkey.Model, images: np.ndarray) -> None:
    with lowkey.serve(digits, reveal="class") as server:
        with lowkey.Client(server.address, reveal="class") as client:
            answer = client.infer(images[5])
            assert answer.logits is None and answer.index == digits.predict(images[5]).index
        with pytest.raises(lowkey.Refused, match="class only"), lowkey.Client(server.address) as client:
            client.infer(images[5])


def others_run(call: Callable[[], object]) -> bool:
    """Whether another thread runs while a call is made for half a second, where nobody takes the interpreter's lock from it: only who
    gives it away."""
    ticks, began, done = 0, threading.Event(), threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            began.set()
            time.sleep(0.0002)

    ticker, interval = threading.Thread(target=tick), sys.getswitchinterval()
    ticker.start()
    try:
        assert began.wait(60)
        sys.setswitchinterval(1000)
        before, until = ticks, time.monotonic() + 0.5
        while time.monotonic() < until:
            call()
        return ticks > before
    finally:
        sys.setswitchinterval(interval)
        done.set()
        ticker.join()


def test_other_threads_run_meanwhile(tmp_path: Path, digits: lowkey.Model, images: np.ndarray) -> None:
    assert not others_run(lambda: sum(range(10_000))), "what holds the lock is found"
    data, values, one = digits._inner.to_bytes(), images.tobytes(), images[0].tobytes()
    (tmp_path / "digits.lowkey").write_bytes(data)
    options = (None, None, None, False)
    # Steps of Rust alone, since Python around them lets go of the lock too.
    assert others_run(lambda: _lowkey.Model.from_bytes(data, options))
    assert others_run(lambda: _lowkey.Model.open(str(tmp_path / "digits.lowkey"), options))
    assert others_run(lambda: digits._inner.answers(values, "uint8"))
    assert others_run(lambda: digits._inner.plan("lan"))
    with lowkey.serve(digits) as server, lowkey.Client(server.address) as client:
        assert others_run(lambda: client._inner.prepare(64))
        client.close()
        assert others_run(lambda: lowkey.models(server.address))
    with lowkey.serve(digits) as server, lowkey.Client(server.address) as client:
        assert others_run(lambda: client._inner.infer(one, "uint8"))


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((1, 8, 8)), "nothing says how reals are quantised"),
        (np.zeros((1, 8, 8), np.int64), "an array of int64"),
        (np.zeros((1, 8, 9), np.uint8), r"an array of shape \(1, 8, 9\), the network reads \(1, 8, 8\)"),
        (np.zeros((2, 1, 8, 8), np.uint8), "2 inputs at once"),
        (np.full((1, 8, 8), 200, np.uint8), "200"),
        (np.zeros((0, 1, 8, 8), np.uint8), "no inputs"),
        (None, "a NoneType"),
        ("image.png", "a str"),
        ([[1, 2], [3]], "rows of several lengths"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(digits: lowkey.Model, array: object, why: str) -> None:
    with pytest.raises(lowkey.InputError, match=why):
        digits.predict(array)


def test_labels_are_numbers_or_names_of_classes(digits: lowkey.Model) -> None:
    found = digits.demo()
    assert found is not None
    images, labels = found
    wanted = digits.evaluate(images, labels).correct
    for same in (labels.astype(float), [str(one) for one in labels], labels.astype(np.uint8)):
        assert digits.evaluate(images, same).correct == wanted
    for wrong, why in [
        (labels + 5, "labels from 5 to 14, and the model has 10 outputs"),
        (labels - 1, "labels from -1 to 8"),
        (np.eye(10)[labels], "argmax"),
        (np.where(labels == 1, np.nan, labels), "no whole numbers"),
        ([f"digit {one}" for one in labels], "the model's classes are"),
    ]:
        with pytest.raises(lowkey.InputError, match=why):
            digits.evaluate(images, wrong)


def test_arguments_that_do_not_fit_are_refused(digits: lowkey.Model) -> None:
    def refused(why: str, call: Callable[..., object], *arguments: object, **options: object) -> None:
        with pytest.raises(lowkey.InputError, match=why):
            call(*arguments, **options)

    refused("a str to serve\nhint: give a lowkey.Model", lowkey.serve, "digits")
    refused("an empty dict to serve", lowkey.serve, {})
    refused("'a': a str to serve", lowkey.serve, {"a": "digits"})
    refused('"a b" is no name', lowkey.serve, {"a b": digits})
    refused("a int for an address", lowkey.serve, digits, 7117)
    refused("quota=0", lowkey.serve, digits, quota=0)
    refused("sessions=70000", lowkey.serve, digits, sessions=70000)
    refused("two files", lowkey.serve, digits, certificate="cert.pem")
    refused("a int for a path", lowkey.load, 3)
    refused("a list of names", lowkey.load, "digits", classes="0123456789")
    refused("link 'moon'", digits.plan().seconds, "moon")
    with lowkey.serve(digits) as server:
        refused("server.address", lowkey.Client, server)
        refused("prepare=-1", lowkey.Client, server.address, prepare=-1)
        with lowkey.Client(server.address) as client:
            refused("count=-1", client.prepare, -1)


def test_shapes_that_mean_the_same_are_the_same(digits: lowkey.Model, images: np.ndarray) -> None:
    expected = digits.predict(images[0]).index
    for same in (images[0], images[:1], images[0, 0], list(images[0])):
        assert digits.predict(same).index == expected


def test_pictures(digits: lowkey.Model, images: np.ndarray) -> None:
    # The network reads 0 to 15, a picture has 0 to 255.
    pixels = 17 * images[:3, 0]
    wanted = digits.predict_many(images[:3])[1].tolist()
    assert digits.predict_many(pixels, pixels=True)[1].tolist() == wanted
    image = pytest.importorskip("PIL.Image")
    pictures = [image.fromarray(one) for one in pixels]
    with lowkey.serve(digits) as server, lowkey.Client(server.address) as client:
        assert client.infer(pictures[0].convert("RGB")).logits.tolist() == wanted[0]
        assert [answer.logits.tolist() for answer in client.infer_many(pictures)] == wanted
    with pytest.raises(lowkey.InputError, match="9 x 8 pixels"):
        digits.predict(pictures[0].resize((9, 8)))


def test_errors_say_whose_fault_it_is(tmp_path: Path, digits: lowkey.Model) -> None:
    with pytest.raises(lowkey.InputError, match="no such file"):
        lowkey.load(tmp_path / "none.onnx")
    with pytest.raises(lowkey.InputError) as mistyped:
        lowkey.load(tmp_path / "none.onnx")
    assert mistyped.value.hint and "spelling" in mistyped.value.hint and "digits" not in mistyped.value.hint
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(lowkey.ImportRefused) as refused:
        lowkey.load(tmp_path / "bad.onnx")
    assert refused.value.obstacles == [] and refused.value.hint
    with pytest.raises(lowkey.PeerError):
        lowkey.Client("127.0.0.1:1", timeout=2)
    with pytest.raises(lowkey.InputError, match="64 hexadecimal digits"):
        lowkey.Client("127.0.0.1:1", digest="0123")
    with lowkey.serve(digits) as server, pytest.raises(lowkey.Refused):
        lowkey.Client(server.address, digest="00" * 32)
    with lowkey.serve(digits) as server, pytest.raises(lowkey.Refused, match="no model"):
        lowkey.Client(server.address, model="others")
    with pytest.raises(ValueError, match="reveal"):
        lowkey.serve(digits, reveal="all")


def test_a_closed_client_says_so(digits: lowkey.Model, images: np.ndarray) -> None:
    with lowkey.serve(digits) as server:
        client = lowkey.Client(server.address)
        client.close()
        client.close()
        with pytest.raises(lowkey.InputError, match="closed"):
            client.infer(images[0])


def test_a_saved_model_is_the_same(tmp_path: Path, digits: lowkey.Model, images: np.ndarray) -> None:
    digits.save(tmp_path / "digits.lowkey")
    again = lowkey.load(tmp_path / "digits.lowkey", classes=[f"digit {n}" for n in range(10)])
    assert again.predict_many(images)[1].tolist() == digits.predict_many(images)[1].tolist()
    assert again.predict(images[0]).label == f"digit {digits.predict(images[0]).index}"


def test_models_in_memory(tmp_path: Path, digits: lowkey.Model, images: np.ndarray) -> None:
    digits.save(tmp_path / "digits.lowkey")
    again = lowkey.load((tmp_path / "digits.lowkey").read_bytes())
    assert again.predict_many(images)[1].tolist() == digits.predict_many(images)[1].tolist()
    with pytest.raises(lowkey.ImportRefused):
        lowkey.load(b"no network")
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    random = np.random.default_rng(1)
    constants = {
        "scale": np.float32(1 / 16), "zero": np.uint8(3), "weight": random.integers(-7, 8, (5, 12)).astype(np.int8),
        "step": np.float32(1 / 8), "none": np.int8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["r"]),
        helper.make_node("DequantizeLinear", ["weight", "step", "none"], ["w"]),
        helper.make_node("Gemm", ["r", "w"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, kinds.FLOAT, [1, size]) for name, size in (("x", 12), ("y", 5))]
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString())
    for source in (model, model.SerializeToString()):
        loaded = lowkey.load(source, classes=list("abcde"))
        for x in random.normal(3, 4, (9, 12)).astype(np.float32):
            scores = loaded.predict(x).scores
            assert scores is not None and scores.tolist() == session.run(None, {"x": x[None]})[0][0].tolist()


def test_models_in_memory_write_no_file(tmp_path: Path, digits: lowkey.Model, images: np.ndarray) -> None:
    script = """
import sys, tempfile
import lowkey
data = open(sys.argv[1], "rb").read()
written = []
sys.addaudithook(lambda event, found: written.append(found) if event == "open" and not str(found[0]).endswith(".pyc") else None)
sys.addaudithook(lambda event, found: written.append(found) if event in ("os.mkdir", "tempfile.mkdtemp", "tempfile.mkstemp") else None)
model = lowkey.load(data)
print(model.name, written)
"""
    digits.save(tmp_path / "digits.lowkey")
    empty = tmp_path / "temporary"
    empty.mkdir(mode=0o500)
    ask = [sys.executable, "-c", script, str(tmp_path / "digits.lowkey")]
    ran = subprocess.run(ask, capture_output=True, text=True, timeout=60, env={**os.environ, "TMPDIR": str(empty)})
    assert (ran.stdout, ran.stderr) == ("digits []\n", "")
    for cut in (digits._inner.to_bytes()[:-1], digits._inner.to_bytes()[:40], b""):
        with pytest.raises(lowkey.InputError) as refused:
            lowkey.load(cut)
        assert str(empty) not in str(refused.value) and "/tmp" not in str(refused.value)


def test_copies_of_a_model_are_the_same(digits: lowkey.Model, images: np.ndarray) -> None:
    named = lowkey.load(digits._inner.to_bytes(), classes=[f"digit {n}" for n in range(10)])
    for again in (pickle.loads(pickle.dumps(named)), copy.deepcopy(named), copy.copy(named)):
        assert again.predict_many(images)[1].tolist() == digits.predict_many(images)[1].tolist()
        assert (again.classes, again.notes, again.layers) == (named.classes, named.notes, named.layers)
    # What its import had to say goes with it.
    noted = lowkey.Model(digits._inner, ["a note"])
    assert copy.deepcopy(copy.deepcopy(noted)).notes == ["a note"]


def test_parts_of_an_answer_are_made_when_they_are_asked_for(digits: lowkey.Model, images: np.ndarray) -> None:
    with lowkey.serve(digits) as server, lowkey.Client(server.address) as client:
        answer = client.infer(images[0])
    assert list(vars(answer)) == ["_found"], "nobody asked"
    assert answer.report.bytes > 0 and "layers" not in vars(answer.report)
    copied = pickle.loads(pickle.dumps(answer))
    layers = answer.report.layers
    assert {"conv1", "relu1", "input"} < {layer.name for layer in layers} and layers is answer.report.layers
    assert sum(layer.online_bytes for layer in layers) == answer.report.online.bytes
    assert "_found" not in vars(copied) and repr(copied) == repr(answer) and repr(copied.report) == repr(answer.report)
    assert copied.report.layers == layers and copied.quantised is None
    for one, other in ((copied.logits, answer.logits), (copied.scores, answer.scores), (copied.probabilities, answer.probabilities)):
        assert one is not None and other is not None and one.tolist() == other.tolist()
    with pytest.raises(AttributeError, match="not changed"):
        answer.label = "another"
    assert digits.predict(images[0]).report.layers == []


#: Files of this repository whose runtime is exact, and one that ends in its softmax, in float32.
EXPORTS = "models/tests/oracle/onnx"
FILES = {
    "examples/digits.onnx": 2e-7,
    f"{EXPORTS}/exports/static-qoperator-channel-global.onnx": 0,
    f"{EXPORTS}/exports/static-qoperator-tensor-global.onnx": 0,
    f"{EXPORTS}/exports/brevitas-qcdq-w3-tensor-power-branches.onnx": 0,
    f"{EXPORTS}/fixtures/qcdq.onnx": 0,
    f"{EXPORTS}/fixtures/qdq.onnx": 0,
    f"{EXPORTS}/fixtures/qoperator.onnx": 0,
    f"{EXPORTS}/fixtures/static_qoperator.onnx": 0,
}


def of_repository(path: str) -> Path:
    repository = Path(os.environ.get("LOWKEY_REPOSITORY", Path(__file__).parent.parent.parent))
    if not (found := repository / path).exists():
        pytest.skip(f"no {found}: LOWKEY_REPOSITORY names the folder of the repository")
    return found


@pytest.mark.parametrize(("file", "apart"), FILES.items())
def test_private_answers_are_those_of_onnx_runtime(file: str, apart: float) -> None:
    runtime = pytest.importorskip("onnxruntime")
    path = of_repository(file)
    session = runtime.InferenceSession(path)
    [reads], [gives] = session.get_inputs(), session.get_outputs()
    random = np.random.default_rng(17)
    shape = (4, 1, *reads.shape[1:])
    inputs = random.normal(0, 1, shape).astype(np.float32)
    if "uint8" in reads.type:
        inputs = random.integers(0, 256, shape).astype(np.uint8)
    model = lowkey.load(path)
    with lowkey.serve(model) as server, lowkey.Client(server.address) as client:
        for x in inputs:
            wanted = session.run(None, {reads.name: x})[0].reshape(-1)
            answer = client.infer(x)
            found = answer.quantised if "uint8" in gives.type else answer.scores
            assert found is not None and len(found) == len(wanted)
            assert np.abs(found - wanted.astype(np.float64)).max() <= apart
            assert answer.logits is not None and answer.logits.tolist() == model.predict(x).logits.tolist()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_says_how_far_a_batch_is(digits: lowkey.Model, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    with lowkey.serve(digits) as server, lowkey.Client(server.address) as client:
        here, pipe = (Terminal, True), (io.StringIO, False)
        for (kind, terminal), progress in ((here, None), (here, False), (pipe, None), (pipe, True)):
            stream, shown = kind(), terminal if progress is None else progress
            monkeypatch.setattr(sys, "stderr", stream)
            client.infer_many(images[:4], progress=progress)
            assert bool(stream.getvalue()) == shown
            lines = [line.rstrip() for line in stream.getvalue().split("\r")[1:]]
            if shown:
                assert stream.getvalue().endswith("\n") and max(map(len, lines)) <= 80
                assert [line.partition("]")[0].count("#") for line in lines] == [0, 6, 12, 18, 24]
                assert lines[0].endswith("] 0 of 4 answered") and "] 3 of 4 answered, " in lines[3] and lines[3].endswith(" left")
                assert lines[4].endswith(" in all")


def test_a_bar_has_the_rate_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, times = Progress(200, shown=False), iter((10.0, 400.0, 20000.0))
    bar._began = 0
    monkeypatch.setattr("lowkey._progress.time.monotonic", lambda: next(times))
    for _ in range(50):
        bar.step()
    assert [bar.line().partition("answered, ")[2] for _ in range(3)] == [
        "5.0 a second, 30 s left", "8.0 s each, 20 min 0 s left", "400.0 s each, 16 h 40 min left"
    ]  # fmt: skip


def test_a_plan_as_a_table(digits: lowkey.Model) -> None:
    pytest.importorskip("pandas")
    plan = digits.plan("wan")
    table = plan.to_dataframe()
    assert list(table["name"]) == [layer["name"] for layer in plan.layers]
    assert (table["offline_bytes"] + table["online_bytes"]).sum() <= plan.bytes


def test_what_needs_more_packages_says_so() -> None:
    script = """
import sys
sys.modules["torch"] = None
import lowkey
try:
    lowkey.train
except ModuleNotFoundError as error:
    print(error)
try:
    lowkey.nothing
except AttributeError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "needs the package torch: pip install" in ran.stdout, ran.stderr
    assert "has no attribute 'nothing'" in ran.stdout


def test_the_command_comes_with_it() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "lowkey", *arguments], capture_output=True, text=True, timeout=120)

    version, wrong = run("--version"), run("demo", "--count", "none")
    assert version.returncode == 0 and version.stdout.startswith("lowkey ")
    assert wrong.returncode == 2 and "--count" in wrong.stderr
    assert run("plan", "nowhere.onnx").returncode == 2


def test_the_bench_beside_the_command_runs() -> None:
    bench = of_repository("python/benches/infer.py")
    ask = [sys.executable, str(bench), "digits", "--rounds", "1", "--count", "2"]
    ran = subprocess.run(ask, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    head, row = ran.stdout.splitlines()
    assert head.split() == "model Rust call Python call more command online Python online more".split()
    name, base, call, *_ = row.split()
    assert name == "digits" and float(call) > 0 < float(base) and row.count("%") == 2
