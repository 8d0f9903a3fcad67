"""Recipes in the forms that people publish, in mergekit's format.

The models are `base`, `a`, `b` and `c`, with 8 layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from merge_files import language_model, save_model
from word_tokenizers import write_tokenizer

MODELS = ("base", "a", "b", "c")
LAYERS = 8


def write_models(folder: Path) -> Path:
    """Write the models that the recipes name."""
    base = language_model(0, num_layers=LAYERS)
    for number, name in enumerate(MODELS):
        change = language_model(number, num_layers=LAYERS)
        state = {n: t + 0.1 * number * change[n] for n, t in base.items()}
        save_model(folder / name, state, num_hidden_layers=LAYERS)
        write_tokenizer(folder / name, ["?", "a", "b", "c", "d", "e"])
    return folder


TIES_OVER_DEPTH = """
models:
  - model: a
    parameters:
      density: [1, 0.7, 0.1]
      weight: 1.0
  - model: b
    parameters:
      density: 0.5
      weight: [0, 0.3, 0.7, 1]
  - model: c
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: base
parameters: {normalize: true, int8_mask: true}
dtype: float16
"""

EVOLVED = (
    "merge_method: ties\nbase_model: base\nparameters: {int8_mask: true}\nslices:\n"
    + "".join(
        f"""
  - sources:
      - layer_range: [{n}, {n + 1}]
        model: a
        parameters:
          density: {0.9 - n / 10}
          weight:
            - {{filter: mlp, value: {0.1 * n}}}
            - {{value: 0.4}}
      - layer_range: [{n}, {n + 1}]
        model: b
        parameters: {{density: {0.2 + n / 10}, weight: {0.5 - n / 10}}}
      - layer_range: [{n}, {n + 1}]
        model: base
"""
        for n in range(LAYERS)
    )
)

SLERP_PARTS = """
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5
dtype: bfloat16
"""


def _flat(method: str, models: Mapping[str, str], base: str = "", more: str = "") -> str:
    """Return the recipe of a list of models, each with its parameters.

    Args:
        method: its name in mergekit.
        models: the parameters of each model, in YAML without braces.
        base: the base model, if there is one.
        more: further lines.
    """
    listed = [
        f"  - {{model: {name}, parameters: {{{own}}}}}" if own else f"  - {{model: {name}}}"
        for name, own in models.items()
    ]
    lines = ["models:", *listed, f"merge_method: {method}", more]
    return "\n".join([*lines, f"base_model: {base}"] if base else lines)


ALL = dict.fromkeys("abc", "")
TWO = dict.fromkeys("ab", "")

FLAT = {
    "linear with weights": _flat(
        "linear",
        {"a": "weight: 1.0", "b": "weight: 0.3", "c": "weight: 0.5"},
        more="dtype: float16",
    ),
    "linear without normalisation": _flat(
        "linear",
        {"a": "weight: 0.7", "b": "weight: 0.7"},
        more="parameters: {normalize: false, int8_mask: true}",
    ),
    "ties without normalisation": _flat(
        "ties",
        dict.fromkeys("ab", "density: 0.5, weight: 0.5"),
        "base",
        "parameters: {normalize: false, int8_mask: true}\ndtype: float16",
    ),
    "slerp of models by parts of a layer": _flat("slerp", TWO, "a", SLERP_PARTS),
    "slerp towards the base that is not listed": _flat(
        "slerp", {"a": ""}, "base", "parameters: {t: [0, 1, 0]}"
    ),
    "arcee_fusion": _flat("arcee_fusion", TWO, "a", "dtype: bfloat16"),
    "dare_ties without densities": _flat(
        "dare_ties", {"base": "weight: 1", "a": "weight: 0.4", "b": "weight: 0.6"}, "base"
    ),
    "dare_linear, normalized and not rescaled": _flat(
        "dare_linear",
        {"a": "density: 0.9, weight: [0.2, 0.8]", "b": "density: [0.1, 1], weight: 0.5"},
        "base",
        "parameters: {normalize: true, rescale: false}",
    ),
    "task arithmetic with a negative weight": _flat(
        "task_arithmetic",
        {"a": "weight: 1.0", "b": "weight: -0.5"},
        "base",
        "parameters: {normalize: false, lambda: 0.8}\ndtype: bfloat16",
    ),
    "della with epsilon and lambda": _flat(
        "della",
        {
            "a": "density: 0.7, weight: 0.6, epsilon: 0.1",
            "b": "density: [0.5, 0.4], weight: 0.4, epsilon: 0.2",
        },
        "base",
        "parameters: {lambda: 1.1, normalize: true, int8_mask: true}",
    ),
    "della_linear with densities from 0 to 1": _flat(
        "della_linear",
        {"a": "density: 1, weight: 0.6, epsilon: 0", "b": "density: 0, weight: 0.4"},
        "base",
    ),
    "breadcrumbs": _flat(
        "breadcrumbs",
        {
            "a": "density: 0.9, gamma: 0.01, weight: 0.5",
            "b": "density: 0.7, gamma: 0.05, weight: 0.5",
        },
        "base",
        "parameters: {normalize: true}",
    ),
    "breadcrumbs_ties": _flat(
        "breadcrumbs_ties",
        {"a": "density: [0, 0.9], weight: 0.5", "b": "gamma: [0.1, 0.0], weight: 0.5"},
        "base",
        "parameters: {density: 0.8, gamma: 0.01, normalize: true, int8_mask: true}",
    ),
    "model_stock": _flat(
        "model_stock",
        {"base": "", **ALL},
        "base",
        "parameters: {filter_wise: false}\ndtype: bfloat16\ntokenizer_source: base",
    ),
    "nuslerp of task vectors by rows": _flat(
        "nuslerp",
        dict.fromkeys("ab", "weight: 0.5"),
        "base",
        "parameters: {nuslerp_flatten: false, nuslerp_row_wise: false}",
    ),
    "sce": _flat("sce", ALL, "base", "parameters: {select_topk: 0.1}"),
    "karcher": _flat(
        "karcher", ALL, more="parameters: {max_iter: 20, tol: 1e-6}\ntokenizer_source: b"
    ),
    "multislerp": _flat(
        "multislerp",
        {"a": "weight: [0.1, 0.9]", "b": "weight: 0.5", "c": "weight: 0.25"},
        "base",
        "parameters: {normalize_weights: true, eps: 1e-8}",
    ),
    "nearswap": _flat("nearswap", {"base": "", "a": ""}, "base", "parameters: {t: [1e-3, 2e-2]}"),
    "ram": _flat("ram", TWO, "base"),
    "ramplus_tl": _flat(
        "ramplus_tl", TWO, "base", "parameters: {r: 0.1, alpha: 0.2, epsilon: 1e-5}"
    ),
}

RECIPES = {
    **FLAT,
    "ties with densities and weights over depth": TIES_OVER_DEPTH,
    "slerp of slices by parts of a layer": f"""
slices:
  - sources:
      - {{model: a, layer_range: [0, {LAYERS}]}}
      - {{model: b, layer_range: [0, {LAYERS}]}}
merge_method: slerp
base_model: a
{SLERP_PARTS}""",
    "passthrough of two stacks": f"""
slices:
  - sources: [{{model: a, layer_range: [0, 6]}}]
  - sources: [{{model: b, layer_range: [4, {LAYERS}]}}]
merge_method: passthrough
dtype: float16
""",
    "passthrough with repeated layers that begin as the identity": f"""
slices:
  - sources: [{{model: a, layer_range: [0, 5]}}]
  - sources:
      - model: a
        layer_range: [4, 5]
        parameters:
          scale:
            - {{filter: o_proj, value: 0.0}}
            - {{filter: down_proj, value: 0.0}}
            - {{value: 1.0}}
  - sources: [{{model: a, layer_range: [5, {LAYERS}]}}]
merge_method: passthrough
dtype: bfloat16
""",
    "dare_ties with densities per model": """
models:
  - model: base
    # the base needs no parameters
  - {model: a, parameters: {density: 0.53, weight: 0.4}}
  - {model: b, parameters: {density: 0.63, weight: 0.3}}
  - {model: c, parameters: {density: 0.0, weight: 0.3}}
merge_method: dare_ties
base_model: base
parameters: {int8_mask: true}
dtype: bfloat16
random_seed: 7
""",
    "nuslerp with filters": """
models:
  - model: a
    parameters:
      weight: [{filter: self_attn, value: 0.2}, {filter: mlp, value: 0.8}, {value: 0.5}]
  - {model: b, parameters: {weight: 0.5}}
merge_method: nuslerp
dtype: float32
out_dtype: bfloat16
""",
    "evolved, one slice per layer": EVOLVED,
    "slices with bases of their own": """
slices:
  - sources: [{model: a, layer_range: [0, 4]}, {model: b, layer_range: [0, 4]}]
    base_model: b
    parameters: {t: 0.25}
  - sources: [{model: a, layer_range: [4, 8]}, {model: c, layer_range: [4, 8]}]
    base_model: a
merge_method: slerp
parameters: {t: 0.5}
""",
    "models in the long form": """
models:
  - model: {model: {path: a, revision: null}, lora: null, override_architecture: null}
    parameters: {weight: 0.5, density: 0.5}
  - {model: {model: b}, parameters: {weight: 0.5, density: 0.25}}
merge_method: ties
base_model: {model: {path: base}}
dtype: torch.bfloat16
parameters:
""",
}
