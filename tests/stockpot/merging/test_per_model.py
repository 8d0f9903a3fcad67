"""Options that may differ between models: densities and what belongs to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.draws import Draws
from stockpot.merging.method import Method
from stockpot.merging.methods.breadcrumbs import breadcrumbs
from stockpot.merging.methods.della import della_linear
from stockpot.merging.methods.task_vectors import keep_probabilities
from stockpot.merging.methods.ties import ties
from stockpot.merging.recipe import Recipe
from stockpot.merging.registry import METHODS
from stockpot.merging.runs import Runs

PER_MODEL = {name: method for name, method in METHODS.items() if method.per_model}
ELEMENTWISE = [method for method in PER_MODEL.values() if method.is_elementwise]
WITH_DENSITY = pytest.mark.parametrize("method", PER_MODEL.values(), ids=[*PER_MODEL])

COEFFICIENTS = [0.5, 0.3, 0.2]


def _merge(method: Method, options: dict[str, Any], members: tuple[int, ...] = (0, 1, 2)) -> Tensor:
    tensors = _tensors()
    return method(
        [tensors[member] for member in members],
        [COEFFICIENTS[member] for member in members],
        tensors[-1],
        [Draws(member) for member in members],
        options,
    )


def _tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(6, 20, generator=generator) for _ in range(4)]


def test_the_methods_that_drop_entries_take_one_density_per_model() -> None:
    expected = {
        "breadcrumbs": ["density", "gamma"],
        "breadcrumbs_rows": ["density", "gamma"],
        "breadcrumbs_ties": ["density", "gamma"],
        "breadcrumbs_ties_rows": ["density", "gamma"],
        "dare_linear": ["density"],
        "dare_ties": ["density"],
        "della": ["density", "epsilon"],
        "della_linear": ["density", "epsilon"],
        "elected_sum": ["density"],
        "ties": ["density"],
    }
    assert {name: PER_MODEL[name].per_model for name in expected} == expected


@WITH_DENSITY
def test_equal_values_are_one_value_bit_for_bit(method: Method) -> None:
    listed = {"density": (0.6,) * 3, **dict.fromkeys(method.per_model[1:], (0.1,) * 3)}
    single = {name: values[0] for name, values in listed.items()}

    assert torch.equal(_merge(method, listed), _merge(method, single))


@WITH_DENSITY
def test_a_model_of_density_0_takes_no_part(method: Method) -> None:
    merged = _merge(method, {"density": (0.6, 0.4, 0.0)})

    torch.testing.assert_close(merged, _merge(method, {"density": (0.6, 0.4)}, (0, 1)))
    assert torch.equal(_merge(method, {"density": 0.0}), _tensors()[-1])


@WITH_DENSITY
def test_values_belong_to_their_models(method: Method) -> None:
    densities = (0.9, 0.5, 0.3)
    others = dict.fromkeys(method.per_model[1:], (0.05, 0.1, 0.2))
    order = (2, 0, 1)

    merged = _merge(method, {"density": densities} | others)
    turned = {n: tuple(v[m] for m in order) for n, v in ({"density": densities} | others).items()}

    torch.testing.assert_close(_merge(method, turned, order), merged)


@pytest.mark.parametrize("rescale", ["inverse", "l1"])
@pytest.mark.parametrize("method", ELEMENTWISE, ids=[method.name for method in ELEMENTWISE])
def test_parts_of_a_tensor_are_merged_as_the_whole(method: Method, rescale: str) -> None:
    options: dict[str, Any] = {"density": (0.8, 0.5, 0.0)}
    if "rescale" in method.options:
        options["rescale"] = rescale
    *tensors, base = _tensors()
    draws = [Draws(number) for number in range(3)]
    row = Recipe(method.name, (1.0,) * 3, options).row(base.shape)
    runs = Runs.of(tensors, base, row)

    measured = method.measured(runs, draws, options)
    parts = [
        method.merge_run(runs.read(*bounds), COEFFICIENTS, draws, measured, options)
        for bounds in ((0, 40), (40, 120))
    ]

    assert torch.equal(torch.cat(parts).view_as(base), _merge(method, options))


def test_each_model_is_trimmed_to_its_own_density() -> None:
    tensors = [torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])]

    merged = ties(tensors, torch.zeros(4), [1.0, 1.0], density=[0.5, 0.25])

    assert merged.tolist() == [4.0, 3.0, 0.0, 4.0]


def test_each_model_has_its_own_share_of_outliers() -> None:
    tensors = [torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])]

    merged = breadcrumbs(
        tensors, torch.zeros(4), [1.0, 10.0], density=[0.5, 0.25], gamma=[0.25, 0.0]
    )

    assert merged.tolist() == [0.0, 3.0, 2.0, 40.0]


def test_each_model_has_its_own_epsilon() -> None:
    *tensors, base = _tensors()
    draws = [Draws(number) for number in range(3)]

    merged = della_linear(
        tensors,
        base,
        [1.0, 1.0, 1.0],
        density=[0.5, 0.7, 1.0],
        epsilon=[0.4, 0.1, 0.15],
        rescale="none",
        draws=draws,
    )

    vectors = [tensor - base for tensor in tensors]
    first, second = (
        vector * own.kept(keep_probabilities(vector, density, epsilon), vector)
        for vector, own, density, epsilon in zip(
            vectors, draws, (0.5, 0.7), (0.4, 0.1), strict=False
        )
    )
    torch.testing.assert_close(merged, base + first + second + vectors[2])


def test_a_recipe_of_some_models_has_their_values() -> None:
    recipe = Recipe("ties", (1.0, 2.0, 3.0), {"density": (0.1, 0.2, 0.3), "scale": 0.5})

    assert recipe.of_members((2, 0)) == replace(
        recipe,
        coefficients=(3.0, 1.0),
        options={"density": (0.3, 0.1), "scale": 0.5},
        model_ids=("2", "0"),
    )


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("ties", {"density": [0.1]}, "density must be a number, or one per model (2), got [0.1]"),
        ("ties", {"density": [0.1, "half"]}, "density must be numbers, got 'half'"),
        ("ties", {"density": [0.1, 1.5]}, "density must be in [0, 1], got 1.5"),
        (
            "ties",
            {"scale": [1.0, 0.5]},
            "scale must be one value for all models, got [1.0, 0.5]; only ['density'] may differ",
        ),
        ("della", {"density": (0.5, 0.9), "epsilon": (0.2, 0.2)}, "got 0.2 with density 0.9"),
        ("model_stock", {"filter_wise": [True, False]}, "must be one value for all models"),
    ],
)
def test_values_that_do_not_fit_the_models_are_refused(
    method: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        Recipe(method, (1.0, 1.0), options).check(has_base=True)

    assert said in str(caught.value)
