"""Verdicts on what is not as usual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy_workload
from toy_workload import Toy
from written_predictions import (
    RIGHT,
    centres,
    keep_predictions,
    metrics_of,
    outputs_of,
    targets_of,
)

from stockpot.errors import InputError
from stockpot.experiment.jobs.judging import judge_models
from stockpot.judging.job import JudgingJob
from stockpot.scoring.metrics import TASK_METRICS
from stockpot.scoring.predictions import predictions_path, targets_path
from stockpot.scoring.stored_tensors import write_tensors
from stockpot.storage.models import Model
from stockpot.workloads.protocol import Task
from stockpot.workloads.spec import WorkloadSpec


def test_the_logit_ensembles_output_is_the_mean_of_outputs(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> None:
    spec = make_spec(metric="first output")
    models = []
    for name, output in (("ingredient-00", 1.0), ("ingredient-01", 4.0), ("ingredient-02", -2.0)):
        model = save_model(torch.full((2, 2), output), name).scored({"val/first output": output})
        outputs = {n: torch.full((len(t), 2), output) for n, t in targets_of(spec).items()}
        keep_predictions(tmp_path, spec, model, outputs)
        models.append(model)

    evaluation = judge_models(JudgingJob(tmp_path, spec, tuple(models), 100, 0.9), "cpu")

    assert evaluation["best_ingredient"] == "ingredient-01"
    assert metrics_of(evaluation, "logit ensemble")["test/first output"] == 1.0
    assert metrics_of(evaluation, "ingredient-02")["difference/test/first output"] == -6.0
    assert "note" in evaluation["effective_robustness"]
    assert evaluation["is_fraction"]["first output"] is False
    assert evaluation["is_fraction"]["accuracy"] is True


def test_greedy_soups_say_which_decisions_were_noise(job: JudgingJob) -> None:
    decided = {"accepted": True, "difference": 0.1, "p": 0.5, "won": 2, "lost": 1, "n": 6}
    steps = [{"ingredient": "ingredient-01", "accepted": True}]
    steps.append({"ingredient": "ingredient-00", **decided})
    soup = replace(job.models[-1], details={"steps": steps})

    evaluation = judge_models(replace(job, models=(*job.models[:-1], soup)), "cpu")

    [greedy] = evaluation["greedy"]
    assert greedy["soup"] == "soup"
    assert greedy["steps"] == [{"ingredient": "ingredient-00", **decided, "within_noise": True}]


def test_without_shifts_there_are_no_shift_metrics(
    tmp_path: Path, save_model: Callable[..., Model]
) -> None:
    spec = WorkloadSpec("toy_workload:Toy", seed=0)
    model = save_model(torch.eye(2))
    keep_predictions(
        tmp_path,
        spec,
        model,
        {n: outputs_of(t, [1] * len(t), 1.0) for n, t in targets_of(spec).items()},
    )

    evaluation = judge_models(JudgingJob(tmp_path, spec, (model,), 100, 0.95), "cpu")

    assert centres(metrics_of(evaluation, "ingredient-00")) == {
        "val/accuracy": 1.0,
        "test/accuracy": 1.0,
    }
    assert centres(metrics_of(evaluation, "logit ensemble")).keys() == {
        "val/accuracy",
        "test/accuracy",
        "difference/test/accuracy",
    }
    assert evaluation["effective_robustness"] == {}
    assert {row["place"] for row in evaluation["comparisons"]} == {"test"}


def test_outputs_that_overflowed_are_judged_by_the_workloads_metrics_alone(
    job: JudgingJob,
) -> None:
    soup, targets = job.models[-1], targets_of(job.workload)
    outputs = {n: outputs_of(targets[n], right, 1.0) for n, right in RIGHT["soup"].items()}
    outputs["test"][0] = torch.tensor([float("inf"), float("inf")])
    outputs["val"][0] = torch.nan
    keep_predictions(job.root, job.workload, soup, outputs)

    evaluation = judge_models(job, "cpu")

    metrics = metrics_of(evaluation, "soup")
    assert "temperature" not in metrics
    assert {n for n in metrics if n.startswith("test/")} == {
        f"test/accuracy{end}" for end in ("", "_low", "_high")
    }
    assert "soup" not in evaluation["reliability"]
    assert [note.partition(":")[0] for note in evaluation["notes"] if "finite" in note] == [
        "on val, outputs are not finite of soup",
        "on test, outputs are not finite of soup",
    ]


def test_a_class_without_examples_is_noted(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> None:
    spec, model = make_spec(), save_model(torch.eye(2))
    targets = {name: torch.zeros_like(t) for name, t in targets_of(spec).items()}
    outputs = {n: outputs_of(t, [1] * len(t), 1.0) for n, t in targets.items()}
    keep_predictions(tmp_path, spec, model, outputs)
    for name, values in targets.items():
        write_tensors(targets_path(tmp_path, spec, name), {"targets": values})

    evaluation = judge_models(JudgingJob(tmp_path, spec, (model,), 100, 0.95), "cpu")

    assert evaluation["notes"] == [
        f"no example of {place} is of class 1: ap_macro and auroc leave them out"
        for place in ("val", "test")
    ]
    metrics = metrics_of(evaluation, "ingredient-00")
    assert "test/auroc" not in metrics
    assert metrics["test/ap_macro"] == 1


def test_predictions_that_are_not_kept_are_an_error(job: JudgingJob) -> None:
    predictions_path(job.root, job.workload, job.models[0].digest, "test_shift/a").unlink()

    with pytest.raises(InputError, match=r"predictions on test_shift/a: .*run `stockpot evaluate`"):
        judge_models(job, "cpu")


class OtherTask(Toy):
    """Outputs that are no classes."""

    def __init__(
        self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str], task: Task
    ) -> None:
        super().__init__(seed, val_shifts, test_shifts)
        self.task = task
        self.metrics = {"first output": self.metrics["first output"]}


def _keep_drawn(job: JudgingJob, width: int) -> None:
    """Write random predictions of all models."""
    for name, classes in targets_of(job.workload).items():
        targets = torch.arange(len(classes))[:, None].expand(-1, width)
        write_tensors(targets_path(job.root, job.workload, name), {"targets": targets})
        for number, model in enumerate(job.models):
            outputs = torch.rand(targets.shape, generator=torch.Generator().manual_seed(number))
            kept = {"outputs": outputs, "losses": outputs[:, 0].clone()}
            write_tensors(predictions_path(job.root, job.workload, model.digest, name), kept)


@pytest.mark.parametrize(
    ("task", "width", "ensembles"),
    [
        ("regression", 1, ["mean ensemble", "median ensemble"]),
        ("language_model", 5, ["probability ensemble"]),
    ],
)
def test_other_tasks_are_judged_by_their_own_metrics(
    job: JudgingJob, monkeypatch: pytest.MonkeyPatch, task: Task, width: int, ensembles: list[str]
) -> None:
    monkeypatch.setattr(toy_workload, "OtherTask", OtherTask, raising=False)
    spec = replace(job.workload, name="toy_workload:OtherTask", options=(("task", task),))
    models = [model.scored({"val/first output": 0.5}) for model in job.models]
    job = replace(job, workload=spec, models=tuple(models))
    _keep_drawn(job, width)

    evaluation = judge_models(job, "cpu")

    expected = {"first output", *(metric.name for metric in TASK_METRICS[task])}
    judged = {model["name"]: model["metrics"] for model in evaluation["models"]}
    assert evaluation["higher_is_better"].keys() == expected
    # What was drawn lies in [0, 1]; what the task adds is never a fraction.
    assert [name for name, is_one in evaluation["is_fraction"].items() if is_one] == [
        "first output"
    ]
    assert [name for name in judged if "ensemble" in name] == ensembles
    for values in judged.values():
        assert values.keys() >= {f"test/{name}" for name in expected}
        assert "temperature" not in values
    confidence = [evaluation[name] for name in ("conformal", "reliability", "notes")]
    assert confidence == [[], {}, []]
    assert len(evaluation["comparisons"]) == 2 * (1 + len(ensembles))


def test_an_excluded_ingredient_is_judged_but_in_no_ensemble(job: JudgingJob) -> None:
    evaluation = judge_models(replace(job, excluded=("ingredient-00",)), "cpu")

    judged = {model["name"]: model for model in evaluation["models"]}
    alone = judged["ingredient-01"]
    for name in ("logit ensemble", "stacked ensemble"):
        assert judged[name]["cost"] == alone["cost"]
        assert judged[name]["metrics"]["test/nll"] == pytest.approx(alone["metrics"]["test/nll"])
    assert "ingredient-00" in judged


def test_a_model_that_is_asked_three_times_costs_three_passes(job: JudgingJob) -> None:
    soup = replace(job.models[-1], kind="repeats", details={"repeats": {"m": 3}})

    evaluation = judge_models(replace(job, models=(*job.models[:-1], soup)), "cpu")

    [cost] = [model["cost"] for model in evaluation["models"] if model["kind"] == "repeats"]
    assert cost == {"num_models": 3, "num_params": 4, "bytes": soup.bytes, "flops": 24}
    assert [row["model"] for row in evaluation["comparisons"][:2]] == ["soup", "soup"]
