from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution
from torch import Tensor

from stockpot.seeding import seeded_generator
from stockpot.soups.tuning.samplings import SAMPLINGS, Darts, Drnas, Gdas, MaxW

NUMBERS = st.integers(1, 4).flatmap(
    lambda num_models: st.lists(
        st.lists(st.floats(-3, 3), min_size=num_models, max_size=num_models), min_size=1, max_size=3
    )
)


def _raw(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(rows=NUMBERS, name=st.sampled_from(sorted(SAMPLINGS)), seed=st.integers(0, 99))
def test_draws_and_what_is_settled_are_on_the_simplex(
    rows: list[list[float]], name: str, seed: int
) -> None:
    sampling, raw = SAMPLINGS[name](seed), _raw(rows)

    for alpha in (sampling.draw(raw, 3, 0.5).alpha, sampling.settled(raw)):
        assert alpha.shape == raw.shape
        assert (alpha >= 0).all()
        torch.testing.assert_close(alpha.sum(dim=1), torch.ones(len(rows), dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(SAMPLINGS))
def test_numbers_of_zero_are_the_uniform_soup(name: str) -> None:
    settled = SAMPLINGS[name](0).settled(torch.zeros(2, 4, dtype=torch.float64))

    assert settled.tolist() == [[0.25] * 4] * 2


@pytest.mark.parametrize("name", sorted(SAMPLINGS))
def test_a_draw_depends_on_seed_and_step_alone(name: str) -> None:
    sampling, raw = SAMPLINGS[name](5), _raw([[0.1, -0.4, 0.3]])
    first = sampling.draw(raw, 7, 0.5)
    torch.rand(3)

    again = SAMPLINGS[name](5).draw(raw, 7, 0.5)

    slopes = _raw([[1.0, 2.0, -1.0]])
    assert torch.equal(again.alpha, first.alpha)
    assert torch.equal(again.pull_back(slopes), first.pull_back(slopes))


@pytest.mark.parametrize("name", sorted(SAMPLINGS))
def test_equal_slopes_leave_the_numbers_where_they_are(name: str) -> None:
    drawn = SAMPLINGS[name](5).draw(_raw([[0.1, -0.4, 0.3]]), 0, 0.5)

    pulled = drawn.pull_back(_raw([[2.0, 2.0, 2.0]]))

    torch.testing.assert_close(pulled, torch.zeros(1, 3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_a_softmax_does_not_depend_on_the_seed() -> None:
    raw = _raw([[0.1, -0.4, 0.3]])

    assert torch.equal(Darts(1).draw(raw, 0, 0.0).alpha, Darts(2).draw(raw, 5, 1.0).alpha)


@pytest.mark.parametrize("numbers", [[0.7, -0.5], [-1.0, 0.0], [1.5, 2.5]])
def test_the_gradient_through_a_dirichlet_holds_its_quantile(numbers: list[float]) -> None:
    # Of two ingredients the first coefficient has a beta distribution, whose quantile function
    # says how the draw moves when a concentration does.
    raw = _raw([numbers])
    drawn = Drnas(3).draw(raw, 0, 0.0)

    pulled = drawn.pull_back(_raw([[1.0, 0.0]]))

    def quantile(first: float, second: float) -> float:
        concentrations = torch.nn.functional.elu(_raw([[first, second]])) + 1
        return float(beta_distribution.ppf(level, *concentrations[0].tolist()))

    concentrations = (torch.nn.functional.elu(raw) + 1)[0].tolist()
    level = beta_distribution.cdf(drawn.alpha[0, 0].item(), *concentrations)
    step, (a, b) = 1e-5, numbers
    slopes = [
        (quantile(a + step, b) - quantile(a - step, b)) / (2 * step),
        (quantile(a, b + step) - quantile(a, b - step)) / (2 * step),
    ]
    torch.testing.assert_close(pulled, _raw([slopes]), rtol=1e-3, atol=1e-6)


def test_draws_of_a_dirichlet_have_its_mean() -> None:
    raw = _raw([[1.0, -0.5, 0.2]]).expand(4000, 3)

    alpha = Drnas(1).draw(raw, 0, 0.0).alpha

    torch.testing.assert_close(alpha.mean(dim=0), Drnas(1).settled(raw)[0], rtol=0, atol=0.02)


def test_ingredients_are_drawn_as_often_as_the_softmax_says() -> None:
    raw = _raw([[1.0, -0.5, 0.2]]).expand(4000, 3)

    alpha = Gdas(1).draw(raw, 0, 0.7).alpha

    assert ((alpha == 0) | (alpha == 1)).all()
    shares = raw[0].softmax(dim=0)
    assert ((alpha.mean(dim=0) - shares).abs() < 4 * (shares * (1 - shares) / 4000).sqrt()).all()


def test_the_gradient_through_a_drawn_ingredient_is_that_of_its_softmax() -> None:
    raw, slopes = _raw([[0.1, -0.4, 0.3]]), _raw([[1.0, 2.0, -1.0]])

    pulled = Gdas(2).draw(raw, 0, 1.0).pull_back(slopes)

    # At the end of the search the temperature is 0.1.
    leaf = raw.clone().requires_grad_()
    generator = seeded_generator(2, "drawn coefficients", 0)
    gumbel = -(-torch.rand(raw.shape, generator=generator, dtype=raw.dtype).log()).log()
    soft = ((leaf.log_softmax(dim=1) + gumbel) / 0.1).softmax(dim=1)
    (expected,) = torch.autograd.grad((soft * slopes).sum(), leaf)
    torch.testing.assert_close(pulled, expected)


def test_max_w_raises_all_coefficients_but_the_leader_s() -> None:
    raw = torch.tensor([[1.0, 0.2, -0.5]], dtype=torch.float64)
    shares = raw.softmax(dim=1)
    raised = 1 - shares.max() + shares

    alpha = MaxW(Darts()).draw(raw, 0, 0.0).alpha

    torch.testing.assert_close(alpha, raised / raised.sum())
    torch.testing.assert_close(alpha, MaxW(Darts()).settled(raw))
    assert alpha[0, 0] < shares[0, 0]
    assert alpha.sum().item() == pytest.approx(1)


def test_the_gradient_of_max_w_takes_the_maximum_as_constant() -> None:
    raw = torch.tensor([[1.0, 0.2, -0.5]], dtype=torch.float64, requires_grad=True)
    slopes = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    shares = raw.softmax(dim=1)
    raised = 1 - shares.max().detach() + shares
    (slopes * raised / raised.sum()).sum().backward()

    pulled = MaxW(Darts()).draw(raw.detach(), 0, 0.0).pull_back(slopes)

    torch.testing.assert_close(pulled, raw.grad)


def test_max_w_of_one_ingredient_or_equal_numbers_is_the_uniform_soup() -> None:
    for size in (1, 4):
        alpha = MaxW(Drnas(0)).settled(torch.zeros(2, size, dtype=torch.float64))
        torch.testing.assert_close(alpha, torch.full_like(alpha, 1 / size))
