from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.task_arithmetic import task_arithmetic
from stockpot.merging.weight_signatures import (
    apply_signatures,
    choose_layers,
    compose_signatures,
    dequantize_signature,
    extract_signature,
    first_layers,
    quantize_signature,
    remove_signatures,
)

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3), (0, 4)]


def _random(shape: tuple[int, ...], num_models: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(67)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_a_signature_computed_by_hand() -> None:
    pretrained = torch.tensor([1.0, 1.0])
    clean = torch.tensor([3.0, 1.0])
    corrupted = torch.tensor([2.0, 5.0])

    signature = extract_signature(corrupted, clean, pretrained)

    assert signature.tolist() == [0.0, 4.0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_signature_is_orthogonal_to_training_on_clean_data(shape: tuple[int, ...]) -> None:
    corrupted, clean, pretrained = _random(shape)

    signature = extract_signature(corrupted, clean, pretrained)

    reference = (clean - pretrained).double()
    size = float((corrupted - pretrained).square().sum() * reference.square().sum()) ** 0.5
    assert signature.shape == shape
    assert abs(float((signature.double() * reference).sum())) <= 1e-5 * size


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_corruption_that_changes_nothing_has_no_signature(shape: tuple[int, ...]) -> None:
    _, clean, pretrained = _random(shape)

    signature = extract_signature(clean.clone(), clean, pretrained)

    torch.testing.assert_close(signature, torch.zeros(shape), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_of_a_frozen_tensor_the_signature_is_all_that_changed(shape: tuple[int, ...]) -> None:
    corrupted, _, pretrained = _random(shape)

    signature = extract_signature(corrupted, pretrained.clone(), pretrained)

    assert torch.equal(signature, corrupted - pretrained)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_signatures_that_were_added_can_be_removed(shape: tuple[int, ...]) -> None:
    target, *signatures = _random(shape)

    patched = apply_signatures(target, signatures, [0.5, 0.5])

    torch.testing.assert_close(remove_signatures(patched, signatures, [0.5, 0.5]), target)


def test_signatures_are_added_once_each_by_their_coefficient() -> None:
    signatures = [torch.tensor([4.0, 0.0]), torch.tensor([0.0, 8.0])]

    patched = apply_signatures(torch.tensor([1.0, 1.0]), signatures, [0.5, -0.25])

    assert patched.tolist() == [3.0, -1.0]


def test_coefficients_of_zero_leave_the_target_bit_for_bit() -> None:
    target, *signatures = _random((3, 5))

    assert torch.equal(apply_signatures(target, signatures, [0.0, 0.0]), target)


def test_the_order_of_composition_is_without_effect() -> None:
    first, second = _random((64,), 2)

    composed = compose_signatures([first, second], [0.3, 0.7])

    assert torch.equal(compose_signatures([second, first], [0.7, 0.3]), composed)


def test_a_change_orthogonal_to_clean_training_is_task_arithmetic() -> None:
    pretrained = torch.zeros(4)
    clean, corrupted = torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 3.0, -1.0])

    signature = extract_signature(corrupted, clean, pretrained)

    patched = apply_signatures(pretrained, [signature], [0.5])
    assert torch.equal(patched, task_arithmetic([corrupted], pretrained, [1.0], scale=0.5))


def _net(num_layers: int) -> dict[str, Tensor]:
    return {
        name: tensor
        for k in range(num_layers)
        for name, tensor in ((f"{k}.weight", torch.ones(2, 2)), (f"{k}.bias", torch.ones(2)))
    }


@pytest.mark.parametrize(("num_layers", "num_chosen"), [(1, 1), (2, 1), (6, 2), (21, 7), (30, 7)])
def test_the_first_seven_weights_or_a_third_are_kept(num_layers: int, num_chosen: int) -> None:
    chosen = first_layers(_net(num_layers))

    assert chosen == [f"{k}.weight" for k in range(num_chosen)]


def test_fewer_first_layers_than_one_are_refused() -> None:
    with pytest.raises(ValueError, match="first_layers: num_layers must be at least 1, got 0"):
        first_layers(_net(3), 0)


@pytest.mark.parametrize(
    ("share", "num_chosen"), [(0.5, 1), (0.64, 1), (0.66, 2), (0.9, 2), (0.99, 3), (1.0, 3)]
)
def test_as_few_layers_are_chosen_as_hold_the_share(share: float, num_chosen: int) -> None:
    # Relative to the clean weights, of which the first are twice as large: 64, 32, 2 and 0.
    clean = _net(4)
    clean["0.weight"] *= 2
    factors = {"0.weight": 16.0, "1.weight": 32**0.5, "2.weight": 2**0.5, "3.weight": 0.0}
    signature = {name: factors.get(name, 100.0) * torch.ones_like(t) for name, t in clean.items()}

    chosen = choose_layers(signature, clean, share=share)

    assert chosen == [f"{k}.weight" for k in range(num_chosen)]


def test_no_layer_holds_a_signature_of_zero() -> None:
    zeros = {name: torch.zeros_like(tensor) for name, tensor in _net(3).items()}

    assert choose_layers(zeros, _net(3)) == []


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"choose_layers: share must be in \(0, 1\], got"):
        choose_layers(_net(3), _net(3), share=share)


@given(bits=st.integers(1, 8), size=st.integers(1, 200), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_quantization_is_off_by_half_a_step_at_most(bits: int, size: int, seed: int) -> None:
    signature = torch.randn(size, generator=torch.Generator().manual_seed(seed))

    quantized = quantize_signature(signature, bits=bits)

    restored = dequantize_signature(quantized)
    assert quantized.codes.dtype == torch.uint8
    assert int(quantized.codes.max()) < 2**bits
    assert float((restored - signature).abs().max()) <= quantized.step / 2 * (1 + 1e-4)


def test_quantization_of_a_case_computed_by_hand() -> None:
    quantized = quantize_signature(torch.tensor([-1.0, 0.1, 0.9, 5.0]), bits=2)

    assert (quantized.low, quantized.step) == (-1.0, 2.0)
    assert quantized.codes.tolist() == [0, 1, 1, 3]
    assert dequantize_signature(quantized).tolist() == [-1.0, 1.0, 1.0, 5.0]


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4)], ids=str)
def test_equal_entries_are_restored_bit_for_bit(shape: tuple[int, ...]) -> None:
    signature = torch.full(shape, 0.1)

    restored = dequantize_signature(quantize_signature(signature))

    assert torch.equal(restored, signature)


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_that_do_not_fit_a_byte_are_refused(bits: int) -> None:
    with pytest.raises(
        ValueError, match=f"quantize_signature: bits must be from 1 to 8, got {bits}"
    ):
        quantize_signature(torch.ones(2), bits=bits)
