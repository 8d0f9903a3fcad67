"""Models and tokenizers of transformers that are small enough to be made in a test."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

WORDS = ("a", "bad", "book", "film", "fine", "good", "is", "it", "long", "poor", "the", "very")
_SPECIAL = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def write_bert(folder: Path, *, longest: int = 12) -> Path:
    """Write an encoder of 2 layers and 16 units, with a tokenizer of the words above."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(_SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=longest,
        pad_token_id=1,
    )
    return _write(folder, BertModel, config, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")


def write_llama(folder: Path, *, longest: int = 16, tied: bool = True, seed: int = 0) -> Path:
    """Write a language model of 2 layers and 16 units, whose texts end with `[SEP]`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(_SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=longest,
        tie_word_embeddings=tied,
        bos_token_id=2,
        eos_token_id=3,
    )
    return _write(folder, LlamaForCausalLM, config, "[CLS] $A", None, seed=seed)


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """Write rows with the columns of the first one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _write(
    folder: Path, net_class: Any, config: Any, single: str, pair: str | None, seed: int = 0
) -> Path:
    from transformers.utils import logging

    tokenizer = _tokenizer(single, pair)
    tokenizer.model_max_length = config.max_position_embeddings
    logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(single: str, pair: str | None) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {token: number for number, token in enumerate((*_SPECIAL.values(), *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(t, numbers[t]) for t in ("[CLS]", "[SEP]")]
    )
    named: dict[str, Any] = {f"{kind}_token": token for kind, token in _SPECIAL.items()}
    named["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    if pair is None:  # a language model: texts begin and end
        named = {"unk_token": "[UNK]", "bos_token": "[CLS]", "eos_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
