"""Cost of a prediction: number of operations, and measured latency."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stockpot.workloads.batches import num_examples, take, to_device
from stockpot.workloads.passes import empty_model, put_weights
from stockpot.workloads.protocol import Workload

LATENCY_BATCH = 32
_WARM_UPS = 5
_REPEATS = 50
_MAX_SECONDS = 2.0


def count_flops(workload: Workload, weights: Mapping[str, Tensor] | None = None) -> int:
    """Count the floating-point operations of a forward pass for one example of val.

    As in `torch.utils.flop_counter`, matrix products, convolutions and attention are counted with
    two operations per multiply-add; elementwise operations, norms and pooling are not counted.

    Args:
        workload: its net, and the examples.
        weights: of the net, if they are wider than the workload's own.
    """
    from torch.utils.flop_counter import FlopCounterMode

    model = empty_model(workload, "cpu")
    if weights is not None:
        put_weights(model, weights)
    example = take(workload.dataset("val"), torch.tensor([0]))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        workload.forward(model, example)
    return int(counter.get_total_flops())


def measure_latency(workload: Workload, device: str) -> dict[str, Any]:
    """Measure the latency of a forward pass for one batch, with random weights.

    Returns:
        `latency_ms`, the median of the repeats after warm-up; `batch_size`, at most 32;
        `device` and the number of `threads`.
    """
    model = empty_model(workload, device)
    data = to_device(workload.dataset("val"), device)
    size = min(LATENCY_BATCH, num_examples(data))
    batch = tuple(tensor.to(device) for tensor in take(data, torch.arange(size)))

    def run() -> None:
        with torch.inference_mode():
            workload.forward(model, batch)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    return {
        "latency_ms": 1000 * _median_seconds(run),
        "batch_size": size,
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _median_seconds(run: Callable[[], None]) -> float:
    """Return the median time of a call in seconds; slow calls are repeated less often."""
    for _ in range(_WARM_UPS):
        run()
    seconds: list[float] = []
    while len(seconds) < _REPEATS and sum(seconds) < _MAX_SECONDS:
        seconds.append(timeit.timeit(run, number=1))
    return statistics.median(seconds)
