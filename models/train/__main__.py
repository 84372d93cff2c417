"""Trains one network of the zoo: `python3 -m train <name>` in models/."""

import argparse
import pathlib

import numpy as np
import torch
from lowkey.train.layers import Width
from lowkey.train.loop import accuracy
from lowkey.train.loop import train as fit
from lowkey.train.network import Input
from lowkey.train.quantise import quantised

from . import data
from .card import finish
from .entries import ENTRIES
from .floating import FloatNet, graph_of

MODELS = pathlib.Path(__file__).parent.parent


def main():
    parser = argparse.ArgumentParser(prog="python3 -m train", description=__doc__)
    parser.add_argument("name", choices=[entry.name for entry in ENTRIES])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, nargs=2, metavar=("FLOAT", "INTEGER"))
    parser.add_argument("--zoo", type=pathlib.Path, default=MODELS / "zoo", help="where the results go")
    parser.add_argument("--work", type=pathlib.Path, default=MODELS.parent / "target" / "zoo", help="where checkpoints go")
    parser.add_argument("--export", action="store_true", help="export the checkpoint as it is, without training on")
    options = parser.parse_args()
    (entry,) = [entry for entry in ENTRIES if entry.name == options.name]
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    train(entry, options)


def train(entry, options):
    epochs = options.epochs or entry.epochs
    source = data.SOURCES[entry.data](entry.input_bits)
    shape = tuple(source.test[0].shape[1:])

    torch.manual_seed(options.seed)
    floating = FloatNet(shape, entry.layers, input_max=2**entry.input_bits - 1).to(memory_format=torch.channels_last)
    family = entry.name.rsplit("-w", 1)[0]
    decayed = [p for p in floating.parameters() if p.dim() > 1]
    others = [p for p in floating.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others}]
    fit(
        floating,
        source.batches,
        epochs=epochs[0],
        optimiser=torch.optim.SGD(groups, lr=source.rate, momentum=0.9, nesterov=True),
        rates=source.rate,
        stage=f"{family}, floating point",
        tell=tell,
        checkpoint=options.work / f"{family}-{entry.input_bits}bits-seed{options.seed}-e{epochs[0]}.pt",
    )
    float_accuracy = accuracy(floating, *source.test)
    print(f"{family}, floating point: {100 * float_accuracy:.2f} %", flush=True)

    torch.manual_seed(options.seed)
    widths = zip([*entry.activation_bits, 0], entry.accumulator_bits, strict=True)
    net = quantised(
        graph_of(floating, source.sample[:2]),
        Input(1.0, entry.input_bits),
        source.sample,
        [Width(entry.weight_bits, activation, accumulator) for activation, accumulator in widths],
        by_first=True,
    )
    print(f"{entry.name}: {100 * accuracy(net, *source.test):.2f} % before training", flush=True)
    groups, rates = net.groups()
    seconds, done = fit(
        net,
        source.batches,
        epochs=epochs[1],
        optimiser=torch.optim.Adam(groups),
        rates=rates,
        teacher=floating.fused(),
        stage=entry.name,
        tell=tell,
        checkpoint=options.work / f"{entry.name}-seed{options.seed}-e{epochs[1]}.pt",
        stop=options.export,
    )
    if entry.data == "digits":
        images, labels = source.test
        np.save(options.zoo / "digits-images.npy", images.numpy().astype(np.uint8))
        np.save(options.zoo / "digits-labels.npy", labels.numpy().astype(np.uint8))
    command = ["python3 -m train", entry.name, f"--seed {options.seed}"]
    if options.epochs:
        command.append(f"--epochs {epochs[0]} {epochs[1]}")
    trained = f"{epochs[0]} epochs in floating point, {done} in integers"
    if done < epochs[1]:
        trained += f" (of {epochs[1]} planned: stopped early)"
    finish(net, entry, source, options.zoo, float_accuracy=float_accuracy, command=" ".join(command), trained=trained)
    print(f"{seconds:.0f} CPU s for the integers", flush=True)


def tell(epoch):
    """A line for an epoch, or for every tenth part of many."""
    if epoch.of < 50 or epoch.number == epoch.of or (epoch.number - 1) % (epoch.of // 10) == 0:
        print(
            f"{epoch.stage}: epoch {epoch.number} of {epoch.of}, loss {epoch.loss:.4f}, "
            f"{100 * epoch.accuracy:.2f} % of the training images, {epoch.seconds:.0f} CPU s",
            flush=True,
        )


if __name__ == "__main__":
    main()
