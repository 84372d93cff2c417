"""Writes random graphs of one dialect, runs them, and stores inputs and outputs as integers.

    generate.py dialect seed count folder

Every graph becomes folder/N.onnx and folder/N.json: {"inputs": [[...]], "outputs": [[...]], "exact": true}, where an input is the
list of x = q - zero_point, and an output the list of the network's values, or of real numbers where it is not exact.
"""

import importlib
import json
import sys
import warnings

import numpy as np
import onnx

warnings.filterwarnings("ignore")
SAMPLES = 6
# Dialects that have a file of their own, of the same name.
OWN = ("steps", "moves", "shapes", "floats", "functions", "wide", "integers", "ties", "products", "between", "rows", "ends", "dedicated", "averages")


def run_qdq(rng, dialect):
    import qdq

    narrow = int(rng.integers(2, 8)) if dialect == "qcdq" else None
    graph, model = qdq.random(rng, dialect == "qoperator", narrow, dialect.endswith("_extras") or dialect == "qoperator")
    return model, graph.answers(model, SAMPLES)


def main():
    dialect, seed, count, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        if dialect.startswith("qonnx"):
            import qonnx_graphs

            model, case = qonnx_graphs.run(rng, SAMPLES, powers=dialect == "qonnx")
        elif dialect in OWN:
            model, case = importlib.import_module(dialect).run(rng, SAMPLES, index)
        elif dialect.startswith("static"):
            import static

            model, case = static.run(rng, SAMPLES, dialect.removeprefix("static_"))
        else:
            model, case = run_qdq(rng, dialect)
        onnx.save(model, f"{folder}/{index}.onnx")
        with open(f"{folder}/{index}.json", "w") as file:
            json.dump(case, file)


main()
