"""Models that do not match: refused by default, or merged as the merge file says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.errors import InputError
from tests.support.merge_files import State, language_model, merge, read_job, save_model

UP = "model.layers.0.mlp.up_proj.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def without(state: State, name: str) -> State:
    return {other: tensor for other, tensor in state.items() if other != name}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a and b, and models that differ from them in one way each."""
    save_model(tmp_path / "a", language_model(0))
    save_model(tmp_path / "b", language_model(1))
    save_model(tmp_path / "less", without(language_model(2), UP))
    save_model(tmp_path / "more", language_model(3) | {"extra": torch.ones(3)})
    save_model(tmp_path / "wide", language_model(4) | {UP: torch.ones(5, 4)})
    save_model(tmp_path / "other", {f"layer.{n}.kernel": torch.ones(4) for n in range(9)})
    save_model(tmp_path / "part", {HEAD: language_model(4)[HEAD]})
    save_model(tmp_path / "empty", {})
    save_model(tmp_path / "padded", language_model(5, vocabulary=9))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "models: [a, b, less]",
            r"^merge.yaml: less: lacks .*up_proj.*, which a has; .* `missing: skip`",
        ),
        ("models: [less, a]", "^merge.yaml: less: lacks .*up_proj.*, which a has"),
        ("models: [a, more]", "^merge.yaml: a: lacks extra, which more has.*`exclude`"),
        ("models: [a, b]\nbase: less", "^merge.yaml: less: lacks .*up_proj.*, which a has"),
        (
            "models: [a, wide]",
            r"has shape \(5, 4\) in wide, \(4, 4\) in a; .*`mismatch: skip` or `base`, or",
        ),
        ("models: [a, padded]", r"has shape \(9, 4\).*`common` for padded vocabularies"),
        ("models: [a, wide]\nmismatch: common", r"has shape \(5, 4\) in wide"),
        ("models: [a, other]", "other: lacks .* most names differ: .* different architectures$"),
        ("models: [a, part]", "part: lacks .*; it is a part of such a model; name the folder"),
        ("models: [a, b]\nexclude: [lm_haed]", "exclude: 'lm_haed' must be a part of the name"),
        ("models: [empty, empty]", "empty: has no tensors"),
        ("models: [a, b]\nbase: less\nmissing: skip", "less lacks it, so there is no difference"),
        (
            "models: [a, {path: less, coefficient: 2}, {path: b, coefficient: -1}]\nmissing: skip",
            "up_proj.*less has no such tensor and takes no part: linear: coefficients must not sum",
        ),
    ],
)
def test_differences_are_refused_before_anything_is_read_and_the_way_out_is_named(
    folder: Path, text: str, expected: str
) -> None:
    job = read_job(folder, f"method: linear\n{text}")

    with pytest.raises(InputError, match=expected):
        job.check()


def test_a_model_that_lacks_a_tensor_takes_no_part_in_it(folder: Path) -> None:
    merged = merge(folder, "method: linear\nmodels: [a, less, b]\nmissing: skip")

    a, b = language_model(0), language_model(1)
    torch.testing.assert_close(merged[UP], (a[UP] + b[UP]) / 2)
    expected = (a[HEAD] + b[HEAD] + language_model(2)[HEAD]) / 3
    torch.testing.assert_close(merged[HEAD], expected)


def test_a_random_method_draws_for_a_model_what_it_draws_without_the_skipped_one(
    folder: Path,
) -> None:
    text = "method: dare_linear\noptions: {density: 0.5}\nbase: b\nmissing: skip\nmodels: "

    with_less = merge(folder, text + "[less, a]", "one")
    alone = merge(folder, text + "[a]", "two")

    assert torch.equal(with_less[UP], alone[UP])
    assert not torch.equal(with_less[HEAD], alone[HEAD])


def test_tensors_that_some_lack_can_be_copied_from_the_base(folder: Path) -> None:
    merged = merge(folder, "method: linear\nmodels: [less, more]\nbase: b\nmissing: base")

    assert torch.equal(merged[UP], language_model(1)[UP])
    assert "extra" not in merged
    card = (folder / "merged" / "README.md").read_text()
    assert f"- {UP}: less has no such tensor: copied from b" in card
    assert "- extra: left out: only more has it" in card


def test_a_model_of_another_shape_takes_no_part(folder: Path) -> None:
    merged = merge(folder, "method: linear\nmodels: [a, wide, b]\nmismatch: skip")

    torch.testing.assert_close(merged[UP], (language_model(0)[UP] + language_model(1)[UP]) / 2)


def test_a_tensor_whose_shapes_differ_can_be_copied(folder: Path) -> None:
    merged = merge(folder, "method: linear\nmodels: [a, wide, b]\nmismatch: base")

    assert torch.equal(merged[UP], language_model(0)[UP])


def test_where_all_models_differ_from_the_base_its_tensor_stays(folder: Path) -> None:
    text = "method: task_arithmetic\nmodels: [a, b]\nbase: wide\nmismatch: skip"

    assert torch.equal(merge(folder, text)[UP], torch.ones(5, 4))


@pytest.mark.parametrize("method", ["linear", "slerp\noptions: {t: 0.5}"])
def test_rows_that_all_have_are_merged_and_those_of_the_first_model_kept(
    folder: Path, method: str
) -> None:
    merged = merge(folder, f"method: {method}\nmodels: [padded, a]\nmismatch: common")
    save_model(
        folder / "cut",
        language_model(5, vocabulary=9)
        | {name: language_model(5, vocabulary=9)[name][:6].clone() for name in (EMBEDDING, HEAD)},
    )
    plain = merge(folder, f"method: {method}\nmodels: [cut, a]", "plain")

    padded = language_model(5, vocabulary=9)
    for name in (EMBEDDING, HEAD):
        assert merged[name].shape == (9, 4)
        assert torch.equal(merged[name][:6], plain[name])
        assert torch.equal(merged[name][6:], padded[name][6:])
    assert "rows 6 to 8 are those of padded" in (folder / "merged" / "README.md").read_text()


def test_rows_that_the_base_does_not_have_are_left_out(folder: Path) -> None:
    merged = merge(folder, "method: ties\nmodels: [padded, a]\nbase: b\nmismatch: common")

    assert merged[EMBEDDING].shape == (6, 4)


@settings(max_examples=12, deadline=None)
@given(rows=st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_common_rows_are_as_many_as_the_least_and_the_first_ones_count_stays(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    for number, count in enumerate(rows):
        save_model(folder / str(number), {"embed.weight": torch.full((count, 2), 2.0**number)})

    models = ", ".join(f"'{number}'" for number in range(len(rows)))
    merged = merge(folder, f"method: linear\nmodels: [{models}]\nmismatch: common")["embed.weight"]

    common = min(rows)
    mean = sum(2.0**number for number in range(len(rows))) / len(rows)
    assert merged.shape == (rows[0], 2)
    assert torch.equal(merged[:common], torch.full((common, 2), mean))
    assert torch.equal(merged[common:], torch.full((rows[0] - common, 2), 1.0))


def test_kept_rows_have_the_dtype_of_the_output_and_are_finite(folder: Path) -> None:
    padded = language_model(5, vocabulary=9)
    padded[EMBEDDING][8, 0] = 1e6
    save_model(folder / "large", padded)
    text = "method: linear\nmodels: [large, a]\nmismatch: common\ndtype: "

    halved = merge(folder, text + "bfloat16", "halved")

    assert torch.equal(halved[EMBEDDING][6:], padded[EMBEDDING][6:].bfloat16())
    with pytest.raises(
        InputError, match=r"embed_tokens.*has a value that is not finite in torch.fl"
    ):
        merge(folder, text + "float16", "small")
    assert not (folder / "small").exists()


def test_excluded_tensors_are_copied_whatever_they_are(folder: Path) -> None:
    mask = torch.tensor([0, 1])
    save_model(folder / "one", {"w": torch.zeros(2), "mask": mask, "head.w": torch.ones(2)})
    save_model(folder / "two", {"w": torch.ones(2), "mask": 1 - mask, "head.w": torch.ones(3)})

    text = "method: linear\nmodels: [two, one]\nexclude: [mask, 'h*d.w']"
    merged = merge(folder, text)

    assert torch.equal(merged["mask"], 1 - mask)
    assert torch.equal(merged["head.w"], torch.ones(3))
    assert torch.equal(merged["w"], torch.full((2,), 0.5))
    [note] = read_job(folder, text).notes
    assert note.endswith(": excluded: copied from two")


def test_the_pedigree_holds_the_rules_and_makes_the_same_bytes_again(folder: Path) -> None:
    merge(
        folder,
        "method: linear\nmodels: [padded, less]\nmismatch: common\nmissing: skip\nexclude: [norm]",
    )

    pedigree = read_pedigree(folder / "merged")
    again = MergeJob.rebuilding(folder / "merged", folder / "again", folder)
    again.check()
    again.run(lambda _bytes: None)

    assert (pedigree["mismatch"], pedigree["missing"], pedigree["exclude"]) == (
        "common",
        "skip",
        ["norm"],
    )
    first, second = (folder / name / "model.safetensors" for name in ("merged", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_statistics_that_cannot_be_averaged_are_refused_before_anything_is_read(
    folder: Path,
) -> None:
    state = {"w": torch.ones(1), "bn.running_mean": torch.ones(1), "bn.running_var": torch.ones(1)}
    save_model(folder / "one", state)
    save_model(folder / "two", state)
    text = "method: task_arithmetic\nbase: one\nmodels: [one, {path: two, coefficient: -1}]"

    with pytest.raises(InputError, match=r"bn.running_mean.*coefficients sum to 0"):
        read_job(folder, text).check()


def test_a_file_alone_follows_the_same_rules(folder: Path) -> None:
    job = read_job(
        folder, "method: linear\nmodels: [padded, a]\nmismatch: common", "merged.safetensors"
    )
    job.check()
    job.run(lambda _bytes: None)

    assert load_file(folder / "merged.safetensors")[EMBEDDING].shape == (9, 4)


@pytest.fixture
def buffers(tmp_path: Path) -> Path:
    """Write a base and two models whose integer buffers differ, the second's in shape."""
    for number, (name, ids) in enumerate({"base": [9], "a": [1], "b": [2, 2]}.items()):
        state = {
            "w": torch.full((2,), float(number)),
            "position_ids": torch.tensor(ids),
            "mask": torch.tensor([number == 1]),
            "bn.num_batches_tracked": torch.tensor(number),
        }
        save_model(tmp_path / name, state)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "ids", "mask", "count"),
    [
        ("integer: base", [9], False, 2),
        ("integer: first", [1], True, 2),
        ("integer: first\nexclude: [mask]", [1], False, 2),
    ],
)
def test_integer_buffers_that_differ_are_copied_from_the_model_that_is_said(
    buffers: Path, text: str, ids: list[int], mask: bool, count: int
) -> None:
    merged = merge(buffers, f"method: task_arithmetic\nmodels: [a, b]\nbase: base\n{text}")

    assert merged["position_ids"].tolist() == ids
    assert merged["mask"].tolist() == [mask]
    assert merged["bn.num_batches_tracked"].item() == count
    assert merged["w"].tolist() == [3.0, 3.0]
    assert ": integers: copied from " in (buffers / "merged" / "README.md").read_text()


def test_without_a_base_integer_buffers_are_those_of_the_first_model(buffers: Path) -> None:
    merged = merge(buffers, "method: linear\nmodels: [b, a]\ninteger: base")

    assert merged["position_ids"].tolist() == [2, 2]


def test_integer_buffers_that_differ_are_refused_with_the_way_out(buffers: Path) -> None:
    with pytest.raises(InputError, match=r"'mask': integer .* `integer: base` or `first`"):
        merge(buffers, "method: linear\nmodels: [a, b]\nmismatch: base")


def test_what_was_done_with_integer_buffers_is_in_the_pedigree(buffers: Path) -> None:
    merge(buffers, "method: linear\nmodels: [a, b]\ninteger: first")

    assert read_pedigree(buffers / "merged")["integer"] == "first"
    again = MergeJob.rebuilding(buffers / "merged", buffers / "again", buffers)
    again.run(lambda _bytes: None)
    files = [buffers / name / "model.safetensors" for name in ("merged", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
