"""stockpot merge against mergekit: whole processes, in turn, on the same generated models.

Six bfloat16 models of 374 M parameters (748 MB each) are made once in FOLDER, mergekit is
installed there in an environment of its own, and each method is run with both, ROUNDS times.

    python benchmarks/merge.py [FOLDER] [ROUNDS]

Limit: the time to copy the same bytes (all inputs read, one output written) with `cat`, printed
beside. Memory is what is private to the process: page cache is left out.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

MERGEKIT = "mergekit==0.1.5"
NUM_MODELS = 6
HIDDEN, INNER, VOCABULARY, LAYERS = 1024, 2816, 32000, 24

# Method, models, base, parameters: in mergekit's form, which both read.
CASES: Mapping[str, tuple[int, bool, str]] = {
    "linear": (6, False, ""),
    "slerp": (2, True, "parameters: {t: 0.4}"),
    "dare_ties": (5, True, "parameters: {density: 0.5}"),
    "ties": (5, True, "parameters: {density: 0.2}"),
}


def main() -> None:
    """Run all cases and print the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "merge-benchmark").absolute()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    models = [make_model(folder / f"model{number}", number) for number in range(NUM_MODELS)]
    mergekit = install_mergekit(folder / "mergekit-environment")
    stockpot = Path(sys.executable).with_name("stockpot")
    copied = statistics.median(copy_seconds(models, folder) for _ in range(rounds))
    print(f"copying the bytes of six models to one: {copied:.1f} s\n")
    print(f"{'method':<10} {'mergekit':>16} {'stockpot':>16} {'ratio':>7}")
    for method, (count, has_base, parameters) in CASES.items():
        config = folder / f"{method}.yaml"
        config.write_text(merge_file(method, models[:count], has_base, parameters))
        seconds: dict[str, list[float]] = {"mergekit": [], "stockpot": []}
        peaks: dict[str, list[float]] = {"mergekit": [], "stockpot": []}
        for _ in range(rounds):
            for tool, command in (
                ("mergekit", [str(mergekit), str(config), str(folder / "out")]),
                ("stockpot", [str(stockpot), "merge", str(config), str(folder / "out")]),
            ):
                shutil.rmtree(folder / "out", ignore_errors=True)
                took, peak = run(command, folder)
                seconds[tool].append(took)
                peaks[tool].append(peak)
        middle = {tool: statistics.median(values) for tool, values in seconds.items()}
        shown = [f"{middle[tool]:6.1f} s {max(peaks[tool]):4.1f} GB" for tool in seconds]
        ratio = middle["mergekit"] / middle["stockpot"]
        print(f"{method:<10} {shown[0]:>16} {shown[1]:>16} {ratio:>6.1f}x", flush=True)


def make_model(folder: Path, seed: int) -> Path:
    """Write a Llama-shaped model, unless it is there."""
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * 0.02).bfloat16()

    state = {
        "model.embed_tokens.weight": drawn(VOCABULARY, HIDDEN),
        "lm_head.weight": drawn(VOCABULARY, HIDDEN),
        "model.norm.weight": torch.ones(HIDDEN).bfloat16(),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("q", "k", "v", "o"):
            state[f"{prefix}.self_attn.{name}_proj.weight"] = drawn(HIDDEN, HIDDEN)
        for name in ("gate", "up"):
            state[f"{prefix}.mlp.{name}_proj.weight"] = drawn(INNER, HIDDEN)
        state[f"{prefix}.mlp.down_proj.weight"] = drawn(HIDDEN, INNER)
        for name in ("input", "post_attention"):
            state[f"{prefix}.{name}_layernorm.weight"] = torch.ones(HIDDEN).bfloat16()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "num_hidden_layers": LAYERS,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def install_mergekit(folder: Path) -> Path:
    """Make an environment with mergekit, unless it is there; return its command."""
    command = folder / "bin" / "mergekit-yaml"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet"]
        subprocess.run(
            [*pip, MERGEKIT, f"torch=={torch.__version__.partition('+')[0]}"], check=True
        )
    return command


def merge_file(method: str, models: Sequence[Path], has_base: bool, parameters: str) -> str:
    """Write a merge in mergekit's form; the last model is the base of task vectors."""
    is_slerp = method == "slerp"
    weight = "" if is_slerp else ", parameters: {weight: 0.2}"
    base = f"base_model: {models[0] if is_slerp else models[-1]}\n" if has_base else ""
    merged = models if is_slerp or not has_base else models[:-1]
    listed = "".join(f"  - {{model: {model}{weight}}}\n" for model in merged)
    return f"merge_method: {method}\n{base}models:\n{listed}{parameters}\ndtype: bfloat16\n"


def copy_seconds(models: Sequence[Path], folder: Path) -> float:
    """Time reading all models and writing as many bytes as one has, without a look at them."""
    files = " ".join(str(model / "model.safetensors") for model in models)
    target = folder / "copied"
    start = time.perf_counter()
    subprocess.run(
        f"cat {files} > /dev/null; cp {files.split()[0]} {target}", shell=True, check=True
    )
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def run(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a command; return its seconds and its peak of private memory in GB."""
    peak = 0
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        drained = threading.Thread(target=process.stderr.read if process.stderr else str)
        drained.start()
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(0.02)
        drained.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return time.perf_counter() - start, peak / 1e9


def anonymous_bytes(pid: int) -> int:
    """Return the memory of a process that no file backs."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:")]
    return found[0] if found else 0


if __name__ == "__main__":
    main()
