"""Tuned soups of the digits' ingredients: searched on val, merged, and continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.experiment.plan import Plan
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.scoring.val_scores import ValScorer
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import models_of, read_manifest
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank


@pytest.fixture
def tuned(finished: Plan) -> dict[str, Model]:
    return {m.name: m for m in models_of(read_manifest(finished.project.root, "tune"))}


@pytest.fixture
def job(plan: Plan) -> TuningJob:
    """The study with one objective of a finished experiment."""
    return plan.tuning_jobs()[0]


def _with(job: TuningJob, **settings: Any) -> TuningJob:
    """Return the job with its search told otherwise."""
    return replace(job, search=replace(job.search, **settings))


def _merge(plan: Plan, coefficients: dict[str, float]) -> dict[str, torch.Tensor]:
    """Merge ingredients best first, as a study orders them: the order changes the last bits."""
    ingredients = plan.ingredients()
    best_first = [ingredients[position] for position in rank(ingredients, plan.metric)]
    used = [model for model in best_first if model.name in coefficients]
    states = [load_tensors(plan.project.root / model.path) for model in used]
    return merge_states(states, Recipe("linear", tuple(coefficients[model.name] for model in used)))


def test_a_tuned_soup_is_the_mean_that_its_coefficients_say(
    finished: Plan, tuned: dict[str, Model]
) -> None:
    soup = tuned["tuned"]
    coefficients = soup.details["coefficients"]
    digests = {model.name: model.digest for model in finished.ingredients()}

    weights = load_tensors(finished.project.root / soup.path)

    merged = _merge(finished, coefficients)
    assert all(torch.equal(tensor, merged[name]) for name, tensor in weights.items())
    assert sum(coefficients.values()) == pytest.approx(1)
    assert all(value > 0 for value in coefficients.values())
    assert soup.details["inputs"] == {name: digests[name] for name in coefficients}


def test_the_score_that_led_to_the_choice_is_the_score_of_the_soup(
    tuned: dict[str, Model],
) -> None:
    soup = tuned["tuned"]

    best = max(trial["values"][0] for trial in soup.details["trials"])

    assert soup.scores["val/accuracy"] == best


def test_a_tuned_soup_is_never_below_its_warm_starts(
    finished: Plan, tuned: dict[str, Model]
) -> None:
    trials = tuned["tuned"].details["trials"]
    best_ingredient = max(model.scores["val/accuracy"] for model in finished.ingredients())
    soups = models_of(read_manifest(finished.project.root, "soups"))

    starts = {trial["source"]: trial["values"][0] for trial in trials[:3]}

    assert starts == {
        "uniform": soups[0].scores["val/accuracy"],
        "greedy": soups[1].scores["val/accuracy"],
        "best single": best_ingredient,
    }
    assert tuned["tuned"].scores["val/accuracy"] >= max(starts.values())
    assert [trial["source"] for trial in trials[3:]] == ["sampler"] * 5


def test_a_front_holds_scores_that_its_coefficients_have(
    finished: Plan, tuned: dict[str, Model]
) -> None:
    front = tuned["pareto"].details["front"]

    assert front
    scorer = ValScorer(finished.workload.build(), "cpu")
    for point in front:
        merged = _merge(finished, point["coefficients"])
        assert [scorer.val(merged), scorer.val_shift(merged)] == point["values"]


def test_the_soup_of_a_front_is_the_point_with_the_highest_sum(tuned: dict[str, Model]) -> None:
    soup = tuned["pareto"]

    best = max(soup.details["front"], key=lambda point: sum(point["values"]))

    assert soup.details["coefficients"] == best["coefficients"]
    assert [soup.scores["val/accuracy"], soup.scores["val_shift/mean/accuracy"]] == best["values"]


def test_one_objective_has_no_front(tuned: dict[str, Model]) -> None:
    assert tuned["tuned"].details["front"] == []


def test_a_tuned_soup_that_the_store_has_is_not_searched_again(
    plan: Plan, job: TuningJob, tuned: dict[str, Model]
) -> None:
    for ingredient in plan.ingredients():
        (plan.project.root / ingredient.path).unlink()  # without them, nothing can be scored

    assert make_model(job, "cpu") == tuned["tuned"]


def test_a_search_without_its_journal_finds_the_same(
    plan: Plan, job: TuningJob, tuned: dict[str, Model]
) -> None:
    (plan.project.root / tuned["tuned"].path).unlink()
    (plan.project.root / ".stockpot" / "studies" / f"{job.study_key}.log").unlink()

    assert make_model(job, "cpu") == tuned["tuned"]


def test_more_trials_continue_the_study(
    plan: Plan, job: TuningJob, tuned: dict[str, Model]
) -> None:
    journal = plan.project.root / ".stockpot" / "studies" / f"{job.study_key}.log"
    lines_before = journal.read_bytes()

    longer = make_model(_with(job, trials=11), "cpu")

    trials = longer.details["trials"]
    assert trials[:8] == tuned["tuned"].details["trials"]
    assert len(trials) == 11
    assert journal.read_bytes().startswith(lines_before)
    assert longer.scores["val/accuracy"] >= tuned["tuned"].scores["val/accuracy"]
    assert make_model(_with(job, trials=11), "cpu") == longer


def test_a_shorter_search_has_its_own_soup(job: TuningJob, tuned: dict[str, Model]) -> None:
    shorter = make_model(_with(job, trials=4), "cpu")

    assert shorter.details["trials"] == tuned["tuned"].details["trials"][:4]
    assert shorter.key != tuned["tuned"].key


def test_every_part_of_a_study_counts_in_its_key(job: TuningJob, tmp_path: Path) -> None:
    rescored = tuple(model.scored({"val/accuracy": 0.1}) for model in job.ingredients)

    studies = {
        job.study_key,
        _with(job, objectives=("val_shift",)).study_key,
        _with(job, sampler="random").study_key,
        _with(job, trials=99).study_key,
        replace(job, seed=1).study_key,
        replace(job, base=job.ingredients[0]).study_key,
        replace(job, ingredients=job.ingredients[1:]).study_key,
        replace(job, ingredients=rescored).study_key,
        replace(job, workload=replace(job.workload, seed=1)).study_key,
    }

    assert len(studies) == 8  # trials do not count
    assert replace(job, root=tmp_path, name="other").study_key == job.study_key
    assert len({job.key, _with(job, trials=99).key, replace(job, name="other").key}) == 3
