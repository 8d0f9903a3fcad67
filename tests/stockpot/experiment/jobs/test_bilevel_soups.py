"""Search and merge through params.yaml: what is recorded and saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.plan import Plan
from stockpot.experiment.reproduction import rebuild
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.merging.sparse_masks import Mask, apply_mask, magnitude_mask, nonzero_mask
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.models import Model
from stockpot.storage.store import Store

STUDY = "{name: t, search: bilevel, epochs: 2, weights_rate: 0.1}"


def test_the_soup_is_saved_with_the_weights_that_its_trial_was_scored_with(
    make_plan: Callable[..., Plan],
) -> None:
    job = make_plan(f"tune=[{STUDY}]").tuning_jobs()[0]

    soup = make_model(job, "cpu")

    details = soup.details
    assert details["trials"][details["chosen"]]["values"] == [soup.scores[job.metric]]
    assert [trial["source"] for trial in details["trials"]] == ["uniform", "epoch", "epoch"]
    assert {*details["inputs"]} == {model.name for model in job.ingredients}
    assert sum(details["coefficients"].values()) == pytest.approx(1)
    assert all(loss > 0 for losses in details["losses"] for loss in losses)


def test_without_rates_it_saves_the_uniform_soup(make_plan: Callable[..., Plan]) -> None:
    study = "{name: t, search: bilevel, epochs: 1, weights_rate: 0, learning_rate: 0}"
    job = make_plan(f"tune=[{study}]").tuning_jobs()[0]

    soup = load_tensors(job.root / make_model(job, "cpu").path)

    states = [load_tensors(job.root / model.path) for model in job.ingredients]
    uniform = merge_states(states, Recipe("linear", (1.0,) * len(states)))
    for name, tensor in soup.items():
        torch.testing.assert_close(tensor, uniform[name])


def _pruned(root: Path, model: Model, mask: Mask) -> Model:
    tensors = apply_mask(load_tensors(root / model.path), mask)
    made = Store(root).save("ingredient", f"pruned-{model.key}", model.name, tensors, {})
    return made.scored(model.scores)


@pytest.mark.parametrize("study", [STUDY, "{name: t, search: entropy, steps: 2}"])
def test_zeros_of_pruned_ingredients_stay_also_if_it_is_made_again(
    make_plan: Callable[..., Plan], tmp_path: Path, study: str
) -> None:
    job = make_plan(f"tune=[{study}]").tuning_jobs()[0]
    mask = magnitude_mask(load_tensors(job.root / job.base.path), 0.3)
    job = replace(job, ingredients=tuple(_pruned(job.root, m, mask) for m in job.ingredients))

    soup = make_model(job, "cpu")

    found = nonzero_mask(load_tensors(job.root / soup.path))
    assert soup.details["chosen"] > 0 or "entropy" in study
    assert all(torch.equal(found[name], kept) for name, kept in mask.items())
    again = rebuild(job.provenance(soup), job.root, tmp_path, (), "cpu")
    assert (again.digest, again.scores) == (soup.digest, soup.scores)


def test_a_leader_among_sampled_ingredients_is_refused(make_plan: Callable[..., Plan]) -> None:
    study = "{name: t, search: gradient, sampling: gdas, leader: max_w}"

    with pytest.raises(InputError, match="leader: must be none with sampling gdas, got 'max_w'"):
        make_plan(f"tune=[{study}]")
