"""The next ingredients of a sweep that looks at its soup."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from stockpot.distributions.values import Choice, Constant, Integer, LogUniform, Uniform
from stockpot.experiment.jobs import proposing as soup_search
from stockpot.experiment.jobs.proposing import ProposalJob, propose
from stockpot.experiment.plan import Plan
from stockpot.ingredients.points import plan_points

SPACE = {
    "learning_rate": LogUniform(1e-5, 1e-1),
    "epochs": Integer(1, 9),
    "mixup": Uniform(0.0, 1.0),
    "batch_size": Choice((16, 32)),
    "optimizer": Choice(("adamw", "sgd")),
    "weight_decay": Constant(0.5),
}


@pytest.fixture
def job(finished: Plan) -> ProposalJob:
    """Four digits' ingredients, as if they had been drawn from a wide space."""
    return ProposalJob(
        root=finished.project.root,
        workload=finished.workload,
        metric=finished.metric,
        space=SPACE,
        points=tuple(plan_points("sobol", SPACE, (), 4, seed=0)),
        models=finished.ingredients(),
        seed=0,
        count=3,
    )


def test_the_next_points_are_of_the_space_and_always_the_same(job: ProposalJob) -> None:
    points = propose(job, "cpu")

    assert len(points) == 3
    for point in points:
        assert point.keys() == {"seed", *SPACE}
        assert 1e-5 <= float(point["learning_rate"]) <= 1e-1
        assert point["epochs"] in range(1, 10)
        assert point["batch_size"] in (16, 32)
        assert point["optimizer"] in ("adamw", "sgd")
        assert point["weight_decay"] == 0.5
    assert len({str(point) for point in points}) == 3
    assert propose(job, "cpu") == points
    assert propose(replace(job, seed=1), "cpu") != points


def test_a_shorter_round_is_the_beginning_of_a_longer_one(job: ProposalJob) -> None:
    assert propose(replace(job, count=1), "cpu") == propose(job, "cpu")[:1]


def test_an_ingredient_has_the_seed_that_its_number_gives_it(job: ProposalJob) -> None:
    drawn = plan_points("sobol", SPACE, (), 7, seed=0)

    assert [p["seed"] for p in propose(job, "cpu")] == [p["seed"] for p in drawn[4:]]


def test_failed_ingredients_have_the_lowest_value(job: ProposalJob) -> None:
    values = soup_search._values(replace(job, models=(None, *job.models[1:])), "cpu")

    assert values[0] == min(values[1:])
    assert len(values) == 4


@pytest.mark.parametrize("best", [1e-4, 1e-2])
def test_proposals_come_from_where_values_are_high(
    job: ProposalJob, monkeypatch: pytest.MonkeyPatch, best: float
) -> None:
    points = plan_points("sobol", SPACE, (), 16, seed=0)
    far = [abs(math.log10(float(point["learning_rate"]) / best)) for point in points]
    monkeypatch.setattr(soup_search, "_values", lambda _job, _device: [-each for each in far])

    proposed = propose(replace(job, points=tuple(points), count=8), "cpu")

    near = [abs(math.log10(float(point["learning_rate"]) / best)) for point in proposed]
    assert sorted(near)[4] < sorted(far)[8] / 2


def test_a_sweep_begins_with_sobol_and_goes_on_in_rounds_until_it_is_whole(
    make_plan: Callable[..., Plan],
) -> None:
    plan = make_plan("sweep.search=soup", "sweep.size=13")

    first = plan.ingredient_jobs()
    jobs = [*first, *make_plan("sweep.size=12").ingredient_jobs()[8:]]
    second = plan.proposal_job(first, [None] * 8)
    third = plan.proposal_job(jobs, [None] * 12)

    assert first == make_plan("sweep.size=8").ingredient_jobs()
    assert second is not None
    assert third is not None
    assert (second.count, third.count) == (4, 1)
    assert plan.proposal_job([*jobs, first[0]], [None] * 13) is None
    assert make_plan("sweep.size=13").proposal_job(first, [None] * 8) is None
    points = propose(second, "cpu")
    assert [job.name for job in plan.fine_tuning_jobs(points, first=8)] == [
        f"ingredient-{number:02d}" for number in range(8, 12)
    ]


def test_a_larger_sweep_begins_with_the_proposals_of_the_smaller_one(
    make_plan: Callable[..., Plan],
) -> None:
    smaller, larger = (make_plan("sweep.search=soup", f"sweep.size={n}") for n in (10, 16))
    jobs = smaller.ingredient_jobs()
    models = [*smaller.ingredients(), *[None] * 4]

    proposals = [plan.proposal_job(jobs, models) for plan in (smaller, larger)]

    few, many = (propose(each, "cpu") for each in proposals if each is not None)
    assert (len(few), len(many)) == (2, 4)
    assert many[:2] == few


def test_one_ingredient_alone_says_nothing(job: ProposalJob) -> None:
    one = replace(job, points=job.points[:1], models=job.models[:1])

    assert soup_search._values(one, "cpu") == [0.0]
    assert len(propose(one, "cpu")) == 3
