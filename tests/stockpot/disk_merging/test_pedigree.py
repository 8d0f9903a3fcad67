"""The record of a merge in the header of its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merge_files import merge, save_model
from safetensors.torch import save_file

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.pedigree import PEDIGREE, read_pedigree
from stockpot.errors import InputError


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],
        lambda text: text.replace('"digest"', '"diqest"', 1),
        lambda text: text.replace('"coefficient"', '"coeffiqient"', 1),
        lambda text: text.replace('"path": "b"', '"path": ""'),
        lambda _: "[]",
        lambda _: "[" * 100_000,
    ],
)
def test_a_damaged_pedigree_is_refused(tmp_path: Path, damage: Callable[[str], str]) -> None:
    for name in ("a", "b"):
        save_model(tmp_path / name, {"w": torch.ones(2)})
    merged = merge(tmp_path, "method: linear\nmodels: [a, b]")
    pedigree = json.dumps(read_pedigree(tmp_path / "merged"))
    metadata = {PEDIGREE: damage(pedigree)}
    save_file(merged, tmp_path / "merged" / "model.safetensors", metadata)

    with pytest.raises(InputError, match=r"merged: its pedigree is damaged, or of another version"):
        MergeJob.rebuilding(tmp_path / "merged", tmp_path / "again", tmp_path)
