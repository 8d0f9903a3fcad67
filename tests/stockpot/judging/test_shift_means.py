"""The mean over shifts of the same examples, and of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import toy_workload
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset
from toy_workload import Toy

from stockpot.experiment.jobs.judging import judge_models
from stockpot.judging.job import JudgingJob
from stockpot.judging.test_sets import open_set, predict_on_sets
from stockpot.judging.test_sets import test_sets as sets_of_test
from stockpot.scoring.predictions import val_sets
from stockpot.scoring.shift_means import mean_over_shifts
from stockpot.scoring.val_scores import score_on_val
from stockpot.workloads.protocol import Shift


def test_copies_are_averaged_example_by_example() -> None:
    values = [np.array([1.0, 2.0]), np.array([3.0, 6.0])]

    assert mean_over_shifts(values, [True, True]).tolist() == [2.0, 4.0]


def test_each_shift_of_other_examples_counts_the_same() -> None:
    values = [np.array([1.0, 1.0, 1.0]), np.array([0.0])]

    # Four examples; the first three count 2/3 each, the last 2.
    mean = mean_over_shifts(values, [False, False])
    np.testing.assert_allclose(mean, [2 / 3, 2 / 3, 2 / 3, 0.0])
    assert mean.mean() == pytest.approx(0.5)


def test_right_or_wrong_stays_so_where_shifts_are_alike_in_size() -> None:
    values = [np.array([1.0, 0.0]), np.array([1.0, 1.0])]

    assert mean_over_shifts(values, [False, False]).tolist() == [1.0, 0.0, 1.0, 1.0]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), copies=st.integers(0, 3))
def test_its_mean_is_that_of_the_shifts_means(sizes: list[int], copies: int) -> None:
    generator = np.random.default_rng(len(sizes))
    values = [generator.normal(size=n) for n in [*sizes, *[5] * copies]]

    mean = mean_over_shifts(values, [False] * len(sizes) + [True] * copies)

    assert mean.mean() == pytest.approx(np.mean([each.mean() for each in values]))
    assert len(mean) == sum(sizes) + (5 if copies else 0)


class OtherExamples(Toy):
    """Shifts hold examples of their own: as many as the name is long."""

    def shifts(self) -> Mapping[str, Shift]:
        return {
            name: Shift(shift.split, partial(self._others, name), is_copy=False)
            for name, shift in super().shifts().items()
        }

    def _others(self, name: str) -> TensorDataset:
        points = torch.randn(len(name), 2, generator=torch.Generator().manual_seed(len(name)))
        return TensorDataset(points, points.argmax(dim=1))


def test_a_verdict_on_shifts_of_other_examples(
    job: JudgingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_workload, "OtherExamples", OtherExamples, raising=False)
    spec = replace(job.workload, name="toy_workload:OtherExamples", options=())
    sets = (*val_sets(spec), *sets_of_test(spec))
    for model in job.models:
        predict_on_sets(job.root, spec, model.checkpoint, "cpu", sets)
    models = tuple(score_on_val(job.root, spec, model, "cpu") for model in job.models)

    evaluation = judge_models(replace(job, workload=spec, models=models), "cpu")

    assert [len(open_set(spec, name, "cpu").targets) for name in sets_of_test(spec)] == [4, 1, 8]
    for model in evaluation["models"]:
        metrics = model["metrics"]
        of_shifts = [metrics[f"shift/{name}/accuracy"] for name in ("a", "far away")]
        mean = metrics["shift/mean/accuracy"]
        assert mean == pytest.approx(np.mean(of_shifts))
        assert metrics["shift/mean/accuracy_low"] <= mean <= metrics["shift/mean/accuracy_high"]
    assert {row["place"] for row in evaluation["comparisons"]} == {"test", "shift"}
