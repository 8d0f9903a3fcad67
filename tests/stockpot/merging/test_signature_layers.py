from __future__ import annotations

from typing import Any

import pytest

from stockpot.merging.signature_layers import signature_tensors, split_layers


def _axes(num_layers: int) -> dict[str, int]:
    return {
        name: axes
        for k in range(num_layers)
        for name, axes in ((f"{k}.weight", 2), (f"{k}.bias", 1))
    }


def _not_measured(name: str) -> float:
    raise AssertionError(f"{name} was measured")


@pytest.mark.parametrize(("num_layers", "num_chosen"), [(1, 1), (2, 1), (6, 2), (21, 7), (30, 7)])
def test_the_first_seven_weights_or_a_third_have_a_signature(
    num_layers: int, num_chosen: int
) -> None:
    chosen = signature_tensors(7, _axes(num_layers), _not_measured)

    assert chosen == [f"{k}.weight" for k in range(num_chosen)]


def test_all_means_every_tensor() -> None:
    assert signature_tensors("all", _axes(3), _not_measured) == [*_axes(3)]


@pytest.mark.parametrize(
    ("size", "num_chosen"), [(89.0, 2), (90.0, 1), (0.0, 3), (float("inf"), 1)]
)
def test_auto_chooses_as_few_first_weights_as_hold_nine_tenths(
    size: float, num_chosen: int
) -> None:
    sizes = {"0.weight": size, "1.weight": 0.0, "2.weight": 100.0 - min(size, 100.0)}
    if size == 89.0:
        sizes["1.weight"], sizes["2.weight"] = 6.0, 5.0

    chosen = signature_tensors("auto", _axes(3), sizes.__getitem__)

    assert chosen == [f"{k}.weight" for k in range(num_chosen)]


def test_auto_chooses_nothing_of_a_signature_of_zero() -> None:
    assert signature_tensors("auto", _axes(3), lambda _name: 0.0) == []


@pytest.mark.parametrize("found", [0, 1.5, -1, True, "some", float("nan")])
def test_another_number_of_layers_is_refused(found: Any) -> None:
    with pytest.raises(ValueError, match="num_layers must be a whole number from 1, auto or all"):
        split_layers({"num_layers": found})


def test_the_number_of_layers_is_split_from_the_options_of_the_method() -> None:
    assert split_layers({"scale": 2.0}) == (7, {"scale": 2.0})
    assert split_layers({"num_layers": 3.0, "scale": 2.0}) == (3, {"scale": 2.0})
    assert split_layers({"num_layers": "auto"}) == ("auto", {})
