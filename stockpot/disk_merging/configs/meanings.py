"""The meaning, for a merge, of a difference in a field of config.json.

Fields are named as in the configurations of transformers. Later rows of the table are more general,
so the first that matches a field applies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum


class Effect(IntEnum):
    """The effect of a difference, the worst first."""

    MEANINGLESS = 0
    """The same weights compute something else: a merge of them may be meaningless."""

    RELEVANT = 1
    """To be known before merging."""

    NONE = 2
    """The merged weights do not depend on it."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a difference.

    Attributes:
        effect: on the merge.
        words: the reason; empty for fields that are unknown or have no effect.
    """

    effect: Effect
    words: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        effect: on the merge.
        text: a sentence with the field, its value per model, and the reason.
        is_obstacle: whether it prevents a merge of the tensors that it is about.
    """

    effect: Effect
    text: str
    is_obstacle: bool = False

    @property
    def note(self) -> str:
        """The sentence, marked as a warning if the merge may be meaningless."""
        return f"warning: {self.text}" if self.effect is Effect.MEANINGLESS else self.text


def _rows(effect: Effect, words: str, *patterns: str) -> tuple[re.Pattern[str], Meaning]:
    return re.compile("|".join(patterns)), Meaning(effect, words)


_TABLE = (
    _rows(
        Effect.NONE,
        "",
        r"_name_or_path|name_or_path|_commit_hash|transformers_version|use_cache|torchscript|auto_map",
        r"gradient_checkpointing|output_(attentions|hidden_states|scores)|(use_)?return_dict",
        r"_?attn_implementation\w*|finetuning_task|task_specific_params|unsloth_\w+|pretraining_tp",
        r"(quantization|compression)_config",  # the weights are dequantised before
        # Of training alone.
        r"initializer_\w+|init_\w+|\w*dropout\w*|\w*pdrop|\w*layer_?drop|\w*drop(_path)?_rate",
        r"label_smoothing\w*|\w+_loss_\w+|\w*aux_loss\w*|\w+_(coefficient|cost)|ctc_\w+",
        r"mask_(time|feature)_\w+|apply_spec_augment|\w+_init_value|layerscale_value",
        r"output_router_logits|router_(jitter_noise|z_loss_coef)|\w*custom_kernels|use_\w*kernels",
    ),
    _rows(Effect.MEANINGLESS, "they are different architectures", r"model_type"),
    _rows(
        Effect.RELEVANT,
        "they have different heads or none",
        r"architectures",
    ),
    _rows(
        Effect.RELEVANT,
        "the weights are stored in different number formats",
        r"dtype",
    ),
    _rows(
        Effect.RELEVANT,
        "their vocabularies have different sizes",
        r"\w*vocab_size",
    ),
    _rows(
        Effect.RELEVANT,
        "only some tie the head to the embedding",
        r"tie_(word_embeddings|encoder_decoder)",
    ),
    _rows(
        Effect.RELEVANT,
        "a special token has different ids",
        r"\w*token_(id|index)s?|\w*_token",
    ),
    _rows(
        Effect.RELEVANT,
        "the limits of the input's size are different",
        r"max_position_embeddings|n_positions|n_ctx|\w*max_(seq|sequence|length)\w*|seq_length",
        r"max_(source|target|text)_\w+|image_size|model_max_length",
    ),
    _rows(
        Effect.RELEVANT,
        "attention reaches over different distances",
        r"\w*sliding_window|attention_window|attention_chunk_size|window_size|max_window_layers",
    ),
    _rows(
        Effect.MEANINGLESS,
        "positions are encoded differently",
        r"rope\w*(\..*)?|rotary\w*|\w*partial_rotary\w*|use_rotary\w*|original_max_position_\w+",
        r"position\w*_type|pos_att_type|position_biased_input|alibi|relative_attention\w*",
    ),
    _rows(
        Effect.MEANINGLESS,
        "the same matrices are cut into other heads",
        r"\w*heads|n_head|n_head_kv|multi_query\w*|\w*head_dim|d_kv|kv_channels|num_query_groups",
    ),
    _rows(
        Effect.MEANINGLESS,
        "the same weights are followed by another activation",
        r"\w*act|\w*activation\w*|feed_forward_proj|\w*act_fn|is_gated_act|hidden_act\w*",
    ),
    _rows(
        Effect.MEANINGLESS,
        "norms add another constant before they divide",
        r"\w*(eps|epsilon)",
    ),
    _rows(
        Effect.MEANINGLESS,
        "experts are chosen differently",
        r"num_experts_per_tok|\w*top_?k\w*|\w*router_\w+|scoring_func|n_group|\w*capacity\w*",
    ),
    _rows(
        Effect.MEANINGLESS,
        "the same weights are scaled differently",
        r"\w*(multiplier|softcap\w*|scaling\w*|_scale|_scalar|temperature)|scale_\w+|\w+_scale_\w+",
    ),
    _rows(
        Effect.MEANINGLESS,
        "layers of the same number compute differently",
        r"\w*layers?_(block_)?types?|block_types|\w*pattern|no_rope\w*|attention_(types|layers)",
        r"mlp_only_layers|\w*(_period|_offset|_interval|_step)|first_k_dense_replace|\w*every_n\w*",
        r"\w*norm\w*|\w*parallel\w*|new_decoder_architecture|is_(encoder_)?decoder|\w*_bias",
        r"add_cross_attention|is_decoder|is_encoder_decoder",
    ),
    _rows(
        Effect.MEANINGLESS,
        "outputs are pooled differently",
        r"\w*pool\w*|summary_\w+",
    ),
    _rows(Effect.MEANINGLESS, "the same ids may be other tokens", r"tokenizer_class"),
    _rows(
        Effect.MEANINGLESS,
        "the nets have different sizes",
        r"\w*(hidden|intermediate|embedding|inner|state|patch|conv|kernel)_(size|dim)s?\w*",
        r"\w*layers|n_layer|depths?|d_\w+|n_embd|n_inner|\w*ffn_dim|\w*_dim|dim|num_channels",
        r"mlp_ratio|codebook_size|(in|out)_channels|num_queries|\w+_rank",
        r"\w*experts|conv_\w+|\w*kernel\w*|groups|num_groups",
    ),
)


def meaning_of(field: str) -> Meaning:
    """Return what a difference in a field means.

    Args:
        field: its name; of nested configurations, the names joined by dots.
    """
    # Of a nested configuration: text_config.rope_theta is rope_theta.
    own = re.sub(r"^(\w+_config\.)+(?=\w)", "", field)
    for pattern, meaning in _TABLE:
        if pattern.fullmatch(own) or pattern.fullmatch(field):
            return meaning
    return Meaning(Effect.RELEVANT)
