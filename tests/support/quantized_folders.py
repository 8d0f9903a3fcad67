"""Folders of quantised models, as the tools that make them write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

FP8 = torch.float8_e4m3fn


def write_quantized(
    folder: Path, tensors: Mapping[str, Tensor], quantization: object = None, **config: Any
) -> Path:
    """Write weights, and a config.json with this `quantization_config`; None for no config."""
    folder.mkdir()
    copies = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(copies, folder / "model.safetensors")
    if quantization is not None:
        content = {"quantization_config": quantization, **config}
        (folder / "config.json").write_text(json.dumps(content))
    return folder


def codes(*shape: int, seed: int = 0) -> Tensor:
    """Draw float8 codes."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (drawn * 100).clamp(-448, 448).to(FP8)


def integers(*shape: int, dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    """Draw integer codes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 127, shape, generator=generator).to(dtype)


def scales(*shape: int, seed: int = 0) -> Tensor:
    """Draw positive scales; float32."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) + 0.01
