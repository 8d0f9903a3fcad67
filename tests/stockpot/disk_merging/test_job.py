"""Merging models on disk by a merge file: the weights, the card, the pedigree, and the refusals."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from safetensors.torch import load_file, save_file
from torch import Tensor

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.errors import InputError

NAMES = ["embed.weight", "layers.0.w", "layers.1.w", "layers.2.w", "head.weight"]

Merge = Callable[..., dict[str, Tensor]]


def save_model(folder: Path, value: float) -> dict[str, Tensor]:
    """Write a model whose entries are all `value`, with a config and a tokenizer."""
    folder.mkdir()
    state = {name: torch.full((2, 3), value) for name in NAMES}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model": folder.name}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "notes.log").write_text("")
    return state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "a", 1.0)
    save_model(tmp_path / "b", 3.0)
    return tmp_path


@pytest.fixture
def job(folder: Path) -> Callable[..., MergeJob]:
    """Read a merge file with this text."""

    def read(text: str, place: str = "merged") -> MergeJob:
        (folder / "merge.yaml").write_text(text)
        return MergeJob.read(folder / "merge.yaml", folder / place)

    return read


@pytest.fixture
def merge(job: Callable[..., MergeJob]) -> Merge:
    """Merge, and return the weights of the output."""

    def run(text: str, place: str = "merged") -> dict[str, Tensor]:
        made = job(text, place)
        made.check()
        made.run(lambda _bytes: None)
        path = made.place if made.place.is_file() else made.place / "model.safetensors"
        return load_file(path)

    return run


def test_a_folder_gets_weights_config_tokenizer_and_card(merge: Merge, folder: Path) -> None:
    merged = merge("method: linear\nmodels: [a, b]")

    assert sorted(merged) == sorted(NAMES)
    assert all(tensor.unique().tolist() == [2.0] for tensor in merged.values())
    assert sorted(file.name for file in (folder / "merged").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert json.loads((folder / "merged" / "config.json").read_text()) == {"model": "a"}
    card = (folder / "merged" / "README.md").read_text()
    assert "with `linear`" in card
    assert "| b | 1.0 | `" in card
    assert not list(folder.glob(".*"))


def test_a_name_that_ends_in_safetensors_gets_one_file(merge: Merge, folder: Path) -> None:
    merged = merge("method: linear\nmodels: [a, b]", "merged.safetensors")

    assert merged["head.weight"].unique().tolist() == [2.0]
    assert not list(folder.glob(".*"))


def test_coefficients_follow_depth_and_filters(merge: Merge) -> None:
    merged = merge(
        "method: linear\nmodels:\n"
        "  - {path: a, coefficient: [1, 0]}\n"
        "  - {path: b, coefficient: [{filter: layers, value: [0, 1]}, {value: 3}]}\n"
    )

    assert merged["layers.0.w"].unique().tolist() == [1.0]
    assert merged["layers.1.w"].unique().tolist() == [2.0]
    assert merged["layers.2.w"].unique().tolist() == [3.0]
    assert merged["embed.weight"].unique().tolist() == [2.5]  # (1 * 1 + 3 * 3) / 4: depth 0
    assert merged["head.weight"].unique().tolist() == [3.0]  # depth 1


@pytest.fixture
def adapter(folder: Path) -> Tensor:
    """Write an adapter `lora` of the head, and return its change of the weight."""
    a, b = randn(2, 3, seed=1), randn(2, 2, seed=2)
    save_adapter(folder / "lora", factors("head", a, b))
    return 2 * b @ a


def test_a_model_and_an_adapter_joined_by_a_plus_are_the_adapter_on_that_model(
    merge: Merge, adapter: Tensor
) -> None:
    merged = merge(
        "merge_method: task_arithmetic\nbase_model: a\nmodels:\n"
        "  - {model: b+lora, parameters: {weight: 0.5}}\n"
        "  - {model: a+lora, parameters: {weight: 1}}\n"
    )

    # The base is 1; the changes are 2 + the adapter's, half of it, and the adapter's alone.
    torch.testing.assert_close(merged["head.weight"], 1 + 0.5 * (2 + adapter) + adapter)
    assert merged["embed.weight"].unique().tolist() == [2.0]


def test_one_adapter_on_two_models_is_not_said_to_be_the_same_model_twice(
    job: Callable[..., MergeJob],
    adapter: Tensor,  # noqa: ARG001 (it is there)
) -> None:
    made = job("method: linear\nmodels: [a+lora, b+lora]")

    made.check()

    assert made.notes == ["not copied from a: notes.log (of its training)"]


def test_the_base_may_be_a_model_with_an_adapter_and_it_can_be_made_again(
    merge: Merge, folder: Path, adapter: Tensor
) -> None:
    merged = merge("method: task_arithmetic\nmodels: [b]\nbase: a+lora\noptions: {scale: 0.5}")

    again = MergeJob.rebuilding(folder / "merged", folder / "again", folder)
    again.run(lambda _bytes: None)

    torch.testing.assert_close(merged["head.weight"], 2 + 0.5 * adapter)
    assert torch.equal(
        load_file(folder / "again" / "model.safetensors")["head.weight"], merged["head.weight"]
    )
    assert json.loads((folder / "merged" / "config.json").read_text()) == {"model": "a"}


def test_a_name_with_a_plus_is_the_model_of_that_name_if_there_is_one(
    merge: Merge, folder: Path
) -> None:
    save_model(folder / "a+b", 9.0)

    assert merge("method: linear\nmodels: [a+b]")["head.weight"].unique().tolist() == [9.0]


def test_what_comes_after_a_plus_must_be_an_adapter(job: Callable[..., MergeJob]) -> None:
    with pytest.raises(InputError, match=r"^merge.yaml: a\+b: the part after '\+' must be the"):
        job("method: linear\nmodels: [a+b]").check()


def test_dtype_is_of_the_output(merge: Merge) -> None:
    merged = merge("method: linear\nmodels: [a, b]\ndtype: bfloat16")

    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}


def test_config_can_come_from_another_model(merge: Merge, folder: Path) -> None:
    merge("method: linear\nmodels: [a, b]\nconfig_from: b")

    assert json.loads((folder / "merged" / "config.json").read_text()) == {"model": "b"}


def test_the_pedigree_in_the_header_makes_the_same_bytes_again(merge: Merge, folder: Path) -> None:
    merge("method: linear\nmodels: [a, {path: b, coefficient: 0.25}]\nseed: 3")

    pedigree = read_pedigree(folder / "merged")
    again = MergeJob.rebuilding(folder / "merged", folder / "again", folder)
    again.run(lambda _bytes: None)

    assert (pedigree["method"], pedigree["seed"]) == ("linear", 3)
    assert [model["coefficient"] for model in pedigree["models"]] == [1.0, 0.25]
    first, second = (folder / name / "model.safetensors" for name in ("merged", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_pedigree_with_the_digests_of_earlier_versions_makes_the_same_bytes_again(
    job: Callable[..., MergeJob], folder: Path
) -> None:
    text = "method: dare_linear\nmodels: [b]\nbase: a"  # whose draws depend on the digests
    replace(job(text), algorithm="sha256").run(lambda _bytes: None)

    again = MergeJob.rebuilding(folder / "merged", folder / "again", folder)
    again.run(lambda _bytes: None)

    sha256 = hashlib.sha256((folder / "b" / "model.safetensors").read_bytes()).hexdigest()
    assert read_pedigree(folder / "merged")["models"][0]["digest"] == sha256
    first, second = (folder / name / "model.safetensors" for name in ("merged", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_an_input_that_has_changed_is_told_from_the_one_that_was_merged(
    merge: Merge, folder: Path
) -> None:
    merge("method: linear\nmodels: [a, b]")
    weights = folder / "b" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    with pytest.raises(InputError, match="it is not the model that was merged"):
        MergeJob.rebuilding(folder / "merged", folder / "again", folder)


def test_a_model_without_pedigree_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="its header has no pedigree"):
        read_pedigree(folder / "a")


def test_the_forecast_counts_bytes_from_headers(job: Callable[..., MergeJob]) -> None:
    forecast = job("method: linear\nmodels: [a, b]\ndtype: float16").forecast

    assert forecast["to read"] == 2 * 5 * 6 * 4
    assert forecast["to write"] == 5 * 6 * 2
    assert forecast["of memory at most"] == 4 * 6 * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("method: linaer\nmodels: [a]", "unknown merge method 'linaer'.*did you mean 'linear'"),
        ("method: fisher\nmodels: [a, b]", "fisher: needs data, .*; use it in an experiment"),
        ("method: linear\nmodels: [a, c]", "c: no such file"),
        ("method: linear\nmodels: [a]\noptions: {densty: 1}", "linear: unknown option 'densty'"),
        (
            "method: linear\nmodels: [a, {path: b, coefficient: -1}]",
            "linear: coefficients must not sum to 0",
        ),
        ("method: linear\nmodels: [a, odd.safetensors]", "lacks .* which a has; most names differ"),
    ],
)
def test_what_cannot_be_merged_is_refused_before_anything_is_written(
    job: Callable[..., MergeJob], folder: Path, text: str, expected: str
) -> None:
    save_file({"other": torch.ones(1)}, folder / "odd.safetensors")

    with pytest.raises(InputError, match=expected):
        job(text).check()

    assert not (folder / "merged").exists()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(("place", "expected"), [("a", "exists already"), ("x/y", "no such")])
def test_a_place_that_cannot_be_is_refused(
    job: Callable[..., MergeJob], place: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        job("method: linear\nmodels: [a, b]", place).check()


def test_a_folder_that_was_removed_since_the_check_is_refused(job: Callable[..., MergeJob]) -> None:
    made = job("method: linear\nmodels: [a, b]", "gone/merged")

    with pytest.raises(InputError, match="gone: no such folder"):
        made.run(lambda _bytes: None)


def test_an_input_that_changes_during_the_merge_is_reported(
    job: Callable[..., MergeJob], folder: Path
) -> None:
    made = job("method: linear\nmodels: [a, b]")
    weights = folder / "b" / "model.safetensors"

    with pytest.raises(InputError, match=r"b/model\.safetensors: changed during the merge"):
        made.run(lambda _bytes: os.utime(weights, ns=(0, 0)))

    assert not (folder / "merged").exists()


def test_what_was_interrupted_goes_on_only_with_the_same_inputs(
    job: Callable[..., MergeJob], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job("method: linear\nmodels: [a, b]")
    monkeypatch.setattr(MergeJob, "_complete", _fail)
    with pytest.raises(RuntimeError, match="stopped"):
        made.run(lambda _bytes: None)
    monkeypatch.undo()
    save_file({name: torch.full((2, 3), 5.0) for name in NAMES}, folder / "b/model.safetensors")

    job("method: linear\nmodels: [a, b]").run(lambda _bytes: None)

    merged = load_file(folder / "merged" / "model.safetensors")
    assert merged["head.weight"].unique().tolist() == [3.0]


def _fail(*_: object) -> None:
    raise RuntimeError("stopped")
