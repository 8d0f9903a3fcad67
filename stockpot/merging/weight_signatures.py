"""Robust weight signatures (Cai et al. 2023, https://arxiv.org/abs/2302.12480).

A signature is the part of the change by training on corrupted data that training on clean data
does not make; it can be added to another model. Not a registered merge method, since its models
have different roles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stockpot.merging.methods.inner_products import gram
from stockpot.merging.methods.task_vectors import sum_weighted


def extract_signature(corrupted: Tensor, clean: Tensor, pretrained: Tensor) -> Tensor:
    """Return the part of the change on corrupted data that is orthogonal to that on clean data.

    Args:
        corrupted: a tensor of the model trained on corrupted data, float32 or float64.
        clean: the same tensor of the model trained on clean data.
        pretrained: the same tensor of the model that both were trained from.

    Returns:
        The signature; shape and dtype of the inputs. The whole change on corrupted data if the
        change on clean data is 0.

    Source: the paper's projection, with inner products in float64.
    """
    change, reference = corrupted - pretrained, clean - pretrained
    products = gram([change, reference])
    if products[1, 1] == 0:
        return change
    return change - reference * float(products[0, 1] / products[1, 1])


def compose_signatures(signatures: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    """Sum signatures, each times its coefficient.

    Args:
        signatures: n same-named signatures; one shape and dtype.
        coefficients: n numbers; the authors' code uses 1/n each by default, and multiplies by 1/n
            once more.
    """
    return sum_weighted(signatures, coefficients)


def apply_signatures(
    target: Tensor, signatures: Sequence[Tensor], coefficients: Sequence[float]
) -> Tensor:
    """Add signatures, each times its coefficient, to a model of the same architecture.

    Args:
        target: the model's tensor; the model may be trained further or on another dataset.
        signatures: n signatures of that tensor.
        coefficients: n numbers, the strength for each corruption.
    """
    return target + compose_signatures(signatures, coefficients)


def remove_signatures(
    patched: Tensor, signatures: Sequence[Tensor], coefficients: Sequence[float]
) -> Tensor:
    """Undo `apply_signatures`, up to rounding."""
    return patched - compose_signatures(signatures, coefficients)


def first_layers(weights: Mapping[str, Tensor], num_layers: int = 7) -> list[str]:
    """Return the names of the first weights in forward order, to restrict a signature to.

    Args:
        weights: a model's tensors in forward order; those of at least two axes are weights.
        num_layers: number of layers, at least 1; at most a third of all, or 1.

    Raises:
        ValueError: `num_layers` is below 1.

    Source: `keep_num` of the authors' code for VGG-16, which has 16 layers; the upper bound is
    an addition.
    """
    if not num_layers >= 1:
        raise ValueError(f"first_layers: num_layers must be at least 1, got {num_layers}")
    names = _weight_names(weights)
    return names[: min(num_layers, max(1, len(names) // 3))]


def choose_layers(
    signature: Mapping[str, Tensor], clean: Mapping[str, Tensor], *, share: float = 0.9
) -> list[str]:
    """Return the names of the fewest first weights with a given share of the signature.

    The size of a weight's signature is its squared norm relative to that of the clean weight.

    Args:
        signature: the signature's tensors in forward order; those of at least two axes count.
        clean: the tensors of the model trained on clean data, by the same names.
        share: share of the sum over all weights, in (0, 1].

    Returns:
        Names in forward order; none if the signature is 0 everywhere.

    Raises:
        ValueError: `share` is outside (0, 1].

    Source: not in the paper, which finds that shallow layers differ most.
    """
    if not 0 < share <= 1:
        raise ValueError(f"choose_layers: share must be in (0, 1], got {share}")
    names = _weight_names(signature)
    sizes = [_relative_square(signature[name], clean[name]) for name in names]
    total = sum(sizes)
    held, chosen = 0.0, []
    for name, size in zip(names, sizes, strict=True):
        if held >= share * total:
            break
        held += size
        chosen.append(name)
    return chosen


@dataclass(frozen=True, slots=True)
class QuantizedSignature:
    """A signature with a few bits per entry: `low` plus `step` times the code.

    Attributes:
        codes: uint8, in the signature's shape.
        low: the value of code 0.
        step: the difference between values of successive codes; 0 if all entries are equal.
        dtype: dtype of the signature.
    """

    codes: Tensor
    low: float
    step: float
    dtype: torch.dtype


def quantize_signature(signature: Tensor, *, bits: int = 8) -> QuantizedSignature:
    """Round each entry to the nearest of 2^bits evenly spaced values from minimum to maximum.

    Args:
        signature: float32 or float64, any shape.
        bits: bits per entry, from 1 to 8.

    Raises:
        ValueError: `bits` is not in 1 to 8.

    Source: the uniform quantization of the authors' code.
    """
    if bits not in range(1, 9):
        raise ValueError(f"quantize_signature: bits must be from 1 to 8, got {bits}")
    if signature.numel() == 0:
        return QuantizedSignature(signature.to(torch.uint8), 0.0, 0.0, signature.dtype)
    low, high = (float(end) for end in signature.aminmax())
    step = (high - low) / (2**bits - 1)
    codes = ((signature.double() - low) / (step or 1.0)).round_()
    return QuantizedSignature(codes.to(torch.uint8), low, step, signature.dtype)


def dequantize_signature(quantized: QuantizedSignature) -> Tensor:
    """Return the signature; entries differ from the original by at most half a step."""
    return (quantized.codes.double() * quantized.step + quantized.low).to(quantized.dtype)


def _weight_names(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in tensors.items() if tensor.ndim >= 2]


def _relative_square(signature: Tensor, clean: Tensor) -> float:
    """Return the ratio of squared norms; 0 for a zero signature."""
    of_signature, of_clean = (float(gram([tensor])) for tensor in (signature, clean))
    if of_signature == 0:
        return 0.0
    return of_signature / of_clean if of_clean else float("inf")
