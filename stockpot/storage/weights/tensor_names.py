"""Naming conventions of tensors: which are heads, embeddings, or weights of a numbered layer.

A state dict has no other record of a tensor's role, so these patterns cover the names that
PyTorch, timm and transformers use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Inside a numbered layer, `output` is a part of it, as in BERT.
_HEAD = re.compile(r"(^|\.)(lm_head|head|classifier|score|fc)\.|^([^.\d][^.]*\.)*output\.")
_EMBEDDING = re.compile(r"embed|wte")

_TOKEN_EMBEDDING = re.compile(
    r"(^|[./])(embed_tokens|wte|embed_in|word_embeddings?|tok_embeddings|tokens_embed|shared"
    r"|(backbone|rwkv)\.embeddings)\.weight$"
)
_LANGUAGE_MODEL_HEAD = re.compile(
    r"(^|[./])((generator_)?lm_head(\.decoder)?|embed_out|predictions\.decoder|vocab_projector"
    r"|lm_loss|proj_out)\.weight$|(^|/)(decoder|head|output)\.weight$"
)
# Further tensors of a language model that have one element, or one row, for each token.
_OF_TOKENS = re.compile(
    r"(^|\.)embed_tokens_per_layer\.weight$|(^|\.)output_layer\.weight$|(^|\.)lm_head\.linear\.weight$"
    r"|(^|\.)(lm_head(\.(decoder|linear))?|predictions(\.decoder)?|vocab_projector|embed_out"
    r"|lm_loss)\.bias$"
)
_BIAS_OF_LOGITS = re.compile(r"(^|\.)final_logits_bias$")  # of shape (1, tokens)
# Encoder-decoders store one embedding under up to three names.
_COPY_OF_EMBEDDING = re.compile(r"(?P<outer>^|.*[./])(encoder|decoder)\.embed_tokens\.weight$")
_COPY_OF_BIAS = re.compile(r"(?P<outer>.*(predictions|lm_head))\.decoder\.bias$")

_LAYER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")
_BEFORE_LAYERS = re.compile(r"embed(?!_out)|wte|wpe")
_AFTER_LAYERS = re.compile(r"head|norm|score|classifier|pooler|embed_out|ln_f|(^|\.)output\.")
_LATER_MODULE = re.compile(r"^[1-9]\d*_[^/]+/")  # of sentence-transformers, after the encoder
_STEM = re.compile(r"(^|\.)(\w+_)?stem\.")


def is_head(name: str) -> bool:
    """Return whether a tensor belongs to a classification or language-model head."""
    return bool(_HEAD.search(name))


def has_vocabulary_rows(name: str) -> bool:
    """Return whether the rows of a tensor are tokens or classes: embeddings and heads."""
    return is_head(name) or bool(_EMBEDDING.search(name))


def is_token_embedding(name: str) -> bool:
    """Return whether a tensor is the input embedding of a language model."""
    return bool(_TOKEN_EMBEDDING.search(name))


def is_language_model_head(name: str) -> bool:
    """Return whether a tensor is the head of a language model, whose rows are tokens."""
    return bool(_LANGUAGE_MODEL_HEAD.search(name))


def token_axis(name: str) -> int | None:
    """Return the axis of a tensor that tokens index; None if it is not indexed by tokens.

    Without numbers of rows the head of a language model cannot always be told from a classifier's.
    """
    if _BIAS_OF_LOGITS.search(name):
        return 1
    is_indexed = is_token_embedding(name) or is_language_model_head(name) or _OF_TOKENS.search(name)
    return 0 if is_indexed else None


def tied_names(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the names of an embedding and a head that may be tied; None without such a pair.

    Of an encoder and a decoder with separate embeddings, the head belongs to the decoder's.
    """
    names = list(names)
    embeddings = [name for name in names if is_token_embedding(name)]
    heads = [name for name in names if is_language_model_head(name)]
    for kind in ("shared.weight", "decoder.embed_tokens.weight"):
        if len(embeddings) > 1:
            embeddings = [name for name in embeddings if name.endswith(kind)] or embeddings
    return (embeddings[0], heads[0]) if len(embeddings) == len(heads) == 1 else None


def stored_twice(names: Iterable[str]) -> dict[str, str]:
    """Return names that some writers store besides the tensor that they are tied to.

    These are the embedding of an encoder-decoder's two parts, which is `shared`, and the bias of
    BERT-like heads.

    Returns:
        Name -> the name of the tensor that it is tied to.
    """
    names = dict.fromkeys(names)
    found = {}
    for name in names:
        if match := _COPY_OF_EMBEDDING.search(name):
            found[name] = f"{match['outer']}shared.weight"
        elif match := _COPY_OF_BIAS.search(name):
            found[name] = f"{match['outer']}.bias"
    return {name: original for name, original in found.items() if original in names}


def layer_of(name: str) -> int | None:
    """Return the index of a tensor's layer; None for a tensor outside the layers."""
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None


def stack_of(name: str) -> str | None:
    """Return the part of a name before its layer index; None for a tensor outside the layers."""
    found = _LAYER.search(name)
    return name[: found.start(1)] if found else None


def with_layer(name: str, layer: int) -> str:
    """Return the name of the same tensor in another layer."""
    found = _LAYER.search(name)
    assert found is not None
    return f"{name[: found.start(1)]}{layer}{name[found.end(1) :]}"


def num_layers(names: Iterable[str]) -> int:
    """Return the number of layers: one more than the highest layer index."""
    return max((layer for name in names if (layer := layer_of(name)) is not None), default=-1) + 1


def is_after_layers(name: str) -> bool:
    """Return whether a tensor outside the layers is applied after them, as heads and last norms."""
    if _LATER_MODULE.search(name):
        return True
    return bool(_AFTER_LAYERS.search(name)) and not _BEFORE_LAYERS.search(name)


def forward_order(names: Iterable[str]) -> list[str]:
    """Sort names as a net applies its tensors, as far as their names tell.

    Those before the numbered layers come first, heads and final norms last; within a part numbers
    count as numbers, so that layer 2 comes before layer 10.
    """
    return sorted(names, key=lambda name: (_part_of(name), _numbers_and_texts(name)))


def _part_of(name: str) -> int:
    stack = stack_of(name)
    if _STEM.search(name):
        return 0
    if stack is not None:
        return 2 if is_head(stack) else 1
    return 2 if is_after_layers(name) or is_head(name) else 0


def _numbers_and_texts(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]
