"""The disk and the memory that the rest of an experiment needs, compared with what is free."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from stockpot.experiment.doctor.outcome import Outcome
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import is_done
from stockpot.seeding import phase_seed
from stockpot.workers import choose_devices

_MEMORY_INFO = Path("/proc/meminfo")
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of this process's container
_MEMORY_USED = Path("/sys/fs/cgroup/memory.current")
_MEMORY_STAT = Path("/sys/fs/cgroup/memory.stat")
_STATES = 4  # of a model in training: weights, gradients, two moments of Adam
_WORKER_BYTES = 400 * 2**20  # of a process that has imported torch, measured


def check_disk(plan: Plan) -> Iterator[Outcome]:
    """Compare the free disk with the weights that are still to be made.

    Running trainings also keep their state, which is at most as large as their memory. Predictions
    and records are not counted: they are small compared with weights.
    """
    one = model_bytes(plan)
    missing = models_to_make(plan)
    needed = one * (missing + (_STATES * _num_workers(plan) if missing else 0))
    free = shutil.disk_usage(plan.project.root).free
    found = f"{_size(free)} free; {missing} models to make need about {_size(needed)}"
    if free < needed:
        advice = (
            "free some space (`stockpot gc`, `dvc gc --workspace`), or set a smaller sweep.size"
        )
        yield Outcome("problem", "disk", found, advice)
    elif free < 2 * needed:
        yield Outcome("note", "disk", found, "it is tight; `stockpot gc` frees unused checkpoints")
    else:
        yield Outcome("ok", "disk", found)


def check_memory(plan: Plan) -> Iterator[Outcome]:
    """Compare the free memory with that of all workers training at once, without their batches."""
    workers = _num_workers(plan)
    needed = workers * (_WORKER_BYTES + _STATES * model_bytes(plan))
    free = free_memory()
    if free is None:
        yield Outcome("note", "memory", f"at least {_size(needed)} are needed, free is unknown")
        return
    found = f"{_size(free)} free; {workers} workers need at least {_size(needed)}"
    if free < needed:
        yield Outcome("problem", "memory", found, "set a smaller run.workers")
    else:
        yield Outcome("ok", "memory", found)


def model_bytes(plan: Plan) -> int:
    """Return the size of one model's weights in bytes."""
    from stockpot.ingredients.importing.model_form import form_of  # imports torch

    return sum(tensor.num_bytes for tensor in form_of(plan.workload.build()).tensors.values())


def models_to_make(plan: Plan) -> int:
    """Return the number of models of the stages that are not up to date."""
    experiment = plan.experiment
    sweep = experiment.sweep.final
    points = sweep.points(phase_seed(experiment.seed, len(sweep.phases)), sweep.size)
    ingredients = len(points) if sweep.size != 0 else len(plan.imports["sweep"].listed())
    counts = {
        "base": 1,
        "sweep": ingredients * (1 + sweep.snapshots),
        "soups": len(experiment.soups),
        "tune": len(experiment.tune),
    }
    return sum(count for stage, count in counts.items() if not is_done(plan, stage))


def free_memory() -> int | None:
    """Return the memory that processes can still take, in bytes; None if it is unknown.

    Also of a container, whose limit the machine's own figure does not know.
    """
    try:
        lines = _MEMORY_INFO.read_text(encoding="ascii").splitlines()
    except OSError:  # not on Linux
        return None
    available = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    free = 1024 * int(available)
    try:
        limit = _MEMORY_LIMIT.read_text(encoding="ascii").strip()
        used = int(_MEMORY_USED.read_text(encoding="ascii"))
        lines = _MEMORY_STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return free
    if limit == "max":
        return free
    # Cached files count as used, but give way to a process that needs memory.
    cached = next(line.split()[1] for line in lines if line.startswith("inactive_file "))
    return min(free, int(limit) - used + int(cached))


def _num_workers(plan: Plan) -> int:
    return len(choose_devices(plan.experiment.run.devices, plan.experiment.run.workers))


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"
