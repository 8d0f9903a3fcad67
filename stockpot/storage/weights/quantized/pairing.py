"""Weights that are stored as codes with scales: found by name, checked by shape and dtype."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from stockpot.errors import InputError
from stockpot.storage.weights.quantized.scaled import (
    MX_GROUP,
    Rule,
    ScaledBlocks,
    TransposedExperts,
    block_sizes,
)
from stockpot.storage.weights.safetensors_format import StoredTensor

_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
_BYTES = (torch.uint8, torch.int8)
_EXPONENTS = (torch.uint8, torch.float8_e8m0fnu)  # E8M0
_NV_GROUP = 16  # codes of one scale in NVFP4

# What Linear layers call their scale: transformers and DeepSeek, compressed-tensors, FBGEMM and
# ModelOpt, ComfyUI, Mistral, DeepSeek-V4. All of them multiply, also those called inverse.
_SCALES_OF_WEIGHT = ("weight_scale_inv", "weight_scale", "scale_weight", "qscale_weight", "scale")
_SCALES_OF_ANY = ("_scale_inv", "_scale")  # appended: of experts, `gate_up_proj_scale_inv`

# Scales of activations and of the cache of keys and values, which floats do not need.
_OF_ACTIVATIONS = re.compile(
    r"(^|\.)((input|output|act|activation|input_activation|output_activation|in|q|k|v|kv|prob|attn)"
    r"_scale|\w*input_global_scale|input_scale_ub|scale_input|qscale_act|scaled_fp8"
    r"|(gate_up|down|gate|up)_proj_(input|activation)_scale)$"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A weight that can be computed.

    Attributes:
        name: of the weight.
        kind: its format, for messages.
        rule: how it is computed.
    """

    name: str
    kind: str
    rule: Rule


def find_scaled(
    where: str, tensors: Mapping[str, StoredTensor], block: tuple[int, ...] | None
) -> Iterator[Found]:
    """Find the weights that are stored as codes with scales, by rules that are public.

    Args:
        where: the model, for messages.
        tensors: the stored tensors.
        block: the stated size of blocks; None if it is not stated.

    Raises:
        InputError: scales do not fit their weight, or a weight has two kinds of scales.
    """
    for name, stored in tensors.items():
        if stored.dtype in _FLOAT8:
            scales = _scales_of(name, tensors)
            if len(scales) > 1:
                raise InputError(f"{where}: tensor {name!r}: has two kinds of scales, {scales}")
            if scales:
                yield Found(name, "FP8", _scaled(where, name, scales[0], tensors, block))
        elif name.endswith("_blocks") and stored.dtype == torch.uint8 and len(stored.shape) == 4:
            own = name.removesuffix("_blocks")
            if f"{own}_scales" in tensors:
                yield Found(own, "MXFP4", _experts(where, name, f"{own}_scales", tensors))
        elif stored.dtype in _BYTES and len(stored.shape) >= 2:
            yield from _find_packed(where, name, tensors)


def is_of_activations(name: str, stored: StoredTensor) -> bool:
    """Return whether a tensor scales activations, or the cache of keys and values."""
    return len(stored.shape) <= 1 and bool(_OF_ACTIVATIONS.search(name))


def is_scale_of_weight(name: str) -> bool:
    """Return whether a tensor changes what the codes of a weight stand for."""
    leaf = name.rpartition(".")[2]
    return leaf in {*_SCALES_OF_WEIGHT[:-1], "weight_zero_point", "pre_quant_scale"} or (
        leaf.endswith(("_scale_inv", "weight_scale", "weight_global_scale", "weight_scale_2"))
    )


def is_float8(stored: StoredTensor) -> bool:
    """Return whether a tensor holds floats of 8 bits."""
    return stored.dtype in _FLOAT8


def _is_exponent(tensors: Mapping[str, StoredTensor], name: str) -> bool:
    return tensors[name].dtype in _EXPONENTS


def _scales_of(name: str, tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Return the names of tensors that scale a weight; one, except in damaged models."""
    prefix, dot, leaf = name.rpartition(".")
    listed = [f"{name}{suffix}" for suffix in _SCALES_OF_ANY]
    if leaf == "weight":
        listed += [f"{prefix}{dot}{own}" for own in _SCALES_OF_WEIGHT]
    return [each for each in dict.fromkeys(listed) if each in tensors]


def _find_packed(where: str, name: str, tensors: Mapping[str, StoredTensor]) -> Iterator[Found]:
    """Find a weight of E2M1 codes, two per byte: NVFP4 and MXFP4."""
    prefix, dot, leaf = name.rpartition(".")
    own = f"{prefix}{dot}weight" if leaf == "weight_packed" else name
    listed = _scales_of(own, tensors)
    if len(listed) != 1:
        return
    (scales,) = listed
    *rows, num_bytes = tensors[name].shape
    shape, width = (*rows, 2 * num_bytes), tensors[scales].shape[-1:]
    factor, divisor = f"{prefix}{dot}weight_scale_2", f"{prefix}{dot}weight_global_scale"
    second = next((each for each in (factor, divisor) if each in tensors), "")
    if second and tensors[scales].dtype == torch.float8_e4m3fn:
        kind, group = "NVFP4", _NV_GROUP
    elif not second and _is_exponent(tensors, scales):
        kind, group = "MXFP4", MX_GROUP
    else:
        return
    if tensors[scales].shape != (*rows, math.ceil(shape[-1] / group)):
        raise _unfit(where, name, shape, scales, tensors)
    if second and tensors[second].num_elements != 1:
        raise InputError(f"{where}: tensor {second!r}: must be one number, as {kind} has it")
    grid, block = (*rows, *width), (*[1] * len(rows), group)
    rule = ScaledBlocks(
        name, scales, shape, grid, block, is_packed=True, second=second, divides=second == divisor
    )
    yield Found(own, kind, rule)


def _scaled(
    where: str,
    name: str,
    scales: str,
    tensors: Mapping[str, StoredTensor],
    stated: tuple[int, ...] | None,
) -> ScaledBlocks:
    """Return the rule of a float8 weight with scales by tensor, row or block."""
    shape, own = tensors[name].shape, tensors[scales].shape
    if not (tensors[scales].dtype.is_floating_point or _is_exponent(tensors, scales)):
        raise _unfit(where, name, shape, scales, tensors)
    if tensors[scales].num_elements == 1:
        grid: tuple[int, ...] = (1,) * len(shape)
    elif len(own) < len(shape) and own == shape[: len(own)]:  # of rows, experts or their rows
        grid = (*own, *[1] * (len(shape) - len(own)))
    else:
        grid = own
    block = block_sizes(shape, grid, stated) if len(grid) == len(shape) else None
    if block is None:
        raise _unfit(where, name, shape, scales, tensors)
    return ScaledBlocks(name, scales, shape, grid, block)


def _experts(
    where: str, name: str, scales: str, tensors: Mapping[str, StoredTensor]
) -> TransposedExperts:
    num_experts, num_outputs, num_blocks, num_bytes = tensors[name].shape
    if tensors[scales].shape != (num_experts, num_outputs, num_blocks) or (
        2 * num_bytes != MX_GROUP or not _is_exponent(tensors, scales)
    ):
        raise _unfit(where, name, tensors[name].shape, scales, tensors)
    return TransposedExperts(name, scales, (num_experts, num_blocks * MX_GROUP, num_outputs))


def _unfit(
    where: str,
    name: str,
    shape: tuple[int, ...],
    scales: str,
    tensors: Mapping[str, StoredTensor],
) -> InputError:
    stored = tensors[scales]
    return InputError(
        f"{where}: tensor {scales!r} of {stored.dtype} and shape {stored.shape} does not fit the "
        f"weight {name!r} of shape {shape}: expected one scale per tensor, row or block"
    )
