"""Merges within merges: the bits of two merges one after the other, without files between them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from merge_files import State, language_model, merge, read_job, save_model
from safetensors.torch import load_file, save_file

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.disk_merging.streaming import planned_tensors, stream
from stockpot.errors import InputError
from stockpot.merging import runs

# One per way in which tensors are merged: runs of entries, after measuring tensors or whole models,
# with random numbers, and whole tensors.
INNER = {
    "linear": "method: linear\nmodels: [a, {path: b, coefficient: 0.3}]",
    "ties": "method: ties\nmodels: [a, b]\nbase: p\noptions: {density: 0.4}",
    "ties of the model": "method: ties\nmodels: [a, b]\nbase: p\noptions: {scope: model}",
    "dare_ties": "method: dare_ties\nmodels: [a, b]\nbase: p\noptions: {density: 0.4}\nseed: 3",
    "slerp": "method: slerp\nmodels: [a, b]\noptions: {t: [0, 1]}",
    "tsv": "method: tsv\nmodels: [a, b]\nbase: p",
}
OUTER = {
    "linear": "method: linear\nmodels: [c, {INNER, coefficient: 0.4}]\ndtype: bfloat16",
    "ties of the model": "method: ties\nmodels: [c, {INNER}]\nbase: p\noptions: {scope: model}",
    "onto it": "method: task_arithmetic\nmodels: [{path: c, coefficient: 0.2}]\nbase: {INNER}",
    "tsv": "method: tsv\nmodels: [c, {INNER}]\nbase: p",
}


@pytest.fixture(autouse=True)
def _tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tensors of some entries into runs and pieces, and merge the larger ones alone."""
    monkeypatch.setattr(runs, "MOST_ENTRIES", 14)
    monkeypatch.setattr(stream, "_PIECE", 28)
    monkeypatch.setattr(planned_tensors, "_ALONE", 60)
    monkeypatch.setattr("os.fsync", lambda _: None)


def _state(seed: int) -> State:
    """Draw a net with a matrix that is merged alone, BatchNorm statistics and integers."""
    own = torch.Generator().manual_seed(seed)
    return language_model(seed, num_layers=2, vocabulary=18) | {
        "bn.running_mean": torch.randn(4, generator=own),
        "bn.running_var": torch.rand(4, generator=own),
        "bn.num_batches_tracked": torch.tensor(seed),
        "model.positions": torch.arange(9),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abcp"):
        half = {n: t.half() if t.is_floating_point() else t for n, t in _state(seed).items()}
        save_model(tmp_path / name, half, model_type="llama", num_hidden_layers=2)
    return tmp_path


def _within(text: str) -> str:
    """Return a merge file as one line, to be put into another one."""
    return "merge: {" + ", ".join(text.splitlines()) + "}"


def _equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        *((inner, "linear") for inner in INNER),
        *(("tsv", outer) for outer in [*OUTER][1:]),
        ("ties", "ties of the model"),
    ],
)
def test_a_merge_of_a_merge_has_the_bits_of_two_merges(
    folder: Path, inner: str, outer: str
) -> None:
    once = merge(folder, OUTER[outer].replace("INNER", _within(INNER[inner])), "once")

    merge(folder, INNER[inner] + "\ndtype: float32", "between")
    twice = merge(
        folder,
        OUTER[outer]
        .replace("{INNER", "{path: between")
        .replace("base: {path: between}", "base: between\ndtype: float16"),
        "twice",
    )
    assert _equal(once, twice)
    configs = [
        json.loads((folder / name / "config.json").read_text()) for name in ("once", "twice")
    ]
    assert configs[0] == configs[1]


def test_merges_nest_to_any_depth_in_models_and_base(folder: Path) -> None:
    deep = _within(f"method: linear\nmodels: [c, {{{_within(INNER['ties'])}}}]")
    base = _within("method: linear\nmodels: [p, c]")

    once = merge(folder, f"method: dare_ties\nmodels: [a, {{{deep}}}]\nbase: {{{base}}}", "once")

    again = MergeJob.rebuilding(folder / "once", folder / "again", folder)
    again.run(lambda _: None)
    assert _equal(once, load_file(folder / "again/model.safetensors"))
    assert read_pedigree(folder / "once") == read_pedigree(folder / "again")
    merge(folder, INNER["ties"] + "\ndtype: float32", "one")
    merge(folder, "method: linear\nmodels: [c, one]\ndtype: float32", "two")
    merge(folder, "method: linear\nmodels: [p, c]\ndtype: float32", "three")
    # Random numbers are drawn for a model by its digest, so the last step is another method.
    last = "method: task_arithmetic\nmodels: [a, {}]\nbase: {}\ndtype: float16"
    in_one = merge(folder, last.format(f"{{{deep}}}", f"{{{base}}}"), "four")
    assert _equal(in_one, merge(folder, last.format("two", "three"), "five"))


def test_the_result_within_is_rounded_only_to_its_own_dtype(folder: Path) -> None:
    outer = "method: linear\nmodels: [c, {INNER}]\ndtype: float32"
    rounded = INNER["linear"] + "\ndtype: bfloat16"

    once = merge(folder, outer.replace("INNER", _within(rounded)), "once")

    merge(folder, rounded, "between")
    assert _equal(once, merge(folder, outer.replace("INNER", "path: between"), "twice"))
    unrounded = merge(folder, outer.replace("INNER", _within(INNER["linear"])), "unrounded")
    assert not _equal(once, unrounded)


def test_layers_of_a_merge_are_taken_like_those_of_a_model(folder: Path) -> None:
    taken = "method: passthrough\nlayers: [{INNER, range: [1, 2]}, {path: c, range: [0, 2]}]"

    once = merge(folder, taken.replace("INNER", _within(INNER["slerp"])), "once")

    merge(folder, INNER["slerp"] + "\ndtype: float16", "between")
    merge(folder, INNER["slerp"] + "\ndtype: float32", "exact")
    exact = merge(folder, taken.replace("INNER", "path: exact") + "\ndtype: float16", "twice")
    assert _equal(once, exact)
    assert json.loads((folder / "once/config.json").read_text())["num_hidden_layers"] == 3
    deeper = merge(
        folder,
        f"method: linear\nmodels: [{{{_within(taken.replace('INNER', 'path: a'))}}}, once]",
        "deeper",
    )
    assert json.loads((folder / "deeper/config.json").read_text())["num_hidden_layers"] == 3
    assert "model.layers.2.mlp.up_proj.weight" in deeper


def test_an_adapter_is_put_on_a_merge(folder: Path) -> None:
    a, b = randn(2, 4, seed=1), randn(18, 2, seed=2)
    save_adapter(folder / "lora", factors("lm_head", a, b))
    base = f"base: {{{_within(INNER['linear'])}}}"

    once = merge(folder, f"method: linear\nmodels: [lora]\n{base}\ndtype: float32", "once")

    expected = merge(folder, INNER["linear"] + "\ndtype: float32", "plain")
    torch.testing.assert_close(once["lm_head.weight"], expected["lm_head.weight"] + 2 * b @ a)


def test_rows_that_a_model_lacks_are_those_of_the_inner_merge(folder: Path) -> None:
    save_model(
        folder / "short",
        _state(7) | {"lm_head.weight": randn(11, 4, seed=3)},
    )
    inner = "method: linear\nmodels: [a, short]\nmismatch: common"

    once = merge(folder, f"method: linear\nmodels: [{{{_within(inner)}}}, c]", "once")

    merge(folder, inner + "\ndtype: float32", "between")
    assert _equal(
        once, merge(folder, "method: linear\nmodels: [between, c]\ndtype: float16", "twice")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "merge: {method: lineer, models: [a]}",
            "models.1.merge.method: unknown merge method 'lineer'",
        ),
        ("merge: {method: linear, models: [{pth: a}]}", "models.1.merge.models.0.pth: unknown"),
        ("merge: {method: linear, models: [a, q]}", "models.1.merge: "),
        (
            "merge: {method: linear, models: [a]}, path: a",
            "must have either path or merge, got both",
        ),
        ("coefficient: 2", "models.1: must have either path or merge, got neither"),
        (
            "merge: {method: linear, models: [{merge: {method: slerp, models: [a]}}]}",
            "models.1.merge.models.0.merge: slerp: ",
        ),
        (
            "merge: {method: linear, models: [a], output: adapter}",
            "models.1.merge: output must be model within another merge, got 'adapter'",
        ),
    ],
)
def test_errors_name_the_place_in_the_file(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_job(folder, f"method: linear\nmodels: [c, {{{text}}}]").check()

    assert message in str(error.value)


def test_a_value_that_is_not_finite_is_found_within(folder: Path) -> None:
    broken = _state(9) | {"model.norm.weight": torch.full((1, 4), torch.nan)}
    save_file(broken, folder / "nan.safetensors")
    deepest = _within("method: linear\nmodels: [nan.safetensors]")
    deep = _within(f"method: linear\nmodels: [c, {{{deepest}}}]")

    with pytest.raises(InputError) as error:
        merge(folder, f"method: linear\nmodels: [c, {{{deep}}}]")

    assert str(error.value).startswith("models.1.merge.models.1.merge: ")
    assert "nan.safetensors: tensor 'model.norm.weight': has a value that is not" in str(
        error.value
    )


def test_a_model_that_has_changed_is_named_when_a_merge_is_rebuilt(folder: Path) -> None:
    merge(folder, f"method: linear\nmodels: [c, {{{_within(INNER['ties'])}}}]")
    save_file(_state(11), folder / "b/model.safetensors")

    with pytest.raises(InputError, match=r"b: digest is blake3:\w+, the pedigree records"):
        MergeJob.rebuilding(folder / "merged", folder / "again", folder)


def test_the_forecast_and_the_notes_cover_the_merges_within(folder: Path) -> None:
    inner = INNER["tsv"]
    job = read_job(
        folder, f"method: linear\nmodels: [c, {{{_within(inner)}}}, {{{_within(inner)}}}]"
    )
    other = read_job(
        folder, f"method: linear\nmodels: [{{{_within(inner)}}}, {{{_within(INNER['ties'])}}}]"
    )

    size = sum(t.nbytes for t in load_file(folder / "a/model.safetensors").values())
    assert job.forecast["to read"] == pytest.approx((1 + 2 * 3) * size)
    plain = read_job(folder, "method: linear\nmodels: [c, a, b]").forecast
    assert job.forecast["of memory at most"] > plain["of memory at most"]
    assert "equal models: models.1.merge, models.1.merge; their weights count 2 times" in job.notes
    assert not [note for note in other.notes if "equal models" in note]  # of the same files


def test_side_files_within_live_as_long_as_the_merge(folder: Path) -> None:
    job = read_job(folder, f"method: linear\nmodels: [{{{_within(INNER['linear'])}}}, c]")
    temporary = job.sources[0].folder
    assert temporary is not None
    assert (temporary / "config.json").is_file()

    del job

    assert not temporary.exists()
