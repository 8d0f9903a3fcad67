"""The jobs of an experiment, worked out before anything is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from stockpot.experiment.plan import Plan
from stockpot.soups.tuning.entropy_search import EntropySearch
from stockpot.soups.tuning.gradient_search import GradientSearch
from stockpot.soups.tuning.optuna_search import OptunaSearch
from stockpot.storage.manifests import read_manifest

MakePlan = Callable[..., Plan]


def test_the_base_is_trained_from_its_section(make_plan: MakePlan) -> None:
    plan = make_plan("base.learning_rate=0.25", "base.epochs=3", "run.threads=2")

    job = plan.base_job()

    assert (job.name, job.kind, job.start, job.threads) == ("base", "base", None, 2)
    assert job.hyperparameters.learning_rate == 0.25
    assert job.hyperparameters.epochs == 3
    assert job.hyperparameters.seed == make_plan().base_job().hyperparameters.seed
    assert job.hyperparameters.seed != make_plan("seed=1").base_job().hyperparameters.seed


def test_ingredients_start_from_the_base(plan: Plan) -> None:
    base = read_manifest(plan.project.root, "base")["base"]

    jobs = plan.ingredient_jobs()

    assert [job.name for job in jobs] == [f"ingredient-0{number}" for number in range(4)]
    assert {job.kind for job in jobs} == {"ingredient"}
    assert all(job.start is not None and job.start.digest == base["digest"] for job in jobs)
    assert len({job.key for job in jobs}) == 4


def test_a_larger_sweep_finds_the_ingredients_of_the_smaller_one(make_plan: MakePlan) -> None:
    jobs = make_plan("sweep.size=6").ingredient_jobs()

    assert [job.find() is not None for job in jobs] == [True] * 4 + [False] * 2


def test_hyperparameters_have_the_types_that_training_needs(make_plan: MakePlan) -> None:
    plan = make_plan(
        "sweep.space={epochs: {choice: [1.0, 2.0]}, learning_rate: 1, batch_size: 16.0, "
        "optimizer: sgd, accumulation: 2.0, clip_norm: 1}"
    )

    hyperparameters = plan.ingredient_jobs()[0].hyperparameters.described()

    assert {name: type(value) for name, value in hyperparameters.items()} == {
        "learning_rate": float,
        "weight_decay": float,
        "epochs": int,
        "batch_size": int,
        "label_smoothing": float,
        "mixup": float,
        "augmentation": float,
        "seed": int,
        "optimizer": str,
        "clip_norm": float,
        "accumulation": int,
    }


def test_techniques_that_differ_between_ingredients_are_told_of_all(make_plan: MakePlan) -> None:
    plan = make_plan("sweep.space={optimizer: {choice: [adamw, sgd]}, clip_norm: 1, epochs: 1}")

    described = [job.hyperparameters.described() for job in plan.ingredient_jobs()]

    assert {one.get("optimizer") for one in described} == {None, "sgd"}
    assert plan.varied_techniques == {"optimizer": "adamw"}


def test_the_techniques_of_a_base_are_its_own(make_plan: MakePlan) -> None:
    plan = make_plan("base.schedule=cosine", "base.probe_epochs=2")

    described = plan.base_job().hyperparameters.described()

    assert (described["schedule"], described["probe_epochs"]) == ("cosine", 2)
    assert "schedule" not in plan.ingredient_jobs()[0].hyperparameters.described()


def test_one_and_one_point_zero_are_the_same_ingredient(make_plan: MakePlan) -> None:
    keys = [
        make_plan(f"sweep.space={{epochs: {epochs}}}").ingredient_jobs()[0].key
        for epochs in ("2", "2.0")
    ]

    assert keys[0] == keys[1]


def test_soups_are_made_of_all_ingredients(plan: Plan) -> None:
    jobs = plan.soup_jobs()

    assert [(job.name, job.select, job.select_options) for job in jobs] == [
        ("uniform", "uniform", {}),
        ("greedy", "greedy", {"risk": 0.0}),
        ("top 2", "top_k", {"k": 2}),
    ]
    assert all(job.ingredients == plan.ingredients() for job in jobs)
    assert {job.metric for job in jobs} == {"val/accuracy"}


def test_studies_take_the_best_ingredients_first(make_plan: MakePlan) -> None:
    plan = make_plan("tune.0.top_k=2")
    by_score = sorted(plan.ingredients(), key=lambda m: (-m.scores["val/accuracy"], m.key))

    first, second = plan.tuning_jobs()

    assert list(first.ingredients) == by_score[:2]
    assert list(second.ingredients) == by_score
    assert second.search == OptunaSearch(objectives=("val", "val_shift"), sampler="nsga2", trials=8)


def test_studies_of_each_kind_are_planned_with_what_they_are_told(make_plan: MakePlan) -> None:
    plan = make_plan(
        "tune=[{name: a, search: gradient, per: tensor, epochs: 2}, "
        "{name: b, search: entropy, top_k: 2, steps: 7}]"
    )

    learned, adaptive = plan.tuning_jobs()

    assert learned.search == GradientSearch(per="tensor", epochs=2)
    assert adaptive.search == EntropySearch(steps=7)
    assert learned.base == adaptive.base == plan.base()
    assert len(adaptive.ingredients) == 2


def test_all_models_are_judged_in_the_order_of_the_table(plan: Plan) -> None:
    names = [model.name for model in plan.models()]

    assert names == [
        "base",
        *(f"ingredient-0{number}" for number in range(4)),
        *("uniform", "greedy", "top 2"),
        *("tuned", "pareto"),
    ]
    assert [job.name for job in plan.evaluation().prediction_jobs()] == names
    assert {job.sets for job in plan.evaluation().prediction_jobs()} == {
        (
            *("val", "val_shift/blur", "val_shift/scale", "test"),
            *(f"test_shift/{n}" for n in ("noise", "rotate", "translate", "contrast", "occlude")),
        )
    }
    repeats = "best ingredient, 2 augmented copies"
    assert [model.name for model in plan.evaluation().judging_job().models] == [*names, repeats]


def test_the_verdict_follows_its_section(make_plan: MakePlan) -> None:
    job = make_plan("evaluate.bootstrap=300", "evaluate.confidence=0.9").evaluation().judging_job()

    assert (job.bootstrap, job.confidence) == (300, 0.9)


def test_the_workload_is_described_by_plain_values(make_plan: MakePlan) -> None:
    spec = make_plan(
        "seed=3", "workload.val_shifts=[blur]", "workload.test_shifts=[noise, scale]"
    ).workload

    assert asdict(spec) == {
        "name": "digits",
        "seed": 3,
        "val_shifts": ("blur",),
        "test_shifts": ("noise", "scale"),
        "options": (),
    }


def test_options_of_a_workload_are_passed_on_sorted(make_plan: MakePlan) -> None:
    plan = make_plan("workload.name=toy_workload:Toy", "workload.options={sizes: '6,4', closed: x}")

    assert plan.workload.options == (("closed", "x"), ("sizes", "6,4"))
    assert plan.metric == "val/accuracy"


def test_the_tracking_uri_is_named_or_of_the_environment_or_the_projects_own(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    own = make_plan().tracking_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://of-the-environment")

    found = [make_plan().tracking_uri, make_plan("track.uri=http://named").tracking_uri]

    assert own == make_plan().project.mlflow_uri
    assert found == ["http://of-the-environment", "http://named"]
