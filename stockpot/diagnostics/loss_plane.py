"""The loss on the plane through base, best ingredient and best soup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel, finite_loss
from stockpot.diagnostics.finding import Finding
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.inner_products import task_vector_gram
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.states import State
from stockpot.statistics.values import Floats
from stockpot.workers.inside import in_steps
from stockpot.workloads.protocol import Batch

_SIDES = (21, 17, 13, 11)  # points; fewer for large models
_MARGIN = 0.25  # of the three points' extent, on each side
_FLAT = 0.02  # height / length: with less, three models count as lying on a line
_PROBES = (256, 128, 64)  # examples of val; fewer where the smallest grid takes too long
_MOST_WORK = 4e11  # points x examples x weights, some minutes on one core


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane through three models, with an orthonormal basis by Gram and Schmidt.

    The first axis points from the first to the second model, the second axis towards the third.

    Attributes:
        length: distance from the first to the second model.
        along: coordinate of the third model on the first axis.
        height: coordinate of the third model on the second axis.
    """

    length: float
    along: float
    height: float

    @classmethod
    def through(cls, gram: Floats) -> Plane | None:
        """Return the plane, given inner products of two models' differences to the first; (2, 2).

        Returns:
            None if the three lie on one line, or two are equal.
        """
        length = float(np.sqrt(max(gram[0, 0], 0.0)))
        reach = float(np.sqrt(max(gram[1, 1], 0.0)))
        if min(length, reach) == 0:
            return None
        along = float(gram[0, 1]) / length
        height = float(np.sqrt(max(reach**2 - along**2, 0.0)))
        return cls(length, along, height) if height > _FLAT * max(length, reach) else None

    def place(self, products: Floats) -> tuple[float, float]:
        """Return the coordinates of a model's projection.

        Args:
            products: inner products of its difference to the first model with those of the other
                two; (2,).
        """
        x = float(products[0]) / self.length
        return x, (float(products[1]) - self.along * x) / self.height

    def coefficients(self, x: float, y: float) -> tuple[float, float, float]:
        """Return the coefficients of the three models at a point; they sum to 1."""
        third = y / self.height
        second = (x - third * self.along) / self.length
        return 1 - second - third, second, third


def loss_plane(context: DiagnosticContext) -> Finding:
    """Measure the loss on a grid in the plane through base, best ingredient and best soup.

    If these lie on one line, as with a soup of one ingredient, another ingredient replaces the
    soup. BatchNorm's statistics are recalibrated, as in any soup. Large models are evaluated at
    fewer points and on fewer examples; the finding has the standard error of its losses.

    Source: Garipov et al. 2018, https://arxiv.org/abs/1802.10026, on the plane through three nets.
    """
    models = [*context.ingredients, *context.soups]
    # (M, M); of all models, whose projections are shown.
    gram = task_vector_gram([one.weights for one in models], context.base.weights).numpy()
    chosen = _corners(context, models, gram)
    if chosen is None:
        return Finding("All models lie on one line through the base, so they span no plane.")
    plane, second, third = chosen
    corners = [context.base.weights, models[second].weights, models[third].weights]
    places = [plane.place(gram[[second, third], place]) for place in range(len(models))]
    side, probe = grid_size(context.num_weights)
    x, y = _axes([(0.0, 0.0), places[second], places[third]], side)
    batch = context.probe("val", probe)
    loss_of = partial(_loss, context, batch)

    def loss_at(a: float, b: float) -> float:
        coefficients = plane.coefficients(a, b)
        merged = merge_states(corners, Recipe.of(linear, coefficients))
        num_models = sum(value != 0 for value in coefficients)
        return loss_of(context.finished.recalibrated(merged, num_models))

    losses = [[loss_at(a, b) for a in x] for b in in_steps(y)]
    squared: list[float] = gram.diagonal().tolist()
    placed = [(context.base, (0.0, 0.0), 0.0), *zip(models, places, squared, strict=True)]
    data: dict[str, Any] = {
        "corners": [context.base.name, models[second].name, models[third].name],
        "probe": len(batch[-1]),
        "standard_error": round(_standard_error(_losses(context, batch, corners[2])), 5),
        "x": [round(value, 5) for value in x],
        "y": [round(value, 5) for value in y],
        "losses": [[round(value, 5) for value in row] for row in losses],
        "models": [_shown(*one, loss_of) for one in placed],
    }
    shown = {model["name"]: float(model["loss"]) for model in data["models"]}
    at_corners = [shown[name] for name in data["corners"]]
    lowest = min(min(row) for row in losses)
    metrics = {"lowest_loss": lowest, "loss_of_third_corner": at_corners[2]}
    return Finding(_sentence(data, at_corners, lowest), metrics, data)


def grid_size(num_weights: int) -> tuple[int, int]:
    """Return the points on each side of the grid, and the examples of val, for a size of models."""
    sizes = [*((side, _PROBES[0]) for side in _SIDES), *((_SIDES[-1], n) for n in _PROBES[1:])]
    fitting = (each for each in sizes if each[0] ** 2 * each[1] * num_weights <= _MOST_WORK)
    return next(fitting, sizes[-1])


def _corners(
    context: DiagnosticContext, models: Sequence[LoadedModel], gram: Floats
) -> tuple[Plane, int, int] | None:
    """Choose two models that span a plane with the base, best ingredient and best soup first."""
    ranked = context.rank(context.ingredients)
    soups = [models.index(context.best_soup)] if context.soups else []
    for second in ranked:
        for third in [*soups, *ranked]:
            plane = Plane.through(gram[np.ix_([second, third], [second, third])])
            if plane is not None:
                return plane, second, third
    return None


def _axes(corners: Sequence[tuple[float, float]], side: int) -> tuple[list[float], list[float]]:
    """Return the coordinates of a grid around the corners, along both axes."""
    extent: Floats = np.array(corners)
    low, high = extent.min(axis=0), extent.max(axis=0)
    room = _MARGIN * (high - low)
    grid: Floats = np.linspace(low - room, high + room, side)
    return grid[:, 0].tolist(), grid[:, 1].tolist()


def _loss(context: DiagnosticContext, batch: Batch, weights: State) -> float:
    """Return the mean loss of weights on a batch."""
    return finite_loss(_losses(context, batch, weights).mean().item())


def _losses(context: DiagnosticContext, batch: Batch, weights: State) -> Tensor:
    """Return the loss of weights on each example of a batch, (N,)."""
    with torch.inference_mode():
        outputs = context.workload.forward(context.net(weights), batch)
        return context.workload.loss(outputs, batch)


def _standard_error(losses: Tensor) -> float:
    """Return the standard error of the mean of losses (N,); 0 for one example."""
    if len(losses) < 2:
        return 0.0
    return finite_loss((losses.double().std() / len(losses) ** 0.5).item())


def _shown(
    model: LoadedModel,
    place: tuple[float, float],
    squared: float,
    loss_of: Callable[[State], float],
) -> dict[str, Any]:
    """Return a model's projection, its distance from the plane, and its loss."""
    x, y = place
    return {
        "name": model.name,
        "kind": model.model.kind,
        "x": round(x, 5),
        "y": round(y, 5),
        "off": round(float(np.sqrt(max(squared - x**2 - y**2, 0.0))), 5),
        "loss": round(loss_of(model.weights), 5),
    }


def _sentence(data: Mapping[str, Any], losses: Sequence[float], lowest: float) -> str:
    first, second, third = data["corners"]
    seen = (
        f"The loss of {first}, {second} and {third} on {data['probe']} examples of val is "
        f"{losses[0]:.3g}, {losses[1]:.3g} and {losses[2]:.3g} (standard error of the last: "
        f"{data['standard_error']:.2g}); on the plane through them it is "
        f"{lowest:.3g} at the lowest"
    )
    if losses[2] <= 1.1 * lowest:
        return f"{seen}: {third} is at the minimum."
    if losses[2] <= min(losses[:2]):
        return f"{seen}: {third} is the lowest of the three, but not at the minimum."
    return f"{seen}: {third} is not lower than the other two."
