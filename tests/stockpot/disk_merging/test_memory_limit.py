"""Inputs larger than the memory that a process may have of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.storage.weights.safetensors_format import build_header

NUM_MODELS = 12
SHAPES = {"embedding": (5_000, 4_000), "matrix": (1_000, 4_000), "norm": (4_000,)}
LIMIT = 450_000_000  # bytes; half of it is what Python and torch take


def _write(path: Path, seed: int) -> Path:
    """Write a model of 48 MB in bfloat16 that is 0 but for some entries, and takes no room."""
    head, starts = build_header({name: (torch.bfloat16, s) for name, s in SHAPES.items()}, {})
    path.write_bytes(head)
    os.truncate(path, len(head) + sum(2 * torch.Size(s).numel() for s in SHAPES.values()))
    generator = torch.Generator().manual_seed(seed)
    with path.open("r+b") as file:
        for name, shape in SHAPES.items():
            size = torch.Size(shape).numel()
            for first in range(0, size, 2**20):
                drawn = torch.randn(min(2**12, size - first), generator=generator).bfloat16()
                file.seek(starts[name] + 2 * first)
                file.write(drawn.view(torch.uint8).numpy().tobytes())
    return path


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit is not of mapped memory")
@pytest.mark.parametrize("method", ["linear", "ties"])
def test_twelve_models_larger_than_the_limit_merge_to_the_bits_of_memory(
    tmp_path: Path, method: str
) -> None:
    paths = [_write(tmp_path / f"{n}.safetensors", n) for n in range(NUM_MODELS)]
    base = f"base: {paths[0].name}\n" if method == "ties" else ""
    listed = "".join(
        f"  - {{path: {p.name}, coefficient: 0.{n + 1}}}\n" for n, p in enumerate(paths)
    )
    (tmp_path / "merge.yaml").write_text(f"method: {method}\n{base}models:\n{listed}")

    ended = subprocess.run(
        [sys.executable, "-m", "flows", "merge", "merge.yaml", "merged.safetensors"],
        cwd=tmp_path,
        preexec_fn=_limit_memory,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert sum(path.stat().st_size for path in paths) > LIMIT
    states: list[dict[str, Tensor]] = [load_file(path) for path in paths]
    coefficients = tuple(float(f"0.{n + 1}") for n in range(NUM_MODELS))
    expected = merge_states(
        states, Recipe(method, coefficients), states[0] if method == "ties" else None
    )
    merged = load_file(tmp_path / "merged.safetensors")
    assert merged.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in merged.items())
