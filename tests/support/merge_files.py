"""Small models in folders, and merges of them by the text of a merge file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stockpot.disk_merging.job import MergeJob

State = dict[str, Tensor]


def language_model(
    seed: int, *, num_layers: int = 3, vocabulary: int = 6, head: bool = True
) -> State:
    """Draw a net with an embedding, numbered layers, a last norm and a head."""
    generator = torch.Generator().manual_seed(seed)
    names = {"model.embed_tokens.weight": vocabulary, "model.norm.weight": 1}
    names |= {f"model.layers.{n}.mlp.up_proj.weight": 4 for n in range(num_layers)}
    names |= {f"model.layers.{n}.self_attn.o_proj.weight": 4 for n in range(num_layers)}
    names |= {"lm_head.weight": vocabulary} if head else {}
    return {name: torch.randn(rows, 4, generator=generator) for name, rows in names.items()}


def save_model(folder: Path, state: Mapping[str, Tensor], **config: Any) -> None:
    """Write weights, and a config.json if there is something to say in it."""
    folder.mkdir()
    save_file(dict(state), folder / "model.safetensors")
    if config:
        (folder / "config.json").write_text(json.dumps(config))


def read_job(folder: Path, text: str, place: str = "merged") -> MergeJob:
    """Read a merge file with this text, in the folder of the models."""
    (folder / "merge.yaml").write_text(text)
    return MergeJob.read(folder / "merge.yaml", folder / place)


def merge(folder: Path, text: str, place: str = "merged") -> State:
    """Merge, and return the weights of the output."""
    job = read_job(folder, text, place)
    job.check()
    job.run(lambda _bytes: None)
    return load_file(folder / place / "model.safetensors")
