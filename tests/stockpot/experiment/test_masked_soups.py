"""Soups of pruned ingredients: no density is gained without a word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from stockpot.config import load_experiment
from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.plan import Plan
from stockpot.reporting.results import Results
from stockpot.reporting.words.densities import density_sentences
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import models_of, read_manifest
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank

EQUAL = "ingredients: [ingredient-00, ingredient-01]"
HALF = "options: {scale: 0.5}"
PARAMS = f"""
workload: {{name: digits, val_shifts: [blur], test_shifts: [noise]}}
base: {{epochs: 1}}
sweep:
  search: list
  size: 3
  min_ingredients: 2
  precheck: {{on_fail: warn}}
  space: {{epochs: 1, learning_rate: 0.001}}
  list:
    - {{sparsity: 0.9, mixup: 0.0}}
    - {{sparsity: 0.9, mixup: 0.1}}
    - {{sparsity: 0.5, mixup: 0.0}}
soups:
  - {{name: same, select: uniform, {EQUAL}, method: task_arithmetic, {HALF}}}
  - {{name: filled, select: uniform, {EQUAL}, method: task_arithmetic, {HALF}, masks: none}}
  - {{name: union, select: uniform, masks: union}}
  - {{name: intersection, select: uniform, masks: intersection}}
  - {{name: first, select: top_k, k: 3, masks: first}}
  - {{name: counted, select: uniform, masks: union, method: count_mean}}
diagnose: []
evaluate: {{bootstrap: 100, random_soups: 0, repeats: {{m: 0}}}}
"""
WEIGHTS = ("features.0.weight", "features.2.weight", "features.5.weight", "head.weight")


@pytest.fixture(scope="module")
def plan(finish_experiment: Callable[[str], Plan]) -> Plan:
    return finish_experiment(PARAMS)


@pytest.fixture(scope="module")
def made(plan: Plan) -> dict[str, Model]:
    stages = [models_of(read_manifest(plan.project.root, s)) for s in ("base", "sweep", "soups")]
    return {model.name: model for models in stages for model in models}


def live(plan: Plan, model: Model) -> torch.Tensor:
    tensors = load_tensors(plan.project.root / model.path)
    return torch.cat([tensors[name].flatten() != 0 for name in WEIGHTS])


def test_every_record_has_the_density(plan, made):
    for model in made.values():
        assert model.density == pytest.approx(live(plan, model).double().mean().item())
    assert made["base"].density == 1
    assert made["ingredient-00"].density == pytest.approx(0.1, abs=1e-4)
    assert made["ingredient-02"].density == pytest.approx(0.5, abs=1e-4)


def test_a_common_mask_is_kept_by_methods_that_use_the_base(plan, made):
    assert torch.equal(live(plan, made["same"]), live(plan, made["ingredient-00"]))
    assert made["same"].details["masks"] == "first"
    assert made["filled"].density > 0.2


@pytest.mark.parametrize("masks", ["union", "intersection"])
def test_different_masks_are_joined(plan, made, masks):
    ingredients = [live(plan, made[f"ingredient-0{number}"]) for number in range(3)]
    stacked = torch.stack(ingredients)
    expected = stacked.any(dim=0) if masks == "union" else stacked.all(dim=0)
    assert not (live(plan, made[masks]) & ~expected).any()
    assert made[masks].density == pytest.approx(expected.double().mean().item(), abs=1e-3)


def test_the_first_mask_is_kept(plan, made):
    best = plan.ingredients()[rank(plan.ingredients(), plan.metric)[0]]
    assert torch.equal(live(plan, made["first"]), live(plan, best))


def test_counted_entries_are_those_of_the_models_that_have_them(plan, made):
    read = {n: load_tensors(plan.project.root / made[n].path) for n in made}
    name = "features.5.weight"
    only = (read["ingredient-02"][name] != 0) & (read["ingredient-00"][name] == 0)
    only &= read["ingredient-01"][name] == 0
    assert only.any()
    torch.testing.assert_close(read["counted"][name][only], read["ingredient-02"][name][only])


def test_the_report_says_what_became_of_masks(plan):
    root = plan.project.root
    results = Results(
        evaluation=read_manifest(root, "evaluate"),
        soups=read_manifest(root, "soups"),
        tune=read_manifest(root, "tune"),
        sweep=read_manifest(root, "sweep"),
        base=read_manifest(root, "base"),
        diagnostics={},
    )
    said = {one.partition(":")[0]: one for one in density_sentences(results)}
    assert "the weights of any ingredient are kept" in said["union"]
    assert "filled" in said
    assert "same" in said


def test_different_masks_need_a_word(plan, made):
    ingredients = tuple(made[f"ingredient-0{number}"] for number in range(3))
    [job] = [one for one in plan.soup_jobs() if one.name == "union"]
    job = replace(job, name="silent", masks=None, ingredients=ingredients)
    with pytest.raises(InputError, match=r"ingredient-02 and ingredient-00.*set masks: union"):
        make_model(job, "cpu")


def test_sparsities_that_differ_are_found_while_planning(tmp_path):
    text = PARAMS.replace(", masks: union}", "}")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"union.*masks"):
        load_experiment(tmp_path / "params.yaml", ())


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("{sparsity: 0.5, sparsity_update_every: 10}", "whose masks move apart"),
        ("{sparsity: {choice: [0.5, 0.9]}}", "of different sparsity"),
        ("{sparsity: 0.5}", ""),
        ("{sparsity: 0.5}, rounds: [{name: dense}]", "of different sparsity"),
        ("{sparsity: 0.5}, search: list, list: [{sparsity: 0.5}, {seed: 1}], size: 2", ""),
        (
            "{sparsity: 0.5}, search: list, list: [{sparsity: 0}, {seed: 1}], size: 2",
            "of different .*",
        ),
        ("{sparsity_update_every: 10}", ""),
    ],
)
def test_masks_are_named_where_ingredients_may_have_other_ones(tmp_path, space, said):
    soups = "soups: [{name: mean, select: uniform}]"
    (tmp_path / "params.yaml").write_text(
        f"sweep: {{min_ingredients: 1, space: {space}}}\n{soups}\n"
    )
    if not said:
        load_experiment(tmp_path / "params.yaml", ())
        return
    with pytest.raises(InputError, match=f"'mean' merges ingredients {said}, got no masks"):
        load_experiment(tmp_path / "params.yaml", ())
