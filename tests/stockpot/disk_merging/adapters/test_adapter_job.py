"""Adapters merged with each other and onto their base: the same weights either way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob, MergedAdapter
from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.errors import InputError
from stockpot.storage.weights.adapters import open_adapter
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.sources import open_files

ONTO_BASE = "method: {}\nmodels: [a, {{path: b, coefficient: 0.5}}]\nbase: base\n"
ALONE = "method: {}\nmodels: [a, {{path: b, coefficient: 0.5}}]\noutput: adapter\n"

Merge = Callable[..., MergedAdapter]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two adapters of different ranks, alphas, scaling and modules, and their base."""
    base = {"x.0.weight": randn(5, 6), "x.1.weight": randn(4, 5), "e.weight": randn(9, 6)}
    (tmp_path / "base").mkdir()
    save_file(
        {name: tensor.bfloat16() for name, tensor in base.items()},
        tmp_path / "base" / "model.safetensors",
    )
    (tmp_path / "base" / "config.json").write_text("{}")
    both = factors("x.0", randn(2, 6, seed=1), randn(5, 2, seed=2))
    only_a = factors("x.1", randn(3, 5, seed=3), randn(4, 3, seed=4))
    config = {"lora_alpha": 3, "rank_pattern": {"x.1": 3}}
    save_adapter(tmp_path / "a", both | only_a, **config)
    both = factors("x.0", randn(4, 6, seed=5), randn(5, 4, seed=6))
    only_b = {
        "e.lora_embedding_A": randn(4, 9, seed=7),
        "e.lora_embedding_B": randn(6, 4, seed=8),
    }
    save_adapter(tmp_path / "b", both | only_b, r=4, lora_alpha=8, use_rslora=True)
    return tmp_path


def onto_base(folder: Path, text: str, place: str = "full") -> dict[str, Tensor]:
    """Merge onto the base, in float32, and return the weights."""
    (folder / "merge.yaml").write_text(text + "dtype: float32\n")
    job = MergeJob.read(folder / "merge.yaml", folder / place)
    job.check()
    job.run(lambda _bytes: None)
    return load_file(folder / place / "model.safetensors")


def alone(folder: Path, text: str, place: str = "merged") -> AdapterMergeJob:
    """Read a merge of adapters with each other."""
    (folder / "merge.yaml").write_text(text)
    job = MergeJob.read(folder / "merge.yaml", folder / place)
    return AdapterMergeJob(job.file, job.folder, job.place)


def on_base(folder: Path, adapter: str) -> dict[str, Tensor]:
    """Return the model that an adapter makes."""
    source = open_source(folder / adapter, open_source(folder / "base"))
    return {name: source.read(name).float() for name in source.tensors}


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_adapters_merged_alone_are_those_merged_onto_the_base(folder: Path, method: str) -> None:
    full = onto_base(folder, ONTO_BASE.format(method))

    job = alone(folder, ALONE.format(method))
    job.check()
    merged = job.run()

    assert merged.ranks == {"x.0": 6, "x.1": 3, "e": 4}
    assert merged.summary == "3 modules, ranks 3 to 6, exact"
    assert_close(on_base(folder, "merged"), full, rtol=1e-5, atol=1e-5)


def test_merged_weights_are_the_sums_of_full_weights(folder: Path) -> None:
    one, other = on_base(folder, "a"), on_base(folder, "b")

    full = onto_base(folder, ONTO_BASE.format("linear"))

    expected = {name: (one[name] + 0.5 * other[name]) / 1.5 for name in one}
    assert_close(full, expected, rtol=1e-6, atol=1e-6)


def test_any_method_takes_adapters_on_the_base(folder: Path) -> None:
    full = onto_base(folder, "method: ties\nmodels: [a]\nbase: base\noptions: {density: 1.0}\n")

    assert_close(full, on_base(folder, "a"))


def test_the_output_keeps_the_base_s_dtype_rounded_once(folder: Path) -> None:
    base = str(folder / "base")
    config = json.loads((folder / "a" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (folder / "a" / "adapter_config.json").write_text(json.dumps(config))
    (folder / "merge.yaml").write_text("method: linear\nmodels: [a]\n")

    MergeJob.read(folder / "merge.yaml", folder / "full").run(lambda _bytes: None)

    merged = load_file(folder / "full" / "model.safetensors")
    expected = {name: tensor.bfloat16() for name, tensor in on_base(folder, "a").items()}
    assert_close(merged, expected, rtol=0, atol=0)
    beside = sorted(file.name for file in (folder / "full").iterdir())
    assert beside == ["README.md", "config.json", "model.safetensors"]


def test_options_and_filters_of_coefficients_count(folder: Path) -> None:
    text = (
        "method: task_arithmetic\noutput: adapter\noptions: {scale: 2}\nmodels:\n"
        "  - {path: a, coefficient: [{filter: x.0, value: -1}, {value: 3}]}\n"
    )

    alone(folder, text).run()

    before, after = open_adapter(folder / "a"), open_adapter(folder / "merged")
    for module, factor in (("x.0", -2), ("x.1", 6)):
        old, new = before.changes[module], after.changes[module]
        b = factor * old.scaling * before.weights.read(old.b)
        assert new.scaling == 1
        assert torch.equal(after.weights.read(new.a), before.weights.read(old.a))
        assert_close(after.weights.read(new.b), b)


def test_a_lower_rank_leaves_out_the_tail_of_singular_values(folder: Path) -> None:
    alone(folder, ALONE.format("linear"), "exact").run()
    job = alone(folder, ALONE.format("linear") + "rank: 3\n")
    merged = job.run()

    exact, low = on_base(folder, "exact"), on_base(folder, "merged")
    base = {name: open_source(folder / "base").read(name).float() for name in exact}
    tails = [torch.linalg.svdvals(exact[n] - base[n])[3:] for n in exact]
    rest = torch.cat([(exact[n] - low[n]).flatten() for n in exact])
    assert merged.ranks == {"x.0": 3, "x.1": 3, "e": 3}
    assert_close(torch.tensor(merged.error), torch.cat(tails).norm(), rtol=1e-4, atol=1e-6)
    assert_close(rest.norm(), torch.cat(tails).norm(), rtol=1e-4, atol=1e-6)
    assert "Frobenius error" in (folder / "merged" / "README.md").read_text()


def test_the_pedigree_makes_the_same_bytes_again(folder: Path) -> None:
    alone(folder, ALONE.format("linear") + "rank: 2\ndtype: bfloat16\n").run()

    again = AdapterMergeJob.rebuilding(folder / "merged", folder / "again", folder)
    again.run()

    assert read_pedigree(folder / "merged")["output"] == "adapter"
    assert open_adapter(folder / "again").digest == open_adapter(folder / "merged").digest
    assert {t.dtype for t in open_files(folder / "again").tensors.values()} == {torch.bfloat16}
    assert not list(folder.glob(".*"))


def test_an_adapter_that_has_changed_is_told_from_the_one_that_was_merged(folder: Path) -> None:
    alone(folder, ALONE.format("linear")).run()
    config = folder / "b" / "adapter_config.json"
    config.write_text(config.read_text().replace("true", "false"))

    with pytest.raises(InputError, match="it is not the model that was merged"):
        AdapterMergeJob.rebuilding(folder / "merged", folder / "again", folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("method: ties\nmodels: [a]\noutput: adapter", "method must be one of .* got 'ties'"),
        ("method: linear\nmodels: [a]\noutput: adapter\nbase: base", "base is not for `output"),
        ("method: linear\nmodels: [a]\nrank: 3", "rank applies only to `output: adapter`, got 3"),
        ("method: linear\nmodels: [a]\noutput: adapter\nrank: 0", "rank: must be greater"),
        ("method: linear\nmodels: [a, base]\noutput: adapter", "base: must be an adapter"),
        (
            "method: linear\nmodels: [{path: a, coefficient: 0}]\noutput: adapter",
            "linear: coefficients must not sum to 0",
        ),
        (
            "method: linear\nmodels: [a, {path: b, coefficient: [0, 1]}]\noutput: adapter",
            r"\[0.0, 1.0\] varies with depth, which is unknown without the base",
        ),
        (
            "method: task_arithmetic\nmodels: [a]\noutput: adapter\noptions: {lambda: 1}",
            "unknown option 'lambda'",
        ),
        ("method: linear\nmodels: [a, wide]\noutput: adapter", r"of shape \(5, 7\), .*/a one of"),
        ("method: linear\nmodels: [a, whole]\noutput: adapter", "replaces whole tensors"),
        ("method: linear\nmodels: [a, dora]\noutput: adapter", "DoRA is not additive"),
        ("method: linear\nmodels: [a, elsewhere]\noutput: adapter", "merge adapters of one base"),
        ("method: linear\nmodels: [none]\noutput: adapter", "changes nothing"),
    ],
)
def test_what_has_no_exact_sum_is_refused_before_anything_is_written(
    folder: Path, text: str, expected: str
) -> None:
    own = factors("x.0", randn(2, 6), randn(5, 2))
    extra: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {
        "wide": (factors("x.0", randn(2, 7), randn(5, 2)), {}),
        "whole": (own | {"x.0.bias": randn(5)}, {"bias": "all"}),
        "dora": (own | {"x.0.lora_magnitude_vector": randn(5)}, {"use_dora": True}),
        "elsewhere": (own, {"base_model_name_or_path": "other"}),
        "none": ({}, {}),
    }
    for name, (tensors, config) in extra.items():
        save_adapter(folder / name, tensors, **config)

    with pytest.raises(InputError, match=expected):
        alone(folder, text).check()

    assert not (folder / "merged").exists()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("place", "expected"),
    [("a", "exists already"), ("x/y", "no such folder"), ("m.safetensors", "is a folder")],
)
def test_a_place_that_cannot_be_is_refused(folder: Path, place: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        alone(folder, ALONE.format("linear"), place).check()


@pytest.mark.parametrize(("value", "expected"), [(float("nan"), "not finite"), (1e6, "too large")])
def test_values_that_cannot_be_written_are_refused(
    folder: Path, value: float, expected: str
) -> None:
    save_adapter(folder / "c", factors("x.0", torch.full((2, 6), value), randn(5, 2)))

    with pytest.raises(InputError, match=expected):
        alone(folder, "method: linear\nmodels: [c]\noutput: adapter\ndtype: float16").run()

    assert not (folder / "merged").exists()
