"""Largest differences between stockpot's merges and mergekit's, on a small float32 model.

Both read the same merge files, in mergekit's form. mergekit is installed in an environment of its
own in FOLDER. What differs by more than 1e-6 of the largest weight is explained in the last
column: there mergekit departs from the paper, or draws its random numbers otherwise.

    python benchmarks/merge_parity.py [FOLDER]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from merge import install_mergekit
from safetensors import safe_open
from safetensors.torch import load_file, save_file

HIDDEN, INNER, VOCABULARY, LAYERS = 32, 96, 128, 3

# Densities are such that all sizes give whole counts: elsewhere we round to the nearest count and
# mergekit down, so that one entry a tensor may differ.
WEIGHTS = (0.5, 0.3, 0.4)
# Method: number of models, base, parameters of models, parameters, why it may differ.
CASES: Mapping[str, tuple[int, bool, str, str, str]] = {
    "linear": (3, False, "weight: {w}", "", ""),
    "slerp": (2, True, "", "t: 0.4", ""),
    "nuslerp": (2, False, "weight: {w}", "", ""),
    "multislerp": (3, False, "weight: {w}", "", ""),
    "karcher": (3, False, "", "", ""),
    "task_arithmetic": (3, True, "weight: {w}", "lambda: 0.7", ""),
    "ties": (3, True, "weight: {w}", "density: 0.5", ""),
    "breadcrumbs": (3, True, "weight: {w}", "density: 0.75, gamma: 0.0625", ""),
    "breadcrumbs_ties": (3, True, "weight: {w}", "density: 0.75, gamma: 0.0625", ""),
    "model_stock": (3, True, "", "", ""),
    "sce": (3, True, "", "select_topk: 0.5", ""),
    "nearswap": (2, True, "", "t: 0.01", ""),
    "arcee_fusion": (2, True, "", "", ""),
    "dare_linear": (3, True, "weight: {w}", "density: 0.5", "random: other draws"),
    "dare_ties": (3, True, "weight: {w}", "density: 0.5", "random: other draws"),
    "della": (3, True, "weight: {w}", "density: 0.5, epsilon: 0.1", "random: other draws"),
}


def main() -> None:
    """Run all cases and print the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "merge-benchmark").absolute()
    mergekit = install_mergekit(folder / "mergekit-environment")
    stockpot = Path(sys.executable).with_name("stockpot")
    base = make_model(folder / "small-base", 0, None)
    models = [make_model(folder / f"small{n}", n, base) for n in (1, 2, 3)]
    print(f"{'method':<18} {'largest difference':>19} {'of the largest weight':>22}")
    for method, (count, has_base, own, shared, why) in CASES.items():
        lines = [f"merge_method: {method}", "dtype: float32", "models:"]
        is_pair = has_base and count == 2
        listed = [base, *models[: count - 1]] if is_pair else models[:count]
        for model, weight in zip(listed, WEIGHTS, strict=False):
            lines.append(f"  - model: {model}")
            if own:
                lines.append(f"    parameters: {{{own.format(w=weight)}}}")
        lines += [f"base_model: {base}"] if has_base else []
        lines += [f"parameters: {{{shared}}}"] if shared else []
        config = folder / f"small-{method}.yaml"
        config.write_text("\n".join(lines))
        made = {}
        for tool, command in (
            ("mergekit", [mergekit, config, folder / "theirs"]),
            ("stockpot", [stockpot, "merge", config, folder / "ours"]),
        ):
            shutil.rmtree(command[-1], ignore_errors=True)
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                made[tool] = (done.stderr.strip() or done.stdout).splitlines()[-1]
        if made:
            print(f"{method:<18} {made}", flush=True)
            continue
        theirs, ours = (load_folder(folder / name) for name in ("theirs", "ours"))
        difference = max(float((theirs[n] - ours[n]).abs().max()) for n in ours)
        largest = max(float(tensor.abs().max()) for tensor in ours.values())
        print(f"{method:<18} {difference:>19.2e} {difference / largest:>22.2e}  {why}", flush=True)


def make_model(folder: Path, seed: int, base: Path | None) -> Path:
    """Write a small Llama-shaped model; with a base, one that was moved a little from it."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "lm_head.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("q", "k", "v", "o"):
            shapes[f"{prefix}.self_attn.{name}_proj.weight"] = (HIDDEN, HIDDEN)
        for name in ("gate", "up"):
            shapes[f"{prefix}.mlp.{name}_proj.weight"] = (INNER, HIDDEN)
        shapes[f"{prefix}.mlp.down_proj.weight"] = (HIDDEN, INNER)
        for name in ("input", "post_attention"):
            shapes[f"{prefix}.{name}_layernorm.weight"] = (HIDDEN,)
    state = {n: torch.randn(*shape, generator=generator) for n, shape in shapes.items()}
    if base is not None:
        # Fine-tuned models of one base share a part of what they learnt.
        shared = torch.Generator().manual_seed(99)
        common = {n: torch.randn(*shapes[n], generator=shared) for n in shapes}
        with safe_open(base / "model.safetensors", framework="pt") as opened:
            state = {n: opened.get_tensor(n) + 0.1 * (common[n] + t) for n, t in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": LAYERS,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def load_folder(folder: Path) -> dict[str, torch.Tensor]:
    """Read all weights of a folder."""
    return {
        name: tensor.float()
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


if __name__ == "__main__":
    main()
