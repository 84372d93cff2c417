"""The training loop, for the floating-point network and for the integer one."""

import os
import time

import torch
import torch.nn.functional as F


def fit(model, batches, *, epochs, optimiser, rates, teacher=None, label, checkpoint, stop=False):
    """A one-cycle rate; `rates` has the highest rate of each parameter group of the optimiser.

    `batches` yields (inputs, labels) once per epoch; `teacher`, if given, adds its soft labels (distillation). A model's
    method `begin` is called before each epoch, with the part of the training that is over, `project` after each step. `checkpoint`: a file that is written after each epoch; if it is there at the
    start, training goes on from it, or, with `stop`, ends. Returns CPU seconds and epochs.
    """
    steps = len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=epochs * steps, pct_start=0.15)
    project = getattr(model, "project", lambda: None)
    begin = getattr(model, "begin", lambda progress: None)
    first, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        assert state["epochs"] == epochs, "the checkpoint belongs to another schedule"
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        first, seconds = state["epoch"], state["seconds"]
    last = first if stop else epochs
    for epoch in range(first, last):
        start = time.process_time()
        model.train()
        begin(epoch / epochs)
        total, right, seen = 0.0, 0, 0
        for x, y in batches:
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            if teacher is not None:
                with torch.no_grad():
                    soft = F.softmax(teacher(x) / 2, 1)
                loss = 0.5 * loss + 2 * F.kl_div(F.log_softmax(logits / 2, 1), soft, reduction="batchmean")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            project()
            schedule.step()
            total += loss.item()
            right += (logits.argmax(1) == y).sum().item()
            seen += len(y)
        seconds += time.process_time() - start
        if epochs < 50 or epoch == epochs - 1 or epoch % (epochs // 10) == 0:
            print(
                f"{label}: epoch {epoch + 1} of {epochs}, loss {total / steps:.4f}, "
                f"{100 * right / seen:.2f} % of the training images, {seconds:.0f} CPU s",
                flush=True,
            )
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
        state |= {"random": torch.get_rng_state(), "epochs": epochs, "epoch": epoch + 1, "seconds": seconds}
        torch.save(state, checkpoint.with_suffix(".part"))
        os.replace(checkpoint.with_suffix(".part"), checkpoint)
    model.eval()
    return seconds, last


@torch.no_grad()
def accuracy(model, x, y):
    """The fraction of inputs whose largest logit is the label's."""
    model.eval()
    right = sum((model(x[i : i + 500]).argmax(1) == y[i : i + 500]).sum().item() for i in range(0, len(x), 500))
    return right / len(x)
