"""Merge twelve models of 748 MB each in a process limited to 2 GB of private memory.

The models are generated once in FOLDER. The result is compared bit for bit with an in-memory merge,
one tensor at a time. The limit is RLIMIT_DATA: memory that is private to the process, used or not;
read-only mapped files do not count.

    python benchmarks/merge_memory.py [FOLDER] [METHOD ...]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from merge import make_model
from safetensors import safe_open

from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.merging.registry import METHODS

NUM_MODELS = 12
LIMIT = 2 * 10**9  # bytes


def main() -> None:
    """Merge by each method, and print the time and peak memory."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "merge-benchmark").absolute()
    chosen = sys.argv[2:] or ["linear", "task_arithmetic", "ties", "dare_ties"]
    models = [make_model(folder / f"model{number}", number) for number in range(NUM_MODELS)]
    files = [model / "model.safetensors" for model in models]
    print(f"{sum(f.stat().st_size for f in files) / 1e9:.1f} GB of models, {LIMIT / 1e9:.0f} GB")
    for method in chosen:
        takes_base = METHODS[method].takes_base
        merged = files[1:] if takes_base else files
        place = folder / "limited.safetensors"
        place.unlink(missing_ok=True)
        seconds, peak = merge_limited(method, merged, files[0] if takes_base else None, place)
        same = equals_memory(method, merged, files[0] if takes_base else None, place)
        print(f"{method:<16} {seconds:6.1f} s {peak / 1e9:5.2f} GB at most, equal bits: {same}")


def merge_limited(
    method: str, models: Sequence[Path], base: Path | None, place: Path
) -> tuple[float, float]:
    """Merge under the limit; return seconds and the peak of counted memory in bytes."""
    config = place.with_suffix(".yaml")
    listed = "".join(f"  - {{path: {model}, coefficient: 0.1}}\n" for model in models)
    with_base = f"base: {base}\n" if base else ""
    config.write_text(f"method: {method}\n{with_base}models:\n{listed}")
    stockpot = Path(sys.executable).with_name("stockpot")
    peak, start = 0, time.perf_counter()
    with subprocess.Popen(
        [str(stockpot), "merge", str(config), str(place)],
        stdout=subprocess.DEVNULL,
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
        while process.poll() is None:
            peak = max(peak, data_bytes(process.pid))
            time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{method}: exit code {process.returncode}")
    return time.perf_counter() - start, peak


def data_bytes(pid: int) -> int:
    """Return the memory of a process that counts towards the limit, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))


def equals_memory(method: str, models: Sequence[Path], base: Path | None, place: Path) -> bool:
    """Return whether each tensor equals that of an in-memory merge, bit for bit."""
    opened = [safe_open(file, framework="pt") for file in (*models, *([base] if base else []))]
    # Random draws are seeded by the models' digests.
    ids = tuple(model["digest"] for model in read_pedigree(place)["models"])
    recipe = Recipe(method, (0.1,) * len(models), model_ids=ids)
    found = safe_open(place, framework="pt")
    for name in found.keys():  # noqa: SIM118 (it is no mapping)
        states = [{name: file.get_tensor(name)} for file in opened]
        *inputs, last = states if base else [*states, None]
        [merged] = merge_states(inputs, recipe, last).values()
        if not torch.equal(merged, found.get_tensor(name)):
            return False
    return True


if __name__ == "__main__":
    main()
