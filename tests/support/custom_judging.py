"""Metrics and a diagnostic as a user writes them, in a module of their project."""

from __future__ import annotations

import torch
from torch import Tensor

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Alert, Finding
from stockpot.scoring.metrics import TaskMetric


def top_two(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1.0 for each example whose target is among the two largest outputs."""
    return (outputs.topk(2).indices == targets[:, None]).any(dim=1).float()


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Have the name of a metric that exists."""
    return (outputs.argmax(dim=1) == targets).float()


def one_number(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return a mean where one value per example is due."""
    return top_two(outputs, targets).mean()


largest_output = TaskMetric("largest output", False, lambda outputs, _targets: float(outputs.max()))


def look(context: DiagnosticContext) -> Finding:
    """Report how far the first ingredient is from the base."""
    base, [first, *_] = context.base.weights, context.ingredients
    squares = [(first.weights[name] - base[name]).double().square().sum() for name in base]
    distance = float(torch.stack(squares).sum().sqrt())
    return Finding(
        f"{first.name} moved by {distance:.2f}.",
        {"distance": distance},
        {"distance": distance},
        (Alert(first.name, "it moved"),),
    )
