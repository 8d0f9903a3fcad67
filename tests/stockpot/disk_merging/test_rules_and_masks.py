"""Merges on disk with rules for single tensors, and of pruned models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from stockpot.disk_merging.job import MergeJob
from stockpot.errors import InputError

MASKS = (torch.tensor([1.0, 1, 1, 0, 0, 0]), torch.tensor([1.0, 1, 0, 1, 0, 0]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, (name, mask) in enumerate(zip("abc", (*MASKS, torch.ones(6)), strict=True)):
        tensors = {
            "layer.weight": (mask * (number + 1)).view(2, 3),
            "layer.bias": torch.full((2,), float(number)),
            "head.covariance": torch.diag(torch.tensor([4.0**number, 1.0])),
        }
        save_file(tensors, tmp_path / f"{name}.safetensors")
    return tmp_path


def merge(folder: Path, **fields: Any) -> dict[str, torch.Tensor]:
    content = {"method": "linear", "models": ["a.safetensors", "b.safetensors"], **fields}
    (folder / "out.safetensors").unlink(missing_ok=True)
    (folder / "merge.yaml").write_text(yaml.safe_dump(content))
    job = MergeJob.read(folder / "merge.yaml", folder / "out.safetensors")
    job.check()
    job.run(lambda _bytes: None)
    return load_file(folder / "out.safetensors")


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ("union", [1.5, 1.5, 0.5, 1, 0, 0]),
        ("intersection", [1.5, 1.5, 0, 0, 0, 0]),
        ("first", [1.5, 1.5, 0.5, 0, 0, 0]),
        ("none", [1.5, 1.5, 0.5, 1, 0, 0]),
    ],
)
def test_masks_are_joined_as_asked(folder, masks, expected):
    assert merge(folder, masks=masks)["layer.weight"].flatten().tolist() == expected


def test_different_masks_are_refused_in_words(folder):
    with pytest.raises(InputError, match=r"'layer.weight': model 1 must be 0 .*33.3%.*set masks"):
        merge(folder)


def test_a_base_fills_nothing_without_a_word(folder):
    fields = {"models": ["a.safetensors"], "base": "c.safetensors", "method": "task_arithmetic"}
    options = {"options": {"scale": 0.5}}
    with pytest.raises(InputError, match="the base must be 0 in the same places"):
        merge(folder, **fields, **options)
    kept = merge(folder, **fields, **options, masks="first")["layer.weight"].flatten()
    assert kept.tolist() == [2, 2, 2, 0, 0, 0]
    filled = merge(folder, **fields, **options, masks="none")["layer.weight"].flatten()
    assert filled.tolist() == [2, 2, 2, 1.5, 1.5, 1.5]


def test_rules_merge_single_tensors_in_another_way(folder):
    rules = [
        {"match": "*.covariance", "metric": "riemann"},
        {"match": "*.weight", "method": "count_mean"},
    ]
    merged = merge(folder, rules=rules, masks="union")
    torch.testing.assert_close(merged["head.covariance"], torch.diag(torch.tensor([2.0, 1.0])))
    assert merged["layer.weight"].flatten().tolist() == [1.5, 1.5, 1, 2, 0, 0]
    assert merged["layer.bias"].tolist() == [0.5, 0.5]
    again = MergeJob.rebuilding(folder / "out.safetensors", folder / "again.safetensors", folder)
    again.run(lambda _bytes: None)
    digests = [(folder / f"{name}.safetensors").read_bytes() for name in ("out", "again")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"match": "*.nothing", "metric": "riemann"}, "must be the pattern of a tensor's name"),
        ({"match": "*"}, "either metric or method"),
        ({"match": "*", "metric": "euclid"}, "riemann"),
        ({"match": "*", "method": "fisher"}, "needs fishers"),
        ({"match": "*", "method": "ties", "options": {"density": 2}}, "density must be"),
        ({"match": "*.bias", "metric": "riemann"}, "'layer.bias': model 0: must be square"),
    ],
)
def test_wrong_rules_are_refused_in_words(folder, rule, words):
    with pytest.raises(InputError, match=words):
        merge(folder, rules=[rule], masks="union", base="c.safetensors")


def test_models_without_fields_have_no_product_of_posteriors(folder):
    with pytest.raises(InputError, match="use fisher"):
        merge(folder, method="posterior_product", base="c.safetensors", masks="none")


def test_nets_side_by_side_take_an_experiment(folder):
    with pytest.raises(InputError, match="use it in an experiment"):
        merge(folder, method="concat")


def test_a_rule_may_have_coefficients_of_its_own(folder: Path) -> None:
    rule = {"match": "*.bias", "method": "linear", "coefficients": [3, 1]}

    merged = merge(folder, rules=[rule], masks="none")

    assert merged["layer.bias"].tolist() == [0.25, 0.25]
    assert merged["layer.weight"][0].tolist() == [1.5, 1.5, 0.5]


def test_coefficients_of_a_rule_are_one_per_model(folder: Path) -> None:
    rule = {"match": "*.bias", "method": "linear", "coefficients": [3]}

    with pytest.raises(InputError, match=r"'\*.bias': coefficients must be one per model \(2\)"):
        merge(folder, rules=[rule], masks="none")
