"""The training loop, for the floating-point network and for the integer one."""

import time

import torch
import torch.nn.functional as F


def fit(model, batches, *, epochs, rate, teacher=None, label):
    """Adam with a one-cycle rate. `batches` yields (inputs, labels) once per epoch; `teacher`, if given, adds its soft labels (distillation).

    A model with a method `project` is projected after each step.
    """
    steps = len(batches)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * steps, pct_start=0.15)
    project = getattr(model, "project", lambda: None)
    start = time.process_time()
    for epoch in range(epochs):
        model.train()
        total = 0.0
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
        if epoch == epochs - 1 or epoch % max(1, epochs // 10) == 0:
            seconds = time.process_time() - start
            print(f"{label}: epoch {epoch + 1} of {epochs}, loss {total / steps:.4f}, {seconds:.0f} CPU s", flush=True)
    model.eval()


@torch.no_grad()
def accuracy(model, x, y):
    """The fraction of inputs whose largest logit is the label's."""
    model.eval()
    right = sum((model(x[i : i + 1000]).argmax(1) == y[i : i + 1000]).sum().item() for i in range(0, len(x), 1000))
    return right / len(x)
