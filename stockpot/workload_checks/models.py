"""Checks of the model, the forward pass, the loss and the metrics."""

from __future__ import annotations

import copy
import math
import re

import torch
from torch import Tensor, nn

from stockpot.workload_checks.subject import Subject, copied, equal
from stockpot.workloads.protocol import Batch

# From large to small: one of them is small enough for any loss that has a gradient.
_STEP_SIZES = tuple(10.0**exponent for exponent in range(0, -8, -1))
_CLOSE = {"rtol": 1e-3, "atol": 1e-4}
_ALLOWED = re.compile(r"[\w .:-]+")


def model_is_rebuilt(subject: Subject) -> str | None:
    """Equal generators give equal weights, which two models do not share."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = subject.model()
        torch.manual_seed(2)
        again = subject.model()
    if not isinstance(first, nn.Module):
        return f"build_model(): must return an nn.Module, got {type(first).__name__}"
    if first is again or _places(first) & _places(again):
        return "build_model(): must build a new model each time, got one that shares its weights"
    before, after = first.state_dict(), again.state_dict()
    differing = [name for name in before if not torch.equal(before[name], after[name])]
    if differing:
        return (
            "build_model(): weights must come from the generator that it is given alone, got "
            f"others from an equal one, such as {differing[0]!r}; initialise with "
            "`generator=generator`, or inside torch.random.fork_rng() with its seed"
        )
    return None


def forward_passes_examples(subject: Subject) -> str | None:
    """Outputs are finite, one an example, and do not depend on the others of a batch."""
    model, batch = subject.model(), subject.batch
    before = copied(batch)
    outputs, count = subject.outputs(model, batch), len(batch[-1])
    if not isinstance(outputs, Tensor) or outputs.ndim < 1 or len(outputs) != count:
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        return f"forward(): must return a tensor ({count}, ...) for {count} examples, got {found}"
    if not equal(batch, before):
        return "forward(): must leave the batch as it is; change a copy"
    if not outputs.isfinite().all():
        return "forward(): must return finite outputs, got NaN or infinity"
    if not torch.allclose(outputs, subject.outputs(model, batch), **_CLOSE):
        return (
            "forward(): must give the same outputs twice in eval mode, got others; "
            "leave dropout to nn.Dropout"
        )
    half = tuple(tensor[: (count + 1) // 2] for tensor in batch)
    if not torch.allclose(outputs[: len(half[-1])], subject.outputs(model, half), **_CLOSE):
        return (
            "forward(): an example's outputs must not depend on the rest of its batch in eval "
            "mode, got others in half of it"
        )
    return None


def loss_is_per_example(subject: Subject) -> str | None:
    """The loss is (N,), finite, and takes label smoothing."""
    outputs, batch = subject.outputs(subject.model(), subject.batch), subject.batch
    losses, count = subject.workload.loss(outputs, batch), len(batch[-1])
    if tuple(losses.shape) != (count,):
        return (
            f"loss(): must have one value an example, ({count},), got {tuple(losses.shape)}; "
            "use reduction='none', and mean over all other dimensions"
        )
    if not losses.isfinite().all():
        return "loss(): must be finite, got NaN or infinity"
    few = tuple(tensor[:1] for tensor in batch)
    if not torch.allclose(losses[:1], subject.workload.loss(outputs[:1], few), **_CLOSE):
        return "loss(): an example's loss must not depend on the others, got another when alone"
    smoothed = subject.workload.loss(outputs, batch, label_smoothing=0.1)
    if tuple(smoothed.shape) != (count,):
        return f"loss(): must be ({count},) with label_smoothing, got {tuple(smoothed.shape)}"
    return None


def step_lowers_the_loss(subject: Subject) -> str | None:
    """A step against the gradient lowers the loss on its batch, and train mode works."""
    model, batch = subject.model(), subject.batch
    with torch.random.fork_rng(devices=[]):
        if not math.isfinite(_loss(subject, model.train(), batch).item()):
            return "loss(): must be finite in train mode, got NaN or infinity"
    loss = _loss(subject, model.eval(), batch)
    if not loss.requires_grad:
        return "loss(): must have a gradient, got none; use no .detach(), .item() or no_grad()"
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    slopes = [p.grad for p in model.parameters() if p.grad is not None]
    if not any(slope.any() for slope in slopes):
        return "build_model(): some parameter must get a gradient, got none; do not freeze all"
    for size in _STEP_SIZES:
        if _loss(subject, _stepped(model, size), batch).item() < loss.item():
            return None
    return (
        f"loss(): must fall with a small step against its gradient, got {loss.item():g} or more "
        "after steps of all sizes; check the sign of the loss"
    )


def metrics_are_per_example(subject: Subject) -> str | None:
    """Each metric has one finite value an example, and a name that MLflow takes."""
    outputs, targets = subject.outputs(subject.model(), subject.batch), subject.batch[-1]
    if not subject.workload.metrics:
        return "metrics: must have one at least, for choices, got none"
    for name, metric in subject.workload.metrics.items():
        if not _ALLOWED.fullmatch(name):
            return f"metrics: names must be of letters, digits, '_', '-', '.', ' ', got {name!r}"
        values = metric(outputs, targets)
        if not isinstance(values, Tensor) or tuple(values.shape) != tuple(targets.shape[:1]):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            return (
                f"metric {name!r}: must be one value an example, ({len(targets)},), got {found}; "
                "do not take the mean"
            )
        if not values.is_floating_point() or not values.isfinite().all():
            return (
                f"metric {name!r}: must be finite floats, got {values.dtype}; "
                "make booleans 0 and 1 with .float()"
            )
    return None


def _loss(subject: Subject, model: nn.Module, batch: Batch) -> Tensor:
    return subject.workload.loss(subject.workload.forward(model, batch), batch).mean()


def _stepped(model: nn.Module, size: float) -> nn.Module:
    """Return a copy of a model that has gone against its gradient."""
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, old in zip(moved.parameters(), model.parameters(), strict=True):
            if old.grad is not None:
                parameter -= size * old.grad
    return moved


def _places(model: nn.Module) -> set[int]:
    return {tensor.data_ptr() for tensor in model.state_dict().values() if tensor.numel()}
