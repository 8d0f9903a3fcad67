"""The devices of params.yaml: do they exist, and do the workers fit on them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from stockpot.experiment.doctor.outcome import Outcome
from stockpot.experiment.plan import Plan
from stockpot.workers import choose_devices


def check_devices(plan: Plan) -> Iterator[Outcome]:
    """Check that each device can be used, and that the CPU has a core per thread."""
    run = plan.experiment.run
    counts = Counter(choose_devices(run.devices, run.workers))
    for device in counts:
        if reason := _unusable(device):
            advice = "correct run.devices, or the driver; `devices: cpu` needs none"
            yield Outcome("problem", "devices", f"{device}: {reason}", advice)
            return
    shown = ", ".join(f"{count} on {device}" for device, count in counts.items())
    threads, cores = counts["cpu"] * run.threads, len(os.sched_getaffinity(0))
    found = f"workers: {shown}; {cores} CPU cores"
    if threads > cores:
        advice = "threads compete: set a smaller run.workers or run.threads"
        yield Outcome("note", "devices", f"{found} for {threads} threads", advice)
    else:
        yield Outcome("ok", "devices", found)


def _unusable(device: str) -> str | None:
    """Put a tensor on a device; return why that fails, or None."""
    import torch

    try:
        torch.ones(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch without CUDA
        return str(error).splitlines()[0]
    return None
