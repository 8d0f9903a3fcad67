from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.diagnostics.precheck.check import Check
from stockpot.diagnostics.precheck.tensors import check_duplicates, check_starts, check_tensors

State = dict[str, Tensor]


def _state(seed: int = 0, size: float = 1.0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {
        "body.weight": size * torch.randn(20, 20, generator=generator),
        "norm.running_mean": size * torch.randn(20, generator=generator),
        "norm.running_var": torch.ones(20),
        "norm.num_batches_tracked": torch.tensor(7 * (1 + seed)),
        "places": torch.arange(4),
        "head.weight": size * torch.randn(10, 20, generator=generator),
    }


def _near(base: State, seed: int) -> State:
    step = _state(seed, size=0.1)
    return base | {n: base[n] + step[n] for n in ("body.weight", "norm.running_mean")}


def _failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.passed}


def test_an_ingredient_with_the_tensors_of_the_base_passes_and_its_statistics_are_pooled() -> None:
    base = _state()

    checks = check_tensors("one", _near(base, 1), base)

    assert _failed(checks) == {}
    assert checks[-1].detail == "normalisation statistics will be pooled"


@pytest.mark.parametrize(
    ("changed", "name", "detail"),
    [
        ({"head.weight": None}, "tensors", "it lacks 'head.weight'"),
        ({"more": torch.ones(2)}, "tensors", "'more' is not in the base"),
        (
            {"head.weight": torch.zeros(12, 20)},
            "tensors",
            "'head.weight' is (12, 20) float32, the base's (10, 20) float32",
        ),
        (
            {"places": torch.arange(4, dtype=torch.int32)},
            "tensors",
            "'places' is (4,) int32, the base's (4,) int64",
        ),
        ({"norm.running_var": torch.full((20,), torch.inf)}, "finite", "20 values are not finite"),
        ({"places": torch.arange(4) + 1}, "buffers", "its integer buffer 'places' is not the base"),
    ],
)
def test_what_cannot_be_merged_is_named(
    changed: dict[str, Tensor | None], name: str, detail: str
) -> None:
    base = _state()
    state = {n: tensor for n, tensor in (base | changed).items() if tensor is not None}

    failed = _failed(check_tensors("one", state, base))

    assert failed[name].startswith(detail)


def test_another_start_is_told_from_the_others_and_names_the_tensor() -> None:
    base = _state()
    states = {name: _near(base, seed) for seed, name in enumerate("abc", 1)} | {"odd": _state(4)}

    checks = check_starts(states, base)

    assert [check.passed for check in checks] == [True, True, True, False]
    assert "another start, or far from it" in checks[-1].detail


def test_where_all_are_far_from_the_base_nobody_is_odd() -> None:
    checks = check_starts({str(seed): _state(seed) for seed in (1, 2, 3)}, _state())

    assert all(check.passed for check in checks)


def test_a_single_ingredient_and_a_base_of_zeros_pass() -> None:
    zeros = {name: torch.zeros_like(tensor) for name, tensor in _state().items()}

    (check,) = check_starts({"a": _state(1)}, zeros)

    assert check.passed


def test_the_later_one_of_two_equal_ingredients_is_named() -> None:
    checks = check_duplicates({"a": _state(1), "b": _state(2), "c": _state(1)})

    assert [check.passed for check in checks] == [True, True, False]
    assert checks[-1].detail == "it is equal to a"
