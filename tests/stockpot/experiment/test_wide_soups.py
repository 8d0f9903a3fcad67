"""Soups of nets side by side in an experiment: their scores, cost, and what leaves them out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from stockpot.config import load_experiment
from stockpot.errors import InputError
from stockpot.experiment.jobs.diagnosing import DiagnosticJob, diagnose_models
from stockpot.experiment.plan import Plan
from stockpot.scoring.predictions import load_outputs
from stockpot.storage.manifests import models_of, read_manifest
from stockpot.storage.models import Model
from stockpot.storage.ranking import best_soup

PARAMS = """
workload: {name: digits, val_shifts: [blur], test_shifts: [noise]}
base: {epochs: 2}
sweep:
  size: 3
  min_ingredients: 2
  space: {learning_rate: {log_uniform: [1.0e-3, 1.0e-2]}, epochs: 1}
soups:
  - {name: wide, select: top_k, k: 2, method: concat}
  - {name: wide sum, select: greedy, method: concat, options: {reduce: sum}}
  - {name: grown, select: top_k, k: 2, method: concat, options: {epochs: 1}}
  - {name: boosted, select: top_k, k: 1, method: concat, options: {epochs: 1, stages: 1}}
diagnose: []
evaluate: {bootstrap: 100, random_soups: 2, repeats: {m: 0}}
"""


@pytest.fixture(scope="module")
def plan(finish_experiment: Callable[[str], Plan]) -> Plan:
    return finish_experiment(PARAMS)


def soups(plan: Plan) -> dict[str, Model]:
    return {model.name: model for model in models_of(read_manifest(plan.project.root, "soups"))}


def diagnostics(plan: Plan) -> list[DiagnosticJob]:
    """Return the jobs of all diagnostics."""
    asked = load_experiment(plan.project.params_file, ["diagnose=all"])
    return replace(plan, experiment=asked).diagnostic_jobs()


@pytest.mark.parametrize(("name", "reduce"), [("wide", "mean"), ("wide sum", "sum")])
def test_its_outputs_are_those_of_the_ensemble(plan, name, reduce):
    root, soup = plan.project.root, soups(plan)[name]
    digests = list(soup.details["inputs"].values())
    for place in ("val", "test", "test_shift/noise"):
        outputs = torch.stack([load_outputs(root, plan.workload, d, place) for d in digests])
        expected = outputs.mean(dim=0) if reduce == "mean" else outputs.sum(dim=0)
        found = load_outputs(root, plan.workload, soup.digest, place)
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_its_cost_is_recorded(plan):
    soup = soups(plan)["wide"]
    ingredient = plan.ingredients()[0]
    assert soup.num_nets == 2
    cost = soup.details["wide_net"]
    assert cost["forward_passes"] == 1
    assert cost["norms_per_net"] == 0
    assert cost["num_params"] == soup.num_params > 2 * ingredient.num_params
    evaluation = read_manifest(plan.project.root, "evaluate")
    costs = {model["name"]: model["cost"] for model in evaluation["models"]}
    assert costs["wide"]["num_models"] == 2
    assert costs["wide"]["num_params"] == soup.num_params
    assert costs["wide"]["flops"] > 2 * costs[ingredient.name]["flops"]


def test_it_is_the_best_soup_only_without_others_and_in_no_diagnostic(plan):
    evaluation = read_manifest(plan.project.root, "evaluate")
    assert evaluation["best_soup"] in soups(plan)
    assert evaluation["wise_ft"] == []
    assert diagnostics(plan)
    assert all(job.soups == () for job in diagnostics(plan))
    scored = [model.scored({"val/accuracy": 1.0}) for model in soups(plan).values()]
    other = replace(scored[0], name="narrow", scores={"val/accuracy": 0.1}, details={})
    assert best_soup([*scored, other], "val/accuracy") == other


@pytest.mark.full
def test_every_diagnostic_can_do_without_soups(plan):
    for job in diagnostics(plan):
        json.dumps(diagnose_models(job, "cpu").to_json(), allow_nan=False)


def test_grown_and_boosted_soups_say_what_was_trained(plan):
    made = soups(plan)
    assert made["grown"].num_nets == 2
    zeros = {name: model.details["wide_net"]["num_zeros"] for name, model in made.items()}
    assert zeros["grown"] < zeros["wide"] / 2
    [step] = made["boosted"].details["boosting"]
    assert step["loss_after"] <= step["loss_before"]
    assert made["boosted"].num_nets == 2
    assert not list((plan.project.root / ".stockpot" / "partial").glob("*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [("{reduce: median}", "reduce must be one of"), ("{scale: 1}", "unknown option|no option")],
)
def test_wrong_options_are_refused_in_words(tmp_path, options, words):
    (tmp_path / "params.yaml").write_text(PARAMS.replace("{reduce: sum}", options))
    with pytest.raises(InputError, match=words):
        load_experiment(tmp_path / "params.yaml", ())
