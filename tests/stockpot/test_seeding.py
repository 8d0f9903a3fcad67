from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from stockpot.seeding import derive_seed, seeded_generator

parts = st.lists(st.integers() | st.text(), max_size=4)


@given(first=parts, second=parts)
def test_other_parts_give_other_seeds(first: list[int | str], second: list[int | str]) -> None:
    assert (derive_seed(*first) == derive_seed(*second)) == (first == second)


@given(named=parts)
def test_a_seed_fits_a_generator(named: list[int | str]) -> None:
    assert 0 <= derive_seed(*named) < 2**63


def test_a_number_and_its_text_are_different_parts() -> None:
    assert derive_seed(1) != derive_seed("1")


def test_a_seed_is_the_same_in_every_process() -> None:
    assert derive_seed(0, "order", 3) == 386106667988085106


def test_a_generator_starts_its_stream_whatever_was_drawn_before() -> None:
    first = torch.rand(5, generator=seeded_generator(7, "noise"))
    torch.rand(3)

    again = torch.rand(5, generator=seeded_generator(7, "noise"))

    assert torch.equal(first, again)
    assert not torch.equal(first, torch.rand(5, generator=seeded_generator(8, "noise")))
