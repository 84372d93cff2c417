"""What an answer takes from Python and by the command, at one server: python benches/infer.py [MODEL ...] [--rounds N] [--count N]

Both ask the same server, which is the command of this package, for the same inputs, prepared ahead; in turns, so that what else the
machine does meets both. The command prints its online stage; of Python there is the online stage too, and the whole call of
`Client.infer`, arrays and report included. Medians, in milliseconds; for a quiet machine.
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
    print(f"{'model':<24} {'command online':>15} {'Python online':>15} {'more':>7} {'Python call':>13} {'more':>7}")
    for name in options.models:
        command, calls, stages = measured(name, options.rounds, options.count)
        base, stage, call = (statistics.median(times) for times in (command, stages, calls))
        row = f"{name:<24} {base:>15.3f} {stage:>15.3f} {100 * (stage / base - 1):>6.1f}% {call:>13.3f} {100 * (call / base - 1):>6.1f}%"
        print(row, flush=True)


def measured(name: str, rounds: int, count: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of each answer: the command's online stage, Python's calls, and their online stages."""
    model = lowkey.load(name)
    inputs = np.random.default_rng(1).integers(0, 2, (count, *model.input_shape)).astype(np.uint8)
    found: tuple[list[float], list[float], list[float]] = [], [], []
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
                calls, stages = asked(match[1], inputs)
                if turn:
                    for all_of_them, times in zip(found, (command, calls, stages)):
                        all_of_them += times
        finally:
            server.terminate()
            server.wait()
    return found


def asked(address: str, inputs: np.ndarray) -> tuple[list[float], list[float]]:
    calls, stages = [], []
    with lowkey.Client(address) as client:
        client.prepare(len(inputs))
        for one in inputs:
            began = time.perf_counter()
            answer = client.infer(one)
            calls.append(1e3 * (time.perf_counter() - began))
            stages.append(answer.report.online.milliseconds)
    return calls, stages


main()
