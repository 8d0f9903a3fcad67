"""Merge the adapters of a finished run, and compare the result with the soup of full weights.

    python soup_of_adapters.py

Writes soups/: the merge files, the soup as an adapter (exact, and of lower rank), and the exact one
merged into the base.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).parent
SOUPS = ROOT / "soups"
RANK = 8


def main() -> None:
    """Merge the adapters of the uniform soup, merge the exact sum into the base, and compare."""
    shutil.rmtree(SOUPS, ignore_errors=True)
    SOUPS.mkdir()
    base = str(ROOT / read("base")["base"]["path"])
    uniform = next(soup for soup in read("soups")["soups"] if soup["name"] == "uniform")
    adapters = [
        {
            "path": str(ROOT / model["adapter"]),
            "coefficient": uniform["coefficients"][model["name"]],
        }
        for model in read("sweep")["ingredients"]
        if model["name"] in uniform["coefficients"]
    ]
    sum_of_all = {"method": "task_arithmetic", "models": adapters, "output": "adapter"}
    merge("exact", sum_of_all)
    merge(f"rank-{RANK}", sum_of_all | {"rank": RANK})

    merged = merge("exact.safetensors", {"method": "linear", "models": ["exact"], "base": base})
    furthest = distance(merged, load_file(ROOT / uniform["path"]))
    print(f"Merged into the base, soups/exact differs from the soup by at most {furthest:.1e}.")


def read(stage: str) -> dict[str, Any]:
    """Return the manifest of a stage."""
    content: dict[str, Any] = json.loads((ROOT / "results" / f"{stage}.json").read_text())
    return content


def merge(place: str, content: dict[str, Any]) -> dict[str, Tensor]:
    """Write and run a merge file; return the merged tensors, or {} for an adapter."""
    file = SOUPS / f"{place}.yaml"
    file.write_text(yaml.safe_dump(content))
    subprocess.run(["stockpot", "merge", file, SOUPS / place], check=True)
    return load_file(SOUPS / place) if place.endswith(".safetensors") else {}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest absolute difference between two models."""
    return max(float(torch.dist(one[name], other[name], p=torch.inf)) for name in other)


if __name__ == "__main__":
    main()
