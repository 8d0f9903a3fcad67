from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stockpot.judging.merged_values import MERGING_MODULES, judged_sets, load_values
from stockpot.judging.test_sets import predict_on_sets
from stockpot.judging.wise_ft import WiseFtJob, measure_wise_ft, wise_ft_job, wise_ft_path
from stockpot.scoring.predictions import load_outputs, load_targets
from stockpot.statistics.values import Floats
from stockpot.storage.code_keys import imported_code
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

MakeSpec = Callable[..., WorkloadSpec]
SaveModel = Callable[..., Model]

BASE = torch.tensor([[1.0, 0.9], [0.0, 1.0]])
SOUP = torch.tensor([[0.5, -1.0], [0.2, 0.3]])


@pytest.fixture
def job(tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel) -> WiseFtJob:
    base, soup = save_model(BASE, "base", "base"), save_model(SOUP, "soup", "soup")
    return WiseFtJob(tmp_path, make_spec(sizes="60,50"), base, soup)


def _values(job: WiseFtJob, model: Model) -> dict[str, Floats]:
    spec = job.workload
    predict_on_sets(job.root, spec, model.checkpoint, "cpu", judged_sets(spec))
    metric = next(iter(spec.build().metrics.values()))
    val, test, *shifts = (
        metric(load_outputs(job.root, spec, model.digest, name), load_targets(job.root, spec, name))
        .double()
        .numpy()
        for name in judged_sets(spec)
    )
    return {"val": val, "test": test, "shift": np.mean(shifts, axis=0)}


def test_the_ends_are_the_models_own_scores_and_are_not_measured_again(
    job: WiseFtJob, passes: list[int]
) -> None:
    values = {model.name: _values(job, model) for model in (job.base, job.soup)}
    passes.clear()

    measure_wise_ft(job, "cpu")
    path = wise_ft_path(job, values)

    assert path["alphas"] == pytest.approx([n / 10 for n in range(11)])
    for place in ("val", "test", "shift"):
        scores = path[place]
        assert len(scores) == 11
        assert scores[0] == values["base"][place].mean()
        assert scores[-1] == values["soup"][place].mean()
    assert len(passes) == 9 * 4  # val, test and two shifts
    assert path["model"] == "soup"


def test_points_between_are_those_of_the_straight_line(job: WiseFtJob) -> None:
    measure_wise_ft(job, "cpu")

    values = load_values(job.root, job.workload, job.merges)["test"]

    points, targets = job.workload.build().dataset("test").tensors
    for alpha, own in zip(job.alphas, values, strict=True):
        outputs = points @ ((1 - alpha) * BASE + alpha * SOUP).T
        np.testing.assert_array_equal(own, (outputs.argmax(dim=1) == targets).double().numpy())


def test_the_key_of_cached_values_has_the_code_that_merges() -> None:
    names = ("judging.merged_values", "merging.methods.wise_ft", "merging.stack")
    merging = {f"stockpot.{name}" for name in (*names, "soups.preparation.recalibration")}

    assert merging <= set(imported_code(*MERGING_MODULES))


def test_a_path_from_the_base_to_itself_is_flat(job: WiseFtJob) -> None:
    still = replace(job, soup=job.base)
    measure_wise_ft(still, "cpu")

    path = wise_ft_path(still, {"base": _values(job, job.base)})

    assert len({*path["val"]}) == len({*path["shift"]}) == 1


def test_without_test_shifts_there_is_no_shift(job: WiseFtJob) -> None:
    plain = replace(job, workload=replace(job.workload, test_shifts=()))
    measure_wise_ft(plain, "cpu")
    ones = dict.fromkeys(("val", "test"), np.ones(3))

    path = wise_ft_path(plain, {"base": ones, "soup": ones})

    assert path.keys() == {"model", "alphas", "val", "test"}


def test_the_path_leads_to_the_soup_that_is_best_on_val(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    base = save_model(BASE, "base", "base")
    soups = [
        save_model(SOUP, "uniform", "soup", val=0.7),
        save_model(SOUP, "greedy", "soup", val=0.8),
        save_model(SOUP, "tuned", "tuned", val=0.75),
    ]
    ingredient = save_model(SOUP, val=0.9)

    found = wise_ft_job(tmp_path, make_spec(), [base, ingredient, *soups])

    assert found is not None
    assert (found.base, found.soup) == (base, soups[1])
    assert wise_ft_job(tmp_path, make_spec(), [base, ingredient]) is None
