"""Largest differences between merges of stockpot and mergekit, on two small architectures.

A Llama and a BERT from transformers, float32; both tools read the same merge files, in mergekit's
format. mergekit is installed in a separate environment in FOLDER and runs there. A difference is
relative to the largest weight of its tensor. Where entries are dropped at random, stockpot uses the
masks that mergekit drew.

A second table is about unequal vocabularies: rows of embeddings and heads are compared token by
token, and every token must be in both results.

A third table shows rounding: the fraction of entries of a linear merge of bfloat16 models that are
the bfloat16 number nearest to the exact result.

    python benchmarks/merge_parity.py [FOLDER]
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import torch
from merge import install_mergekit
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

from stockpot.disk_merging.job import MergeJob
from stockpot.merging.recipe import Recipe
from stockpot.storage.weights.tensor_names import token_axis

SHAPES = ("llama", "bert")
SHAPES_OF_WORDS = ("words", "tied")  # a Llama without and with a tied head
WEIGHTS = (0.5, 0.3, 0.4)
LIMIT = 1e-6

# Densities are such that all sizes give whole numbers of entries: otherwise stockpot rounds to the
# nearest and mergekit rounds down, so that one entry per tensor may differ.
# Method: number of models, whether there is a base, whether models have weights, parameters.
CASES: Mapping[str, tuple[int, bool, bool, str]] = {
    "linear": (3, False, True, ""),
    "slerp": (2, True, False, "t: 0.4"),
    "nuslerp": (2, False, True, ""),
    "multislerp": (3, False, True, ""),
    "karcher": (3, False, False, ""),
    "task_arithmetic": (3, True, True, "lambda: 0.7"),
    "ties": (3, True, True, "density: 0.5"),
    "dare_linear": (3, True, True, "density: 0.5"),
    "dare_ties": (3, True, True, "density: 0.5"),
    "breadcrumbs": (3, True, True, "density: 0.75, gamma: 0.0625"),
    "breadcrumbs_ties": (3, True, True, "density: 0.75, gamma: 0.0625"),
    "della": (3, True, True, "density: 0.5, epsilon: 0.1"),
    "della_linear": (3, True, True, "density: 0.5, epsilon: 0.1"),
    "model_stock": (3, True, False, ""),
    "sce": (3, True, False, "select_topk: 0.5"),
    "nearswap": (2, True, False, "t: 0.01"),
    "arcee_fusion": (2, True, False, ""),
}

# Whole recipes, whose values differ between models and over depth; $1 to $3 and $base are models.
FORMS: Mapping[str, str] = {
    "ties over depth": """
        merge_method: ties
        base_model: $base
        models:
          - {model: $1, parameters: {density: [1, 0.75, 0.25], weight: 1.0}}
          - {model: $2, parameters: {density: 0.5, weight: [0, 0.3, 0.7, 1]}}
          - model: $3
            parameters: {density: 0.25, weight: [{filter: o, value: 0.5}, {value: 0}]}
        parameters: {normalize: true, int8_mask: true}""",
    "dare_ties from 0 to 1": """
        merge_method: dare_ties
        base_model: $base
        models:
          - {model: $1, parameters: {density: [0, 1], weight: 0.5}}
          - {model: $2, parameters: {density: 0.25, weight: 0.3}}
          - {model: $3, parameters: {density: 0, weight: [0.2, 0.9]}}""",
    "dare_linear unscaled": """
        merge_method: dare_linear
        base_model: $base
        models:
          - {model: $1, parameters: {density: 0.25, weight: [0.5, 1]}}
          - {model: $2, parameters: {weight: 0.3}}
        parameters: {density: 0.75, rescale: false, normalize: true, lambda: 0.9}""",
    "della with epsilons": """
        merge_method: della
        base_model: $base
        models:
          - {model: $1, parameters: {density: [0.5, 1], epsilon: 0.2, weight: 0.5}}
          - {model: $2, parameters: {density: 0.25, epsilon: [0, 0.125], weight: 0.3}}
          - {model: $3, parameters: {density: 0, weight: 0.9}}""",
    "della_linear over depth": """
        merge_method: della_linear
        base_model: $base
        models:
          - {model: $1, parameters: {density: 0.75, epsilon: 0.2, weight: 0.5}}
          - {model: $2, parameters: {density: [0, 0.5], epsilon: 0, weight: 0.3}}""",
    "breadcrumbs from 0": """
        merge_method: breadcrumbs
        base_model: $base
        models:
          - {model: $1, parameters: {density: [0, 0.75], gamma: 0.0625, weight: 0.5}}
          - {model: $2, parameters: {density: 0.5, gamma: [0.0625, 0.1875], weight: 0.3}}
        parameters: {normalize: true}""",
    "breadcrumbs_ties mean": """
        merge_method: breadcrumbs_ties
        base_model: $base
        models:
          - {model: $1, parameters: {density: 0.75, weight: 0.5}}
          - {model: $2, parameters: {density: 0.5, gamma: 0.125, weight: 0.3}}
        parameters: {normalize: true, gamma: 0.0625}""",
    "slerp by parts": """
        merge_method: slerp
        base_model: $1
        models: [{model: $1}, {model: $2}]
        parameters:
          t:
            - {filter: self, value: [0, 0.5, 0.3, 0.7, 1]}
            - {filter: out, value: [1, 0.5, 0.7, 0.3, 0]}
            - value: [0.25, 0.75]""",
    "linear sum": """
        merge_method: linear
        models:
          - {model: $1, parameters: {weight: [0, 0.3, 1]}}
          - {model: $2, parameters: {weight: [{filter: self, value: -0.5}]}}
        parameters: {normalize: false, weight: 0.7}""",
    "linear with its base": """
        merge_method: linear
        base_model: $base
        models: [{model: $1}, {model: $2}]
        parameters: {weight: 1}""",
    "karcher with its base": """
        merge_method: karcher
        base_model: $base
        models: [{model: $1}, {model: $2}]
        parameters: {max_iter: 20, tol: 1e-7}""",
    "slices": """
        merge_method: ties
        base_model: $base
        parameters: {weight: [0.2, 0.8], density: 0.5}
        slices:
          - sources:
              - {model: $1, layer_range: [0, 2], parameters: {density: [0.25, 0.75]}}
              - {model: $2, layer_range: [0, 2], parameters: {weight: 0.3}}
              - {model: $base, layer_range: [0, 2]}
          - parameters: {density: 1}
            sources:
              - {model: $1, layer_range: [2, 3], parameters: {weight: [0.1, 0.6]}}
              - {model: $2, layer_range: [2, 3], parameters: {density: 0.5}}
              - {model: $base, layer_range: [2, 3]}""",
}

# The same for models with unequal vocabularies.
TOKENS: Mapping[str, str] = {
    "union of linear": """
        merge_method: linear
        models: [{model: $base}, {model: $1}, {model: $2}]
        parameters: {weight: 1}
        tokenizer: {source: union}""",
    "union of task_arithmetic": """
        merge_method: task_arithmetic
        base_model: $base
        models: [{model: $1, parameters: {weight: 0.5}}, {model: $2, parameters: {weight: 0.7}}]
        tokenizer_source: union""",
    "union of ties, padded": """
        merge_method: ties
        base_model: $base
        models: [{model: $1, parameters: {weight: 0.5}}, {model: $2, parameters: {weight: 0.7}}]
        parameters: {density: 1}
        tokenizer: {source: union, pad_to_multiple_of: 16}""",
    "base of slerp": """
        merge_method: slerp
        base_model: $base
        models: [{model: $base}, {model: $2}]
        parameters: {t: 0.4}
        tokenizer_source: base""",
    "a model's": """
        merge_method: linear
        base_model: $base
        models: [{model: $1}, {model: $2}]
        parameters: {weight: 1}
        tokenizer: {source: $2, pad_to_multiple_of: 7}""",
    "sources of tokens": """
        merge_method: linear
        models: [{model: $base}, {model: $1}, {model: $2}]
        parameters: {weight: 1}
        tokenizer:
          source: union
          tokens:
            <im>: {source: $1, force: true}
            x: {source: {kind: zero}}
            plain: {source: {kind: model_token, model: $2, token: y}}
            <t>: {source: {kind: model_token, model: $base, token_id: 3}, force: true}""",
    "union of slices": """
        merge_method: passthrough
        slices:
          - sources: [{model: $base, layer_range: [0, 2]}]
          - sources: [{model: $2, layer_range: [1, 3]}]
        tokenizer_source: union""",
}


def main() -> None:
    """Run all cases and print the tables."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "merge-benchmark").absolute() / "parity"
    mergekit = install_mergekit(folder.parent / "mergekit-environment")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [write_case(folder, shape, method) for method in CASES for shape in SHAPES]
    names += [write_form(folder, shape, form) for form in FORMS for shape in SHAPES]
    names += [write_form(folder, shape, form) for form in TOKENS for shape in SHAPES_OF_WORDS]
    rounding = [write_rounding_case(folder, shape) for shape in SHAPES]
    script = Path(__file__).with_name("mergekit_side.py")
    subprocess.run(
        [mergekit.with_name("python"), script, folder, *names, *rounding],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    shapes = "".join(f"{shape:>12}" for shape in SHAPES)
    print(f"{'method':<24}{shapes}{'entries > 1e-6':>18}")
    for case in (*CASES, *FORMS):
        found = [differences(folder, f"{shape}-{case}") for shape in SHAPES]
        shown = "".join(f"{float(relative.max()):>12.1e}" for relative in found)
        num_large = sum(int((relative > LIMIT).sum()) for relative in found)
        total = sum(len(relative) for relative in found)
        print(f"{case:<24}{shown}{f'{num_large} of {total}':>18}", flush=True)
    print(f"\n{'unequal vocabularies':<24}" + "".join(f"{s:>12}" for s in SHAPES_OF_WORDS))
    for form in TOKENS:
        largest = [difference_by_token(folder, f"{shape}-{form}") for shape in SHAPES_OF_WORDS]
        print(f"{form:<24}" + "".join(f"{found:>12.1e}" for found in largest), flush=True)
    print("\nentries of a linear merge in bfloat16 that are nearest to the exact result")
    for name in rounding:
        theirs, ours = merged_by_both(folder, name)
        shares = [share_nearest(folder, name, state) for state in (theirs, ours)]
        print(f"{name:<18}  mergekit {shares[0]:.2%}  stockpot {shares[1]:.3%}")


def write_case(folder: Path, shape: str, method: str) -> str:
    """Write a merge file in mergekit's format; return its name."""
    count, has_base, has_weights, parameters = CASES[method]
    is_pair = has_base and count == 2  # one of them is the base
    numbers = ["base", "1"] if is_pair else [str(number + 1) for number in range(count)]
    lines = [f"merge_method: {method}", "dtype: float32", "models:"]
    for number, weight in zip(numbers, WEIGHTS, strict=False):
        lines.append(f"  - model: {folder / f'{shape}-{number}'}")
        lines += [f"    parameters: {{weight: {weight}}}"] if has_weights else []
    lines += [f"base_model: {folder / f'{shape}-base'}"] if has_base else []
    lines += [f"parameters: {{{parameters}}}"] if parameters else []
    (folder / f"{shape}-{method}.yaml").write_text("\n".join(lines))
    return f"{shape}-{method}"


def write_form(folder: Path, shape: str, form: str) -> str:
    """Write one of `FORMS` or `TOKENS` for an architecture; return its name."""
    text = re.sub(
        r"\$(\w+)", lambda model: str(folder / f"{shape}-{model[1]}"), (FORMS | TOKENS)[form]
    )
    (folder / f"{shape}-{form}.yaml").write_text(f"{dedent(text)}\ndtype: float32\n")
    return f"{shape}-{form}"


def write_rounding_case(folder: Path, shape: str) -> str:
    """Write a merge file for a linear merge of bfloat16 models; return its name."""
    models = "".join(
        f"  - {{model: {folder / f'{shape}-{n + 1}-bfloat16'}, parameters: {{weight: {weight}}}}}\n"
        for n, weight in enumerate(WEIGHTS)
    )
    name = f"{shape}-rounding"
    text = f"merge_method: linear\nmodels:\n{models}dtype: bfloat16\n"
    (folder / f"{name}.yaml").write_text(text)
    return name


def differences(folder: Path, name: str) -> Tensor:
    """Return the difference of every entry, relative to its tensor's largest weight."""
    theirs, ours = merged_by_both(folder, name)
    return torch.cat([((theirs[n] - t) / t.abs().max()).abs().flatten() for n, t in ours.items()])


def difference_by_token(folder: Path, name: str) -> float:
    """Return the largest difference, relative to the largest weight of its tensor.

    Rows of embeddings and heads are compared by their tokens, whose ids may differ.
    """
    theirs, ours = merged_by_both(folder, name)
    ids = [
        AutoTokenizer.from_pretrained(folder / f"{name}.{tool}").get_vocab()
        for tool in ("theirs", "ours")
    ]
    tokens = sorted(ids[0])
    if sorted(ids[1]) != tokens or theirs.keys() != ours.keys():
        raise SystemExit(f"{name}: the results have other tokens or tensors")
    order = [[own[token] for token in tokens] for own in ids]
    largest = 0.0
    for tensor, one in theirs.items():
        pair = [one, ours[tensor]]
        if token_axis(tensor) == 0:
            padding = range(len(tokens), len(one))
            pair = [each[[*rows, *padding]] for each, rows in zip(pair, order, strict=True)]
        largest = max(largest, float((pair[0] - pair[1]).abs().max() / pair[0].abs().max()))
    return largest


def merged_by_both(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the result of mergekit, and that of stockpot for the same merge file."""
    masks = load_file(folder / f"{name}.masks")
    place = folder / f"{name}.ours"
    with_own_draws = Recipe.draws
    Recipe.draws = lambda recipe, _name: [GivenMasks(masks)] * len(recipe.coefficients)  # type: ignore[method-assign, assignment, misc, return-value]
    try:
        MergeJob.read(folder / f"{name}.yaml", place).run(lambda _bytes: None)
    finally:
        Recipe.draws = with_own_draws  # type: ignore[method-assign]
    return load_folder(folder / f"{name}.theirs"), load_folder(place)


@dataclass(frozen=True)
class GivenMasks:
    """The entries that mergekit kept, instead of `Draws`; masks by the SHA-256 of task vectors."""

    masks: Mapping[str, Tensor]

    def at(self, _start: int) -> GivenMasks:
        """Return this object: small tensors are merged in one run."""
        return self

    def kept(self, probability: Any, like: Tensor) -> Tensor:
        """Return mergekit's mask of a task vector: 1 for kept entries, 0 for the others."""
        if isinstance(probability, float | int) and probability == 1:
            return torch.ones_like(like)  # mergekit draws none
        key = hashlib.sha256(like.contiguous().numpy().tobytes()).hexdigest()
        return self.masks[key].to(like.dtype).view(like.shape)


def share_nearest(folder: Path, name: str, merged: Mapping[str, Tensor]) -> float:
    """Return the fraction of entries that are a bfloat16 number nearest to the exact mean."""
    shape = name.partition("-")[0]
    states = [load_folder(folder / f"{shape}-{n + 1}-bfloat16") for n in range(len(WEIGHTS))]
    num_nearest = sum(
        count_nearest(tensor, [state[n] for state in states]) for n, tensor in merged.items()
    )
    return num_nearest / sum(tensor.numel() for tensor in merged.values())


def count_nearest(merged: Tensor, tensors: Sequence[Tensor]) -> int:
    """Count the entries that are a bfloat16 number nearest to the exact mean.

    In 2 % of entries the exact mean is halfway between two bfloat16 numbers; its float64 value has
    an error of up to 1e-15, which must not decide between them.
    """
    exact = sum(t.double() * w for t, w in zip(tensors, WEIGHTS, strict=True)) / sum(WEIGHTS)
    error = (merged.double() - exact).abs() * (1 - 1e-9)
    bits = merged.view(torch.int16)
    neighbours = [(bits + step).view(torch.bfloat16).double() for step in (-1, 1)]
    is_nearest = [~((other - exact).abs() < error) for other in neighbours]
    return int((is_nearest[0] & is_nearest[1]).sum())


def load_folder(folder: Path) -> dict[str, Tensor]:
    """Read all weights of a folder."""
    return {
        name: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


if __name__ == "__main__":
    main()
