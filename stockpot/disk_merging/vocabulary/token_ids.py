"""The ids of special tokens in config.json and generation_config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stockpot.disk_merging.vocabulary.tokenizers import ModelTokenizer

_FIELD = re.compile(r"(?P<kind>\w+)_token_(id|index)")


def set_token_ids(
    config: dict[str, Any], former: ModelTokenizer, tokenizer: ModelTokenizer
) -> list[str]:
    """Give special tokens the ids that they have in another tokenizer.

    A token that it lacks is replaced by its own token of that kind, such as its end of text.

    Args:
        config: the content of the file; it is changed, with all sections in it.
        former: the tokenizer that the ids are of.
        tokenizer: that of the output.

    Returns:
        What was changed, one sentence each.
    """
    token_of = {number: token for token, number in former.ids.items()}
    notes = []
    for name, value in config.items():
        if isinstance(value, dict):
            notes += set_token_ids(value, former, tokenizer)
        elif match := _FIELD.fullmatch(name):
            listed = value if isinstance(value, list) else [value]
            new = [_new_id(one, match["kind"], token_of, tokenizer) for one in listed]
            if new != listed:
                config[name] = new if isinstance(value, list) else new[0]
                notes.append(
                    f"{name} is {config[name]}, as in the output's tokenizer, instead of {value}"
                )
    return notes


def _new_id(
    number: Any, kind: str, token_of: Mapping[int, str], tokenizer: ModelTokenizer
) -> int | None:
    token = token_of.get(number) if isinstance(number, int) else None
    if token is None:  # not set, or no token, such as -1
        return number  # type: ignore[no-any-return]
    own: int | None = tokenizer.ids.get(token, getattr(tokenizer.loaded, f"{kind}_token_id", None))
    return own
