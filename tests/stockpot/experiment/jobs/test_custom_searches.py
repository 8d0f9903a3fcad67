"""Tuned soups by searches of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.tuning import TuningJob, tuning_modules
from stockpot.experiment.plan import Plan
from stockpot.experiment.reproduction import rebuild
from stockpot.experiment.state import stage_modules
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank

MakePlan = Callable[..., Plan]


def _job(make_plan: MakePlan, study: str) -> TuningJob:
    return make_plan(f"tune=[{{name: t, {study}}}]").tuning_jobs()[0]


def test_a_search_of_ones_own_scores_mixtures_and_returns_coefficients(
    make_plan: MakePlan,
) -> None:
    job = _job(make_plan, "search: custom_merging:each_alone")

    soup = make_model(job, "cpu")

    assert isinstance(soup, Model)
    trials = soup.details["trials"]
    alone = [[model.scores["val/accuracy"]] for model in job.ingredients]
    best = job.ingredients[rank(job.ingredients, job.metric)[0]]
    assert [trial["values"] for trial in trials[:4]] == alone
    assert trials[4]["values"] == max(alone) == [soup.scores["val/accuracy"]]
    assert soup.details["coefficients"] == {best.name: 1.0}
    assert soup.details["recipe"] == {
        "name": "t",
        "search": "custom_merging:each_alone",
        "method": "linear",
        "objectives": ["val"],
        "share": 1.0,
    }


def test_a_soup_by_a_search_of_ones_own_is_reproduced(make_plan: MakePlan, tmp_path: Path) -> None:
    job = _job(make_plan, "search: custom_merging:each_alone, share: 0.5")
    model = make_model(job, "cpu")
    assert isinstance(model, Model)

    again = rebuild(job.provenance(model), job.root, tmp_path, (), "cpu")

    assert (again.digest, again.scores) == (model.digest, model.scores)


def test_a_search_of_ones_own_that_trains_is_run_again(make_plan: MakePlan, tmp_path: Path) -> None:
    job = _job(make_plan, "search: custom_merging:Descent, steps: 2")
    model = make_model(job, "cpu")
    assert isinstance(model, Model)

    again = rebuild(job.provenance(model), job.root, tmp_path, (), "cpu")

    assert (again.digest, again.scores) == (model.digest, model.scores)


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        ("Untold", "search 'custom_merging:Descent' must say `trains = True` in its class, since"),
        (
            "Forgetful",
            r"its recipe lacks the options \['steps'\]; a search that trains",
        ),
    ],
)
def test_a_search_that_trains_but_cannot_be_run_again_is_refused(
    make_plan: MakePlan, tmp_path: Path, search: str, problem: str
) -> None:
    job = _job(make_plan, f"search: custom_merging:{search}, steps: 1")

    with pytest.raises(InputError, match=problem):
        rebuild(job.provenance(make_model(job, "cpu")), job.root, tmp_path, (), "cpu")


def test_a_search_of_ones_own_is_part_of_the_keys(make_plan: MakePlan) -> None:
    plan = make_plan("tune=[{name: t, search: custom_merging:each_alone}]")

    [job] = plan.tuning_jobs()

    assert "custom_merging" in tuning_modules(job.search)
    assert "custom_merging" in stage_modules(plan, "tune")
    assert job.key != _job(make_plan, "search: custom_merging:each_alone, share: 0.5").key


@pytest.mark.parametrize(
    ("study", "problem"),
    [
        (
            "search: custom_merging:each_alone, share: 2",
            "tune.0.share: must be less than or equal to 1, got 2",
        ),
        (
            "search: custom_merging:each_alone, shore: 1",
            "tune.0: unknown field 'shore', choose from ['name', 'search', 'share', 'top_k']; "
            "did you mean 'share'?",
        ),
        (
            "search: custom_merging:no_selection",
            "tune.0: search 'custom_merging:no_selection': must be a function of one argument, a "
            "stockpot.soups.tuning.custom_search.Mixing, and of options that are keyword-only, "
            "got no_selection(models: 'Sequence[int]', k: 'int') -> 'None'",
        ),
        (
            "search: custom_merging:Mixing",
            "tune.0: search 'custom_merging:Mixing': a class must be a "
            "stockpot.soups.tuning.search.Search, lacks ['find', 'recipe', 'study']",
        ),
        (
            "search: no_module:any",
            "tune.0: search 'no_module:any': module 'no_module' cannot be imported (No module "
            "named 'no_module'); put it in the project's folder or install it",
        ),
    ],
)
def test_a_search_that_cannot_be_run_is_refused_when_it_is_planned(
    make_plan: MakePlan, study: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        _job(make_plan, study)

    assert str(caught.value) == f"params.yaml: {problem}"


def test_a_search_that_returns_too_few_coefficients_is_refused(make_plan: MakePlan) -> None:
    job = _job(make_plan, "search: custom_merging:too_few")

    with pytest.raises(
        InputError, match="coefficients must be 4 finite numbers whose sum is not 0, got"
    ):
        make_model(job, "cpu")
