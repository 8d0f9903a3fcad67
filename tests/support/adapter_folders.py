"""Adapter folders as PEFT writes them, made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

PREFIX = "base_model.model."


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Draw a tensor from a normal distribution."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save_adapter(folder: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    """Write an adapter of rank 2 and alpha 4, unless `config` says otherwise."""
    folder.mkdir(parents=True)
    state = {PREFIX + name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 4} | config
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def factors(module: str, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Name the factors of a module's change."""
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
