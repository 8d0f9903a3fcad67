from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.merging.quantization import Grid, num_bytes, pack, unpack


@given(bits=st.integers(1, 8), size=st.integers(1, 200), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_values_are_off_by_half_a_step_at_most(bits: int, size: int, seed: int) -> None:
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    grid = Grid.between(float(values.min()), float(values.max()), bits)

    codes = grid.codes(values)

    assert codes.dtype == torch.uint8
    assert int(codes.max()) < 2**bits
    assert float((grid.values(codes) - values).abs().max()) <= grid.step / 2 * (1 + 1e-4)


def test_a_grid_of_two_bits_computed_by_hand() -> None:
    grid = Grid.between(-1.0, 5.0, bits=2)

    codes = grid.codes(torch.tensor([-1.0, 0.1, 0.9, 5.0]))

    assert (grid.low, grid.step) == (-1.0, 2.0)
    assert codes.tolist() == [0, 1, 1, 3]
    assert grid.values(codes).tolist() == [-1.0, 1.0, 1.0, 5.0]


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4)], ids=str)
def test_equal_values_are_restored_bit_for_bit(shape: tuple[int, ...]) -> None:
    values = torch.full(shape, 0.1)
    grid = Grid.between(float(torch.tensor(0.1)), float(torch.tensor(0.1)), bits=8)

    assert torch.equal(grid.values(grid.codes(values)), values)


def test_codes_of_three_bits_are_packed_as_by_hand() -> None:
    packed = pack(torch.tensor([0b101, 0b011, 0b110], dtype=torch.uint8), bits=3)

    assert packed.tolist() == [0b10101111, 0b00000000]


@given(
    bits=st.integers(1, 8),
    size=st.integers(0, 70),
    ends=st.tuples(st.integers(0, 70), st.integers(0, 70)),
)
@settings(max_examples=100, deadline=None)
def test_any_part_of_packed_codes_can_be_unpacked(
    bits: int, size: int, ends: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(size)
    codes = torch.randint(2**bits, (size,), dtype=torch.uint8, generator=generator)
    first, last = sorted(min(end, size) for end in ends)

    packed = pack(codes, bits)

    start = first * bits // 8
    part = packed[start : num_bytes(last, bits)]
    assert len(packed) == num_bytes(size, bits)
    assert torch.equal(
        unpack(part, bits, first * bits - 8 * start, last - first), codes[first:last]
    )
