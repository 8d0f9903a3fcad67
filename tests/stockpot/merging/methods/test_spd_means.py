"""Means of covariances: values by hand, invariances, and what is no covariance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.spd_means import spd_mean
from stockpot.merging.name_rules import NameRule, by_name
from stockpot.merging.recipe import Recipe

METRICS = ("riemann", "logeuclid")


def covariances(count: int, size: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    return list(roots @ roots.mT + 0.1 * torch.eye(size, dtype=torch.float64))


@pytest.mark.parametrize("metric", METRICS)
def test_diagonal_matrices_have_geometric_means(metric):
    first, second = torch.diag(torch.tensor([1.0, 4.0])), torch.diag(torch.tensor([4.0, 1.0]))
    torch.testing.assert_close(spd_mean([first, second], [1, 1], metric), 2 * torch.eye(2))
    # Weights are exponents: 1^3/4 4^1/4.
    merged = spd_mean([first, second], [3, 1], metric)
    torch.testing.assert_close(merged, torch.diag(torch.tensor([4**0.25, 4**0.75])))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [2, 4])
def test_the_determinant_is_the_geometric_mean(metric, count):
    given = covariances(count)
    mean = spd_mean(given, [1.0] * count, metric)
    logs = [torch.logdet(matrix) for matrix in given]
    torch.testing.assert_close(torch.logdet(mean), sum(logs) / count)
    assert torch.equal(mean, mean.mT)


@pytest.mark.parametrize("count", [2, 4])
def test_the_riemannian_mean_is_affine_invariant(count):
    given = covariances(count)
    change = torch.randn(3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    moved = [change @ matrix @ change.mT for matrix in given]
    weights = [1.0 + place for place in range(count)]
    expected = change @ spd_mean(given, weights, "riemann") @ change.mT
    torch.testing.assert_close(spd_mean(moved, weights, "riemann"), expected)


def test_the_iteration_agrees_with_the_closed_form():
    first, second = covariances(2)
    # A third matrix with hardly any weight makes it iterate.
    three = spd_mean([first, second, first], [0.6, 0.4, 1e-14], "riemann")
    torch.testing.assert_close(three, spd_mean([first, second], [0.6, 0.4], "riemann"))


@pytest.mark.parametrize("metric", METRICS)
def test_one_matrix_and_copies_return_it(metric):
    matrix, other = covariances(2)
    assert torch.equal(spd_mean([matrix], [0.7], metric), matrix)
    assert torch.equal(spd_mean([other, matrix], [0.0, 1.0], metric), matrix)
    torch.testing.assert_close(spd_mean([matrix] * 3, [1.0] * 3, metric), matrix)
    stacked = torch.stack([matrix, other])
    torch.testing.assert_close(spd_mean([stacked, stacked], [1, 1], metric), stacked)


def test_commuting_matrices_agree():
    vectors = torch.linalg.qr(covariances(1)[0])[0]
    given = [
        vectors @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ vectors.mT
        for values in ([1.0, 2.0, 3.0], [5.0, 0.5, 1.0], [0.1, 1.0, 2.0])
    ]
    riemann, logeuclid = (spd_mean(given, [1, 2, 3], metric) for metric in METRICS)
    torch.testing.assert_close(riemann, logeuclid)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (torch.diag(torch.tensor([1.0, -2.0])), "smallest eigenvalue of -2"),
        (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), "must be symmetric"),
        (torch.ones(3), "must be square"),
    ],
)
def test_what_is_no_covariance_is_refused_by_name(matrix, words):
    states = [{"head.covariance": matrix}] * 2
    recipe = by_name(Recipe("linear", (1.0, 1.0)), [NameRule("*.covariance", metric="riemann")])
    with pytest.raises(InputError, match=rf"'head.covariance': model 0: .*{words}"):
        merge_states(states, recipe)


def test_a_rule_applies_to_its_tensors_alone():
    diagonals = [torch.diag(torch.tensor([1.0, 4.0])), torch.diag(torch.tensor([4.0, 1.0]))]
    states = [{"covariance": one, "weight": one.clone()} for one in diagonals]
    recipe = by_name(Recipe("linear", (1.0, 1.0)), [NameRule("covariance", metric="logeuclid")])
    merged = merge_states(states, recipe)
    torch.testing.assert_close(merged["covariance"], 2 * torch.eye(2))
    torch.testing.assert_close(merged["weight"], 2.5 * torch.eye(2))


@pytest.mark.parametrize("count", [2, 3])
def test_matrices_that_are_too_ill_conditioned_are_refused_in_words(count):
    generator = torch.Generator().manual_seed(0)
    matrices = []
    for _ in range(count):
        turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
        matrix = turn @ torch.logspace(0, -15, 6, dtype=torch.float64).diag() @ turn.T
        matrices.append((matrix + matrix.T) / 2)
    with pytest.raises(ValueError, match=r"better conditioned for float64, got .*; take logeuclid"):
        spd_mean(matrices, [1.0] * count, "riemann")
