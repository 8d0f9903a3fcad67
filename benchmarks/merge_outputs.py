"""Several outputs from one reading of the models, compared with separate merges.

Two bfloat16 models of 50 M parameters are merged by each method with OUTPUTS coefficients, at once
(`outputs` in the merge file) and one by one, in this process.

    python benchmarks/merge_outputs.py [OUTPUTS]

Shown are the bytes that are read from the models and the CPU seconds of merging and writing, those
of separate merges divided by those of one. Digests are known, and the files are in memory.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from stockpot.disk_merging.merge_files.mergekit_form import load_merge
from stockpot.disk_merging.outputs_job import OutputsJob
from stockpot.storage.weights.sources import Source

METHODS = ("linear", "ties", "dare_linear")


def main() -> None:
    """Measure each method and print a line per method."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        for seed, model in enumerate("abp"):
            _save(folder / f"{model}.safetensors", seed)
        for method in METHODS:
            lines = [f"{{name: o{n}, coefficients: [1, {n / count}]}}" for n in range(count)]
            at_once = _measure(folder, method, lines, f"{method}-grid")
            alone = [
                _measure(folder, method, [one], f"{method}-{n}") for n, one in enumerate(lines)
            ]
            one_by_one = [sum(each) for each in zip(*alone, strict=True)]
            ratios = [b / a for a, b in zip(at_once, one_by_one, strict=True)]
            print(f"{method}: {count} outputs: bytes / {ratios[0]:.2f}, CPU / {ratios[1]:.2f}")


def _save(file: Path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = {f"layers.{n}.mlp.weight": (768, 3072) for n in range(11)} | {"embed": (32000, 768)}
    save_file({n: torch.randn(s, generator=generator).bfloat16() for n, s in shapes.items()}, file)


def _measure(folder: Path, method: str, outputs: list[str], place: str) -> tuple[float, float]:
    """Return the bytes that are read for one merge file, and the CPU seconds."""
    base = "base: p.safetensors" if method != "linear" else ""
    text = f"method: {method}\nmodels: [a.safetensors, b.safetensors]\n{base}\noutputs:\n"
    (folder / "merge.yaml").write_text(text + "".join(f"  - {one}\n" for one in outputs))
    job = OutputsJob(load_merge(folder / "merge.yaml"), folder, folder / place)
    job.check()
    assert [model.digest_by("blake3") for model in job.jobs[0].inputs]  # before the clock starts
    num_bytes = 0
    read_run = Source.read_run

    def counted(source: Source, name: str, first: int, last: int) -> torch.Tensor:
        nonlocal num_bytes
        run = read_run(source, name, first, last)
        num_bytes += run.nbytes
        return run

    start = time.process_time()
    with patch.object(Source, "read_run", counted):
        job.run(lambda _bytes: None)
    return num_bytes, time.process_time() - start


if __name__ == "__main__":
    main()
