"""Texts as tensors of tokens, padded to the longest; texts that are too long are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stockpot.workloads.texts.pretrained import quiet

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.workloads.protocol import Batch


_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def tokenize(
    tokenizer: Any, columns: Sequence[list[str]], max_length: int
) -> tuple[Mapping[str, Sequence[Sequence[int]]], int]:
    """Tokenize texts or pairs of texts.

    Args:
        tokenizer: of transformers.
        columns: N texts; or the first and the second text of N pairs.
        max_length: most tokens; of a longer pair the longer text is cut first.

    Returns:
        The tokens `input_ids` of each text, and further values per token that the tokenizer has,
        such as `token_type_ids`; and how many texts were cut.
    """
    with quiet():  # it warns of texts that are cut below
        encoded: dict[str, list[list[int]]] = tokenizer(*columns)
        long = [row for row, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length]
        if long:
            parts = [[column[row] for row in long] for column in columns]
            cut = tokenizer(*parts, truncation=True, max_length=max_length)
            for name, lists in cut.items():
                for row, tokens in zip(long, lists, strict=True):
                    encoded[name][row] = tokens
    return encoded, len(long)


def padded(sequences: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Pad N sequences to the longest.

    Returns:
        The sequences, and their mask: 1 at tokens, 0 at padding, which is at the end; (N, T)
        each, int64.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [torch.tensor(tokens, dtype=torch.int64) for tokens in sequences]
    ones = [torch.ones_like(row) for row in rows]
    padded_rows = pad_sequence(rows, batch_first=True, padding_value=padding)
    return padded_rows, pad_sequence(ones, batch_first=True)


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    """Return the arguments of a model for a batch of texts, cut to the longest text.

    Args:
        batch: token ids, mask and perhaps types, (N, T) each, and the targets.
    """
    *inputs, _targets = batch
    try:
        longest = int(inputs[1].sum(dim=1).max())
    except RuntimeError:  # torch.func.vmap supports no values that depend on data
        longest = inputs[1].shape[1]
    return {name: rows[:, :longest] for name, rows in zip(_INPUTS, inputs, strict=False)}


def cut_note(num_cut: int, num_texts: int, name: str, longest: int) -> str:
    """Return the note that texts of a split or shift were cut."""
    return (
        f"{num_cut} of {num_texts} texts of {name} are longer than {longest} tokens: what follows "
        "is cut off"
    )
