"""Checks of the model, the forward pass, the loss and the metrics.

Each check takes a `CheckedWorkload` and returns what is wrong and what to change, or None.
"""

from __future__ import annotations

import copy
import math
import re

import torch
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.workloads.checks.checked_workload import CheckedWorkload
from stockpot.workloads.checks.examples import copied, equal
from stockpot.workloads.protocol import Batch

# From large to small, down to one that suits any loss with a gradient.
_STEP_SIZES = tuple(10.0**exponent for exponent in range(0, -8, -1))
_NAMES = re.compile(r"[\w .:-]+")  # allowed in MLflow's metric names, besides slashes


def models_are_reproducible(checked: CheckedWorkload) -> str | None:
    """Equal generators give equal weights, and models do not share weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = checked.model()
        torch.manual_seed(2)
        again = checked.model()
    if problem := _type_problem(first):
        return problem
    if first is again or _addresses(first) & _addresses(again):
        return "build_model(): must build a new model each time, got one that shares its weights"
    before, after = first.state_dict(), again.state_dict()
    differing = [name for name in before if not torch.equal(before[name], after[name])]
    if differing:
        return (
            "build_model(): weights must depend on the given generator alone, got "
            f"others from an equal one, such as {differing[0]!r}; draw with generator=generator, "
            "or build inside torch.random.fork_rng() after "
            "torch.manual_seed(generator.initial_seed())"
        )
    return None


def outputs_are_per_example(checked: CheckedWorkload) -> str | None:
    """Outputs are finite, one per example, and independent of the rest of the batch."""
    model, batch = checked.model(), checked.batch
    before = copied(batch)
    outputs, count = checked.outputs(model, batch), len(batch[-1])
    if not _shape(outputs).startswith(f"({count},"):
        return (
            f"forward(): must return a tensor ({count}, ...) for {count} examples, "
            f"got {_shape(outputs)}"
        )
    if not equal(batch, before):
        return "forward(): must leave the batch unchanged, got a modified one; change a copy"
    if not outputs.isfinite().all():
        return "forward(): must return finite outputs, got NaN or infinity; scale the inputs"
    if not _close(outputs, checked.outputs(model, batch)):
        return (
            "forward(): must give the same outputs twice in eval mode, got others; "
            "leave dropout to nn.Dropout"
        )
    half = tuple(tensor[: (count + 1) // 2] for tensor in batch)
    alone = checked.outputs(model, half)
    if not _close(*_equally_long(outputs[: len(half[-1])], alone)):
        return (
            "forward(): an example's outputs must not depend on the rest of its batch in eval "
            "mode, got others in half of it; normalise by constants, not by the batch"
        )
    return None


def loss_is_per_example(checked: CheckedWorkload) -> str | None:
    """The loss is (N,), finite, independent of other examples, and takes or refuses smoothing."""
    outputs, batch = checked.outputs(checked.model(), checked.batch), checked.batch
    losses, count = checked.workload.loss(outputs, batch), len(batch[-1])
    if _shape(losses) != f"({count},)":
        return (
            f"loss(): must have one value per example, ({count},), got {_shape(losses)}; "
            "use reduction='none', and the mean over all other dimensions"
        )
    if not losses.isfinite().all():
        return "loss(): must be finite, got NaN or infinity"
    few = tuple(tensor[:1] for tensor in batch)
    if not _close(losses[:1], checked.workload.loss(outputs[:1], few)):
        return (
            "loss(): an example's loss must not depend on the others, got another alone; "
            "use reduction='none'"
        )
    try:
        smoothed = checked.workload.loss(outputs, batch, label_smoothing=0.1)
    except InputError:  # refused, where it has no meaning
        return None
    if _shape(smoothed) != f"({count},)":
        return f"loss(): must be ({count},) with label_smoothing, got {_shape(smoothed)}"
    return None


def step_lowers_the_loss(checked: CheckedWorkload) -> str | None:
    """A step against the gradient lowers the loss on its batch, and train mode works."""
    model, batch = checked.model(), checked.batch
    with torch.random.fork_rng(devices=[]):
        if not math.isfinite(_mean_loss(checked, model.train(), batch).item()):
            return "loss(): must be finite in train mode, got NaN or infinity"
    loss = _mean_loss(checked, model.eval(), batch)
    if not loss.requires_grad:
        return "loss(): must have a gradient, got none; use no .detach(), .item() or no_grad()"
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    slopes = [p.grad for p in model.parameters() if p.grad is not None]
    if not any(bool(slope.any()) for slope in slopes):
        return (
            "build_model(): some parameter must get a gradient that is not 0, got none; "
            "do not freeze all, and compute the loss from the outputs"
        )
    with torch.no_grad():
        for size in _STEP_SIZES:
            if _mean_loss(checked, _stepped(model, size), batch) < loss:
                return None
    return (
        f"loss(): must fall with a small step against its gradient, got {loss.item():g} or more "
        "after steps of all sizes; check the sign of the loss"
    )


def metrics_are_per_example(checked: CheckedWorkload) -> str | None:
    """Each metric has one finite value per example, and a name that MLflow accepts."""
    outputs, targets = checked.outputs(checked.model(), checked.batch), checked.batch[-1]
    if not checked.workload.metrics:
        return "metrics: must have at least one, which is used for choices, got none"
    for name, metric in checked.workload.metrics.items():
        if not _NAMES.fullmatch(name):
            return f"metrics: names must be of letters, digits, '_', '-', '.', ' ', got {name!r}"
        values = metric(outputs, targets)
        if _shape(values) != f"({len(targets)},)":
            return (
                f"metric {name!r}: must have one value per example, ({len(targets)},), got "
                f"{_shape(values)}; do not take the mean"
            )
        if not values.is_floating_point() or not values.isfinite().all():
            return (
                f"metric {name!r}: must be finite floats, got {values.dtype}"
                f"{' that are not' if values.is_floating_point() else ''}; "
                "convert booleans to 0 and 1 with .float()"
            )
    return None


def _mean_loss(checked: CheckedWorkload, model: nn.Module, batch: Batch) -> Tensor:
    return checked.workload.loss(checked.workload.forward(model, batch), batch).mean()


def _stepped(model: nn.Module, size: float) -> nn.Module:
    """Return a copy of a model after a step against its gradient."""
    moved = copy.deepcopy(model)
    for parameter, old in zip(moved.parameters(), model.parameters(), strict=True):
        if old.grad is not None:
            parameter.sub_(old.grad, alpha=size)
    return moved


def _type_problem(model: object) -> str | None:
    if isinstance(model, nn.Module):
        return None
    return f"build_model(): must return an nn.Module, got {type(model).__name__}"


def _shape(value: object) -> str:
    """Return the shape of a tensor as text; of anything else, its type."""
    return f"{(*value.shape,)}" if isinstance(value, Tensor) else type(value).__name__


def _equally_long(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Cut outputs of tokens (N, T), which are as long as the batch's longest text."""
    if first.ndim == 1:
        return first, second
    length = min(first.shape[1], second.shape[1])
    return first[:, :length], second[:, :length]


def _close(first: Tensor, second: Tensor) -> bool:
    """Compare up to rounding, which differs between batch sizes."""
    return torch.allclose(first, second, rtol=1e-3, atol=1e-4)


def _addresses(model: nn.Module) -> set[int]:
    return {tensor.data_ptr() for tensor in model.state_dict().values() if tensor.numel()}
