"""Nets of workloads: which can be aligned, and what alignment leaves as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from alignment_nets import mlp, random_state
from made_context import DIGITS
from small_text_workloads import bert_spec
from tiny_transformers import write_csv
from torch import Generator, Tensor, nn
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.soups.alignment import permute, random_permutations
from stockpot.soups.alignment.workload_nets import Aligner, check_alignable
from stockpot.workloads.passes import Examples
from stockpot.workloads.protocol import Workload
from stockpot.workloads.spec import WorkloadSpec

WAYS = ("weights", "activations")


def table(folder: Path) -> Workload:
    """Build a table whose net has a layer of its own, derived from BatchNorm."""
    rows = [{"x": number % 7, "z": number % 5, "y": number % 2} for number in range(60)]
    data = folder / "data"
    for split, part in (("train", rows[:30]), ("val", rows[30:45]), ("test", rows[45:])):
        write_csv(data / f"{split}.csv", part)
    options = {"data": str(data), "target": "y", "hidden": 8}
    return WorkloadSpec("tabular", seed=0, options=tuple(sorted(options.items()))).build()


def outputs_of(workload: Workload, net: nn.Module, state: Mapping[str, Tensor]) -> Tensor:
    net.load_state_dict(state)
    return Examples(workload, workload.dataset("val"), "cpu").outputs(net)


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("kind", ["digits", "tabular"])
def test_an_aligned_net_computes_what_it_did(kind: str, by: str, tmp_path: Path) -> None:
    workload = DIGITS.build() if kind == "digits" else table(tmp_path)
    aligner = Aligner(workload, "cpu", num_examples=64)
    first, second = (random_state(aligner.model, Generator().manual_seed(s)) for s in (1, 2))

    aligned = aligner.align(first, second, by)

    assert any(not torch.equal(aligned[name], second[name]) for name in second)
    before, after = (outputs_of(workload, aligner.model, state) for state in (second, aligned))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("by", WAYS)
def test_a_permuted_copy_becomes_the_first_net_again(by: str) -> None:
    aligner = Aligner(DIGITS.build(), "cpu", num_examples=64)
    first = random_state(aligner.model, Generator().manual_seed(1))
    shuffled = random_permutations(aligner.sizes, Generator().manual_seed(2))

    aligned = aligner.align(first, permute(first, aligner.spec, shuffled), by)

    assert all(torch.equal(aligned[name], first[name]) for name in first)


@pytest.mark.parametrize("by", WAYS)
def test_the_nets_of_digits_and_tables_can_be_aligned(by: str, tmp_path: Path) -> None:
    check_alignable(DIGITS.build(), by, "cpu")
    check_alignable(table(tmp_path), by, "cpu")


class _Branching(nn.Module):
    """A net whose graph depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, points: Tensor) -> Tensor:
        outputs: Tensor = self.layer(points)
        return outputs if points.sum() > 0 else -outputs


class _With(Toy):
    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__(0, [], [])
        self._build = build

    def build_model(self, generator: Generator) -> nn.Module:
        net = self._build()
        net.load_state_dict(random_state(net, generator))
        return net


class _Twice(_With):
    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        return super().forward(model, batch) + super().forward(model, batch)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (
            _With(lambda: nn.Sequential(nn.Linear(2, 2))),
            "units whose order can be changed, got none",
        ),
        (_With(_Branching), "spec: the net cannot be traced"),
        (_Twice(lambda: nn.Sequential(nn.Linear(2, 2))), "must be called once, with one tensor"),
        (
            _With(lambda: nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))),
            "repair: a layer must have a bias, or BatchNorm directly after it",
        ),
    ],
    ids=["no units", "branching", "called twice", "no bias"],
)
def test_other_nets_are_refused_with_the_reason(workload: Workload, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_alignable(workload, "weights", "cpu")


@pytest.mark.full
def test_a_transformer_for_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be called once, with one tensor, .* got 1 calls"):
        check_alignable(bert_spec(tmp_path).build(), "weights", "cpu")


def test_a_net_is_aligned_on_the_same_examples_each_time() -> None:
    first, second = (random_state(mlp(), Generator().manual_seed(seed)) for seed in (1, 2))
    workload = _Digits()

    found = [Aligner(workload, "cpu").align(first, second, "activations") for _ in range(2)]

    assert all(torch.equal(found[0][name], found[1][name]) for name in second)


class _Digits(_With):
    def __init__(self) -> None:
        super().__init__(mlp)

    def dataset(self, split: str) -> Any:
        return DIGITS.build().dataset(split)
