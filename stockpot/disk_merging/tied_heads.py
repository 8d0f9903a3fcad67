"""Heads that are tied to the embedding: stored once in some models, twice in others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from stockpot.disk_merging.origins import Origin, TensorInputs
from stockpot.storage.weights.adapted import AdaptedSource
from stockpot.storage.weights.model_config import read_config

_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$"
)
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")


def with_tied_heads(listed: Sequence[TensorInputs]) -> list[TensorInputs]:
    """Give tied heads the embedding as their origin, or leave them out where all are tied.

    A head that all models tie is merged once and written once, whoever stores it twice. If only
    some tie it, the output has a head of its own; the models that tie it add their embedding.

    Args:
        listed: the tensors of the output, by name.

    Returns:
        The same, the head changed, each change in a note.
    """
    pair = tied_names(inputs.name for inputs in listed)
    if pair is None:
        return list(listed)
    embedding, head = pair
    by_name = {inputs.name: inputs for inputs in listed}
    tying = [origin for origin in by_name[head].origins if is_tied(origin)]
    if not tying:
        return list(listed)
    if len(tying) == len(by_name[head].origins):
        note = f"{head} is tied to it and not written"
        by_name[embedding] = replace(by_name[embedding], note=note)
        del by_name[head]
    else:
        by_name[head] = _untied(by_name[head], embedding)
    return list(by_name.values())


def tied_names(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the names of an embedding and a head that may be tied; None if there are not both."""
    names = list(names)
    embeddings = [name for name in names if _EMBEDDING.search(name)]
    heads = [name for name in names if _HEAD.search(name)]
    return (embeddings[0], heads[0]) if len(embeddings) == len(heads) == 1 else None


def is_tied(head: Origin) -> bool:
    """Say whether a model uses its embedding in place of a head of that name.

    Raises:
        InputError: its config.json is not readable.
    """
    source = head.source
    if isinstance(source, AdaptedSource) and head.name in {*source.changes, *source.replaced}:
        return False  # the adapter has trained a head of its own
    config = read_config(source.folder)
    # Some architectures tie it unless their configuration says otherwise.
    by_default = bool(config) and not head.is_there
    return bool(config.get("tie_word_embeddings", by_default))


def _untied(head: TensorInputs, embedding: str) -> TensorInputs:
    """Replace a tied head by the embedding of its model."""
    replaced = [
        replace(origin, name=embedding) if is_tied(origin) else origin for origin in head.origins
    ]
    tying = ", ".join(origin.model for origin in replaced if origin.name == embedding)
    return TensorInputs(
        head.name,
        tuple(replaced[: len(head.inputs)]),
        None if head.base is None else replaced[-1],
        note=f"untied: of {tying} it is the embedding, which config.json ties",
    )
