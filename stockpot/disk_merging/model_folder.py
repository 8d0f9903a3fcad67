"""The configuration of a merged model, and the vocabularies of its models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from stockpot.errors import InputError


def check_equal_vocabularies(folders: Sequence[Path | None]) -> None:
    """Refuse models whose tokenizers assign different ids to a token.

    Args:
        folders: one per model; None for a model that is a single file.

    Raises:
        InputError: a model has no tokenizer.json, or a token differs.
    """
    first, *others = [_read_vocabulary(folder) for folder in folders]
    for folder, vocabulary in zip(folders[1:], others, strict=True):
        if vocabulary == first:
            continue
        differing = sorted({token for token, _ in first.items() ^ vocabulary.items()})
        raise InputError(
            f"{folder}: the ids of {len(differing)} tokens differ from those of {folders[0]}, "
            f"such as {differing[0]!r}; only equal vocabularies have a union so far: name one "
            "model as the tokenizer's source"
        )


def _read_vocabulary(folder: Path | None) -> dict[str, int]:
    """Read the id of each token from a tokenizer.json of the library tokenizers."""
    path = None if folder is None else folder / "tokenizer.json"
    if path is None or not path.is_file():
        raise InputError(f"{folder}: has no tokenizer.json, which a union of tokenizers needs")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = content["model"]["vocab"]
        if isinstance(listed, list):  # a Unigram model: pairs of token and score
            listed = {token: index for index, (token, _score) in enumerate(listed)}
        added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        vocabulary = dict(listed) | added
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a tokenizer with a vocabulary ({error!r})") from error
    return vocabulary
