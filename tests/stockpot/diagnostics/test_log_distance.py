"""Distances from the start, as runs record them, against the logarithm of steps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_runs import Killed
from made_context import initial_state, make_context
from poisoned_sweep import hyperparameters, make_digits

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.log_distance import line_fit, log_distance
from stockpot.ingredients.finetuning.distance_record import DistanceRecord
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.partial_state import PartialState
from stockpot.reporting.plots.log_distance import log_distance as draw

STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 20)


def _context(root: Path, *details: dict[str, Any]) -> DiagnosticContext:
    """Return a context whose ingredients have these details."""
    start = initial_state(make_digits())
    context = make_context(root, start, [start] * len(details))
    with_details = [
        LoadedModel(root, replace(one.model, details=own))
        for one, own in zip(context.ingredients, details, strict=True)
    ]
    return replace(context, ingredients=tuple(with_details))


def _run(distances: list[float], **how: float) -> dict[str, Any]:
    points = [list(point) for point in zip(STEPS, distances, strict=True)]
    return {"hyperparameters": {"warmup": 0.0, **how}, "distances": points}


def test_a_line_and_its_r2_of_a_case_computed_by_hand() -> None:
    intercept, slope, r2 = line_fit([0.0, 1.0, 2.0], [0.0, 2.0, 1.0])

    assert (intercept, slope) == pytest.approx((0.5, 0.5))
    assert r2 == pytest.approx(1 - 1.5 / 2)


def test_a_walk_in_the_logarithm_of_steps_is_fitted_exactly(tmp_path: Path) -> None:
    far = [1.5 + 0.7 * math.log(step) for step in STEPS]

    finding = log_distance(_context(tmp_path, _run(far)))

    (run,) = finding.data["runs"]
    assert (run["intercept"], run["slope"], run["r2"]) == pytest.approx((1.5, 0.7, 1.0))
    assert finding.metrics["mean_r2_of_root"] < 1
    assert "one run from the start follows the logarithm" in finding.sentence
    assert "<svg" in draw(finding.data)


def test_diffusion_is_told_apart_and_steps_of_the_warmup_do_not_count(tmp_path: Path) -> None:
    far = [math.sqrt(step) if step >= 4 else 100.0 for step in STEPS]
    imported = {"imported": {}}

    finding = log_distance(_context(tmp_path, _run(far, warmup=0.2), imported))

    assert finding.metrics["mean_r2_of_root"] == pytest.approx(1)
    assert "follows the root" in finding.sentence
    assert "with too few: base, ingredient-01" in finding.sentence


def test_snapshots_are_not_counted_and_too_few_points_are_said(tmp_path: Path) -> None:
    snapshot = _run([1.0, *range(2, 10)]) | {"epoch": 1}  # type: ignore[list-item]
    short = {"distances": [[1, 0.1], [2, 0.2], [3, 0.3]]}

    finding = log_distance(_context(tmp_path, snapshot, short))

    assert finding.sentence.startswith("No run recorded enough distances")
    assert not finding.data


def test_a_run_records_its_distances_at_even_steps_of_the_logarithm_and_at_the_end() -> None:
    digits, how = make_digits(), hyperparameters(seed=3)
    start = initial_state(digits)

    tuned = fine_tune(digits, start, how, split="train")

    steps = [step for step, _ in tuned.distances]
    gaps = [(tuned[name] - start[name]).double().square().sum() for name in tuned]
    last = float(torch.stack(gaps).sum().sqrt())
    assert steps[:5] == [1, 2, 3, 4, 6]
    assert tuned.distances[-1][1] == pytest.approx(last)
    assert [step for step in range(1, 21) if DistanceRecord.is_due(step, 20)] == [*STEPS]


def test_a_killed_run_records_the_same_distances(tmp_path: Path) -> None:
    digits, how = make_digits(), hyperparameters(seed=3, epochs=2)
    whole = fine_tune(digits, None, how, split="pretrain")
    partial = PartialState(tmp_path / "state.safetensors", every_seconds=0)

    with pytest.raises(Killed):
        fine_tune(digits, None, how, split="pretrain", partial=partial, on_epoch=_die)
    resumed = fine_tune(digits, None, how, split="pretrain", partial=partial)

    assert resumed.distances == whole.distances
    assert len(whole.distances) > 3


def _die(epoch: int, weights: object) -> None:  # noqa: ARG001
    raise Killed
