"""Rounds of clients on tiny data: the bits of plain SGD, and the same bits after a kill."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_models import made

from stockpot.errors import InputError
from stockpot.experiment.federation import Federation, rounds_modules
from stockpot.experiment.jobs import round_steps
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.rounds import RoundsJob, repeated
from stockpot.experiment.provenance import Provenance
from stockpot.ingredients.finetuning.divergence import Diverged
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.soups.rounds.registry import ROUND_RULES
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.code_keys import imported_code
from stockpot.storage.models import Failure
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

TOY = WorkloadSpec("toy_workload:Toy", 0)
SGD = Hyperparameters(
    learning_rate=0.1,
    weight_decay=0.0,
    epochs=1,
    batch_size=2,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=3,
    optimizer="sgd",
    momentum=0.0,
    warmup=0.0,
)


def _job(root: Path, rounds: int = 3, **settings: Any) -> RoundsJob:
    weights = TOY.build().build_model(torch.Generator().manual_seed(0)).state_dict()
    base = Store(root).save("base", "b" * 20, "base", weights, {}).checkpoint
    federation = Federation(
        **{
            "root": root,
            "workload": TOY,
            "rule": "fedavg",
            "options": {},
            "shards": "dirichlet",
            "concentration": 0.5,
            "probabilities": (1.0, 0.7, 0.5),
            "local_steps": 2,
            "hyperparameters": SGD,
            "base": base,
            "is_random": False,
            "threads": 1,
            "save_every_seconds": 30.0,
        }
        | settings
    )
    return RoundsJob(
        root=root,
        workload=TOY,
        name="rounds-toy",
        kind="ingredient",
        federation=federation,
        rounds=rounds,
    )


def _diverging(*_: object, **__: object) -> None:
    raise Diverged(1, 2, float("nan"))


def test_one_local_step_of_all_clients_is_sgd_on_all_their_examples(tmp_path: Path) -> None:
    whole = replace(SGD, batch_size=8)
    settings = {"local_steps": 1, "hyperparameters": whole, "probabilities": (1.0, 1.0, 1.0)}
    job, workload = _job(tmp_path, rounds=10, **settings), TOY.build()
    points, targets = workload.dataset("train").tensors  # type: ignore[attr-defined]
    weight = load_tensors(tmp_path / job.federation.base.path)["weight"].requires_grad_()

    model = made(job)
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(points @ weight.T, targets)
        (gradient,) = torch.autograd.grad(loss, weight)
        weight = (weight - 0.1 * gradient).detach().requires_grad_()

    merged = load_tensors(tmp_path / model.path)["weight"]
    torch.testing.assert_close(merged, weight.detach(), rtol=0, atol=1e-6)


def test_scaffold_keeps_the_mean_of_the_control_variates(tmp_path: Path) -> None:
    job = _job(tmp_path, rounds=6, rule="scaffold")

    made(job)

    files = job.federation.files
    own = [files.own().get(client, {"weight": torch.zeros(2, 2)})["weight"] for client in range(3)]
    torch.testing.assert_close(files.memory()["weight"], sum(own) / 3, rtol=0, atol=1e-6)
    assert any(control.abs().sum() > 0 for control in own)


@pytest.mark.parametrize("rule", ROUND_RULES)
def test_every_rule_makes_a_model_that_can_be_repeated_elsewhere(rule: str, tmp_path: Path) -> None:
    job = _job(tmp_path / "first", rule=rule, is_random=rule == "gossip")

    model = made(job)
    recorded = Provenance.from_text(job.provenance(model).to_text())
    _job(tmp_path / "second")  # the base
    again = made(repeated(recorded, tmp_path / "second"))

    assert again == model
    assert model.details["rounds"]["rule"] == rule
    assert len(model.details["history"]) == 3
    assert sum(model.details["rounds"]["shard_sizes"]) == 8


def test_a_rule_of_ones_own_is_part_of_the_key(tmp_path: Path) -> None:
    rule = "custom_rounds:Part"
    whole, half = (_job(tmp_path, rule=rule, options={"share": part}) for part in (1.0, 0.5))

    one, other = (load_tensors(tmp_path / made(job).path)["weight"] for job in (whole, half))

    assert not torch.equal(one, other)
    assert "custom_rounds" in imported_code(*rounds_modules(rule))


def test_more_rounds_continue_those_that_are_done(tmp_path: Path) -> None:
    job = _job(tmp_path / "some")

    made(job)
    trained = round_steps.begin_rounds(job.federation, 5, "cpu")
    longer = made(replace(job, rounds=5))
    whole = made(_job(tmp_path / "whole", rounds=5))
    shorter = made(replace(job, rounds=2))

    assert trained == 3
    assert longer == whole
    assert longer.key != made(job).key
    assert shorter == made(_job(tmp_path / "whole", rounds=2))


def test_another_setting_makes_other_weights_and_another_key(tmp_path: Path) -> None:
    jobs = [
        _job(tmp_path),
        _job(tmp_path, rule="fedau", options={"cutoff": 2}),
        _job(tmp_path, rule="fedau", options={"cutoff": 3}),
        _job(tmp_path, concentration=5.0),
        _job(tmp_path, shards="iid"),
        _job(tmp_path, probabilities=(1.0, 0.7, 0.6)),
        _job(tmp_path, local_steps=3),
        _job(tmp_path, hyperparameters=replace(SGD, learning_rate=0.2)),
        _job(tmp_path, is_random=True),
        _job(tmp_path, rounds=4),
    ]

    assert len({job.key for job in jobs}) == len(jobs)


def test_a_client_that_diverges_is_left_out_of_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(tmp_path, rounds=1, probabilities=(1.0, 1.0, 1.0), rule="fedau")
    round_steps.begin_rounds(job.federation, 1, "cpu")
    first, *others = job.federation.client_jobs(1)
    with monkeypatch.context() as patch:
        patch.setattr(round_steps, "fine_tune", _diverging)
        round_steps.train_client(first, "cpu")
    for other in others:
        round_steps.train_client(other, "cpu")

    made(job)

    [record] = job.federation.files.records()
    assert record["participants"] == 2
    assert record["clients"].keys() == {"1", "2"}
    assert record["diverged"] == {"0": "loss became nan at step 1 of 2"}
    assert job.federation.files.memory()["intervals"].tolist() == [0, 1, 1]


def test_a_client_whose_worker_is_lost_is_left_out_of_that_round_alone(tmp_path: Path) -> None:
    everyone = {"probabilities": (1.0, 1.0, 1.0)}
    job, whole = (_job(tmp_path / place, **everyone) for place in ("lost", "whole"))
    round_steps.begin_rounds(job.federation, 3, "cpu")
    before = job.key
    job.federation.files.save_lost(1, {0: "killed"})

    model, undisturbed = made(job), made(whole)
    records = job.federation.files.records()

    assert [record["participants"] for record in records] == [2, 3, 3]
    assert [record["lost"] for record in records] == [{"0": "killed"}, {}, {}]
    assert model.details["rounds"]["lost"] == {"1": [0]}
    assert "lost" not in undisturbed.details["rounds"]
    assert before == undisturbed.key != model.key
    assert model.digest != undisturbed.digest


def test_rounds_with_lost_clients_resume_and_are_repeated_without_them(tmp_path: Path) -> None:
    everyone = {"probabilities": (1.0, 1.0, 1.0), "rule": "scaffold"}
    job, killed = (_job(tmp_path / place, **everyone) for place in ("lost", "killed"))
    for each in (job, killed):
        each.federation.files.save_lost(2, {1: "killed"})

    model = made(job)
    round_steps.begin_rounds(killed.federation, 3, "cpu")
    round_steps.train_client(killed.federation.client_jobs(1)[0], "cpu")
    shorter = made(replace(killed, rounds=1))
    resumed = made(killed)
    _job(tmp_path / "again")  # the base
    again = made(
        repeated(Provenance.from_text(job.provenance(model).to_text()), tmp_path / "again")
    )

    assert resumed == model
    assert again == model
    assert "lost" not in shorter.details["rounds"]


def test_a_client_that_has_finished_or_was_merged_is_never_lost(tmp_path: Path) -> None:
    job = _job(tmp_path, rounds=1, probabilities=(1.0, 1.0, 1.0))
    round_steps.begin_rounds(job.federation, 1, "cpu")
    for client in job.federation.client_jobs(1):
        round_steps.train_client(client, "cpu")

    job.federation.files.save_lost(1, {0: "killed after it had saved its model"})
    made(job)
    job.federation.files.save_lost(1, {1: "killed after the merge"})

    assert job.lost == {}


def test_rounds_without_participants_return_the_base(tmp_path: Path) -> None:
    job = _job(tmp_path, probabilities=(0.0, 0.0, 0.0))

    model = made(job)

    base = load_tensors(tmp_path / job.federation.base.path)
    assert torch.equal(load_tensors(tmp_path / model.path)["weight"], base["weight"])
    assert [participants for participants, _ in model.details["history"]] == [0, 0, 0]


def test_a_merge_that_overflows_is_a_failure_that_is_not_tried_again(tmp_path: Path) -> None:
    job = _job(tmp_path, options={"server_step": 1e300})

    failure = make_model(job, "cpu")

    assert isinstance(failure, Failure)
    assert failure.reason == "weight 'weight' of the merged model is not finite in round 1"
    assert job.known_failure() == failure


def test_more_clients_than_examples_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    job = _job(tmp_path, probabilities=(1.0,) * 9)

    with pytest.raises(InputError, match=r"clients must be at most .* \(8\), got 9"):
        make_model(job, "cpu")

    assert not job.federation.files.folder.exists()


def _count_writes(then: Callable[[int], None]) -> None:
    """Call a function with the number of each flush of a file and each deletion."""
    number, fsync, unlink = itertools.count(), os.fsync, Path.unlink

    def flush(file: int) -> None:
        then(next(number))
        fsync(file)

    def delete(path: Path, missing_ok: bool = False) -> None:
        if path.exists():
            then(next(number))
        unlink(path, missing_ok=missing_ok)

    os.fsync, Path.unlink = flush, delete  # type: ignore[method-assign]  # in a process of its own


def _killed_at(moment: int, job: RoundsJob) -> None:
    def kill(number: int) -> None:
        if number == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    _count_writes(kill)
    make_model(job, "cpu")


def _in_child(work: Callable[..., None], *arguments: Any) -> int | None:
    child = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    child.start()
    child.join()
    return child.exitcode


def _write_count(job: RoundsJob, file: Path) -> None:
    numbers = []
    _count_writes(numbers.append)
    make_model(job, "cpu")
    file.write_text(json.dumps(len(numbers)))


@pytest.mark.parametrize("rule", ["scaffold_m", pytest.param("gossip", marks=pytest.mark.full)])
def test_a_kill_at_any_of_twenty_moments_changes_no_bit(rule: str, tmp_path: Path) -> None:
    def job_in(folder: str) -> RoundsJob:
        return _job(tmp_path / folder, rule=rule, save_every_seconds=0.0)

    made(job_in("warm"))  # imports everything
    _in_child(_write_count, job_in("count"), tmp_path / "count.json")
    num_writes = json.loads((tmp_path / "count.json").read_text())
    whole = made(job_in("whole"))
    moments = sorted({round(num_writes * moment / 20) for moment in range(20)})

    ends = []
    for moment in moments:
        killed = job_in(f"killed-{moment}")
        ends.append(_in_child(_killed_at, moment, killed))
        assert made(killed) == whole
        assert killed.federation.files.records() == job_in("whole").federation.files.records()

    assert len(moments) == 20
    assert set(ends) == {-signal.SIGKILL}
