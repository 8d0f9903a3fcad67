"""Texts as tensors of tokens, padded to the longest; texts that are too long are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stockpot.workloads.texts.pretrained import quiet

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.workloads.protocol import Batch


_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, slots=True)
class Tokens:
    """N texts as tokens.

    Attributes:
        inputs: (N, T), int64, by the argument names of models: `input_ids`, `attention_mask` (1 at
            tokens, 0 at padding, which is at the end) and, for pairs, optionally `token_type_ids`.
        lengths: number of tokens of each text; (N,), int64.
        num_cut: number of texts that were cut.
    """

    inputs: Mapping[str, Tensor]
    lengths: Tensor
    num_cut: int


def tokenize(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> Tokens:
    """Tokenize texts or pairs of texts.

    Args:
        tokenizer: of transformers.
        texts: N texts.
        pairs: the second text of each pair; None for single texts.
        max_length: most tokens; of a longer pair the longer text is cut first.
    """
    with quiet():  # it warns of texts that are cut below
        encoded = _encode(tokenizer, texts, pairs)
        long = [row for row, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length]
        if long:
            cut = _encode(
                tokenizer,
                [texts[row] for row in long],
                None if pairs is None else [pairs[row] for row in long],
                truncation=True,
                max_length=max_length,
            )
            for name, lists in cut.items():
                for row, tokens in zip(long, lists, strict=True):
                    encoded[name][row] = tokens
    types = encoded.get("token_type_ids") if pairs is not None else None
    return padded(encoded["input_ids"], tokenizer.pad_token_id or 0, len(long), types=types)


def padded(
    sequences: Sequence[Sequence[int]],
    padding: int,
    num_cut: int = 0,
    *,
    types: Sequence[Sequence[int]] | None = None,
) -> Tokens:
    """Pad N sequences of tokens, and their types, to the longest."""
    import torch

    lengths = torch.tensor([len(tokens) for tokens in sequences])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()  # (N, T)
    inputs = {"input_ids": _filled(sequences, mask, padding), "attention_mask": mask}
    if types is not None:
        inputs["token_type_ids"] = _filled(types, mask, 0)
    return Tokens(inputs, lengths, num_cut)


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    """Return the arguments of a model for a batch of texts, cut to the longest text.

    Args:
        batch: the inputs of `Tokens`, (N, T) each, and the targets.
    """
    *inputs, _targets = batch
    longest = longest_of(inputs[1])
    return {name: rows[:, :longest] for name, rows in zip(_INPUTS, inputs, strict=False)}


def longest_of(mask: Tensor) -> int:
    """Return the number of tokens of the longest text of an attention mask (N, T)."""
    try:
        return int(mask.sum(dim=1).max())
    except RuntimeError:  # torch.func.vmap supports no values that depend on data
        return mask.shape[1]


def _encode(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, **how: Any
) -> dict[str, list[list[int]]]:
    encoded = tokenizer(list(texts), None if pairs is None else list(pairs), **how)
    return {name: list(lists) for name, lists in encoded.items()}


def _filled(sequences: Sequence[Sequence[int]], mask: Tensor, padding: int) -> Tensor:
    """Return sequences as rows (N, T), with `padding` where the mask is 0."""
    import torch

    rows = torch.full(mask.shape, padding)
    rows[mask == 1] = torch.tensor([token for tokens in sequences for token in tokens])
    return rows


def cut_note(num_cut: int, num_texts: int, name: str, longest: int) -> str:
    """Return the note that texts of a split or shift were cut."""
    return (
        f"{num_cut} of {num_texts} texts of {name} are longer than {longest} tokens: what follows "
        "is cut off"
    )
