from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from stockpot.errors import InputError
from stockpot.judging.merged_values import judged_sets, load_values, values_path
from stockpot.judging.random_soups import (
    Pool,
    RandomSoupsJob,
    measure_random_soups,
    num_used,
    random_soups_jobs,
)
from stockpot.judging.relative_improvement import random_soup_rows
from stockpot.judging.test_sets import predict_on_sets
from stockpot.scoring.predictions import load_outputs, load_targets
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.values import Floats
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

MakeSpec = Callable[..., WorkloadSpec]
SaveModel = Callable[..., Model]
MakeModels = Callable[..., list[Model]]


@pytest.fixture
def make_models(save_model: SaveModel) -> MakeModels:
    """Return what makes ingredients, and soups of these members in this order."""

    def make(number: int, *soups: tuple[int, ...], kind: str = "soup") -> list[Model]:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(number, 2, 2, generator=generator)
        weights = [torch.eye(2) + 0.8 * one for one in noise]
        ingredients = [save_model(w, f"ingredient-{n:02d}") for n, w in enumerate(weights)]
        merged = []
        for position, members in enumerate(soups):
            weight = sum((weights[member] for member in members), torch.zeros(2, 2)) / len(members)
            coefficients = {ingredients[member].name: 1 / len(members) for member in members}
            details = {"recipe": {"method": "linear"}, "coefficients": coefficients}
            model = save_model(weight, f"soup-{position}", kind)
            merged.append(replace(model, details=details))
        return [*ingredients, *merged]

    return make


def _values(root: Path, spec: WorkloadSpec, model: Model) -> dict[str, Floats]:
    """Return what the judge knows of a model: its values by place, from kept predictions."""
    predict_on_sets(root, spec, model.checkpoint, "cpu", judged_sets(spec))
    metric = next(iter(spec.build().metrics.values()))
    val, test, *shifts = (
        metric(load_outputs(root, spec, model.digest, name), load_targets(root, spec, name))
        .double()
        .numpy()
        for name in judged_sets(spec)
    )
    return {"val": val, "test": test, "shift": np.mean(shifts, axis=0)}


def _rows(root: Path, spec: WorkloadSpec, models: list[Model], draws: int) -> list[dict[str, Any]]:
    soups = [model for model in models if model.kind != "ingredient"]
    ingredients = [model for model in models if model.kind == "ingredient"]
    jobs = random_soups_jobs(root, spec, ingredients, soups, draws=draws, seed=0)
    for job in jobs:
        measure_random_soups(job, "cpu")
    values = {model.name: _values(root, spec, model) for model in models}
    return random_soup_rows(soups, values, jobs, Intervals(100, 0.95, seed=0))


def test_pools_are_those_that_the_soups_call_for(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels
) -> None:
    *ingredients, small, other, large = make_models(3, (0, 1), (1, 2), (0, 1, 2))
    tuned = make_models(3, (0,), kind="tuned")[-1]

    def pools(*soups: Model, draws: int = 8) -> list[tuple[Pool, int | None]]:
        jobs = random_soups_jobs(tmp_path, make_spec(), ingredients, soups, draws=draws, seed=0)
        return [(job.pool, job.size) for job in jobs]

    assert pools(small, other, large) == [("matched", 2), ("matched", 3), ("any", None)]
    assert pools(tuned) == [("matched", 1), ("any", None), ("dirichlet", None)]
    assert pools() == pools(small, draws=0) == []
    assert [num_used(soup) for soup in (small, other, large)] == [2, 2, 3]


@pytest.mark.parametrize("pool", ["matched", "any", "dirichlet"])
def test_draws_depend_on_the_seed_and_not_on_the_order_of_the_ingredients(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels, pool: Pool
) -> None:
    ingredients = tuple(make_models(5))
    size = 2 if pool == "matched" else None
    job = RandomSoupsJob(tmp_path, make_spec(), ingredients, pool, size, 16, 0)

    turned = replace(job, ingredients=ingredients[::-1])

    assert job.merges == turned.merges
    assert job.merges != replace(job, seed=1).merges
    assert [sum(row) for row in job.coefficients] == pytest.approx([1] * 16)


def test_draws_of_a_size_have_it_and_of_any_size_are_of_all_sizes(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels
) -> None:
    job = RandomSoupsJob(tmp_path, make_spec(), tuple(make_models(4)), "any", None, 3000, 0)

    sizes = [len(merge) for merge in job.merges]
    matched = replace(job, pool="matched", size=3).merges

    # Uniform over the 15 subsets: 4 of one, 6 of two, 4 of three, 1 of four.
    assert np.bincount(sizes)[1:] / 3000 == pytest.approx(np.array([4, 6, 4, 1]) / 15, abs=0.03)
    assert {len(merge) for merge in matched} == {3}


def test_mixtures_are_uniform_on_the_simplex(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels
) -> None:
    job = RandomSoupsJob(tmp_path, make_spec(), tuple(make_models(2)), "dirichlet", None, 500, 0)

    shares = [first for first, _ in job.coefficients]

    assert kstest(shares, "uniform").pvalue > 0.01  # of Dirichlet(1, 1)


@pytest.mark.parametrize("pool", ["any", "dirichlet"])
def test_kept_values_are_those_of_the_merged_weights(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels, pool: Pool
) -> None:
    spec = make_spec(sizes="60,50")
    job = RandomSoupsJob(tmp_path, spec, tuple(make_models(3)), pool, None, 8, 0)
    weights = {m.digest: load_tensors(tmp_path / m.path)["weight"] for m in job.ingredients}
    measure_random_soups(job, "cpu")

    values = load_values(tmp_path, spec, job.merges)

    workload = spec.build()
    shifts = [workload.shifts()[name].dataset() for name in ("a", "far away")]
    for place, sets in {
        "val": [workload.dataset("val")],
        "test": [workload.dataset("test")],
        "shift": shifts,
    }.items():
        for merge, own in zip(job.merges, values[place], strict=True):
            merged = sum((value * weights[digest] for digest, value in merge), torch.zeros(2, 2))
            right = [
                ((points @ merged.T).argmax(dim=1) == targets).double().numpy()
                for points, targets in (one.tensors for one in sets)
            ]
            np.testing.assert_array_equal(own, np.mean(right, axis=0))


def test_a_soup_that_is_a_draw_scores_what_the_draw_does(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels
) -> None:
    spec = make_spec(sizes="60,50")
    models = make_models(3, (2, 0, 1))

    rows = _rows(tmp_path, spec, models, draws=8)

    matched = [row for row in rows if row["pool"] == "matched"]
    assert [row["place"] for row in matched] == ["val", "test", "shift"]
    for row in matched:
        assert (row["ri"], row["low"], row["high"], row["sd"]) == (0, 0, 0, 0)
        assert row["percentile"] == 0.5
        assert row["note"] == ("the soup has all ingredients, so it is the only one of its size")


def test_of_one_ingredient_there_is_nothing_to_select(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels
) -> None:
    rows = _rows(tmp_path, make_spec(sizes="60,50"), make_models(1, (0,), kind="tuned"), draws=4)

    assert {row["pool"] for row in rows} == {"matched", "any", "dirichlet"}
    assert {row["ri"] for row in rows} == {0}
    assert {row["note"] for row in rows} == {
        "there is one ingredient, so there is nothing to select"
    }


def test_of_identical_ingredients_every_choice_is_the_same(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    weight = torch.tensor([[1.0, 0.3], [0.1, 0.7]])
    ingredients = [save_model(weight, f"ingredient-{n:02d}") for n in range(5)]
    details = {
        "recipe": {"method": "linear"},
        "coefficients": {model.name: 1 / 3 for model in ingredients[:3]},
    }
    soup = replace(save_model(weight, "soup", "soup"), details=details)

    rows = _rows(tmp_path, make_spec(sizes="60,50"), [*ingredients, soup], draws=6)

    assert {row["ri"] for row in rows} == {0}
    assert {row["size"] for row in rows} == {3, None}


def test_rows_do_not_depend_on_the_order_of_the_ingredients(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels
) -> None:
    models = make_models(5, (0, 1), (1, 3, 4))
    turned = [*models[:5][::-1], *models[5:]]

    first = _rows(tmp_path, make_spec(sizes="60,50"), models, draws=8)
    second = _rows(tmp_path, make_spec(sizes="60,50"), turned, draws=8)

    assert first == second
    assert len(first) == 2 * 2 * 3


def test_soups_that_are_no_means_are_compared_all_the_same(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels
) -> None:
    *ingredients, soup = make_models(3, (0, 1, 2))
    ties = replace(soup, details={**soup.details, "recipe": {"method": "ties"}})

    rows = _rows(tmp_path, make_spec(sizes="60,50"), [*ingredients, ties], draws=4)

    assert len(rows) == 6


def test_each_soup_is_passed_over_each_set_once(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels, passes: list[int]
) -> None:
    spec = make_spec(sizes="60,50")
    job = RandomSoupsJob(tmp_path, spec, tuple(make_models(2)), "any", None, 20, 0)

    measure_random_soups(job, "cpu")  # there are three soups of two ingredients
    measure_random_soups(job, "cpu")
    measure_random_soups(replace(job, workload=replace(spec, test_shifts=("a",))), "cpu")

    assert sorted(passes) == [50] * 9 + [60] * 3
    assert load_values(tmp_path, spec, job.merges)["test"].shape == (20, 50)


def test_what_was_not_measured_cannot_be_read(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels
) -> None:
    job = RandomSoupsJob(tmp_path, make_spec(), tuple(make_models(2)), "any", None, 2, 0)

    with pytest.raises(
        InputError, match="on val: must be cached, got none; run `stockpot evaluate`"
    ):
        load_values(tmp_path, job.workload, job.merges)


def test_damaged_values_are_measured_anew(
    tmp_path: Path, make_spec: MakeSpec, make_models: MakeModels
) -> None:
    job = RandomSoupsJob(tmp_path, make_spec(), tuple(make_models(3)), "any", None, 6, 0)
    measure_random_soups(job, "cpu")
    before = load_values(tmp_path, job.workload, job.merges)
    damaged = values_path(tmp_path, job.workload, job.merges, "test_shift/a")
    damaged.write_bytes(damaged.read_bytes()[:-7])

    measure_random_soups(job, "cpu")

    after = load_values(tmp_path, job.workload, job.merges)
    assert all((before[place] == after[place]).all() for place in before)
