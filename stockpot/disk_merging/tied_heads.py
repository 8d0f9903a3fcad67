"""Heads tied to the embedding: some models store them once, others twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stockpot.disk_merging.origins import Origin, TensorInputs
from stockpot.storage.weights.adapted import AdaptedSource
from stockpot.storage.weights.model_config import read_config
from stockpot.storage.weights.rearranged import RearrangedSource
from stockpot.storage.weights.tensor_names import tied_names


def with_tied_heads(listed: Sequence[TensorInputs]) -> list[TensorInputs]:
    """Read tied heads from the embedding, or omit the head where all models tie it.

    A head that all models tie is merged and written once, even if some files store it twice. If
    only some models tie it, the output has a separate head, to which those contribute their
    embedding.

    Args:
        listed: the tensors of the output, by name.

    Returns:
        The same list with the head changed; each change has a note.
    """
    pair = tied_names(inputs.name for inputs in listed)
    if pair is None:
        return list(listed)
    embedding, head = pair
    by_name = {inputs.name: inputs for inputs in listed}
    num_tied = sum(is_tied(origin) for origin in by_name[head].origins)
    if num_tied == len(by_name[head].origins):
        note = f"{head} is tied to it and not written"
        by_name[embedding] = replace(by_name[embedding], note=note)
        del by_name[head]
    elif num_tied:
        by_name[head] = _untied(by_name[head], embedding)
    return list(by_name.values())


def is_tied(head: Origin) -> bool:
    """Return whether a model uses its embedding in place of the head.

    Raises:
        InputError: its config.json is not readable.
    """
    source, name = head.source, head.name
    if isinstance(source, RearrangedSource):
        name = source.parts[name][0].name if head.exists else name
        source = source.inner
    if isinstance(source, AdaptedSource) and name in {*source.changes, *source.replaced}:
        return False  # the adapter has trained a separate head
    config = read_config(source.folder)
    # Some architectures tie it unless their configuration says otherwise.
    by_default = bool(config) and not head.exists
    return bool(config.get("tie_word_embeddings", by_default))


def _untied(head: TensorInputs, embedding: str) -> TensorInputs:
    """Replace each tied head by the embedding of its model."""
    untied = head.changed(lambda one: replace(one, name=embedding) if is_tied(one) else one)
    tying = ", ".join(origin.model for origin in untied.origins if origin.name == embedding)
    note = f"untied: in {tying} it is the embedding, which config.json ties"
    return replace(untied, note=note)
