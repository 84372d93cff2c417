"""Writes a trained network and its card, after checking that the file computes what was trained, bit for bit."""

import numpy as np
import torch

from .export import export
from .integer import IntegerNet


def finish(net, zoo, *, name, shape, classes, images, labels, float_accuracy, about, command, epochs):
    """images: [B, C, H, W] of 4-bit integers; zoo: the folder that gets <name>.lowkey and <name>.md."""
    path = zoo / f"{name}.lowkey"
    export(net, path, name=name, shape=shape, input_bits=4, classes=classes)
    file = IntegerNet(path)
    right = 0
    for start in range(0, len(images), 500):
        batch = images[start : start + 500]
        logits = file(batch)
        with torch.no_grad():
            trained = net.integers(torch.from_numpy(batch.astype(np.float32))).numpy().astype(np.int64)
        assert (logits == trained).all(), "the file and the trained network differ"
        right += int((logits.argmax(1) == labels[start : start + 500]).sum())
    lines = [
        f"# {name}",
        "",
        f"{about}.",
        "",
        "| | |",
        "|---|---|",
        f"| input | {' x '.join(map(str, shape))}, 4 bits |",
        f"| accuracy, integer network | {100 * right / len(images):.2f} % ({right} of {len(images)}) |",
        f"| accuracy, floating-point network it started from | {100 * float_accuracy:.2f} % |",
        f"| made by | `{command}` in `models/`, {epochs[0]} epochs in floating point, {epochs[1]} in integers |",
        "",
        "Worst-case accumulators over the actual weights and all inputs, bias included; weights lie in -7..=7, activations in 0..=15.",
        "",
        "| layer | shape | weight bits | shift | accumulator bits | largest bias |",
        "|---|---|---|---|---|---|",
    ]
    for layer, bits, shift, accumulator, bias in file.table():
        weight = file.tensors[f"{layer}.0.weight"]
        sizes = " x ".join(map(str, weight.shape))
        lines.append(f"| {layer} | {sizes} | {bits} | {'' if shift is None else shift} | {accumulator} | {bias} |")
    (zoo / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[6:]), flush=True)
