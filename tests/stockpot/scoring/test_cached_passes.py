from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stockpot.scoring import cached_passes
from stockpot.scoring.cached_passes import CachedPasses, weights_digest
from stockpot.scoring.predictions import load_losses, load_outputs, predict
from stockpot.scoring.val_scores import ValScorer
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

SaveModel = Callable[..., Model]
MakeSpec = Callable[..., WorkloadSpec]

WEIGHTS = {"weight": torch.tensor([[1.0, 0.5], [0.0, 0.3]])}
SETS = ("val", "val_shift/near")


@pytest.fixture(autouse=True)
def _all_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_passes, "_WORTH_SECONDS", 0.0)


def _scorer(root: Path, spec: WorkloadSpec) -> ValScorer:
    return ValScorer(spec.build(), "cpu", CachedPasses(root, spec, "cpu"))


def _files(root: Path) -> list[Path]:
    return sorted((root / ".stockpot" / "passes").iterdir())


def test_a_pass_is_run_once_and_read_with_the_same_bits(
    tmp_path: Path, make_spec: MakeSpec, passes: list[int]
) -> None:
    spec = make_spec()
    alone = ValScorer(spec.build(), "cpu")
    expected = {name: alone.run(WEIGHTS, name) for name in SETS}
    scores = alone.val(WEIGHTS), alone.val_shift(WEIGHTS)
    passes.clear()
    blocks = [torch.tensor([1, 3]), torch.tensor([0, 2, 4, 5])]

    for _ in range(2):
        scorer = _scorer(tmp_path, spec)
        for name in SETS:
            found = scorer.run(WEIGHTS, name)
            assert torch.equal(found.values, expected[name].values)
            assert torch.equal(found.losses, expected[name].losses)
        assert (scorer.val(WEIGHTS), scorer.val_shift(WEIGHTS)) == scores
        parts = [*scorer.val_values_in(WEIGHTS, blocks)]
        assert torch.equal(torch.cat(parts), expected["val"].values[torch.cat(blocks)])

    assert passes == [6, 6]  # one over each set


def test_a_saved_model_that_was_a_candidate_needs_no_pass(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel, passes: list[int]
) -> None:
    spec, saved = make_spec(), save_model(WEIGHTS["weight"])
    _scorer(tmp_path, spec).val(WEIGHTS)

    predict(tmp_path, spec, saved.checkpoint, "cpu", ["val"])

    assert passes == [6]
    points, targets = spec.build().dataset("val").tensors  # type: ignore[attr-defined]
    outputs = points @ WEIGHTS["weight"].T
    assert torch.allclose(load_outputs(tmp_path, spec, saved.digest, "val"), outputs)
    losses = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
    assert torch.allclose(load_losses(tmp_path, spec, saved.digest, "val"), losses)


def test_outputs_that_are_too_large_to_keep_are_computed_for_a_saved_model(
    tmp_path: Path,
    make_spec: MakeSpec,
    save_model: SaveModel,
    passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cached_passes, "_MAX_OUTPUTS", 8)
    spec, saved = make_spec(), save_model(WEIGHTS["weight"])
    for _ in range(2):
        _scorer(tmp_path, spec).val(WEIGHTS)
    assert passes == [6]

    predict(tmp_path, spec, saved.checkpoint, "cpu", ["val"])

    assert passes == [6, 6]
    assert load_outputs(tmp_path, spec, saved.digest, "val").shape == (6, 2)


@pytest.mark.parametrize("damage", ["cut", "bit"])
def test_a_damaged_pass_is_run_again(
    tmp_path: Path, make_spec: MakeSpec, passes: list[int], damage: str
) -> None:
    spec = make_spec()
    before = _scorer(tmp_path, spec).run(WEIGHTS, "val")
    (file,) = _files(tmp_path)
    good = file.read_bytes()
    bad = good[:-5] if damage == "cut" else good[:-1] + bytes([good[-1] ^ 1])
    file.write_bytes(bad)

    after = _scorer(tmp_path, spec).run(WEIGHTS, "val")

    assert passes == [6, 6]
    assert torch.equal(before.values, after.values)
    assert file.read_bytes() == good


def test_a_short_pass_is_not_kept_and_its_weights_are_not_digested(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_passes, "_WORTH_SECONDS", 60.0)
    scorer = _scorer(tmp_path, make_spec())
    first = scorer.val(WEIGHTS)
    monkeypatch.setattr(cached_passes, "weights_digest", None)

    assert scorer.val(WEIGHTS) == first
    assert not (tmp_path / ".stockpot" / "passes").exists()


def test_a_block_shows_how_long_a_pass_takes(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_passes, "_WORTH_SECONDS", 60.0)
    scorer = _scorer(tmp_path, make_spec())
    next(scorer.val_values_in(WEIGHTS, [torch.arange(3)]))
    monkeypatch.setattr(cached_passes, "weights_digest", None)

    assert [len(part) for part in scorer.val_values_in(WEIGHTS, [torch.arange(3)])] == [3]


@pytest.mark.parametrize(
    "other",
    [
        {"weight": WEIGHTS["weight"] + torch.tensor([[0.0, 0.0], [0.0, 1e-7]])},
        {"weights": WEIGHTS["weight"]},
        {"weight": WEIGHTS["weight"].reshape(1, 4)},
        {"weight": WEIGHTS["weight"].view(torch.int32)},
        {"weight": WEIGHTS["weight"].T},
        {**WEIGHTS, "none": torch.empty(0)},
    ],
    ids=["value", "name", "shape", "dtype", "transposed", "empty"],
)
def test_other_weights_have_another_digest(other: dict[str, Tensor]) -> None:
    assert weights_digest(other) != weights_digest(WEIGHTS)


def test_the_digest_is_of_what_tensors_hold_not_of_how() -> None:
    two = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(True)}
    same = {"b": torch.tensor(True), "a": torch.arange(12.0)[::1][:6].reshape(2, 3).T.clone().T}

    assert weights_digest(two) == weights_digest(same)


def _score_many(root: str, spec: WorkloadSpec) -> None:
    scorer = _scorer(Path(root), spec)
    for number in range(40):
        weights = {"weight": WEIGHTS["weight"] * (1 + number)}
        expected = ValScorer(spec.build(), "cpu").run(weights, "val")
        assert torch.equal(scorer.run(weights, "val").values, expected.values)


def test_processes_share_passes_while_both_write(tmp_path: Path, make_spec: MakeSpec) -> None:
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=_score_many, args=(str(tmp_path), make_spec())) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()

    assert [one.exitcode for one in both] == [0, 0]
    assert len(_files(tmp_path)) == 40
    assert {file.suffix for file in _files(tmp_path)} == {".safetensors"}
