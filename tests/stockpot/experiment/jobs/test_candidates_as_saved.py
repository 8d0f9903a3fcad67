"""What is measured of a merge, anywhere, is measured of the soup as it would be saved.

The net has BatchNorm, whose statistics a saved soup gets from train.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from made_context import initial_state, moved
from tiny_transformers import write_csv
from torch import Tensor

from stockpot.diagnostics.barriers import barriers
from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.contributions import contributions
from stockpot.diagnostics.gradient_groups import gradient_groups
from stockpot.diagnostics.loss_plane import loss_plane
from stockpot.diagnostics.regime import regime
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.prechecking import PrecheckJob, check_ingredients
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.judging.merged_values import load_values
from stockpot.judging.random_soups import RandomSoupsJob, measure_random_soups
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.inner_products import weight_names
from stockpot.merging.recipe import Recipe
from stockpot.scoring.val_gradients import LabelledVal
from stockpot.scoring.val_scores import ValScorer, score_on_val
from stockpot.soups.preparation.recalibration import Recalibration
from stockpot.soups.tuning.entropy_search import EntropySearch
from stockpot.soups.tuning.gradient_search import GradientSearch
from stockpot.soups.tuning.optuna_search import OptunaSearch
from stockpot.soups.tuning.search import Search
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

State = Mapping[str, Tensor]
HYPERPARAMETERS = {
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "epochs": 1,
    "batch_size": 32,
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "augmentation": 0.0,
    "seed": 0,
}


class Kitchen:
    """A base and three ingredients that differ much, in a store, with their val scores."""

    def __init__(self, root: Path) -> None:
        self.root = root
        options = {"data": str(_write_table(root / "data")), "target": "y", "hidden": 8}
        self.spec = WorkloadSpec("tabular", seed=0, options=tuple(sorted(options.items())))
        workload = self.spec.build()
        # With statistics of their own, as after training.
        own = Recalibration(workload, "cpu")
        start = initial_state(workload)
        weights = {name: start[name] for name in weight_names(start)}
        states = [own(start | moved(weights, 1.5, number), 2) for number in range(3)]
        self.base = self._save("base", "base", own(start, 2), {})
        self.ingredients = tuple(
            self._save("ingredient", f"ingredient-0{number}", state, HYPERPARAMETERS)
            for number, state in enumerate(states)
        )

    @property
    def setting(self) -> dict[str, Any]:
        return {
            "root": self.root,
            "workload": self.spec,
            "metric": "val/accuracy",
            "seed": 0,
            "base": self.base,
            "ingredients": self.ingredients,
        }

    def soup(self, *members: int, method: str = "linear", select: str | None = None) -> Model:
        """Make and score the uniform soup of some ingredients."""
        chosen = tuple(self.ingredients[member] for member in members) or self.ingredients
        job = SoupJob(
            **self.setting | {"ingredients": chosen},
            name=f"soup {members}",
            select=select,
            method=method,
            options={},
        )
        return _made(make_model(job, "cpu"))

    def tuned(self, search: Search) -> Model:
        return _made(make_model(TuningJob(**self.setting, name="tuned", search=search), "cpu"))

    def context(self, *soups: Model) -> DiagnosticContext:
        return DiagnosticContext(
            workload=self.spec.build(),
            device="cpu",
            seed=0,
            metric="accuracy",
            base=LoadedModel(self.root, self.base),
            ingredients=tuple(LoadedModel(self.root, model) for model in self.ingredients),
            soups=tuple(LoadedModel(self.root, soup) for soup in soups),
        )

    def weights(self, model: Model) -> State:
        return load_tensors(self.root / model.path)

    def _save(self, kind: str, name: str, state: State, how: Mapping[str, Any]) -> Model:
        details = {"hyperparameters": dict(how)} if how else {}
        made = Store(self.root).save(kind, name, name, state, details)
        return score_on_val(self.root, self.spec, made, "cpu")


def _made(model: object) -> Model:
    assert isinstance(model, Model)
    return model


def _write_table(folder: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(440, 3, generator=generator)
    is_in = points[:, 0] * points[:, 1] + 0.5 * points[:, 2] > 0
    rows = [
        {"a": f"{a:.4f}", "b": f"{b:.4f}", "c": f"{c:.4f}", "y": "in" if inside else "out"}
        for (a, b, c), inside in zip(points.tolist(), is_in.tolist(), strict=True)
    ]
    for split, part in (("train", rows[:200]), ("val", rows[200:400]), ("test", rows[400:])):
        write_csv(folder / f"{split}.csv", part)
    return folder


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Kitchen:
    return Kitchen(tmp_path_factory.mktemp("kitchen"))


def test_recalibration_matters_for_these_ingredients(kitchen: Kitchen) -> None:
    states = [kitchen.weights(model) for model in kitchen.ingredients]
    pooled = merge_states(states, Recipe("linear", (1.0, 1.0, 1.0)))

    score = ValScorer(kitchen.spec.build(), "cpu").val(pooled)

    assert abs(score - kitchen.soup().scores["val/accuracy"]) > 0.02


@pytest.mark.parametrize(
    "search",
    [
        GradientSearch(per="layer", epochs=2, batch_size=50, learning_rate=0.3),
        GradientSearch(per="tensor", epochs=1, batch_size=50, sampling="gdas"),
        EntropySearch(per="layer", steps=6, batch_size=50, learning_rate=0.1),
        EntropySearch(per="model", steps=4, batch_size=50, learning_rate=0.1, density=0.5),
        OptunaSearch(trials=4),
    ],
    ids=["gradient", "sampled", "entropy", "elected", "optuna"],
)
def test_what_a_search_records_is_what_the_saved_soup_scores(
    kitchen: Kitchen, search: Search
) -> None:
    soup = kitchen.tuned(search)

    trials = [trial["values"][0] for trial in soup.details["trials"]]
    recorded = trials[soup.details["chosen"]] if "chosen" in soup.details else max(trials)
    assert recorded == soup.scores["val/accuracy"]


@pytest.mark.parametrize("sampling", ["darts", "gdas"])
def test_a_learned_soup_is_judged_on_its_half_as_it_is_saved(
    kitchen: Kitchen, sampling: Any
) -> None:
    search = GradientSearch(epochs=1, batch_size=50, sampling=sampling)

    soup = kitchen.tuned(search)

    val = LabelledVal(kitchen.spec.build(), "cpu", batch_size=50, seed=0)
    fold = soup.details["folds"][soup.details["chosen"]]
    score, loss, _ = val.judge(dict(kitchen.weights(soup)), soup.details["inverse_temperature"])
    assert fold["score"] == pytest.approx(score)
    assert fold["loss"] == pytest.approx(loss, rel=1e-5)


def test_a_greedy_soup_scored_what_it_scores(kitchen: Kitchen) -> None:
    soup = kitchen.soup(select="greedy")

    accepted = [step["score"] for step in soup.details["steps"] if step["accepted"]]
    assert accepted[-1] == soup.scores["val/accuracy"]


def test_midpoints_and_lines_of_barriers_are_of_soups(kitchen: Kitchen) -> None:
    pair, best = kitchen.soup(0, 2), kitchen.soup()

    data = barriers(kitchen.context(best)).data

    assert data["midpoint_metrics"][0][2] == pytest.approx(pair.scores["val/accuracy"], abs=1e-6)
    line = next(one for one in data["lines"] if one["kind"] == "furthest_two")
    ends = [int(line[end][-1]) for end in ("from", "to")]
    half = kitchen.soup(*ends).scores["val/accuracy"]
    assert line["metrics"][5] == pytest.approx(half, abs=1e-6)
    line = next(one for one in data["lines"] if one["kind"] == "base_to_soup")
    assert line["metrics"][-1] == pytest.approx(best.scores["val/accuracy"], abs=1e-6)


def test_the_lines_and_the_bound_of_the_check_before_merging_are_of_soups(
    kitchen: Kitchen,
) -> None:
    job = PrecheckJob(**kitchen.setting, max_barrier=1.0, delta=0.05, on_fail="warn")

    found = check_ingredients(job, "cpu")

    assert found["failed"] == []
    wrong = 200 * (1 - kitchen.soup().scores["val/accuracy"])
    assert found["certificate"]["num_wrong"] == pytest.approx(wrong)


def test_the_average_of_the_regime_is_a_soup(kitchen: Kitchen) -> None:
    soup = kitchen.soup()

    average, of_soup = regime(kitchen.context(soup)).data["gaps"]

    assert average["gap"] == pytest.approx(of_soup["gap"], rel=1e-5)


def test_soups_of_gradient_groups_are_soups(kitchen: Kitchen) -> None:
    data = gradient_groups(kitchen.context()).data

    assert data["all"]["metric"] == pytest.approx(kitchen.soup().scores["val/accuracy"], abs=1e-6)
    assert data["all"]["loss"] == pytest.approx(kitchen.soup().scores["val/loss"], abs=1e-5)


def test_means_of_subsets_are_soups(kitchen: Kitchen) -> None:
    group = contributions(kitchen.context()).data["groups"][0]

    without_first = next(row for row in group["rows"] if row["ingredient"] == "ingredient-00")
    assert group["score"]["val"] == pytest.approx(kitchen.soup().scores["val/accuracy"])
    assert without_first["without"]["val"] == pytest.approx(
        kitchen.soup(1, 2).scores["val/accuracy"]
    )


def test_points_of_the_loss_plane_are_soups(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    call = Recalibration.__call__

    def counted(self: Recalibration, weights: State, num_models: int) -> dict[str, Tensor]:
        seen.append(num_models)
        return call(self, weights, num_models)

    monkeypatch.setattr(Recalibration, "__call__", counted)
    monkeypatch.setattr("stockpot.diagnostics.loss_plane._SIDES", (3,))

    loss_plane(kitchen.context())

    assert len(seen) == 9
    assert {*seen} <= {2, 3}


def test_random_soups_are_soups(kitchen: Kitchen) -> None:
    job = RandomSoupsJob(kitchen.root, kitchen.spec, kitchen.ingredients, "matched", 3, 2, 0)

    measure_random_soups(job, "cpu")

    values = load_values(kitchen.root, kitchen.spec, job.merges)["val"]
    assert values.mean(axis=1).tolist() == pytest.approx(
        [kitchen.soup().scores["val/accuracy"]] * 2
    )
