"""BANG, which is no technique of its own: label smoothing and mixup, then half-way to the base."""

from __future__ import annotations

from dataclasses import replace

import torch

from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.plan import Plan
from stockpot.scoring.predictions import load_outputs
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.models import Model

BANG = {"label_smoothing": 0.1, "mixup": 0.2}


def _ingredient(plan: Plan, **how: float) -> Model:
    job = plan.ingredient_jobs()[0]
    trained = replace(job.hyperparameters, epochs=6, **how)  # type: ignore[arg-type]
    model = make_model(replace(job, hyperparameters=trained), "cpu")
    assert isinstance(model, Model)
    return model


def _confidence(plan: Plan, model: Model, set_name: str) -> float:
    """Return the mean of the largest probability of each example."""
    outputs = load_outputs(plan.project.root, plan.workload, model.digest, set_name)
    return float(outputs.softmax(dim=1).max(dim=1).values.mean())


def _soup(plan: Plan, ingredient: Model) -> SoupJob:
    """Return the soup of the settings in docs/reference/methods.md."""
    return replace(
        plan.soup_jobs()[0],
        name="bang",
        select="top_k",
        select_options={"k": 1},
        method="task_arithmetic",
        options={"scale": 0.5},
        ingredients=(ingredient,),
    )


def test_bang_balances_confidence_and_averages_with_the_base(plan: Plan) -> None:
    plain, balanced = _ingredient(plan), _ingredient(plan, **BANG)

    soup = make_model(_soup(plan, balanced), "cpu")

    root = plan.project.root
    base, tuned, merged = (load_tensors(root / one.path) for one in (plan.base(), balanced, soup))
    torch.testing.assert_close(merged, {name: (base[name] + tuned[name]) / 2 for name in base})
    for shift in ("val", "val_shift/blur", "val_shift/scale"):
        sure = _confidence(plan, plan.base(), shift)
        assert _confidence(plan, balanced, shift) < _confidence(plan, plain, shift)
        assert sure < _confidence(plan, plain, shift)
