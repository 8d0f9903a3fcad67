"""Soups by selections and merge methods of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from custom_merging import entrywise_median
from made_models import made, soup_job

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.soups import soup_modules
from stockpot.experiment.plan import Plan
from stockpot.experiment.reproduction import rebuild
from stockpot.experiment.state import stage_modules
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.ranking import rank

MakePlan = Callable[..., Plan]


def test_a_selection_of_ones_own_chooses_with_its_options(make_plan: MakePlan) -> None:
    job = soup_job(make_plan, "select: custom_merging:best_and, place: 2")
    order = rank(job.ingredients, job.metric)

    soup = made(job)

    names = [job.ingredients[p].name for p in (order[0], order[2])]
    assert set(soup.details["coefficients"]) == set(names)
    assert soup.details["recipe"] == {
        "name": "s",
        "select": "custom_merging:best_and",
        "method": "linear",
        "place": 2,
    }


def test_defaults_of_options_are_recorded(make_plan: MakePlan) -> None:
    assert soup_job(make_plan, "select: custom_merging:best_and").recipe["place"] == 1


def test_a_selection_of_ones_own_may_score_soups(make_plan: MakePlan) -> None:
    job = soup_job(make_plan, "select: custom_merging:best_pair")
    order = rank(job.ingredients, job.metric)
    pairs = [(b, a) for n, a in enumerate(order) for b in order[n + 1 :]]

    soup = made(job)

    scores = []
    for pair in pairs:
        chosen = ",".join(job.ingredients[p].name for p in pair)
        other = soup_job(make_plan, f"select: uniform, ingredients: [{chosen}]")
        scores.append(made(other).scores["val/accuracy"])
    assert soup.scores["val/accuracy"] == max(scores)


def test_a_selection_of_ones_own_on_paths(make_plan: MakePlan) -> None:
    job = soup_job(make_plan, "select: custom_merging:halfway, alpha: 0.25")

    soup = made(job)

    best = job.ingredients[rank(job.ingredients, job.metric)[0]]
    assert soup.details["coefficients"] == {best.name: 0.25}
    assert soup.details["recipe"]["options"] == {"alpha": 0.25}
    assert soup.scores["val/accuracy"] == soup.details["paths"][best.name]["0.25"]


def test_a_merge_method_of_ones_own(make_plan: MakePlan) -> None:
    job = soup_job(
        make_plan,
        "select: uniform, method: custom_merging:entrywise_median, options: {shift: 0.5}",
    )

    soup = made(job)

    states = [load_tensors(job.root / model.path) for model in job.ingredients]
    weights = load_tensors(job.root / soup.path)
    name = next(name for name in weights if name.endswith("weight"))
    expected = entrywise_median([state[name] for state in states], shift=0.5)
    assert torch.equal(weights[name], expected)
    assert soup.details["recipe"]["method"] == "custom_merging:entrywise_median"


@pytest.mark.parametrize(
    "soup",
    [
        "select: custom_merging:best_and, place: 3",
        "select: custom_merging:best_pair",
        "select: custom_merging:by_turns",
        "select: custom_merging:halfway, alpha: 0.5",
        "select: greedy, method: custom_merging:entrywise_median",
    ],
)
def test_a_soup_by_code_of_ones_own_is_reproduced(
    make_plan: MakePlan, tmp_path: Path, soup: str
) -> None:
    job = soup_job(make_plan, soup)
    model = made(job)

    again = rebuild(job.provenance(model), job.root, tmp_path, (), "cpu")

    assert (again.digest, again.scores) == (model.digest, model.scores)


def test_code_of_ones_own_is_part_of_the_keys(make_plan: MakePlan) -> None:
    plan = make_plan(
        "soups=[{name: a, select: custom_merging:best_pair}, "
        "{name: b, select: uniform, method: custom_merging:entrywise_median}]"
    )

    for job in plan.soup_jobs():
        assert "custom_merging" in soup_modules(job.select, job.method)
    assert "custom_merging" in stage_modules(plan, "soups")
    assert "stockpot.soups.selection.uniform" in stage_modules(plan, "soups")


@pytest.mark.parametrize(
    ("soup", "problem"),
    [
        (
            "select: custom_merging:best_and, place: 0",
            "soups.0.place: must be greater than or equal to 1, got 0",
        ),
        (
            "select: custom_merging:best_and, plaice: 2",
            "soups.0: unknown field 'plaice', choose from ['core_space', 'ingredients', 'masks', "
            "'method', 'name', 'options', 'place', 'rules', 'select']; did you mean 'place'?",
        ),
        (
            "select: custom_merging:halfway",
            "soups.0: option 'alpha' is required, got nothing",
        ),
        (
            "select: custom_merging:halfway, alpha: 0.5, method: ties",
            "soups.0: unknown field 'method', choose from ['alpha', 'ingredients', 'name', "
            "'select']",
        ),
        (
            "select: custom_merging:no_selection",
            "soups.0: selection 'custom_merging:no_selection': must be a function of `candidates` "
            "or `paths` and of options that are keyword-only, got no_selection(models: "
            "'Sequence[int]', k: 'int') -> 'None'",
        ),
        (
            "select: custom_merging:best_par",
            "soups.0: unknown selection in 'custom_merging': 'best_par', choose from ['Descent', "
            "'Forgetful', 'Untold', 'best_and', 'best_pair', 'by_turns', 'each_alone', "
            "'entrywise_median', 'halfway', 'no_selection', 'nothing', 'positions', 'too_few', "
            "'undecorated']; did you mean 'best_pair'?",
        ),
        (
            "select: uniform, method: custom_merging:undecorated",
            "soups.0.method: merge method 'custom_merging:undecorated': must be decorated with "
            "@stockpot.merging.method.method(name)",
        ),
        (
            "select: uniform, method: custom_merging:entrywise_median, options: {shift: -1}",
            "soups.0: entrywise_median: shift must not be negative, got -1",
        ),
    ],
)
def test_code_that_cannot_make_a_soup_is_refused_when_it_is_planned(
    make_plan: MakePlan, soup: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        soup_job(make_plan, soup)

    assert str(caught.value) == f"params.yaml: {problem}"


@pytest.mark.parametrize(
    ("option", "value"), [("Path = Path('x')", "PosixPath('x')"), ("float = float('nan')", "nan")]
)
def test_an_option_that_cannot_be_recorded_is_refused(
    make_plan: MakePlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: str,
) -> None:
    module = f"rule_of_{len(option)}"
    text = f"from pathlib import Path\ndef rule(candidates, *, place: {option}): ..."
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(InputError, match="'place' must be a value that JSON can") as caught:
        soup_job(make_plan, f"select: {module}:rule")

    assert str(caught.value).endswith(f"got {value}")


@pytest.mark.parametrize(
    ("select", "problem"),
    [
        ("nothing", "must choose at least one position below 4, and each only once, got []"),
        ("positions", "must return a Selection, got ["),
    ],
)
def test_a_selection_that_chooses_no_ingredients_is_refused(
    make_plan: MakePlan, select: str, problem: str
) -> None:
    job = soup_job(make_plan, f"select: custom_merging:{select}")

    with pytest.raises(InputError) as caught:
        make_model(job, "cpu")

    assert problem in str(caught.value)
