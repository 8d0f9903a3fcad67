"""Token sequences of prompts with their responses, for a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.workloads.texts.pretrained import quiet

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Response:
    """A response after its prompt, as tokens.

    Attributes:
        tokens: of prompt and response.
        first: the place of the first token that counts as the response's, at least 1.
    """

    tokens: Sequence[int]
    first: int


def tokenized(
    tokenizer: Any,
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    max_length: int,
    places: Sequence[str],
) -> tuple[list[list[Response]], int]:
    """Tokenize prompts with two responses each; a response ends with the end-of-text token.

    Without a prompt, the first token of a response is given.

    Args:
        tokenizer: of transformers.
        prompts: N texts; empty for none.
        responses: N pairs of texts.
        max_length: most tokens of prompt and response together; longer ones are cut at the end.
        places: where each row is, for messages.

    Returns:
        N pairs of responses, and how many responses were cut.

    Raises:
        InputError: a prompt leaves no room for a response, or a response has no tokens.
    """
    end = tokenizer.eos_token_id
    with quiet():  # it warns of texts that are cut below
        before = tokenizer(list(prompts))["input_ids"]
        after = tokenizer([t for pair in responses for t in pair], add_special_tokens=False)
    pairs, num_cut = [], 0
    for row, (start, place) in enumerate(zip(before, places, strict=True)):
        prompt = list(start[:-1] if end is not None and start[-1:] == [end] else start)
        pair = []
        for tokens in after["input_ids"][2 * row : 2 * row + 2]:
            whole = [*prompt, *tokens, *([] if end is None else [end])]
            first = max(1, len(prompt))
            if min(len(whole), max_length) <= first or not tokens:
                raise InputError(
                    f"{place}: a prompt and a response must have tokens, and the prompt fewer "
                    f"than workload.options.max_length ({max_length}), got {len(prompt)} and "
                    f"{len(tokens)}"
                )
            num_cut += len(whole) > max_length
            pair.append(Response(whole[:max_length], first))
        pairs.append(pair)
    return pairs, num_cut


def padded_pairs(
    pairs: Sequence[Sequence[Response]], padding: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pad N pairs of responses to the longest.

    Returns:
        Token ids, their mask (1 at tokens), and the mask of the responses' tokens; (N, 2, T)
        each, int64.
    """
    import torch

    from stockpot.workloads.texts.tokens import padded

    flat = [response for pair in pairs for response in pair]
    ids, mask = padded([response.tokens for response in flat], padding)
    places = torch.arange(ids.shape[1])
    firsts = torch.tensor([response.first for response in flat]).unsqueeze(1)
    is_response = mask * (places >= firsts)
    shape = (len(pairs), 2, ids.shape[1])
    return ids.view(shape), mask.view(shape), is_response.view(shape)
