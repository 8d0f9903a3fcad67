"""Tasks that are learned one after another: where each starts, and what is kept (ZSCL)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stockpot.config import load_experiment
from stockpot.errors import InputError, StageFailed
from stockpot.experiment.garbage import find_garbage
from stockpot.experiment.jobs.job import ModelJob, make_model
from stockpot.experiment.plan import Plan
from stockpot.experiment.sequence import (
    MANIFEST,
    Kept,
    base_of,
    check_sequence,
    learn,
    made_or_failed,
    sequence_manifest,
    task_job,
    test_scores,
)
from stockpot.storage.checkpoints import load_tensors, verify
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.workloads.digits import Digits

PARAMS = """
workload: {name: "toy_workload:Toy", val_shifts: [], test_shifts: [], options: {sizes: "6,SIZE"}}
base: {epochs: 2, batch_size: 4}
sweep:
  size: 1
  min_ingredients: 1
  space:
    {learning_rate: 0.05, epochs: 3, batch_size: 4, anchor: base, anchor_loss: distil,
     anchor_data: pretrain, start_l2: 0.1, average: swa, average_start: 1, swa_start: 0.0,
     average_every: 2}
soups: [{name: uniform, select: uniform}]
"""
MakePlans = Callable[..., list[Plan]]


@pytest.fixture
def make_plans(tmp_path: Path) -> MakePlans:
    """Return what plans tasks with test splits of 4 and 5 examples, in one folder."""

    def make(*overrides: str, root: Path = tmp_path) -> list[Plan]:
        plans = []
        for name, size in (("first", "4"), ("second", "5")):
            params = root / f"{name}.yaml"
            params.write_text(PARAMS.replace("SIZE", size), encoding="utf-8")
            plans.append(Plan(Project(root, params), load_experiment(params, overrides)))
        return plans

    return make


def _make(job: ModelJob, _plan: Plan) -> Model:
    return made_or_failed(job, make_model(job, "cpu"))


def _weight(plan: Plan, model: Model) -> torch.Tensor:
    return load_tensors(verify(plan.project.root, model.checkpoint))["weight"]


def test_what_is_kept_by_hand() -> None:
    scores = [[0.3, 0.2, 0.1], [0.9, 0.4, 0.2], [0.7, 0.8, 0.4], [0.6, 0.7, 0.9]]

    kept = Kept.of(scores)

    assert kept.last == pytest.approx((0.6 + 0.7 + 0.9) / 3)
    assert kept.average == pytest.approx((1.5 + 1.9 + 2.2) / 9)
    assert kept.transfer == pytest.approx((0.4 + (0.2 + 0.4) / 2) / 2)
    assert kept.base_transfer == pytest.approx((0.2 + 0.1) / 2)
    assert kept.forgetting == pytest.approx(((0.9 - 0.6) + (0.8 - 0.7)) / 2)


def test_each_task_starts_from_the_average_of_the_one_before(make_plans: MakePlans) -> None:
    plans = make_plans()

    base, first, second = learn(plans, _make)

    job = task_job(plans[1], 2, first, base)
    assert (job.start, job.anchor) == (first.checkpoint, base.checkpoint)
    assert job.find() is not None
    assert job.workload == plans[1].workload
    assert [model.name for model in (base, first, second)] == ["base", "task-01", "task-02"]
    weights = [_weight(plans[0], model) for model in (base, first, second)]
    assert not torch.equal(weights[1], weights[2])


def test_without_anchor_and_average_it_is_plain_fine_tuning_in_sequence(
    make_plans: MakePlans,
) -> None:
    off = ("average=none", "average_start=0", "start_l2=0")
    plain = [f"sweep.space.{one}" for one in (*off, "anchor=none")]
    weightless = [f"sweep.space.{one}" for one in (*off, "anchor_weight=0")]

    models = [learn(make_plans(*how), _make) for how in (plain, weightless)]

    plan = make_plans()[0]
    for one, other in zip(*models, strict=True):
        assert torch.equal(_weight(plan, one), _weight(plan, other))


def test_the_manifest_has_scores_of_all_models_on_all_tasks_and_keeps_them(
    make_plans: MakePlans,
) -> None:
    plans = make_plans()
    models = learn(plans, _make)
    root, workloads = plans[0].project.root, [plan.workload for plan in plans]

    scores = [test_scores(root, workloads, model.checkpoint, "cpu") for model in models]
    manifest = sequence_manifest(plans, models, scores)
    write_manifest(root, MANIFEST, manifest)

    points, targets = plans[1].workload.build().dataset("test").tensors  # type: ignore[attr-defined]
    right = (points @ _weight(plans[0], models[2]).T).argmax(dim=1) == targets
    assert scores[2][1] == pytest.approx(float(right.double().mean()))
    assert [len(row) for row in manifest["scores"]] == [2, 2, 2]
    assert [task["params"] for task in manifest["tasks"]] == ["first.yaml", "second.yaml"]
    assert not {model.key for model in models} & {
        path.stem for path in find_garbage(plans[0].project)
    }


def test_tasks_that_are_done_are_not_learned_again(
    make_plans: MakePlans, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = learn(make_plans(), _make)
    monkeypatch.setattr("stockpot.ingredients.finetuning.loop.fine_tune", None)

    assert learn(make_plans(), _make) == first


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sweep.size=0", "size must be at least 1"),
        ("sweep.space.anchor=soup", "reference is required where anchor is soup"),
    ],
)
def test_a_params_file_without_a_task_is_refused(
    make_plans: MakePlans, override: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        make_plans(override)


def test_tasks_must_be_two_in_one_folder_without_a_reference(
    make_plans: MakePlans, tmp_path: Path
) -> None:
    plans = make_plans()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    soup = make_plans("sweep.space.anchor=soup", "sweep.reference={size: 2}")

    with pytest.raises(InputError, match="sequence: must have at least 2 tasks, got 1"):
        check_sequence(plans[:1])
    with pytest.raises(InputError, match=r"second.yaml: must be in the folder of the first task"):
        check_sequence([plans[0], make_plans(root=elsewhere)[1]])
    with pytest.raises(InputError, match=r"first.yaml: sweep.reference must be null"):
        check_sequence(soup)


def test_a_task_that_diverges_ends_the_sequence(make_plans: MakePlans) -> None:
    plans = make_plans("sweep.space.learning_rate=1.0e+30")

    with pytest.raises(StageFailed, match=r"sequence: task-01 failed: .* became"):
        learn(plans, _make)


def test_an_imported_base_must_be_there(make_plans: MakePlans) -> None:
    plan = make_plans("base.import=base.safetensors")[0]

    with pytest.raises(InputError, match="an imported base must be there; run `stockpot base`"):
        base_of(plan, _make)


def test_digits_of_some_classes_keep_all_for_the_base() -> None:
    task = Digits(0, [], [], classes="5-9")
    whole = Digits(0, [], [])

    assert {*task.dataset("train").tensors[1].tolist()} == {5, 6, 7, 8, 9}
    assert {*task.dataset("pretrain").tensors[1].tolist()} == {*range(10)}
    both = sum(len(Digits(0, [], [], classes=c).dataset("val")) for c in ("0-4", "5-9"))
    assert both == len(whole.dataset("val"))
    assert task.data_digest() != whole.data_digest()
    with pytest.raises(InputError, match=r"classes: must be first-last, such as '0-4', got '9-5'"):
        Digits(0, [], [], classes="9-5")
