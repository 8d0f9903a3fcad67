from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.regmean import regmean

SHARES = [0.5, 0.2, 0.3]


def _inputs(num_inputs: int = 4) -> list[Tensor]:
    """Three models' inputs of a layer (N, D), some of which depend on each other."""
    generator = torch.Generator().manual_seed(7)
    mixing = torch.randn(num_inputs, num_inputs, generator=generator, dtype=torch.float64)
    drawn = [
        torch.randn(n, num_inputs, generator=generator, dtype=torch.float64) for n in (9, 20, 31)
    ]
    return [rows @ mixing for rows in drawn]


def _gram(rows: Tensor) -> Tensor:
    return (rows.mT @ rows / len(rows)).unsqueeze(0)


def _weights(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(8)
    return [torch.randn(shape, generator=generator) for _ in range(3)]


def test_regmean_of_a_case_computed_by_hand() -> None:
    weights = [torch.tensor([[1.0]]), torch.tensor([[5.0]])]
    grams = [torch.full((1, 1, 1), g, dtype=torch.float64) for g in (3.0, 1.0)]

    merged = regmean(weights, grams, [1, 2], ridge=0)

    torch.testing.assert_close(merged, torch.tensor([[(3 * 1 + 2 * 1 * 5) / (3 + 2)]]))


@pytest.mark.parametrize("reduce", [0.0, 0.9, 1.0])
def test_with_equal_matrices_it_is_linear(reduce: float) -> None:
    weights, gram = _weights(6, 4), _gram(_inputs()[0])

    merged = regmean(weights, [gram] * 3, SHARES, reduce=reduce)

    torch.testing.assert_close(merged, linear(weights, SHARES))


def test_equal_weights_stay_whatever_the_inputs() -> None:
    weight = _weights(6, 4)[0]

    merged = regmean([weight] * 3, [_gram(rows) for rows in _inputs()], SHARES)

    torch.testing.assert_close(merged, weight, rtol=1e-6, atol=0)


def test_one_model_stays_bit_for_bit() -> None:
    weight = _weights(6, 4)[0]

    assert torch.equal(regmean([weight], [_gram(_inputs()[0])], [0.7]), weight)


def test_its_outputs_are_nearest_to_the_models_on_their_own_inputs() -> None:
    inputs = _inputs()
    weights = [weight.double() for weight in _weights(6, 4)]

    merged = regmean(weights, [_gram(rows) for rows in inputs], SHARES, reduce=1, ridge=0)

    merged.requires_grad_()
    distance = sum(
        share * (rows @ (merged - weight).mT).square().sum() / len(rows)
        for share, rows, weight in zip(SHARES, inputs, weights, strict=True)
    )
    assert isinstance(distance, Tensor)
    distance.backward()
    assert merged.grad is not None
    torch.testing.assert_close(merged.grad, torch.zeros(6, 4).double(), rtol=0, atol=1e-10)


def test_reduced_to_the_diagonal_each_input_is_weighted_by_itself() -> None:
    grams = [_gram(rows) for rows in _inputs()]
    weights = _weights(6, 4)
    shares = [s * g[0].diagonal() for s, g in zip(SHARES, grams, strict=True)]  # (D,) each
    weighted = sum(s * w.double() for s, w in zip(shares, weights, strict=True))

    merged = regmean(weights, grams, SHARES, reduce=0, ridge=0)

    torch.testing.assert_close(merged, (weighted / sum(shares)).float())


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_a_matrix_of_which_the_diagonal_was_kept_is_reduced_to_it(ridge: float) -> None:
    weights, grams = _weights(6, 4), [_gram(rows) for rows in _inputs()]
    diagonals = [gram.diagonal(dim1=1, dim2=2) for gram in grams]

    merged = regmean(weights, diagonals, SHARES, ridge=ridge)

    torch.testing.assert_close(merged, regmean(weights, grams, SHARES, reduce=0, ridge=ridge))


@pytest.mark.parametrize("dead", [[2], [0, 1, 2, 3]])
def test_weights_of_inputs_that_are_always_0_are_averaged(dead: list[int]) -> None:
    inputs = [rows.index_fill(1, torch.tensor(dead), 0) for rows in _inputs()]
    weights, alive = _weights(6, 4), [d for d in range(4) if d not in dead]

    merged = regmean(weights, [_gram(rows) for rows in inputs], SHARES)

    of_the_others = [_gram(rows[:, alive]) for rows in inputs]
    others = regmean([w[:, alive] for w in weights], of_the_others, SHARES) if alive else None
    torch.testing.assert_close(merged[:, dead], linear(weights, SHARES)[:, dead])
    if others is not None:
        torch.testing.assert_close(merged[:, alive], others, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kept", ["matrix", "diagonal"])
def test_inputs_that_are_always_0_need_a_ridge(kept: str) -> None:
    grams = [_gram(rows.index_fill(1, torch.tensor([1]), 0)) for rows in _inputs()]
    if kept == "diagonal":
        grams = [gram.diagonal(dim1=1, dim2=2) for gram in grams]

    with pytest.raises(ValueError, match=r"regmean: ridge must be larger where .*, got 0"):
        regmean(_weights(6, 4), grams, SHARES, ridge=0)


def test_the_groups_of_a_convolution_are_merged_apart() -> None:
    weights = _weights(4, 1, 2, 2)  # two groups of two outputs
    first, second = ([_gram(rows) for rows in _inputs()], [_gram(rows**3) for rows in _inputs()])
    grams = [torch.cat(pair) for pair in zip(first, second, strict=True)]  # (2, D, D)

    merged = regmean(weights, grams, SHARES)

    apart = [
        regmean([w[:2] for w in weights], first, SHARES),
        regmean([w[2:] for w in weights], second, SHARES),
    ]
    torch.testing.assert_close(merged, torch.cat(apart))


def test_what_is_no_weight_of_a_layer_is_averaged() -> None:
    tensors = _weights(6)

    assert torch.equal(regmean(tensors, [None] * 3, SHARES), linear(tensors, SHARES))


@pytest.mark.parametrize(
    ("options", "coefficients", "rule"),
    [
        ({"reduce": 1.1}, SHARES, "reduce must be in"),
        ({"reduce": -0.1}, SHARES, "reduce must be in"),
        ({"ridge": -1e-9}, SHARES, "ridge must be finite and at least 0"),
        ({"ridge": float("inf")}, SHARES, "ridge must be finite and at least 0"),
        ({}, [1, 1, -1], "coefficients must be at least 0"),
    ],
)
def test_what_cannot_be_solved_is_refused(
    options: dict[str, float], coefficients: list[float], rule: str
) -> None:
    with pytest.raises(ValueError, match=f"regmean: {rule}"):
        regmean(_weights(2), [None] * 3, coefficients, **options)
