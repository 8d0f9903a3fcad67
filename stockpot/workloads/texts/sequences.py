"""Token sequences for a language model: one per text, or blocks of a long text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.workloads.texts.pretrained import quiet

_FEWEST = 2  # the first token and one to predict


def documents(
    tokenizer: Any, texts: Sequence[str], max_length: int, where: Callable[[int], str]
) -> tuple[list[list[int]], int]:
    """Tokenize each text, with the end-of-text token, and cut it to a length.

    Args:
        tokenizer: of transformers.
        texts: N texts.
        max_length: most tokens per text.
        where: row -> place of the text, for messages.

    Returns:
        N sequences, and how many of them were cut.

    Raises:
        InputError: a text has fewer than two tokens.
    """
    with quiet():  # it warns of texts that are cut below
        encoded: list[list[int]] = tokenizer(list(texts))["input_ids"]
    end = tokenizer.eos_token_id
    sequences = [
        [*tokens, end] if end is not None and tokens[-1:] != [end] else list(tokens)
        for tokens in encoded
    ]
    for row, tokens in enumerate(sequences):
        if len(tokens) < _FEWEST:
            raise InputError(
                f"{where(row)}: a text must have {_FEWEST} tokens, got {len(tokens)} of "
                f"{texts[row][:40]!r}"
            )
    cut = [tokens[:max_length] for tokens in sequences]
    return cut, sum(len(tokens) > max_length for tokens in sequences)


def blocks(tokenizer: Any, text: str, length: int, path: Path) -> list[list[int]]:
    """Cut a text into blocks of tokens; an incomplete last block is dropped.

    Args:
        tokenizer: of transformers.
        text: the text.
        length: tokens per block.
        path: its file, for messages.

    Raises:
        InputError: it is shorter than a block.
    """
    with quiet():
        tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(tokens) < length:
        raise InputError(
            f"{path}: must fill a block of workload.options.max_length ({length}) tokens, got "
            f"{len(tokens)}"
        )
    return [tokens[start : start + length] for start in range(0, len(tokens) - length + 1, length)]
