"""BatchNorm statistics of merged weights, by themselves and in soups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy_workload
from torch import Generator, Tensor, nn
from torch.utils.data import TensorDataset
from toy_workload import Toy

from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.merges import Merges
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.experiment.reproduction import rebuild
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.scoring.val_scores import ValScorer, score_on_val
from stockpot.soups.alignment import repair
from stockpot.soups.preparation.recalibration import Recalibration
from stockpot.soups.preparation.train_examples import train_batches
from stockpot.soups.tuning.optuna_search import OptunaSearch
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec


class Normed(Toy):
    """The toy workload with a BatchNorm layer between two linear ones, and more of train."""

    def build_model(self, generator: Generator) -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        return model

    def dataset(self, split: str) -> TensorDataset:
        if split != "train":
            return super().dataset(split)
        points = torch.randn(400, 2, generator=torch.Generator().manual_seed(1))
        return TensorDataset(points, points.argmax(dim=1))


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> WorkloadSpec:
    monkeypatch.setattr(toy_workload, "Normed", Normed, raising=False)
    return WorkloadSpec("toy_workload:Normed", 0, ("near",), ("far",))


@pytest.fixture
def models(tmp_path: Path, spec: WorkloadSpec) -> list[Model]:
    """A base and three ingredients whose statistics are those that a new net has."""
    made = []
    for number, name in enumerate(["base", "ingredient-00", "ingredient-01", "ingredient-02"]):
        net = spec.build().build_model(torch.Generator().manual_seed(number))
        kind = "ingredient" if number else "base"
        model = Store(tmp_path).save(kind, name, name, net.state_dict(), {})
        made.append(score_on_val(tmp_path, spec, model, "cpu"))
    return made


def _soup_job(root: Path, spec: WorkloadSpec, models: list[Model], select: str) -> SoupJob:
    base, *ingredients = models
    return SoupJob(
        root=root,
        workload=spec,
        name="soup",
        select=select,
        method="wise_ft" if select == "wise_ft" else "linear",
        options={},
        base=base,
        seed=0,
        ingredients=tuple(ingredients),
        metric="val/accuracy",
    )


def _statistics(spec: WorkloadSpec, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and variance of what the BatchNorm layer is given, over all of train."""
    points = spec.build().dataset("train")[:][0]
    inputs = points @ weights["0.weight"].T + weights["0.bias"]
    return inputs.mean(dim=0), inputs.var(dim=0)


def test_statistics_are_those_of_the_layers_inputs_on_train(
    spec: WorkloadSpec, models: list[Model], tmp_path: Path
) -> None:
    weights = load_tensors(tmp_path / models[1].path)

    recalibrated = Recalibration(spec.build(), "cpu")(weights, 2)

    mean, variance = _statistics(spec, weights)
    torch.testing.assert_close(recalibrated["1.running_mean"], mean, atol=0.35, rtol=0)
    torch.testing.assert_close(recalibrated["1.running_var"], variance, atol=0, rtol=0.35)
    changed = {n for n, tensor in weights.items() if not torch.equal(tensor, recalibrated[n])}
    assert changed == {
        f"1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert weights["1.running_mean"].tolist() == [0.0, 0.0, 0.0]


def test_twice_is_once_bit_for_bit(spec: WorkloadSpec, models: list[Model], tmp_path: Path) -> None:
    recalibrated = Recalibration(spec.build(), "cpu")
    once = recalibrated(load_tensors(tmp_path / models[1].path), 2)

    twice = recalibrated(once, 2)

    assert all(torch.equal(once[name], tensor) for name, tensor in twice.items())


def test_one_model_and_nets_without_batch_norm_stay_and_are_not_run(
    spec: WorkloadSpec, models: list[Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_arguments: object) -> Tensor:
        raise AssertionError("the net was run")

    monkeypatch.setattr(Toy, "forward", run)
    weights = load_tensors(tmp_path / models[1].path)
    plain = {"weight": torch.ones(2, 2)}

    assert Recalibration(spec.build(), "cpu")(weights, 1) == weights
    assert Recalibration(replace(spec, name="toy_workload:Toy").build(), "cpu")(plain, 5) == plain


@pytest.mark.parametrize("select", ["uniform", "greedy", "wise_ft"])
def test_a_soup_has_its_own_statistics_and_the_score_that_it_was_chosen_by(
    spec: WorkloadSpec, models: list[Model], tmp_path: Path, select: str
) -> None:
    job = _soup_job(tmp_path, spec, models, select)
    soup = make_model(job, "cpu")
    weights = load_tensors(tmp_path / soup.path)
    is_merged = len(soup.details["coefficients"]) > 1 or select == "wise_ft"

    again = Recalibration(spec.build(), "cpu")(weights, 2)

    is_own = torch.equal(again["1.running_mean"], weights["1.running_mean"])
    assert is_own == is_merged
    assert ValScorer(spec.build(), "cpu").val(weights) == soup.scores["val/accuracy"]
    if select == "greedy":
        assert soup.details["steps"][-1]["best"] == soup.scores["val/accuracy"]
    (tmp_path / "again").mkdir()
    made = rebuild(job.provenance(soup), tmp_path, tmp_path / "again", (), "cpu")
    assert made.digest == soup.digest


def test_a_tuned_soup_has_its_own_statistics_too(
    spec: WorkloadSpec, models: list[Model], tmp_path: Path
) -> None:
    base, *ingredients = models
    job = TuningJob(
        root=tmp_path,
        workload=spec,
        name="tuned",
        search=OptunaSearch(objectives=("val",), sampler="random", trials=6),
        seed=0,
        base=base,
        ingredients=tuple(ingredients),
        metric="val/accuracy",
    )

    tuned = make_model(job, "cpu")

    weights = load_tensors(tmp_path / tuned.path)
    again = Recalibration(spec.build(), "cpu")(weights, 2)
    assert torch.equal(again["1.running_var"], weights["1.running_var"]) == (
        len(tuned.details["inputs"]) > 1
    )
    best = max(trial["values"][0] for trial in tuned.details["trials"])
    assert best == tuned.scores["val/accuracy"]
    (tmp_path / "again").mkdir()
    made = rebuild(job.provenance(tuned), tmp_path, tmp_path / "again", (), "cpu")
    assert made.digest == tuned.digest


def test_goals_of_aligned_ingredients_that_were_trained_have_the_statistics_of_their_weights(
    spec: WorkloadSpec, models: list[Model], tmp_path: Path
) -> None:
    aligned = [replace(model, details={"aligned": {}}) for model in models[1:3]]
    merges = Merges(tmp_path, spec, aligned, "cpu")
    trained = [state | {"0.weight": 3 * state["0.weight"]} for state in merges.states]
    average = merge_states(trained, Recipe.of(linear, (1.0, 1.0)))

    finished = merges.finished(average, {0: 1.0, 1: 1.0}, trained=trained)

    workload = spec.build()
    parents = [Recalibration(workload, "cpu")(state, 2) for state in trained]
    batches = list(train_batches(workload, 512, seed=0, device="cpu"))
    net = workload.build_model(torch.Generator())
    expected = repair(net, parents, (1.0, 1.0), average, workload.forward, batches)
    assert all(torch.equal(finished[name], tensor) for name, tensor in expected.items())
    stale = merges.finished(average, {0: 1.0, 1: 1.0})
    assert not torch.equal(stale["3.weight"], finished["3.weight"])
