"""Recipes in the forms that people publish, in mergekit's format.

The models are `base`, `a`, `b` and `c`, with 8 layers.
"""

from __future__ import annotations

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

RECIPES = {
    "linear with weights": """
models:
  - {model: a, parameters: {weight: 1.0}}
  - {model: b, parameters: {weight: 0.3}}
  - {model: c, parameters: {weight: 0.5}}
merge_method: linear
dtype: float16
""",
    "ties with densities and weights over depth": TIES_OVER_DEPTH,
    "ties without normalisation": """
models:
  - {model: a, parameters: {density: 0.5, weight: 0.5}}
  - {model: b, parameters: {density: 0.5, weight: 0.5}}
merge_method: ties
base_model: base
parameters: {normalize: false, int8_mask: true}
dtype: float16
""",
    "slerp of slices by parts of a layer": f"""
slices:
  - sources:
      - {{model: a, layer_range: [0, {LAYERS}]}}
      - {{model: b, layer_range: [0, {LAYERS}]}}
merge_method: slerp
base_model: a
{SLERP_PARTS}""",
    "slerp of models by parts of a layer": f"""
models: [{{model: a}}, {{model: b}}]
merge_method: slerp
base_model: a
{SLERP_PARTS}""",
    "slerp towards the base that is not listed": """
models: [{model: a}]
merge_method: slerp
base_model: base
parameters: {t: [0, 1, 0]}
""",
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
    "arcee_fusion": """
models: [{model: a}, {model: b}]
merge_method: arcee_fusion
base_model: a
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
    "dare_ties without densities": """
models:
  - {model: base, parameters: {weight: 1}}
  - {model: a, parameters: {weight: 0.4}}
  - {model: b, parameters: {weight: 0.6}}
merge_method: dare_ties
base_model: base
""",
    "dare_linear, normalized and not rescaled": """
models:
  - {model: a, parameters: {density: 0.9, weight: [0.2, 0.8]}}
  - {model: b, parameters: {density: [0.1, 1], weight: 0.5}}
merge_method: dare_linear
base_model: base
parameters: {normalize: true, rescale: false}
""",
    "task arithmetic with a negative weight": """
models:
  - {model: a, parameters: {weight: 1.0}}
  - {model: b, parameters: {weight: -0.5}}
merge_method: task_arithmetic
base_model: base
parameters: {normalize: false, lambda: 0.8}
dtype: bfloat16
""",
    "della with epsilon and lambda": """
models:
  - {model: a, parameters: {density: 0.7, weight: 0.6, epsilon: 0.1}}
  - {model: b, parameters: {density: [0.5, 0.4], weight: 0.4, epsilon: 0.2}}
merge_method: della
base_model: base
parameters: {lambda: 1.1, normalize: true, int8_mask: true}
""",
    "della_linear with densities from 0 to 1": """
models:
  - {model: a, parameters: {density: 1, weight: 0.6, epsilon: 0}}
  - {model: b, parameters: {density: 0, weight: 0.4}}
merge_method: della_linear
base_model: base
""",
    "breadcrumbs": """
models:
  - {model: a, parameters: {density: 0.9, gamma: 0.01, weight: 0.5}}
  - {model: b, parameters: {density: 0.7, gamma: 0.05, weight: 0.5}}
merge_method: breadcrumbs
base_model: base
parameters: {normalize: true}
""",
    "breadcrumbs_ties": """
models:
  - {model: a, parameters: {density: [0, 0.9], weight: 0.5}}
  - {model: b, parameters: {gamma: [0.1, 0.0], weight: 0.5}}
merge_method: breadcrumbs_ties
base_model: base
parameters: {density: 0.8, gamma: 0.01, normalize: true, int8_mask: true}
""",
    "model_stock": """
models: [{model: base}, {model: a}, {model: b}, {model: c}]
merge_method: model_stock
base_model: base
parameters: {filter_wise: false}
dtype: bfloat16
tokenizer_source: base
""",
    "linear without normalisation": """
models:
  - {model: a, parameters: {weight: 0.7}}
  - {model: b, parameters: {weight: 0.7}}
merge_method: linear
parameters: {normalize: false, int8_mask: true}
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
    "nuslerp of task vectors by rows": """
models:
  - {model: a, parameters: {weight: 0.5}}
  - {model: b, parameters: {weight: 0.5}}
merge_method: nuslerp
base_model: base
parameters: {nuslerp_flatten: false, nuslerp_row_wise: false}
""",
    "sce": """
models: [{model: a}, {model: b}, {model: c}]
merge_method: sce
base_model: base
parameters: {select_topk: 0.1}
""",
    "karcher": """
models: [{model: a}, {model: b}, {model: c}]
merge_method: karcher
parameters: {max_iter: 20, tol: 1e-6}
tokenizer_source: b
""",
    "multislerp": """
models:
  - {model: a, parameters: {weight: [0.1, 0.9]}}
  - {model: b, parameters: {weight: 0.5}}
  - {model: c, parameters: {weight: 0.25}}
merge_method: multislerp
base_model: base
parameters: {normalize_weights: true, eps: 1e-8}
""",
    "nearswap": """
models: [{model: base}, {model: a}]
merge_method: nearswap
base_model: base
parameters: {t: [1e-3, 2e-2]}
""",
    "ram": "models: [{model: a}, {model: b}]\nmerge_method: ram\nbase_model: base",
    "ramplus_tl": """
models: [{model: a}, {model: b}]
merge_method: ramplus_tl
base_model: base
parameters: {r: 0.1, alpha: 0.2, epsilon: 1e-5}
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
