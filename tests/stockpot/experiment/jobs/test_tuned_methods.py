"""Tuned soups of the digits' ingredients by any merge method, with groups and floors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from made_models import made

from stockpot.config.soups import SoupSection
from stockpot.disk_merging.job import MergeJob
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.experiment.plan import Plan
from stockpot.experiment.recorded_search import search_of
from stockpot.reporting.found_recipes import found_recipes
from stockpot.reporting.results import Results
from stockpot.soups.tuning.optuna_search import OptunaSearch
from stockpot.soups.tuning.tensor_groups import LayerGroups
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.models import Model


def _job(plan: Plan, top_k: int | None = None, **options: Any) -> TuningJob:
    job = plan.tuning_jobs()[0]
    search = OptunaSearch(**{"trials": 5} | options)
    return replace(job, name="found", search=search, ingredients=job.ingredients[:top_k])


_SEARCHES: dict[str, dict[str, Any]] = {
    "ties": {"method": "ties"},
    "slerp by depth": {"method": "slerp", "per": LayerGroups(layer_group=2), "top_k": 2},
    "linear by patterns": {"method": "linear", "per": ["*.bias"]},
    "several": {"method": ("task_arithmetic", "dare_ties"), "sampler": "random"},
    "with data": {"method": "fisher"},
}


@pytest.mark.parametrize("name", [*_SEARCHES])
def test_the_soup_has_the_score_of_its_trial_and_its_recipe_makes_it_again(
    plan: Plan, name: str
) -> None:
    job = _job(plan, **_SEARCHES[name])

    soup = made(job)

    best = soup.details["trials"][soup.details["chosen"]]
    assert soup.scores["val/accuracy"] == best["values"][0]
    entry = {"kind": "tuned", "name": "found", **soup.details}
    manifests: Any = ({}, {"ingredients": []}, {}, {"tuned": [entry]}, {})
    paths = [{"name": each.name, "path": each.path} for each in job.ingredients]
    results = replace(
        Results(*manifests), sweep={"ingredients": paths}, base={"base": {"path": job.base.path}}
    )
    [recipe] = found_recipes(results)
    pasted = _pasted(job, yaml.safe_load(recipe.soup)[0])
    weights = load_tensors(job.root / soup.path)
    again = load_tensors(job.root / made(pasted).path)
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())
    if recipe.merge_file and not soup.details["merge"]["is_random"]:
        on_disk = _merged(job.root, recipe.merge_file)
        assert all(torch.equal(tensor, on_disk[name]) for name, tensor in weights.items())
    rebuilt = make_model(replace(job, name="rebuilt", search=search_of(soup)), "cpu")
    assert isinstance(rebuilt, Model)
    rebuilt_weights = load_tensors(job.root / rebuilt.path)
    assert all(torch.equal(tensor, rebuilt_weights[name]) for name, tensor in weights.items())


def _merged(root: Path, text: str) -> dict[str, torch.Tensor]:
    (root / "merge.yaml").write_text(text)
    (root / "merged.safetensors").unlink(missing_ok=True)
    job = MergeJob.read(root / "merge.yaml", root / "merged.safetensors")
    job.check()
    job.run(lambda _bytes: None)
    return load_tensors(root / "merged.safetensors")


def _pasted(job: TuningJob, content: dict[str, Any]) -> SoupJob:
    from pydantic import TypeAdapter

    section = TypeAdapter(SoupSection).validate_python(content)
    return SoupJob(
        root=job.root,
        workload=job.workload,
        metric=job.metric,
        seed=job.seed,
        name=section.name,
        select=section.select,
        select_options=section.settings,
        method=section.merge_method,
        options=section.merge_options,
        **section.merge_exceptions,
        base=job.base,
        ingredients=job.ingredients,
    )


def test_an_average_that_was_tuned_is_pasted_too(plan: Plan) -> None:
    job = _job(plan, trials=6)

    soup = made(job)

    entry = {"kind": "tuned", "name": "found", **soup.details}
    ingredients = [{"name": each.name, "path": each.path} for each in job.ingredients]
    results = Results({}, {"ingredients": ingredients}, {}, {"tuned": [entry]}, {})
    [recipe] = found_recipes(results)
    again = made(_pasted(job, yaml.safe_load(recipe.soup)[0]))
    assert _weights(job, again).keys() == _weights(job, soup).keys()
    for weights in (_weights(job, again), _merged(job.root, recipe.merge_file)):
        assert all(torch.equal(weights[n], tensor) for n, tensor in _weights(job, soup).items())


def _weights(job: TuningJob, model: Model) -> dict[str, torch.Tensor]:
    return load_tensors(job.root / model.path)


def test_objectives_are_scores_of_the_soup_and_a_floor_is_kept(plan: Plan) -> None:
    job = _job(
        plan,
        method="task_arithmetic",
        objectives=("loss", "sparsity"),
        floor={"val": "best_ingredient"},
        sampler="nsga2",
    )

    soup = made(job)

    best_ingredient = max(model.scores["val/accuracy"] for model in job.ingredients)
    chosen = soup.details["trials"][soup.details["chosen"]]
    assert chosen["values"][0] == pytest.approx(soup.scores["val/loss"], abs=1e-6)
    assert chosen["values"][1] == 0
    floor = soup.details["floor"]
    assert floor["values"] == {"val": best_ingredient}
    assert floor["is_met"] == (soup.scores["val/accuracy"] >= best_ingredient)


def test_a_floor_that_no_trial_reaches_is_said(plan: Plan) -> None:
    soup = made(_job(plan, floor={"val": 1.1}))

    assert soup.details["floor"] == {"values": {"val": 1.1}, "is_met": False}
    assert all(trial["misses_floor"] for trial in soup.details["trials"])


def test_evaluations_count_different_candidates_and_seconds_end_a_search_once(plan: Plan) -> None:
    from stockpot.distributions.fields import ValuesField

    space = {"density": ValuesField(choice=[0.1, 0.2])}
    few = made(_job(plan, method="ties", space=space, trials=None, evaluations=2))
    timed = _job(plan, method="ties", space=space, trials=None, seconds=0.01)
    first = made(timed)
    (timed.root / first.path).unlink()

    assert len({str(trial["parameters"]) for trial in few.details["trials"]}) == 2
    assert make_model(timed, "cpu") == first
