"""Writes a trained network and its card, after checking that the file computes what was trained, bit for bit."""

import numpy as np
import torch
from lowkey.train.export import export

from .golden import write_golden
from .integer import IntegerNet

#: How many images, evenly spread, the quick count takes.
QUICK = 1000


def finish(net, entry, source, zoo, *, float_accuracy, command, trained):
    """zoo: the folder that gets <name>.lowkey and <name>.md; command, trained: texts of the card."""
    path = zoo / f"{entry.name}.lowkey"
    inputs, labels = source.test
    shape = list(inputs.shape[1:])
    export(net, path, name=entry.name, classes=source.classes, coded=False)
    file = IntegerNet(path)
    right = np.zeros(len(labels), bool)
    for start in range(0, len(inputs), 200):
        batch = inputs[start : start + 200]
        logits = file(np.ascontiguousarray(batch.numpy()).astype(np.uint8))
        with torch.no_grad():
            trained_logits = net.integers(batch).numpy().astype(np.int64)
        assert (logits == trained_logits).all(), "the file and the trained network differ"
        right[start : start + 200] = logits.argmax(1) == labels[start : start + 200].numpy()
    table = file.table()
    for row, layer, limit in zip(table, net.layers, entry.accumulator_bits, strict=True):
        assert row[5] <= limit, f"{row[0]}: {row[5]} bits"
    total = int(right.sum())
    lines = [
        f"# {entry.name}",
        "",
        f"{source.about}. Architecture: {entry.architecture}.",
        "",
        "| | |",
        "|---|---|",
        f"| input | {' x '.join(map(str, shape))}, {entry.input_bits} bits |",
        f"| accuracy, integer network | {100 * total / len(right):.2f} % ({total} of {len(right)}) |",
    ]
    if len(right) > QUICK:
        every = len(right) // QUICK
        lines.append(f"| right of every {every}th image, from the first | {int(right[::every].sum())} of {QUICK} |")
    lines += [
        f"| accuracy, floating-point network it started from | {100 * float_accuracy:.2f} % |",
        f"| made by | `{command}` in `models/`: {trained} |",
        "",
        "Worst-case accumulators over the actual weights and all inputs, bias included; x' is the tensor that a skip adds.",
        "",
        "| layer | weights | weight bits | shift | activation bits | accumulator bits | largest bias |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in table]
    (zoo / f"{entry.name}.md").write_text("\n".join(lines) + "\n")
    write_golden(path, zoo.parent / "tests" / "golden")
    print("\n".join(lines[6:]), flush=True)
