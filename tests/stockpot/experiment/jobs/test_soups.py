"""Soups of the digits' ingredients: chosen by val scores, merged, and made once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.plan import Plan
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.scoring.val_scores import ValScorer
from stockpot.statistics.paired import mcnemar
from stockpot.storage.checkpoints import load_tensors, read_metadata
from stockpot.storage.manifests import models_of, read_manifest
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.storage.store import Store


@pytest.fixture
def soups(finished: Plan) -> dict[str, Model]:
    return {m.name: m for m in models_of(read_manifest(finished.project.root, "soups"))}


@pytest.fixture
def job(plan: Plan) -> SoupJob:
    """The greedy soup of a finished experiment."""
    return plan.soup_jobs()[1]


def _mean(plan: Plan, names: list[str]) -> dict[str, torch.Tensor]:
    by_name = {model.name: model for model in plan.ingredients()}
    states = [load_tensors(plan.project.root / by_name[name].path) for name in names]
    return merge_states(states, Recipe("linear", (1.0,) * len(states)))


@pytest.mark.parametrize("name", ["uniform", "greedy", "top 2"])
def test_a_soup_is_the_mean_of_what_it_says(
    finished: Plan, soups: dict[str, Model], name: str
) -> None:
    soup = soups[name]
    members = list(soup.details["coefficients"])

    weights = load_tensors(finished.project.root / soup.path)

    expected = _mean(finished, members)
    assert set(soup.details["coefficients"].values()) == {1 / len(members)}
    torch.testing.assert_close(weights, expected)


def test_the_uniform_soup_has_all_ingredients(finished: Plan, soups: dict[str, Model]) -> None:
    digests = {model.name: model.digest for model in finished.ingredients()}

    assert soups["uniform"].details["inputs"] == digests
    assert soups["uniform"].details["steps"] == []


def test_the_top_2_soup_has_the_two_best(finished: Plan, soups: dict[str, Model]) -> None:
    best = sorted(finished.ingredients(), key=lambda m: (-m.scores["val/accuracy"], m.key))[:2]

    assert set(soups["top 2"].details["coefficients"]) == {model.name for model in best}
    assert soups["top 2"].details["recipe"] == {
        "name": "top 2",
        "select": "top_k",
        "method": "linear",
        "k": 2,
    }


def test_the_greedy_soup_tells_its_steps(finished: Plan, soups: dict[str, Model]) -> None:
    greedy = soups["greedy"]
    steps = greedy.details["steps"]
    order = rank(finished.ingredients(), "val/accuracy")

    assert [step["ingredient"] for step in steps] == [f"ingredient-0{p}" for p in order]
    accepted = {step["ingredient"] for step in steps if step["accepted"]}
    assert accepted == set(greedy.details["coefficients"])
    assert steps[-1]["best"] == greedy.scores["val/accuracy"]


def test_the_greedy_soup_is_never_below_the_best_ingredient(
    finished: Plan, soups: dict[str, Model]
) -> None:
    best = max(model.scores["val/accuracy"] for model in finished.ingredients())

    assert soups["greedy"].scores["val/accuracy"] >= best


def test_each_greedy_step_has_the_score_of_the_soup_that_would_be_written(
    finished: Plan, soups: dict[str, Model]
) -> None:
    scorer = ValScorer(finished.workload.build(), "cpu")
    soup: list[str] = []

    for step in soups["greedy"].details["steps"]:
        candidate = [*soup, step["ingredient"]]
        score = scorer.val(_mean(finished, candidate))
        if "stopped" in step:
            assert score <= step["stopped"]["at_most"] < step["best"]
        else:
            assert score == step["score"]
        soup = candidate if step["accepted"] else soup


def test_each_greedy_step_is_tested_against_the_soup_before_it(
    finished: Plan, soups: dict[str, Model]
) -> None:
    scorer = ValScorer(finished.workload.build(), "cpu")
    first, *others = soups["greedy"].details["steps"]
    soup = [first["ingredient"]]

    assert [first[name] for name in ("difference", "p", "won", "lost")] == [None] * 4
    assert first["n"] == len(scorer.val_values(_mean(finished, soup)))
    for step in others:
        before = scorer.val_values(_mean(finished, soup))
        after = scorer.val_values(_mean(finished, [*soup, step["ingredient"]]))
        if "stopped" in step:
            assert [step[name] for name in ("score", "difference", "p", "won", "lost")] == [
                None
            ] * 5
            continue
        assert step["won"] == (after > before).sum()
        assert step["lost"] == (after < before).sum()
        assert step["p"] == mcnemar(step["won"], step["lost"])
        assert step["difference"] == pytest.approx((step["won"] - step["lost"]) / step["n"])
        soup = [*soup, step["ingredient"]] if step["accepted"] else soup


def test_the_best_point_between_the_base_and_an_ingredient(plan: Plan, job: SoupJob) -> None:
    soup = make_model(
        replace(job, name="wise", select="wise_ft", select_options={}, method="wise_ft"), "cpu"
    )

    [(name, alpha)] = soup.details["coefficients"].items()
    by_name = {model.name: model for model in plan.ingredients()}
    base, ingredient = (
        load_tensors(plan.project.root / model.path) for model in (plan.base(), by_name[name])
    )
    recipe = Recipe("wise_ft", (1.0,), {"alpha": alpha})
    expected = merge_states([ingredient], recipe, base)
    weights = load_tensors(plan.project.root / soup.path)
    assert all(torch.equal(weights[n], tensor) for n, tensor in expected.items())
    scores = {(n, a): s for n, path in soup.details["paths"].items() for a, s in path.items()}
    assert len(scores) == 10 * len(by_name)
    assert soup.scores["val/accuracy"] == scores[name, f"{alpha:g}"] == max(scores.values())
    for model in by_name.values():
        assert scores[model.name, "1"] == model.scores["val/accuracy"]
    assert soup.details["recipe"]["options"] == {"alpha": alpha}


def test_a_soup_that_the_store_has_is_not_made_again(
    plan: Plan, job: SoupJob, soups: dict[str, Model]
) -> None:
    for ingredient in plan.ingredients():
        (plan.project.root / ingredient.path).unlink()  # without them, nothing can be merged

    again = make_model(job, "cpu")

    assert again == soups["greedy"]
    assert job.find() is not None


def test_a_soup_of_ingredients_that_were_renamed_tells_of_them_by_their_new_names(
    job: SoupJob,
) -> None:
    renamed = tuple(replace(model, name=f"new-{model.name}") for model in job.ingredients)

    soup = make_model(replace(job, ingredients=renamed), "cpu")

    assert all(name.startswith("new-") for name in soup.details["coefficients"])


def test_a_soup_whose_weights_are_gone_is_made_to_the_same_bits(
    plan: Plan, job: SoupJob, soups: dict[str, Model]
) -> None:
    (plan.project.root / soups["greedy"].path).unlink()
    gone = job.find()

    again = make_model(job, "cpu")

    assert gone is None
    assert again == soups["greedy"]


def test_a_damaged_ingredient_makes_no_soup(plan: Plan, job: SoupJob) -> None:
    path = plan.project.root / plan.ingredients()[2].path
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    uniform = replace(job, select="uniform", select_options={}, name="another")
    files_before = Store(plan.project.root).files()

    with pytest.raises(InputError, match="the file was changed or damaged"):
        make_model(uniform, "cpu")

    assert Store(plan.project.root).files() == files_before


def test_the_file_of_a_soup_says_how_it_was_made(finished: Plan, soups: dict[str, Model]) -> None:
    path = finished.project.root / soups["top 2"].path

    pedigree = json.loads(read_metadata(path)["stockpot"])

    assert pedigree["recipe"]["k"] == 2
    assert pedigree["inputs"] == soups["top 2"].details["inputs"]


def test_every_part_of_a_recipe_counts_in_the_key(job: SoupJob, tmp_path: Path) -> None:
    rescored = tuple(model.scored({"val/accuracy": 0.1}) for model in job.ingredients)

    keys = {
        job.key,
        replace(job, name="other").key,
        replace(job, select="uniform").key,
        replace(job, select_options={"k": 2}).key,
        replace(job, method="fisher").key,
        replace(job, method="fisher", options={"n": 4}).key,
        replace(job, ingredients=job.ingredients[1:]).key,
        replace(job, ingredients=rescored).key,
        replace(job, workload=replace(job.workload, seed=1)).key,
    }

    assert len(keys) == 9
    assert replace(job, root=tmp_path).key == job.key
