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

from stockpot.disk_merging.signatures.patches import open_patch
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.weight_signatures import weight_signatures
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


@pytest.fixture
def states(tmp_path: Path) -> list[dict[str, Tensor]]:
    """The models, written as 0.safetensors, 1.safetensors, ..., and mapped."""
    paths = [_write(tmp_path / f"{n}.safetensors", n) for n in range(NUM_MODELS)]
    assert sum(path.stat().st_size for path in paths) > LIMIT
    return [load_file(path) for path in paths]


def _merge_under_the_limit(folder: Path, text: str) -> dict[str, Tensor]:
    """Run `stockpot merge` with a merge file of this text, and return what it has written."""
    (folder / "merge.yaml").write_text(text)
    ended = subprocess.run(
        [sys.executable, "-m", "flows", "merge", "merge.yaml", "merged.safetensors"],
        cwd=folder,
        preexec_fn=_limit_memory,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return load_file(folder / "merged.safetensors")


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit is not of mapped memory")
@pytest.mark.parametrize("method", ["linear", "ties"])
def test_twelve_models_larger_than_the_limit_merge_to_the_bits_of_memory(
    tmp_path: Path, states: list[dict[str, Tensor]], method: str
) -> None:
    base = "base: 0.safetensors\n" if method == "ties" else ""
    listed = "".join(
        f"  - {{path: {n}.safetensors, coefficient: 0.{n + 1}}}\n" for n in range(NUM_MODELS)
    )

    merged = _merge_under_the_limit(tmp_path, f"method: {method}\n{base}models:\n{listed}")

    coefficients = tuple(float(f"0.{n + 1}") for n in range(NUM_MODELS))
    expected = merge_states(
        states, Recipe(method, coefficients), states[0] if method == "ties" else None
    )
    assert merged.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in merged.items())


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit is not of mapped memory")
def test_weight_signatures_and_their_patch_do_too(
    tmp_path: Path, states: list[dict[str, Tensor]]
) -> None:
    listed = "  - {path: 1.safetensors, role: clean}\n" + "".join(
        f"  - {{path: {n}.safetensors, role: corrupted, coefficient: 0.{n}}}\n"
        for n in range(2, NUM_MODELS)
    )
    target = "  - {path: 11.safetensors, role: target}\n"
    head = "method: weight_signatures\nbase: 0.safetensors\n"
    given = f"options: {{num_layers: auto}}\nmodels:\n{listed}"
    factors = (1.0, 0.0, *(float(f"0.{n}") for n in range(2, NUM_MODELS)))
    matrices = [state["matrix"].float() for state in (states[11], *states[1:])]
    base = states[0]["matrix"].float()

    merged = _merge_under_the_limit(tmp_path, head + given + target)
    (tmp_path / "merged.safetensors").rename(tmp_path / "kept.safetensors")
    _merge_under_the_limit(tmp_path, f"{head}output: patch\nbits: 8\n{given}")

    assert torch.equal(merged["matrix"], weight_signatures(matrices, factors, base).bfloat16())
    assert torch.equal(merged["norm"], states[11]["norm"])
    patch = open_patch(tmp_path / "merged.safetensors")
    assert [*patch.tensors] == ["embedding", "matrix"]
    for name in patch.tensors:
        _, step = patch.codes.read(f"{name}:grid").tolist()
        gaps = patch.read(name) - (merged[name].float() - states[11][name].float())
        rounding = 2**-8 * merged[name].float().abs()
        assert (gaps.abs() <= step * (0.5 + 1e-4) + rounding).all()
        assert gaps.any()
