"""Models of many families of transformers are merged, and loaded again by the library."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_files import read_job
from model_families import FAMILIES, Family, change, inputs_of, save
from torch import Tensor

METHODS = {
    "linear": "",
    "slerp": "options: {t: 0.3}",
    "ties": "base: base\noptions: {density: 0.5}",
    "dare_ties": "base: base\noptions: {density: 0.5}",
    "della": "base: base\noptions: {density: 0.5}",
    "sce": "base: base",
    "model_stock": "base: base",
}
# The others take a minute together.
_BY_DEFAULT = ("mixtral", "qwen2", "resnet", "t5")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in _BY_DEFAULT else [pytest.mark.full]) for n in FAMILIES],
)
def test_every_method_merges_models_of_a_family(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    save(family.make(), tmp_path / "base", "whole")
    models = [change(family.make(), seed) for seed in (1, 2)]
    save(models[0], tmp_path / "a", family.saved)
    save(models[1], tmp_path / "b", "whole")
    merged = {method: _merged(tmp_path, method, text) for method, text in METHODS.items()}

    loaded = {method: _loaded(family, folder) for method, folder in merged.items()}

    first, second = (_loaded(family, tmp_path / folder) for folder in ("a", "b"))
    for method, net in loaded.items():
        assert _outputs_are_finite(net, family), method
        assert _configuration(net) == _configuration(first), method
    expected = _mean(first.state_dict(), second.state_dict())
    torch.testing.assert_close(dict(loaded["linear"].state_dict()), expected, atol=1e-6, rtol=0)


def _merged(folder: Path, method: str, text: str) -> Path:
    job = read_job(folder, f"method: {method}\nmodels: [a, b]\n{text}", f"merged-{method}")
    job.check()
    assert not [note for note in job.notes if note.startswith("warning")]
    job.run(lambda _bytes: None)
    return job.place


def _loaded(family: Family, folder: Path) -> Any:
    import transformers

    kind = getattr(transformers, family.net)
    net, faults = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(faults.values()), faults
    return net.eval()


def _outputs_are_finite(net: Any, family: Family) -> bool:
    with torch.no_grad():
        outputs = net(**inputs_of(family))
    tensors = [value for value in outputs.values() if isinstance(value, Tensor)]
    return bool(tensors) and all(tensor.isfinite().all() for tensor in tensors)


def _configuration(net: Any) -> dict[str, Any]:
    return {n: v for n, v in net.config.to_dict().items() if n != "_name_or_path"}


def _mean(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of two states; a variance is that of the examples of both together."""
    mean = {name: (one[name] + other[name]) / 2 for name in one}
    for name in [name for name in mean if name.endswith("running_var")]:
        center = name.replace("_var", "_mean")
        mean[name] += ((one[center] - other[center]) / 2) ** 2
    counts = {name: torch.maximum(one[name], other[name]) for name in one if "num_batches" in name}
    return mean | counts
