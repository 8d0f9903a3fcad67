"""Heads tied to the embedding, and other tensors that some models store once, others twice."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from stockpot.disk_merging.planning.origins import Origin, TensorInputs
from stockpot.merging.runs import run_bounds
from stockpot.storage.weights.adapted import AdaptedSource
from stockpot.storage.weights.model_config import read_config
from stockpot.storage.weights.rearranged import RearrangedSource
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import stored_twice, tied_names

TIE = "tie_word_embeddings"
# T5 uses this field for a scaling too: its two embeddings are one, whatever the field says.
_SHARES_ALWAYS = re.compile("t5|switch_transformers")


def with_tied_heads(listed: Sequence[TensorInputs]) -> list[TensorInputs]:
    """Read tied heads from the embedding, or omit the head where all models tie it.

    A head that all models tie is merged and written once, even if some files store it twice. If
    only some models tie it, the output has a separate head, to which those contribute their
    embedding. Other tensors that are stored twice are treated alike.

    Args:
        listed: the tensors of the output, by name.

    Returns:
        The same list with the head changed; each change has a note.
    """
    by_name = {inputs.name: inputs for inputs in listed}
    for name, original in _twins(by_name).items():
        inputs = by_name[name]
        tied = [origin for origin in inputs.origins if is_tied(origin, original)]
        if len(tied) == len(inputs.origins):
            notes = (by_name[original].note, f"{name} is tied to it and not written")
            by_name[original] = replace(by_name[original], note="; ".join(filter(None, notes)))
            del by_name[name]
        elif tied:
            by_name[name] = _untied(inputs, tied, original)
    return list(by_name.values())


def uses_another(source: Source, name: str, names: Collection[str]) -> bool:
    """Return whether a model uses another tensor in place of one that it does not store.

    Args:
        source: the model.
        name: of a tensor that it lacks.
        names: of the tensors of all models.

    Raises:
        InputError: its config.json is not readable.
    """
    original = _twins(names).get(name)
    return original is not None and (
        original in source.tensors and is_tied(Origin(source, name), original)
    )


def _twins(names: Collection[str]) -> dict[str, str]:
    """Return the tensors that may be another one, stored twice, by name."""
    pair = tied_names(names)
    return {**stored_twice(names), **({pair[1]: pair[0]} if pair else {})}


def is_tied(twin: Origin, original: str) -> bool:
    """Return whether a model uses one tensor in place of another, as its embedding for the head.

    A model that stores both ties them if they are equal and its config.json does not deny it.

    Args:
        twin: the tensor that the model may lack.
        original: the name of the tensor that may be used in its place.

    Raises:
        InputError: its config.json is not readable.
    """
    source, name = twin.source, twin.name
    if isinstance(source, RearrangedSource):
        name = source.parts[name][0].name if twin.exists else name
        source = source.inner
    if isinstance(source, AdaptedSource) and name in {*source.changes, *source.replaced}:
        return False  # the adapter has trained a separate head
    config = read_config(twin.source.folder)
    ties = declared_tie(config)
    if twin.name in stored_twice([twin.name, original]):
        always = not twin.exists or _SHARES_ALWAYS.search(str(config.get("model_type")))
        ties = True if always else ties
    if ties is None:  # some architectures tie it unless their configuration says otherwise
        ties = bool(config)
    if not (ties and twin.exists and original in twin.source.tensors):
        return ties
    return _are_equal(twin, replace(twin, name=original))


def declared_tie(config: Mapping[str, Any]) -> bool | None:
    """Return whether config.json ties the head to the embedding; None if it does not say.

    Some configurations of several nets have the field only in that of the language model.
    """
    nested = [own[TIE] for own in config.values() if isinstance(own, dict) and TIE in own]
    declared = config.get(TIE)
    if not declared and len(nested) == 1:
        declared = nested[0]
    return None if declared is None else bool(declared)


def _are_equal(one: Origin, other: Origin) -> bool:
    """Compare two tensors of a model run by run, up to the first difference."""
    if one.stored.shape != other.stored.shape:
        return False
    return all(
        torch.equal(one.source.read_run(one.name, *run), other.source.read_run(other.name, *run))
        for run in run_bounds(0, one.stored.num_elements)
    )


def _untied(inputs: TensorInputs, tied: Sequence[Origin], original: str) -> TensorInputs:
    """Replace each tied tensor by the one that its model uses in its place."""
    ids = [id(origin) for origin in tied]
    untied = inputs.changed(lambda one: replace(one, name=original) if id(one) in ids else one)
    tying = ", ".join(origin.model for origin in tied)
    is_head = not stored_twice([inputs.name, original])
    what = "the embedding, which config.json ties" if is_head else original
    return replace(untied, note=f"untied: in {tying} it is {what}")
