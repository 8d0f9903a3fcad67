"""Merges on a CUDA device, compared with the CPU.

Four bfloat16 models of 374 M parameters and a base are merged in this process by each method, in
turn on both. The models are in memory and their digests known, so that merging alone is measured.

    python benchmarks/merge_device.py FOLDER

Shown are seconds, how many times faster the device is, and how many of the entries are equal. A
first merge on each, which is not shown, starts CUDA. Without a device, it says so and measures
nothing. The limit is the rate at which the bytes of all models are read and copied.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.streaming.devices import CPU, Device, device_named
from stockpot.errors import InputError

METHODS = ("linear", "task_arithmetic", "ties", "dare_ties", "model_stock", "tsv")
NO_BASE = ("linear",)


def main() -> None:
    """Measure each method and print a line per method."""
    try:
        device = device_named("cuda")
    except InputError as error:
        print(f"Nothing is measured. {error}")
        return
    folder = Path(sys.argv[1])
    for seed, model in enumerate("abcdp"):
        _save(folder / f"{model}.safetensors", seed)
    for place in (CPU, device):
        _merge(folder, METHODS[0], place)
    print(f"{device.label}; {CPU.num_threads} cores")
    for method in METHODS:
        seconds, weights = zip(*(_merge(folder, method, on) for on in (CPU, device)), strict=True)
        equal = sum(int((a == weights[1][n]).sum()) for n, a in weights[0].items())
        share = equal / sum(tensor.numel() for tensor in weights[0].values())
        print(
            f"{method}: {seconds[0]:.2f} s on the CPU, {seconds[1]:.2f} s on the device "
            f"({seconds[0] / seconds[1]:.1f} times faster), {share:.6%} of entries equal"
        )


def _save(file: Path, seed: int) -> None:
    if file.exists():
        return
    generator = torch.Generator().manual_seed(seed)
    shapes = {f"layers.{n}.mlp.weight": (1024, 4096) for n in range(81)} | {"embed": (33000, 1024)}
    save_file({n: torch.randn(s, generator=generator).bfloat16() for n, s in shapes.items()}, file)


def _merge(folder: Path, method: str, device: Device) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the seconds of a merge, and the merged weights."""
    base = "" if method in NO_BASE else "base: p.safetensors"
    models = [f"{name}.safetensors" for name in "abcd"]
    (folder / "merge.yaml").write_text(f"method: {method}\nmodels: {models}\n{base}\n")
    place = folder / "merged.safetensors"
    place.unlink(missing_ok=True)
    job = replace(MergeJob.read(folder / "merge.yaml", place), device=device)
    job.check()
    assert [model.digest_by("blake3") for model in job.inputs]  # before the clock starts
    start = time.perf_counter()
    job.run(lambda _bytes: None)
    return time.perf_counter() - start, load_file(place)


if __name__ == "__main__":
    main()
