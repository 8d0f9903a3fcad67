from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from toy_workload import Toy

from stockpot.experiment.jobs.judging import measure_cost, measured_cost_path
from stockpot.judging.cost import count_flops
from stockpot.judging.job import EvaluationJob
from stockpot.workloads import build_workload
from stockpot.workloads.spec import WorkloadSpec


def test_a_linear_layer_has_two_operations_a_weight() -> None:
    assert count_flops(Toy(0, [], [], closed="test")) == 2 * 2 * 2


def test_operations_of_the_digits_net_are_those_of_its_layers() -> None:
    workload = build_workload("digits", seed=0)
    model = workload.build_model(torch.Generator())
    sizes: list[int] = []
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(
                lambda made, _, output: sizes.append(2 * made.weight[0].numel() * output[0].numel())
            )

    workload.forward(model, (torch.zeros(1, 1, 8, 8),))

    assert count_flops(workload) == sum(sizes)


def test_a_measurement_is_kept_outside_results(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec]
) -> None:
    job = EvaluationJob(tmp_path, make_spec(sizes="40,4", closed="test"))

    measured = measure_cost(job, "cpu")

    assert measured["latency_ms"] > 0
    assert (measured["batch_size"], measured["device"]) == (32, "cpu")
    assert json.loads(measured_cost_path(tmp_path).read_text()) == measured
    assert not (tmp_path / "results").exists()


def test_a_small_val_split_is_one_batch(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec]
) -> None:
    assert measure_cost(EvaluationJob(tmp_path, make_spec(sizes="6,4")), "cpu")["batch_size"] == 6
