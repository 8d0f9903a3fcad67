"""Merge files of both formats, and small models of every form for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from adapter_folders import factors, randn, save_adapter
from merge_files import State, language_model, save_model
from quantized_folders import codes, scales, write_quantized
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from flows import merge_commands

MERGES = {
    "linear": "{method: linear, models: [a, {path: b, coefficient: 0.5}]}",
    "ties": """
{method: ties, models: [shards, b], base: base, options: {density: 0.5}, dtype: bfloat16}
""",
    "slerp": "{method: slerp, models: [a, pickled], options: {t: [0, 1]}, seed: 3}",
    "dare_ties": """
method: dare_ties
models: [{path: a, coefficient: [0, 1]}, pickles]
base: base
missing: base
""",
    "rules": """
method: linear
models: [a, b]
rules: [{match: "*norm*", method: slerp, options: {t: 0.5}}, {match: "*o_proj*", method: karcher}]
exclude: [lm_head]
""",
    "filters": """
method: linear
models: [{path: a, coefficient: [{filter: mlp, value: 0.2}, {value: 1}]}, b]
mismatch: common
integer: first
config_from: b
""",
    "tokens": "{method: linear, models: [a, b], tokenizer: {source: union}, chat_template: auto}",
    "masks": "{method: linear, models: [a, b], masks: union}",
    "layers": """
method: passthrough
layers: [{path: a, range: [0, 2]}, {models: [{path: b, range: [1, 2]}], options: {scale: 1}}]
""",
    "adapter": "{method: task_arithmetic, models: [adapter, b], base: base}",
    "with-adapter": "{method: linear, models: [base+adapter, a]}",
    "adapters": "{method: linear, models: [factors, factors], output: adapter, rank: 2}",
    "core-space": "{method: ties, models: [factors, factors], output: adapter, core_space: true}",
    "quantized": "{method: linear, models: [fp8, a]}",
    "encoders": "{method: linear, models: [encoder, encoder2]}",
    "pipelines": "{method: linear, models: [pipeline, pipeline]}",
    "signatures": """
method: weight_signatures
models: [{path: a, role: target}, {path: b, role: clean}, {path: shards, role: corrupted}]
""",
    "patch": """
method: weight_signatures
models: [{path: b, role: clean}, {path: a, role: corrupted}]
output: patch
bits: 4
""",
    "patched": """
method: weight_signatures
models: [{path: a, role: target}, {path: signed.safetensors, role: patch}]
""",
    "mergekit-linear": """
merge_method: linear
models: [{model: a, parameters: {weight: 0.5}}, {model: b, parameters: {weight: [0, 1]}}]
dtype: float16
tokenizer_source: union
parameters: {normalize: true}
""",
    "mergekit-ties": """
merge_method: ties
base_model: base
models:
- model: {model: {path: a}, lora: adapter}
  parameters: {density: 0.5, weight: 1.0}
- model: b
  parameters: {density: [{filter: mlp, value: 0.5}, {value: 1}], weight: 0.5}
parameters: {int8_mask: true}
""",
    "mergekit-slices": """
merge_method: slerp
base_model: a
slices: [{sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]}]
parameters: {t: [{filter: self_attn, value: [0, 0.5]}, {value: 0.5}]}
dtype: bfloat16
""",
    "mergekit-passthrough": """
merge_method: passthrough
slices:
- sources: [{model: a, layer_range: [0, 2]}]
- sources:
  - model: b
    layer_range: [1, 2]
    parameters: {scale: [{filter: o_proj, value: 0}, {value: 1}]}
""",
    "mergekit-modules": """
merge_method: linear
modules: {text: {models: [{model: a}, {model: b}], parameters: {weight: 1}}}
""",
}
"""Merge files of both formats, whose models `write_models` writes."""

MODELS = (
    *("a", "b", "base", "shards", "pickled", "pickles", "adapter", "factors", "fp8"),
    *("encoder", "encoder2", "pipeline", "signed.safetensors", "merged"),
)

_CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "hidden_size": 4,
    "vocab_size": 6,
    "max_position_embeddings": 8,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "id2label": {"0": "x", "1": "y"},
    "label2id": {"x": 0, "y": 1},
}
_PROJECTION = "model.layers.0.self_attn.o_proj"


def write_models(folder: Path) -> None:
    """Write the models that the merge files name."""
    for seed, name in enumerate(("a", "b", "base")):
        save_model(folder / name, language_model(seed), **_CONFIG)
        _write_companions(folder / name)
    _write_shards(folder / "shards", "safetensors", language_model(3), save_file)
    _write_shards(folder / "pickles", "bin", language_model(4), torch.save)
    (folder / "pickled").mkdir()
    torch.save(language_model(5), folder / "pickled" / "pytorch_model.bin")
    low_rank = factors(_PROJECTION, randn(2, 4), randn(4, 2))
    base = {"base_model_name_or_path": "base", "alpha_pattern": {"o_proj": 3.0}}
    save_adapter(folder / "factors", low_rank, rank_pattern={"up_proj": 2}, **base)
    whole = {"lm_head.weight": randn(6, 4)}
    save_adapter(folder / "adapter", low_rank | whole, modules_to_save=["lm_head"], **base)
    coded = {f"{_PROJECTION}.weight": codes(4, 4), f"{_PROJECTION}.weight_scale_inv": scales(1, 1)}
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    write_quantized(folder / "fp8", language_model(6) | coded, fp8, **_CONFIG)
    _write_encoders(folder)
    _write_pipeline(folder / "pipeline")
    for place, text in (("merged", MERGES["linear"]), ("signed.safetensors", MERGES["patch"])):
        (folder / "merge.yaml").write_text(text)
        merge_commands.merge(folder / "merge.yaml", folder / place)


def _write_companions(folder: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"<s>": 0, "a": 1, "b": 2}, unk_token="a"))
    tokenizer.add_special_tokens(["<x>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    contents = {
        "tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"},
        "special_tokens_map": {"bos_token": "<s>"},
        "generation_config": {"eos_token_id": [1, 2], "do_sample": True},
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    card = "---\nlicense: mit\ntags: [x]\nbase_model: o/n\n---\n# A model\n"
    (folder / "README.md").write_text(card)


def _write_shards(
    folder: Path, suffix: str, state: State, save: Callable[[State, Path], None]
) -> None:
    folder.mkdir()
    stem, names = ("model" if suffix == "safetensors" else "pytorch_model"), sorted(state)
    shard_of = {name: f"{stem}-{1 + n % 2:05d}-of-00002.{suffix}" for n, name in enumerate(names)}
    for shard in set(shard_of.values()):
        save({name: state[name] for name in names if shard_of[name] == shard}, folder / shard)
    index = {"metadata": {"total_size": 1}, "weight_map": shard_of}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def _write_encoders(folder: Path) -> None:
    for seed, name in enumerate(("encoder", "encoder2")):
        save_model(folder / name, {"layer.0.w": randn(2, 3, seed=seed)}, model_type="bert")
        save_model(
            folder / name / "2_Dense", {"linear.weight": randn(3, 2, seed=seed)}, in_features=2
        )
        modules = [
            {"idx": n, "name": str(n), "path": p, "type": "x"}
            for n, p in enumerate(("", "2_Dense"))
        ]
        (folder / name / "modules.json").write_text(json.dumps(modules))


def _write_pipeline(folder: Path) -> None:
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        (folder / name).parent.mkdir(parents=True)
        save_file({"w": randn(2, 2)}, folder / f"{name}.safetensors")
    listed = {
        "_class_name": "P",
        "unet": ["diffusers", "UNet"],
        "text_encoder": ["transformers", "Clip"],
    }
    (folder / "model_index.json").write_text(json.dumps(listed))
