"""Small models with random weights, of many families of transformers, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_VOCABULARY = {"vocab_size": 40, **_TOKENS}
_NET = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    **_VOCABULARY,
}
_GROUPED = _NET | {"num_key_value_heads": 1}
_WITH_HEADS = _GROUPED | {"head_dim": 8}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, **_VOCABULARY}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4}
_STATES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
_VISION = _NET | {"image_size": 16, "patch_size": 8}
_SPEECH = _NET | {
    "conv_dim": (8, 8),
    "conv_stride": (4, 4),
    "conv_kernel": (8, 4),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
_PAIR = {
    "d_model": 16,
    "max_position_embeddings": 32,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
    **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 24 for part in ("encoder", "decoder")},
    **_VOCABULARY,
}
_T5 = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
_MELS = {"num_mel_bins": 8, "max_source_positions": 8, "max_target_positions": 16}
_UNFORCED = {"suppress_tokens": None, "begin_suppress_tokens": None}

Saved = Literal["whole", "shards", "pickle"]


@dataclass(frozen=True)
class Family:
    """A family of models, made small.

    Attributes:
        kind: what its models do.
        config: the model type, as in config.json.
        net: the name of its class in transformers.
        fields: of its configuration.
        inputs: names of those in `inputs_of`.
        saved: how the weights of its first model are written.
    """

    kind: str
    config: str
    net: str
    fields: Mapping[str, Any]
    inputs: tuple[str, ...] = ("tokens",)
    saved: Saved = "whole"

    def make(self) -> Any:
        """Make a model with random weights, the same each time."""
        import transformers

        config = transformers.AutoConfig.for_model(self.config, **self.fields)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return getattr(transformers, self.net)(config).eval()


def _causal(config: str, net: str, fields: Mapping[str, Any], saved: Saved = "whole") -> Family:
    return Family("causal", config, f"{net}ForCausalLM", fields, saved=saved)


def _mixture(config: str, net: str, fields: Mapping[str, Any], saved: Saved = "whole") -> Family:
    return Family("mixture of experts", config, f"{net}ForCausalLM", fields, saved=saved)


def _states(config: str, net: str, fields: Mapping[str, Any], saved: Saved = "whole") -> Family:
    return Family("state space", config, f"{net}ForCausalLM", fields, saved=saved)


def _encoder(config: str, net: str, fields: Mapping[str, Any], saved: Saved = "whole") -> Family:
    return Family("encoder", config, net, fields, saved=saved)


def _pair(config: str, net: str, fields: Mapping[str, Any], saved: Saved = "whole") -> Family:
    inputs = ("tokens", "decoder_tokens")
    return Family("encoder-decoder", config, net, fields, inputs, saved)


def _vision(config: str, net: str, fields: Mapping[str, Any], saved: Saved = "whole") -> Family:
    return Family("vision", config, net, fields, ("image",), saved)


def _speech(config: str, net: str, fields: Mapping[str, Any], saved: Saved = "whole") -> Family:
    return Family("speech", config, net, fields, ("sound",), saved)


def _joint(config: str, net: str, text: str, vision: str, **fields: Any) -> Family:
    """Return a model of texts and images; the first four tokens stand for the image."""
    parts = {
        "text_config": _WITH_HEADS | {"model_type": text},
        "vision_config": _VISION | {"model_type": vision, "vision_use_head": False},
    }
    inputs = ("image_tokens", "image")
    return Family("multimodal", config, net, parts | fields, inputs, "shards")


_LISTED = (
    _causal("llama", "Llama", _GROUPED, "shards"),
    _causal("mistral", "Mistral", _WITH_HEADS),
    _causal("qwen2", "Qwen2", _GROUPED | {"tie_word_embeddings": True}, "pickle"),
    _causal("qwen3", "Qwen3", _WITH_HEADS, "shards"),
    _causal("gemma2", "Gemma2", _WITH_HEADS),
    _causal("gemma3_text", "Gemma3", _WITH_HEADS, "shards"),
    _causal("phi3", "Phi3", _GROUPED),
    _causal("gpt_neox", "GPTNeoX", _NET, "pickle"),
    _causal("opt", "OPT", _NET | {"ffn_dim": 24, "word_embed_proj_dim": 8}, "pickle"),
    _causal("falcon", "Falcon", _NET),
    _causal("bloom", "Bloom", _GPT | {"hidden_size": 16}),
    _causal("olmo2", "Olmo2", _GROUPED),
    Family("causal", "gpt2", "GPT2LMHeadModel", _GPT, saved="shards"),
    _mixture("mixtral", "Mixtral", _GROUPED | _LOCAL_EXPERTS, "shards"),
    _mixture("qwen2_moe", "Qwen2Moe", _GROUPED | _EXPERTS | {"shared_expert_intermediate_size": 8}),
    _mixture("qwen3_moe", "Qwen3Moe", _WITH_HEADS | _EXPERTS),
    _mixture("olmoe", "Olmoe", _GROUPED | _EXPERTS, "pickle"),
    _mixture("gpt_oss", "GptOss", _WITH_HEADS | _LOCAL_EXPERTS),
    _mixture(
        "deepseek_v3",
        "DeepseekV3",
        _NET
        | _LATENT
        | {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
        | {"n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "v_head_dim": 8},
        "shards",
    ),
    _states("mamba", "Mamba", _STATES),
    _states("mamba2", "Mamba2", _STATES | {"num_heads": 4, "head_dim": 8, "n_groups": 1}),
    _states("falcon_mamba", "FalconMamba", _STATES, "shards"),
    _states("rwkv", "Rwkv", _NET | {"attention_hidden_size": 16, "context_length": 32}),
    _states(
        "jamba",
        "Jamba",
        _GROUPED
        | {"num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2}
        | {"attn_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 4},
        "shards",
    ),
    _encoder("bert", "BertForMaskedLM", _NET),
    _encoder("roberta", "RobertaForSequenceClassification", _NET, "pickle"),
    _encoder("albert", "AlbertForMaskedLM", _NET | {"embedding_size": 8}),
    _encoder("electra", "ElectraForPreTraining", _NET | {"embedding_size": 8}),
    _encoder("modernbert", "ModernBertForMaskedLM", _NET, "shards"),
    _encoder(
        "deberta-v2",
        "DebertaV2ForMaskedLM",
        _NET | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    _pair("t5", "T5ForConditionalGeneration", _T5 | {"decoder_start_token_id": 0}, "pickle"),
    _pair("bart", "BartForConditionalGeneration", _PAIR),
    _pair("mbart", "MBartForConditionalGeneration", _PAIR, "shards"),
    _pair("marian", "MarianMTModel", _PAIR, "pickle"),
    _pair("pegasus", "PegasusForConditionalGeneration", _PAIR),
    _vision("vit", "ViTForImageClassification", _VISION),
    _vision("beit", "BeitForImageClassification", _VISION | {"use_relative_position_bias": True}),
    _vision("dinov2", "Dinov2Model", _VISION, "shards"),
    _vision(
        "swin",
        "SwinForImageClassification",
        {"image_size": 16, "patch_size": 2, "embed_dim": 8, "window_size": 2}
        | {"depths": [1, 1], "num_heads": [2, 2]},
    ),
    _vision(
        "convnext",
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    ),
    _vision(
        "resnet",
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    ),
    _vision(
        "segformer",
        "SegformerForSemanticSegmentation",
        {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16]}
        | {"patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2]}
        | {"mlp_ratios": [2, 2], "decoder_hidden_size": 16},
        "pickle",
    ),
    _speech("wav2vec2", "Wav2Vec2ForCTC", _SPEECH),
    _speech("hubert", "HubertForCTC", _SPEECH, "shards"),
    Family(
        "speech",
        "whisper",
        "WhisperForConditionalGeneration",
        _PAIR | _MELS | _UNFORCED,
        ("mel_bands", "decoder_tokens"),
    ),
    Family(
        "multimodal",
        "clip",
        "CLIPModel",
        {"text_config": _NET, "vision_config": _VISION, "projection_dim": 8},
        ("tokens", "image"),
    ),
    Family(
        "multimodal",
        "siglip",
        "SiglipModel",
        {"text_config": _NET | {"projection_size": 16}, "vision_config": _VISION},
        ("tokens", "image"),
    ),
    _joint(
        "llava",
        "LlavaForConditionalGeneration",
        "llama",
        "clip_vision_model",
        image_token_index=39,
    ),
    _joint(
        "paligemma",
        "PaliGemmaForConditionalGeneration",
        "gemma",
        "siglip_vision_model",
        image_token_index=39,
        projection_dim=16,
    ),
    Family(
        "multimodal",
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        {
            "text_config": _GROUPED
            | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
            "vision_config": {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2},
        },
    ),
)
FAMILIES = {family.config: family for family in _LISTED}
"""By their model type."""


def inputs_of(family: Family) -> dict[str, Tensor]:
    """Return one example for a family's models, the same each time."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.arange(3, 11).view(1, 8)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    made: dict[str, Callable[[], tuple[str, Tensor]]] = {
        "tokens": lambda: ("input_ids", tokens),
        "image_tokens": lambda: ("input_ids", torch.tensor([[39] * 4 + [3, 4, 5, 6]])),
        "decoder_tokens": lambda: ("decoder_input_ids", tokens[:, :4]),
        "image": lambda: ("pixel_values", randn(1, 3, 16, 16)),
        "mel_bands": lambda: ("input_features", randn(1, 8, 16)),
        "sound": lambda: ("input_values", randn(1, 400)),
    }
    return dict(made[name]() for name in family.inputs)


def change(net: Any, seed: int) -> Any:
    """Change all weights and statistics of a model a little, as fine-tuning does; return it."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {id(t): (name, t) for name, t in net.state_dict(keep_vars=True).items()}
    with torch.no_grad():
        for name, tensor in tensors.values():  # each once, if it is tied
            if tensor.is_floating_point():
                noise = 0.004 * torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    return net


def save(net: Any, folder: Path, saved: Saved) -> None:
    """Write a model as `save_pretrained` does; as a pickle, also with the tensors that are tied."""
    net.save_pretrained(folder, max_shard_size="8KB" if saved == "shards" else "5GB")
    if saved == "pickle":
        state = load_file(folder / "model.safetensors")
        for one, other in net.all_tied_weights_keys.items():
            state |= {one: state[other]} if other in state else {other: state[one]}
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
