"""Changes of the models that rounding to the output's dtype undoes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stockpot.disk_merging import lost_changes
from stockpot.disk_merging.streaming import stream
from stockpot.merging import runs
from tests.support.merge_files import read_job, save_model

# Of bfloat16: near 1 the values are 1/128 apart.
STEP = 2.0**-7
BASE = torch.ones(2, 4, dtype=torch.bfloat16)


def changed(*steps: int) -> torch.Tensor:
    """Return the base with its first entries raised by these numbers of steps."""
    model = BASE.clone().view(-1)
    model[: len(steps)] += STEP * torch.tensor(steps, dtype=torch.bfloat16)
    return model.view(2, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = {"base": BASE, "a": changed(1, 1, 4), "b": changed(0, 0, 4, 4, 4)}
    for name, weight in models.items():
        save_model(tmp_path / name, {"layer.weight": weight, "bias": torch.ones(3).bfloat16()})
    return tmp_path


def notes(folder: Path, text: str) -> list[str]:
    job = read_job(folder, text)
    job.run(lambda _bytes: None)
    return job.notes_on_contents


MEAN = "method: task_arithmetic\nbase: base\nmodels: [{path: a, coefficient: 0.25}, "
TEXT = MEAN + "{path: b, coefficient: 0.25}]\n"


def test_the_share_of_a_models_changes_that_the_output_has_is_said(folder: Path) -> None:
    # Entries change by 1/4, 1/4, 2, 1 and 1 steps, of which the first two round to none.
    assert notes(folder, TEXT) == [
        "warning: a: of the entries that it changed, 100 % differ from the base in the merge, "
        "33.3 % still do once rounded to bfloat16: 66.7 % of the merged changes are lost; keep "
        "them by `dtype: float32`",
        "b: of the entries that it changed, 100 % differ from the base in the merge, 100 % still "
        "do once rounded to bfloat16",
    ]
    assert "- warning: a: of the entries" in (folder / "merged" / "README.md").read_text()


def test_changes_that_the_method_drops_are_not_lost_by_rounding(folder: Path) -> None:
    # The largest of a's 8 entries is kept, and the 2 largest of b's; equal ones all are.
    text = "method: ties\nbase: base\nmodels: [a, b]\noptions: {density: 0.125}"

    assert notes(folder, text)[0] == (
        "a: of the entries that it changed, 33.3 % differ from the base in the merge, 33.3 % "
        "still do once rounded to bfloat16"
    )


def test_methods_for_whole_tensors_count_as_well(folder: Path) -> None:
    text = "method: iso_c\nbase: base\nmodels: [a, b]\noptions: {scale: 0.01}"

    assert [note[:30] for note in notes(folder, text)] == [
        "warning: a: of the entries tha",
        "warning: b: of the entries tha",
    ]


@pytest.mark.parametrize("text", [TEXT + "dtype: float32", "method: linear\nmodels: [a, b]"])
def test_without_rounding_or_base_there_is_nothing_to_say(folder: Path, text: str) -> None:
    assert notes(folder, text) == []


@pytest.fixture
def sharded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write models of several shards and pieces."""
    monkeypatch.setattr(runs, "MOST_ENTRIES", 4)
    monkeypatch.setattr(lost_changes, "MOST_ENTRIES", 4)
    monkeypatch.setattr(lost_changes, "_GROUP", 8)
    monkeypatch.setattr(stream, "_PIECE", 8)
    monkeypatch.setattr("stockpot.disk_merging.job._MAX_SHARD_BYTES", 256)
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 100, generator=generator)
    for number, name in enumerate(["base", "a", "b"]):
        weights = base + 0.01 * number * torch.randn(6, 100, generator=generator)
        state = {f"{n}.weight": row.bfloat16() for n, row in enumerate(weights)}
        save_model(folder / f"big-{name}", state)
    return folder


BIG = TEXT.replace(" base", " big-base").replace("path: ", "path: big-")


def test_of_big_tensors_a_part_is_counted_whatever_the_number_of_threads(
    sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for num_threads in (1, 2, 4):
        monkeypatch.setattr(os, "cpu_count", lambda n=num_threads: n)
        job = read_job(sharded, BIG, f"merged{num_threads}")
        job.run(lambda _bytes: None)
        found.append(job.notes_on_contents)

    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 2
    [(changed, *_), *_] = job.output.facts["model-00001-of-00006.safetensors"].values()
    a, base = (load_file(sharded / f"big-{m}" / "model.safetensors") for m in ("a", "base"))
    # Every second run is counted and stands for two.
    assert abs(changed - int((a["0.weight"] != base["0.weight"]).sum())) <= 10


def test_a_merge_that_is_resumed_says_the_same(sharded: Path) -> None:
    undisturbed = notes(sharded, BIG)
    job = read_job(sharded, BIG, "resumed")

    def stop(num_bytes: int) -> None:
        if num_bytes and job.output.facts.keys() & {"model-00003-of-00006.safetensors"}:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(stop)
    again = read_job(sharded, BIG, "resumed")
    again.run(lambda _bytes: None)

    assert again.notes_on_contents == undisturbed


def test_a_model_of_the_hub_s_cache_is_named_as_there(folder: Path) -> None:
    cached = folder / "models--org--a" / "snapshots" / "0f3a"
    cached.parent.mkdir(parents=True)
    (folder / "a").rename(cached)

    [first, *_] = notes(folder, f"method: linear\nbase: base\nmodels: [{cached}, b]")

    assert "org/a: of the entries that it changed" in first
