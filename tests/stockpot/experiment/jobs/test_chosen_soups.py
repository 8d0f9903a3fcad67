"""Soups of an experiment whose ingredients have coefficients, or are compared by their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from made_models import made, soup_job

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.plan import Plan
from stockpot.experiment.reproduction import rebuild
from stockpot.merging.methods.inner_products import cosines_of, task_vector_gram
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.ranking import rank

MakePlan = Callable[..., Plan]


def test_a_soup_by_counts_is_the_weighted_mean_and_can_be_rebuilt(make_plan: MakePlan) -> None:
    job = soup_job(make_plan, "select: greedy_restarts, orders: 4")

    soup = made(job)

    shares = soup.details["coefficients"]
    states = {m.name: load_tensors(job.root / m.path) for m in job.ingredients}
    for name, tensor in load_tensors(job.root / soup.path).items():
        mean = sum(share * states[one][name] for one, share in shares.items())
        torch.testing.assert_close(tensor, mean)
    assert len({*shares.values()}) > 1
    assert sum(shares.values()) == pytest.approx(1)
    (place := job.root / "again").mkdir()
    assert rebuild(job.provenance(soup), job.root, place, (), "cpu").digest == soup.digest


def test_the_lowest_cosine_of_task_vectors_is_tried_second(make_plan: MakePlan) -> None:
    job = soup_job(make_plan, "select: diverse_greedy, by: task_vectors")
    states = [load_tensors(job.root / m.path) for m in job.ingredients]
    base = load_tensors(job.root / job.base.path)
    best = rank(job.ingredients, job.metric)[0]

    steps = made(job).details["steps"]

    cosines = cosines_of(task_vector_gram(states, base))[best]
    assert [step["ingredient"] for step in steps[:2]] == [
        job.ingredients[best].name,
        job.ingredients[int(cosines.argmin())].name,
    ]
    assert len(steps) == len(states)


@pytest.mark.parametrize("select", ["greedy_with_replacement", "greedy_restarts", "soce"])
def test_weights_are_refused_for_a_method_without_coefficients(
    make_plan: MakePlan, select: str
) -> None:
    message = f"select: {select} needs a merge method with coefficients, got 'model_stock'; take"

    with pytest.raises(InputError, match=rf"soups\.0.*{message}"):
        make_plan(f"soups=[{{name: s, select: {select}, method: model_stock}}]")
    with pytest.raises(InputError, match=message):
        make_model(replace(soup_job(make_plan, f"select: {select}"), method="model_stock"), "cpu")
