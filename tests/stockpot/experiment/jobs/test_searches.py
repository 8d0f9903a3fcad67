"""Searches by gradient on the toy workload, whose test split raises when it is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor

from stockpot.config import load_experiment
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.judging import judge_models, measure_baseline, predict_model
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.experiment.plan import Plan
from stockpot.experiment.report_files import load_results, write_plot_files, write_report_files
from stockpot.experiment.state import inputs_key, is_done
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.reporting.figures import draw_figures
from stockpot.scoring.val_scores import ValScorer
from stockpot.soups.tuning.bilevel_search import BilevelSearch
from stockpot.soups.tuning.entropy_search import EntropySearch
from stockpot.soups.tuning.gradient_search import GradientSearch
from stockpot.soups.tuning.mixtures import recipes
from stockpot.soups.tuning.optuna_search import OptunaSearch
from stockpot.soups.tuning.search import Search
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import models_of, read_manifest, write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.storage.store import Store
from stockpot.tracking.manifests import record_from_manifest
from stockpot.workloads.spec import WorkloadSpec

WEIGHTS = [[[1.0, 0.2], [0.5, 0.3]], [[0.1, 0.9], [-0.4, 1.2]], [[0.6, -0.5], [0.9, 0.8]]]
LEARNED = GradientSearch(per="layer", epochs=3, batch_size=8, learning_rate=0.3)
ELECTED = {"density": 0.5, "scope": "model"}
ADAPTIVE = EntropySearch(per="layer", init=0.3, steps=7, batch_size=16, learning_rate=0.1)
BILEVEL = BilevelSearch(per="layer", epochs=2, batch_size=8, learning_rate=0.1, weights_rate=0.3)

MakeJob = Callable[[Search], TuningJob]


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Make a job on a base and three ingredients in a store."""
    options = (("closed", "test"), ("sizes", "60,4"))
    spec = WorkloadSpec("toy_workload:Toy", 0, ("near",), ("far",), options)

    def save(kind: str, name: str, weight: Sequence[Sequence[float]]) -> Model:
        model = Store(tmp_path).save(kind, name, name, {"weight": torch.tensor(weight)}, {})
        return model.scored({"val/accuracy": 0.5})

    base = save("base", "base", [[0.4, 0.0], [0.0, 0.4]])
    made = [save("ingredient", f"ingredient-{n}", weight) for n, weight in enumerate(WEIGHTS)]
    return lambda search: TuningJob(
        root=tmp_path,
        workload=spec,
        name="tuned",
        search=search,
        seed=0,
        base=base,
        ingredients=tuple(made),
        metric="val/accuracy",
    )


def _states(models: Sequence[Model], root: Path) -> list[dict[str, Tensor]]:
    return [load_tensors(root / model.path) for model in models]


def _scores(job: TuningJob, soup: Model) -> float:
    return ValScorer(job.workload.build(), "cpu").val(load_tensors(job.root / soup.path))


def _rows(soup: Model) -> Mapping[str, Mapping[str, float]]:
    table: Mapping[str, Mapping[str, float]] = soup.details["layer_coefficients"]
    return table


def test_a_learned_soup_is_what_its_coefficients_say_and_scores_what_its_trial_says(
    make_job: MakeJob,
) -> None:
    job = make_job(LEARNED)

    soup = make_model(job, "cpu")

    details = soup.details
    rows = {group: tuple(row.values()) for group, row in _rows(soup).items()}
    merged = merge_states(_states(job.ingredients, job.root), recipes("linear", "layer", rows))
    assert torch.equal(load_tensors(job.root / soup.path)["weight"], merged["weight"])
    assert sum(details["coefficients"].values()) == pytest.approx(1)
    assert details["trials"][details["chosen"]]["values"] == [soup.scores["val/accuracy"]]
    assert soup.scores["val/accuracy"] == _scores(job, soup)


def test_a_learned_soup_starts_from_the_uniform_one_and_lists_every_epoch(
    make_job: MakeJob,
) -> None:
    job = make_job(LEARNED)

    details = make_model(job, "cpu").details

    uniform = merge_states(_states(job.ingredients, job.root), Recipe("linear", (1.0,) * 3))
    score = ValScorer(job.workload.build(), "cpu").val(uniform)
    assert details["trials"][0] == {"number": 0, "values": [score], "source": "uniform"}
    assert [trial["source"] for trial in details["trials"][1:]] == ["epoch"] * 3
    assert [fold["number"] for fold in details["folds"]] == [0, 1, 2, 3]
    assert details["folds"][3]["fit_loss"] < details["folds"][0]["fit_loss"]
    assert details["inverse_temperature"] != 1
    assert details["recipe"] == {
        "name": "tuned",
        "search": "gradient",
        "method": "linear",
        "objectives": ["val"],
        "per": "layer",
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.3,
        "sampling": "darts",
    }


def test_drawn_ingredients_end_with_one_of_them_for_each_layer(make_job: MakeJob) -> None:
    job = make_job(replace(LEARNED, sampling="gdas", epochs=12))

    soup = make_model(job, "cpu")

    chosen = soup.details["coefficients"]
    assert soup.details["recipe"]["sampling"] == "gdas"
    assert list(chosen.values()) == [1.0]
    (model,) = (model for model in job.ingredients if model.name in chosen)
    (state,) = _states([model], job.root)
    assert torch.equal(load_tensors(job.root / soup.path)["weight"], state["weight"])


def test_one_coefficient_a_model_needs_no_table(make_job: MakeJob) -> None:
    soup = make_model(make_job(replace(LEARNED, per="model")), "cpu")

    assert "layer_coefficients" not in soup.details
    assert len(soup.details["coefficients"]) == 3


def test_coefficients_of_groups_are_reported_by_their_mean(make_job: MakeJob) -> None:
    soup = make_model(make_job(replace(LEARNED, per="tensor")), "cpu")

    for name, value in soup.details["coefficients"].items():
        assert value == fmean(row[name] for row in _rows(soup).values())


def test_an_adaptive_merge_of_elected_task_vectors_is_what_its_recipe_says(
    make_job: MakeJob,
) -> None:
    job = make_job(replace(ADAPTIVE, density=0.5, learning_rate=1.0, init=0.5))

    soup = make_model(job, "cpu")

    recipe = soup.details["recipe"]
    assert (recipe["method"], recipe["options"]) == ("elected_sum", ELECTED)
    # A model with a coefficient of 0 voted, so it stays among the inputs.
    rows = {group: tuple(row.values()) for group, row in _rows(soup).items()}
    assert any(value == 0 for row in rows.values() for value in row)
    assert len(soup.details["inputs"]) == 3
    of = recipes("elected_sum", "layer", rows, ELECTED)
    (base,) = _states([job.base], job.root)
    merged = merge_states(_states(job.ingredients, job.root), of, base)
    assert torch.equal(load_tensors(job.root / soup.path)["weight"], merged["weight"])


def test_an_adaptive_merge_is_the_base_and_its_task_vectors(make_job: MakeJob) -> None:
    job = make_job(ADAPTIVE)

    soup = make_model(job, "cpu")

    (base,) = _states([job.base], job.root)
    (coefficients,) = _rows(soup).values()
    expected = base["weight"].clone()
    for model, state in zip(job.ingredients, _states(job.ingredients, job.root), strict=True):
        expected += coefficients.get(model.name, 0.0) * (state["weight"] - base["weight"])
    torch.testing.assert_close(load_tensors(job.root / soup.path)["weight"], expected)
    assert all(0 <= value <= 1 for value in coefficients.values())
    assert soup.details["recipe"]["adapts_on"] == "val"
    assert [trial["source"] for trial in soup.details["trials"]] == ["0.3 each", "epoch", "epoch"]
    assert len(soup.details["class_entropy"]) == 3


def test_an_adaptive_merge_without_any_task_vector_is_the_base(make_job: MakeJob) -> None:
    job = make_job(replace(ADAPTIVE, init=0.0, learning_rate=1e-12))

    soup = make_model(job, "cpu")

    (base,) = _states([job.base], job.root)
    torch.testing.assert_close(load_tensors(job.root / soup.path)["weight"], base["weight"])


@pytest.mark.parametrize("search", [LEARNED, ADAPTIVE, BILEVEL])
def test_a_search_that_is_done_again_has_the_same_bits(make_job: MakeJob, search: Search) -> None:
    job = make_job(search)
    first = make_model(job, "cpu")
    (job.root / first.path).unlink()

    assert make_model(job, "cpu") == first


@pytest.mark.parametrize("search", [LEARNED, ADAPTIVE, BILEVEL])
def test_every_setting_counts_in_the_key(make_job: MakeJob, search: Search) -> None:
    job = make_job(search)

    others = [
        make_job(replace(search, per="model")),
        make_job(replace(search, batch_size=3)),
        make_job(replace(search, learning_rate=0.5)),
        make_job(OptunaSearch(trials=8)),
        replace(job, seed=1),
        replace(job, base=job.ingredients[0]),
        replace(job, name="other"),
    ]

    assert len({job.key, *(other.key for other in others)}) == 8


def test_the_header_of_the_weights_leaves_the_tables_to_the_manifest(make_job: MakeJob) -> None:
    from safetensors import safe_open

    job = make_job(LEARNED)
    soup = make_model(job, "cpu")

    with safe_open(job.root / soup.path, framework="pt") as file:
        pedigree = json.loads(file.metadata()["stockpot"])

    assert pedigree["coefficients"] == soup.details["coefficients"]
    assert pedigree.keys().isdisjoint({"layer_coefficients", "folds", "trials", "front"})


PARAMS = """
workload:
  {name: "toy_workload:Toy", val_shifts: [near], test_shifts: [far], options: {sizes: "60,20"}}
base: {epochs: 1}
sweep: {size: 3, min_ingredients: 2, space: {learning_rate: {log_uniform: [0.01, 0.1]}, epochs: 1}}
soups: [{name: uniform, select: uniform}]
tune:
  - {name: learned, search: gradient, epochs: 2, learning_rate: 0.3}
  - {name: adaptive, search: entropy, steps: 5}
evaluate: {bootstrap: 100, random_soups: 0, repeats: {m: 0}}
"""


def test_a_whole_experiment_with_both_searches_is_recorded_plotted_and_reported(
    tmp_path: Path,
) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    experiment = load_experiment(tmp_path / "params.yaml")
    plan = Plan(Project(tmp_path, tmp_path / "params.yaml"), experiment)

    def record(stage: str, **made: object) -> None:
        write_manifest(tmp_path, stage, {"inputs": inputs_key(plan, stage), "files": {}, **made})

    record("base", base=make_model(plan.base_job(), "cpu").to_json())
    ingredients = [make_model(job, "cpu") for job in plan.ingredient_jobs()]
    made = [ingredient.to_json() for ingredient in ingredients]
    precheck = check_ingredients(plan.precheck_job(ingredients), "cpu")
    record("sweep", ingredients=made, failed=[], precheck=precheck)
    record("soups", soups=[make_model(job, "cpu").to_json() for job in plan.soup_jobs()])
    record("tune", tuned=[make_model(job, "cpu").to_json() for job in plan.tuning_jobs()])
    record("diagnose")
    for prediction in plan.evaluation().prediction_jobs():
        predict_model(prediction, "cpu")
    for baseline in plan.evaluation().baseline_jobs():
        measure_baseline(baseline, "cpu")
    evaluation = judge_models(plan.evaluation().judging_job(), "cpu")
    record("evaluate", **evaluation)
    write_plot_files(tmp_path, evaluation)
    report, _ = write_report_files(plan, draw_figures(load_results(tmp_path)), {})
    page = report.read_text()

    assert is_done(plan, "tune")
    learned, adaptive = models_of(read_manifest(tmp_path, "tune"))
    keys = {model.name: model.key for model in plan.ingredients()}
    records = [record_from_manifest(m.to_json(), keys=keys) for m in (learned, adaptive)]
    assert [r.params["search"] for r in records] == ["gradient", "entropy"]
    assert [len(r.curves["tuning/best_val"]) for r in records] == [3, 3]
    rows = (tmp_path / "results" / "plots" / "tuning.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [
        ["learned", "0", "uniform"],
        ["learned", "1", "epoch"],
        ["learned", "2", "epoch"],
        ["adaptive", "0", "0.3 each"],
        ["adaptive", "1", "epoch"],
        ["adaptive", "2", "epoch"],
    ]
    assert "Tuning history: learned" in page
    assert "adapts_on" in page
