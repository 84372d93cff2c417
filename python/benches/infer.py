"""What an answer takes from Python and in Rust, at one server: python benches/infer.py [MODEL ...] [--rounds N] [--count N]

The base is the whole call of the library's client, `lowkey::blocking::Client::infer`, on elements that are there: from the input to the
answer and its report. Beside it the whole call of Python's `Client.infer`, arrays and report included: in one session, for the same
inputs, prepared ahead, in turns, so that what else the machine does meets both. And the online stages that the command prints of its own
answers from that server and that Python's reports have: a stage is a part of a call, so these two compare with each other. Medians, in
milliseconds; for a quiet machine. The server is the command of this package.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import lowkey

COMMAND = [sys.executable, "-m", "lowkey"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["digits", "mnist-minionn-w4a4"], help="bundled ones")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each")
    parser.add_argument("--count", type=int, default=10, help="answers in a turn")
    options = parser.parse_args()
    print(f"{'model':<24} {'Rust call':>10} {'Python call':>12} {'more':>7} {'command online':>15} {'Python online':>14} {'more':>7}")
    for name in options.models:
        base, call, command, stage = (statistics.median(times) for times in measured(name, options.rounds, options.count))
        calls = f"{base:>10.3f} {call:>12.3f} {100 * (call / base - 1):>6.1f}%"
        print(f"{name:<24} {calls} {command:>15.3f} {stage:>14.3f} {100 * (stage / command - 1):>6.1f}%", flush=True)


Times = tuple[list[float], list[float], list[float], list[float]]


def measured(name: str, rounds: int, count: int) -> Times:
    """Milliseconds of each answer: the Rust client's calls, Python's, the command's online stages, and Python's."""
    model = lowkey.load(name)
    inputs = np.random.default_rng(1).integers(0, 2, (count, *model.input_shape)).astype(np.uint8)
    found: Times = ([], [], [], [])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs.npy"
        np.save(file, inputs)
        environment = os.environ | {"LOWKEY_CACHE": folder}
        serve = [*COMMAND, "serve", "--model", name, "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            match = re.search(r"listening on (\S+)", line)
            assert match, f"the server says: {line}"
            ask = [*COMMAND, "infer", "--server", match[1], "--input", str(file), "--count", str(count), "--prepare", str(count)]
            # The first answers warm caches and are not counted.
            for turn in range(rounds + 1):
                printed = subprocess.run([*ask, "--json"], capture_output=True, text=True, check=True, env=environment).stdout
                command = [json.loads(row)["stages"]["online"]["ms"] for row in printed.splitlines()]
                base, calls, stages = asked(match[1], inputs)
                if turn:
                    for all_of_them, times in zip(found, (base, calls, command, stages), strict=True):
                        all_of_them += times
        finally:
            server.terminate()
            server.wait()
    return found


def asked(address: str, inputs: np.ndarray) -> tuple[list[float], list[float], list[float]]:
    """Of Rust's calls, Python's calls and their online stages."""
    base, calls, stages = [], [], []
    with lowkey.Client(address) as client:
        client.prepare(2 * len(inputs))

        def rust(one: np.ndarray) -> None:
            base.append(client._inner.infer_timed(one.tobytes(), "uint8")[0])

        def python(one: np.ndarray) -> None:
            began = time.perf_counter()
            answer = client.infer(one)
            calls.append(1e3 * (time.perf_counter() - began))
            stages.append(answer.report.online.milliseconds)

        for number, one in enumerate(inputs):
            for step in (rust, python) if number % 2 else (python, rust):
                step(one)
    return base, calls, stages


main()
