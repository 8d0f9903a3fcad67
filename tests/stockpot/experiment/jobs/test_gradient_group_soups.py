"""Soups of ingredients whose own training agrees, through params.yaml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.plan import Plan
from stockpot.experiment.reproduction import rebuild

RECIPE = "{name: s, select: gradient_group, threshold: 0.9999, max_groups: 2}"


def test_the_soup_is_that_of_the_best_group_and_is_made_again(
    make_plan: Callable[..., Plan],
) -> None:
    planned = make_plan(f"soups=[{RECIPE}]").soup_jobs()[0]
    first, *others = planned.ingredients
    how = {**first.details["hyperparameters"], "kept_data": 0.2}  # as if it had fewer examples
    fewer = replace(first, details={**first.details, "hyperparameters": how})
    job = replace(planned, ingredients=(fewer, *others))

    soup = make_model(job, "cpu")

    best, other = soup.details["groups"]
    names = {model.name for model in job.ingredients}
    assert {*best["ingredients"], *other["ingredients"]} == names
    assert best["score"] == soup.scores[job.metric] >= other["score"]
    assert [model.name for model in job.merged(soup)] == best["ingredients"]
    place = job.root.parent / "again"
    place.mkdir()
    assert rebuild(job.provenance(soup), job.root, place, (), "cpu").digest == soup.digest


def test_all_in_one_group_are_the_uniform_soup(make_plan: Callable[..., Plan]) -> None:
    recipes = "{name: s, select: gradient_group, threshold: -1}", "{name: u, select: uniform}"

    group, uniform = (make_plan(f"soups=[{recipe}]").soup_jobs()[0] for recipe in recipes)

    made = make_model(group, "cpu"), make_model(uniform, "cpu")
    assert made[0].scores == made[1].scores


def test_unknown_training_is_refused_in_words(make_plan: Callable[..., Plan]) -> None:
    job = make_plan(f"soups=[{RECIPE}]").soup_jobs()[0]
    first, *others = job.ingredients
    details = {"imported": {}, "hyperparameters": {}}
    unknown = replace(job, ingredients=(replace(first, details=details), *others))

    with pytest.raises(
        InputError, match=rf"unknown are those of \['{first.name}'\]; name the data"
    ):
        make_model(unknown, "cpu")
    assert unknown.key != job.key


@pytest.mark.parametrize(
    ("diagnose", "expected"),
    [
        ("[{name: gradient_groups, threshold: 2}]", "0.threshold: must be less than or equal to 1"),
        ("[{name: gradient_groups, most: 2}]", "unknown field 'most'"),
        ("[{name: gradient_group}]", "unknown diagnostic 'gradient_group'"),
        ("[gradient_groups, {name: gradient_groups}]", "must name each diagnostic once"),
    ],
)
def test_wrong_options_of_a_diagnostic_are_refused(
    make_plan: Callable[..., Plan], diagnose: str, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        make_plan(f"diagnose={diagnose}")

    assert expected in str(caught.value)


def test_options_of_a_diagnostic_reach_its_job(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan("diagnose=[similarity, {name: gradient_groups, max_groups: 2}]")

    jobs = plan.diagnostic_jobs()

    assert [job.name for job in jobs] == plan.diagnostics == ["similarity", "gradient_groups"]
    assert jobs[1].options == {"threshold": 0.0, "max_groups": 2}
    assert jobs[1].cached != replace(jobs[1], options={}).cached
