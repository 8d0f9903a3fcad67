"""Tokenizers of a few words, and models with one row for each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from merge_files import State, save_model

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def write_tokenizer(
    folder: Path, words: Sequence[str], *, added: Sequence[str] = (), **config: Any
) -> Path:
    """Write a tokenizer that splits at blanks; ids are places, those of added tokens come last.

    Added tokens are special if they begin with `<`.
    """
    folder.mkdir(exist_ok=True)
    tokens = [
        {"id": len(words) + n, "content": token, "special": token.startswith("<")}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": not token.startswith("<")}
        for n, token in enumerate(added)
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    content = {
        "version": "1.0",
        "added_tokens": tokens,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": words[0]},
    }
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": words[0]} | config
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    return folder


def write_model(
    folder: Path,
    words: Sequence[str],
    rows: Sequence[float],
    *,
    added: Sequence[str] = (),
    others: Mapping[str, torch.Tensor] | None = None,
    **config: Any,
) -> Path:
    """Write a model whose row of each token is one number and ten times this number."""
    state: State = {EMBEDDING: torch.tensor([[row, 10 * row] for row in rows], dtype=torch.float32)}
    state["model.layers.0.mlp.up_proj.weight"] = torch.ones(2, 2)
    save_model(folder, state | dict(others or {}), **({"vocab_size": len(rows)} | config))
    return write_tokenizer(folder, words, added=added)
