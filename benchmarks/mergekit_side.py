"""The part of `merge_parity.py` that runs in mergekit's environment.

    python mergekit_side.py FOLDER NAME...

Small models of each architecture, and of one with unequal vocabularies, are written to FOLDER; then
each NAME.yaml is merged to NAME.theirs. The random masks that mergekit drew are saved in
NAME.masks, by the SHA-256 of their task vectors.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from mergekit import sparsify
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

NUM_MODELS = 3
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 128,
}


def main() -> None:
    """Write the models and merge them."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    for shape, net in nets().items():
        make_models(folder, shape, net)
    for is_tied in (False, True):
        make_models_of_words(folder, is_tied=is_tied)
    masks = record_masks()
    for name in names:
        print(name, file=sys.stderr)
        config = MergeConfiguration.model_validate(
            yaml.safe_load((folder / f"{name}.yaml").read_text())
        )
        options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
        masks.clear()
        run_merge(config, str(folder / f"{name}.theirs"), options)
        save_file(masks, folder / f"{name}.masks")


def nets() -> dict[str, Any]:
    """Return the nets of transformers by the name of their architecture.

    mergekit 0.1.5 fails on a plain BertModel, whose `position_ids` has an alias.
    """
    return {
        "llama": LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=4)),
        "bert": BertForSequenceClassification(
            BertConfig(**SIZES, max_position_embeddings=64, num_labels=16)
        ),
    }


def make_models(folder: Path, shape: str, net: Any) -> None:
    """Write a base, models near it, and the same in bfloat16."""
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}

    def drawn(seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.randn(*size, generator=generator) for name, size in shapes.items()}

    # Fine-tuned models of one base share part of their change.
    base, common = drawn(0), drawn(99)
    states = {"base": base}
    for number in range(1, NUM_MODELS + 1):
        own = drawn(number)
        states[str(number)] = {n: base[n] + 0.1 * (common[n] + own[n]) for n in base}
    for name, state in states.items():
        for dtype in (torch.float32, torch.bfloat16):
            suffix = "" if dtype == torch.float32 else "-bfloat16"
            place = folder / f"{shape}-{name}{suffix}"
            net.to(dtype).load_state_dict(state)
            net.save_pretrained(place)


def make_models_of_words(folder: Path, *, is_tied: bool) -> None:
    """Write models with unequal vocabularies, of which some have more rows than tokens."""
    # Words, added tokens, number of rows; the words of the last one have other ids.
    vocabularies = {
        "base": ("? a b c d e", "<s>", 8),
        "1": ("? a b c d e", "<s> <im> plain", 9),
        "2": ("? c b x y a <s>", "<im> <t>", 16),
    }
    for number, (name, (words, added, num_rows)) in enumerate(vocabularies.items()):
        ids = {word: n for n, word in enumerate(words.split())}
        plain = Tokenizer(models.WordLevel(ids, unk_token="?"))
        plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="?")
        for token in added.split():
            is_special = token.startswith("<")
            tokenizer.add_tokens([AddedToken(token, special=is_special)], is_special)
        sizes = {**SIZES, "vocab_size": num_rows, "tie_word_embeddings": is_tied}
        net = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=4))
        generator = torch.Generator().manual_seed(number)
        for weight in net.parameters():
            weight.data.normal_(generator=generator)
        place = folder / f"{'tied' if is_tied else 'words'}-{name}"
        net.save_pretrained(place)
        tokenizer.save_pretrained(place)


def record_masks() -> dict[str, torch.Tensor]:
    """Patch mergekit to record the mask that it uses for each task vector; return the record."""
    masks: dict[str, torch.Tensor] = {}
    rescale = sparsify.rescaled_masked_tensor

    def recorded(tensor: torch.Tensor, mask: torch.Tensor, *further: Any) -> torch.Tensor:
        key = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        masks[key] = mask.bool().clone()
        return rescale(tensor, mask, *further)

    sparsify.rescaled_masked_tensor = recorded
    return masks


if __name__ == "__main__":
    main()
