"""Merge files of both formats, and small models of every form for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from adapter_folders import factors, randn, save_adapter
from merge_files import State, language_model, save_model
from quantized_folders import codes, integers, scales, write_quantized
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from word_tokenizers import write_tokenizer

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
    "rows": """
method: linear
models: [a, words]
tokenizer:
  source: words
  pad_to_multiple_of: 4
  tokens:
    a: {source: a, force: true}
    <x>: {source: {kind: model_token, model: words, token: c}}
    b: {source: {kind: zero}}
    c: {source: {kind: model_token, model: a, token_id: 1}, force: true}
chat_template: "{{ messages }}"
""",
    "nested": """
method: linear
models:
- merge: {method: slerp, models: [a, b], options: {t: 0.3}}
- {path: shards, coefficient: 0.5}
""",
    "nested-base": """
method: ties
models:
- a
- merge: {method: dare_linear, models: [b, pickled], base: base, options: {density: 0.5}, seed: 1}
  coefficient: [0, 1]
base: {merge: {method: linear, models: [base, {merge: {method: linear, models: [a, b]}}]}}
config_from: {merge: {method: passthrough, models: [adapter], base: base}}
""",
    "nested-layers": """
method: passthrough
layers:
- merge: {method: linear, models: [a, b], rules: [{match: "*norm*", method: karcher}]}
  range: [0, 2]
- {path: b, range: [1, 3]}
""",
    "outputs": """
method: task_arithmetic
models: [a, {path: b, coefficient: 0.5}]
base: base
outputs:
- {name: one, coefficients: [1, [0, 1]]}
- {name: two, options: {lines_alpha: 0.5, lines_beta: 0.5}}
""",
    "outputs-seeds": """
method: dare_ties
models: [a, {path: b, options: {density: 0.3}}]
base: base
options: {density: 0.5}
outputs: [{name: one, seed: 1}, {name: two, seed: 2, coefficients: [0.2, 0.8]}]
""",
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
    "quantized-4-bits": "{method: slerp, models: [fp4, fp4], options: {t: 0.5}}",
    "quantized-experts": "{method: linear, models: [experts, experts], dtype: float32}",
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
    "mergekit-multi": """
name: first
merge_method: slerp
models: [{model: a}, {model: b}]
base_model: a
parameters: {t: 0.5}
---
name: second
merge_method: passthrough
slices:
- sources: [{model: first, layer_range: [0, 2]}]
- sources: [{model: shards, layer_range: [1, 3]}]
---
merge_method: linear
models:
- {model: first+adapter, parameters: {weight: 0.5}}
- {model: base, parameters: {weight: 0.5}}
""",
    "mergekit-tokens": """
merge_method: linear
models: [{model: a, parameters: {weight: 1}}, {model: words, parameters: {weight: 1}}]
tokenizer:
  source: union
  tokens: {c: {source: words}, a: {source: {kind: model_token, model: a, token: b}, force: true}}
""",
    "mergekit-modules": """
merge_method: linear
modules: {text: {models: [{model: a}, {model: b}], parameters: {weight: 1}}}
""",
}
"""Merge files of both formats, whose models `write_models` writes."""

MODELS = (
    *("a", "b", "base", "shards", "pickled", "pickles", "adapter", "factors", "fp8"),
    *("words", "fp4", "experts", "encoder", "encoder2", "pipeline"),
    *("signed.safetensors", "merged"),
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
    _write_coded(folder)
    save_model(folder / "words", language_model(7), **_CONFIG)
    write_tokenizer(folder / "words", ["<s>", "c", "a"], added=["<x>", "<y>"])
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


def _write_coded(folder: Path) -> None:
    """Write models with codes of four bits: of a projection with two scales, and of experts."""
    coded = {"weight_packed": integers(2, 8), "weight_scale": codes(2, 1).abs()}
    held = {f"q.{name}": tensor for name, tensor in coded.items()}
    held |= {"q.weight_global_scale": torch.tensor([2.0]), "norm.weight": randn(4)}
    groups = {"group_0": {"weights": {"num_bits": 4, "group_size": 16}, "targets": ["Linear"]}}
    packed = {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}
    write_quantized(folder / "fp4", held, packed | {"config_groups": groups}, **_CONFIG)
    experts = {"e.down_proj_blocks": integers(2, 3, 2, 16), "e.down_proj_scales": integers(2, 3, 2)}
    write_quantized(folder / "experts", experts, {"quant_method": "mxfp4"}, **_CONFIG)


def _write_encoders(folder: Path) -> None:
    for seed, name in enumerate(("encoder", "encoder2")):
        save_model(folder / name, {"layer.0.w": randn(2, 3, seed=seed)}, model_type="bert")
        save_model(
            folder / name / "2_Dense", {"linear.weight": randn(3, 2, seed=seed)}, in_features=2
        )
        modules = [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (path, kind) in enumerate(
                [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
            )
        ]
        (folder / name / "1_Pooling").mkdir()
        contents = {
            "modules.json": modules,
            "sentence_bert_config.json": {"max_seq_length": 8},
            "config_sentence_transformers.json": {"similarity_fn_name": "cosine", "prompts": {}},
            "1_Pooling/config.json": {
                "word_embedding_dimension": 3,
                "pooling_mode_mean_tokens": True,
            },
        }
        for file, content in contents.items():
            (folder / name / file).write_text(json.dumps(content))


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
