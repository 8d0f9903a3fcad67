"""Products of binary posteriors, and the interface of natural parameters that Fisher shares."""

import pytest
import torch

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.natural_parameters import (
    bernoulli,
    gaussian,
    gaussian_mean,
    product,
)
from stockpot.merging.methods.posterior_product import posterior_product
from stockpot.merging.recipe import Recipe

FIELDS = [torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.5, 0.4, -0.1])]
PRIOR = torch.tensor([0.1, 0.0, -0.2])


def test_it_is_the_normalised_product_of_bernoulli_variables():
    plus = [torch.sigmoid(2 * field) for field in FIELDS]  # probability of +1
    up, down = plus[0] * plus[1], (1 - plus[0]) * (1 - plus[1])
    [field] = product([bernoulli(field) for field in FIELDS])
    torch.testing.assert_close(torch.tanh(field), (up - down) / (up + down))


def test_the_prior_is_counted_once():
    merged = posterior_product(FIELDS, PRIOR, [1, 1], name="field", data="disjoint")
    torch.testing.assert_close(merged, FIELDS[0] + FIELDS[1] - PRIOR)
    copies = posterior_product([PRIOR] * 3, PRIOR, [1, 1, 1], name="field", data="disjoint")
    torch.testing.assert_close(copies, PRIOR)


def test_shared_data_count_once():
    merged = posterior_product(FIELDS, PRIOR, [3, 1], name="field")
    torch.testing.assert_close(merged, 0.75 * FIELDS[0] + 0.25 * FIELDS[1])
    torch.testing.assert_close(posterior_product(FIELDS, PRIOR, [1, 0], name="field"), FIELDS[0])


def test_equal_fields_give_the_majority():
    signs = [torch.tensor(s) for s in ([1.0, 1, -1], [1.0, -1, -1], [-1.0, -1, 1])]
    merged = posterior_product(signs, torch.zeros(3), [1, 1, 1], name="field")
    assert merged.sign().tolist() == [1, -1, -1]


def test_other_tensors_are_averaged():
    states = [{"field": f, "bias": torch.full((1,), float(n))} for n, f in enumerate(FIELDS)]
    recipe = Recipe("posterior_product", (1.0, 1.0), {"data": "disjoint"})
    merged = merge_states(states, recipe, {"field": PRIOR, "bias": torch.zeros(1)})
    assert merged["bias"].tolist() == [0.5]
    torch.testing.assert_close(merged["field"], FIELDS[0] + FIELDS[1] - PRIOR)


def test_ordinary_weights_are_refused_in_words():
    states = [{"weight": torch.ones(2)}] * 2
    with pytest.raises(InputError, match=r"got none among \['weight'\].*use fisher"):
        merge_states(states, Recipe("posterior_product", (1.0, 1.0)), {"weight": torch.ones(2)})


def test_gaussians_multiply_by_their_precision():
    posteriors = [
        gaussian(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])),
        gaussian(torch.tensor([4.0, 3.0]), torch.tensor([2.0, 0.0])),
    ]
    means = gaussian_mean(product(posteriors), torch.tensor([9.0, 9.0]))
    assert means.tolist() == [3, 9]
