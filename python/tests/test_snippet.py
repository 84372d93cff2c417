"""The lines that people are shown first, as they stand there.

With torch at hand they run in a process of their own; with LOWKEY_SLOW=1 and LOWKEY_WHEEL, the file of the wheel, also in a fresh
virtual environment that has nothing but the wheel and what its extras name.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent

#: What the reader has: a trained module, and data.
READER = """
import torch
import lowkey

images, labels = lowkey.load("digits").demo()
X, y = torch.from_numpy(images / 15).float(), torch.from_numpy(labels)
X_test, y_test = X[240:], y[240:]
torch.manual_seed(1)
torch_module = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(128, 10)
)
optimiser = torch.optim.Adam(torch_module.parameters(), 0.01)
for _ in range(60):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(torch_module(X[:240]), y[:240]).backward()
    optimiser.step()
X, x = X_test[:6], X_test[0]
"""

SNIPPET = """
import lowkey
model  = lowkey.quantise(torch_module, calibration=X, bits=4)      # or lowkey.load("net.onnx" | "net.tflite" | "mnist-minionn-w4a4")
model.evaluate(X_test, y_test)                                     # the integer network in the clear: accuracy, fast (threads)
print(model.plan(link="wan"))                                      # bytes, seconds, flights, memory, by layer; a DataFrame if pandas is there
server = lowkey.serve(model, "127.0.0.1:0")                        # background; context manager
client = lowkey.Client(server.address)                             # digest=, ca=, pin=, prepare=4
answer = client.infer(x)                                           # numpy, torch or PIL; .label .probabilities .logits .report
answers = client.infer_many(X)                                     # progress bar; next slots are prepared meanwhile
"""

CHECKS = """
assert model.evaluate(X_test, y_test).accuracy > 0.7
classes, logits = model.predict_many(X)
assert [one.logits.tolist() for one in answers] == logits.tolist() and [one.label for one in answers] == classes.tolist()
assert answer.logits.tolist() == logits[0].tolist() and answer.label == classes[0]
assert abs(answer.probabilities.sum() - 1) < 1e-9 and answer.report.bytes == model.plan().bytes
client.close()
server.close()
print("all of it")
"""


#: Without what makes other packages than the installed ones visible.
CLEAN = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def runs(python: str, text: str, folder: Path, environment: dict[str, str] | None = None) -> None:
    (folder / "snippet.py").write_text(text)
    ran = subprocess.run([python, "snippet.py"], cwd=folder, capture_output=True, text=True, timeout=900, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert "once per client" in ran.stdout and "all of it" in ran.stdout


@pytest.mark.skipif(not all(map(importlib.util.find_spec, ("torch", "onnx"))), reason="torch and onnx are not installed")
def test_the_first_lines(tmp_path: Path) -> None:
    runs(sys.executable, READER + SNIPPET + CHECKS, tmp_path)


def blocks(path: str) -> list[str]:
    """The Python of a page of the repository."""
    file = Path(os.environ.get("LOWKEY_REPOSITORY", REPOSITORY)) / path
    if not file.exists():
        pytest.skip(f"no {file}: LOWKEY_REPOSITORY names the folder of the repository")
    return re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)


def page() -> str:
    """The code of docs/train-your-own.md, and what it must have done."""
    checks = """
assert model.evaluate(X[1437:], y[1437:]).accuracy > 0.93
assert lowkey.load("mine.lowkey").predict_many(X[-9:])[1].tolist() == model.predict_many(X[-9:])[1].tolist()
print("all of it")
"""
    return blocks("docs/train-your-own.md")[0] + checks


def test_the_readme(tmp_path: Path) -> None:
    """Its first block alone, then with what the others take for granted."""
    first, float_network, classifier, trained = blocks("python/README.md")
    runs(sys.executable, first + 'print("all of it")', tmp_path)
    if not all(map(importlib.util.find_spec, ("torch", "onnx", "sklearn", "safetensors"))):
        pytest.skip("torch, onnx, scikit-learn and safetensors are not installed")
    assert "bits=4)    # on your own data" in trained
    trained = trained.replace("bits=4)", "bits=4, epochs=(1, 1))")
    more = "flat, flat_test = X.numpy().reshape(len(X), -1), X_test.numpy().reshape(len(X_test), -1)\n"
    classifier = classifier.replace("X_test", "flat_test").replace("(X, y)", "(flat, y[:6])")
    text = READER + float_network + more + classifier + "X, y = X_test, y_test\n" + trained
    runs(sys.executable, text + 'print(model.plan(), "all of it")', tmp_path)


@pytest.mark.skipif(os.environ.get("LOWKEY_SLOW") != "1", reason="downloads torch: LOWKEY_SLOW=1 runs it")
def test_the_first_lines_and_the_page_in_a_fresh_environment(tmp_path: Path) -> None:
    wheel = os.environ.get("LOWKEY_WHEEL")
    if wheel is None:
        pytest.skip("LOWKEY_WHEEL names no wheel to install")
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")

    def install(*what: str) -> None:
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
        subprocess.run(pip, check=True, timeout=3000, env=CLEAN)

    install(f"{wheel}[torch]")
    runs(python, READER + SNIPPET + CHECKS, tmp_path, CLEAN)
    # The page's data are of scikit-learn.
    install(f"{wheel}[train]", "scikit-learn")
    runs(python, page(), tmp_path, CLEAN)


@pytest.mark.skipif(os.environ.get("LOWKEY_SLOW") != "1", reason="trains for a while: LOWKEY_SLOW=1 runs it")
def test_the_page_on_training(tmp_path: Path) -> None:
    for package in ("torch", "safetensors", "sklearn"):
        pytest.importorskip(package)
    runs(sys.executable, page(), tmp_path)
