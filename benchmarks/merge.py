"""stockpot merge compared with mergekit: whole processes, alternately, on the same models.

Six bfloat16 models of 374 M parameters (748 MB each) are generated once in FOLDER, mergekit is
installed there in a separate environment, and each method is run with both tools, ROUNDS times.

    python benchmarks/merge.py [FOLDER] [ROUNDS] [METHOD ...]

Limit: the time to copy the same bytes (all inputs read, one output written) with `cat`, which is
printed too. Shown are seconds, CPU seconds of all cores (more comparable if the machine has other
work), and the private memory of the process, without the page cache.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

MERGEKIT = "mergekit==0.1.5"
NUM_MODELS = 6
HIDDEN, INNER, VOCABULARY, LAYERS = 1024, 2816, 32000, 24

# Method: number of models, whether there is a base, parameters in mergekit's format.
CASES: Mapping[str, tuple[int, bool, str]] = {
    "linear": (6, False, ""),
    "slerp": (2, True, "parameters: {t: 0.4}"),
    "dare_ties": (5, True, "parameters: {density: 0.5}"),
    "ties": (5, True, "parameters: {density: 0.2}"),
}


@dataclass(frozen=True)
class Measured:
    """One run of a command: seconds, CPU seconds of all cores, peak private memory in GB."""

    seconds: float
    cpu_seconds: float
    peak: float


def main() -> None:
    """Run the cases and print the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "merge-benchmark").absolute()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    chosen = sys.argv[3:] or [*CASES]
    models = [make_model(folder / f"model{number}", number) for number in range(NUM_MODELS)]
    mergekit = install_mergekit(folder / "mergekit-environment")
    stockpot = Path(sys.executable).with_name("stockpot")
    copied = statistics.median(copy_seconds(models, folder) for _ in range(rounds))
    print(f"copying the bytes of six models to one: {copied:.1f} s\n")
    print(f"{'method':<10} {'mergekit':>26} {'stockpot':>26} {'ratio':>7} {'of CPU':>7}")
    for method in chosen:
        count, has_base, parameters = CASES[method]
        config, out = folder / f"{method}.yaml", folder / "out"
        config.write_text(merge_file(method, models[:count], has_base, parameters))
        commands = {
            "mergekit": [str(mergekit), str(config), str(out)],
            "stockpot": [str(stockpot), "merge", str(config), str(out)],
        }
        runs: dict[str, list[Measured]] = {tool: [] for tool in commands}
        for _ in range(rounds):
            for tool, command in commands.items():
                shutil.rmtree(out, ignore_errors=True)
                runs[tool].append(run(command, folder))
        print(f"{method:<10} {row(runs['mergekit'], runs['stockpot'])}", flush=True)


def row(theirs: Sequence[Measured], ours: Sequence[Measured]) -> str:
    """Format the medians of both tools, and their ratios."""
    seconds = [statistics.median(one.seconds for one in runs) for runs in (theirs, ours)]
    cpu = [statistics.median(one.cpu_seconds for one in runs) for runs in (theirs, ours)]
    peaks = [max(one.peak for one in runs) for runs in (theirs, ours)]
    shown = [
        f"{s:6.1f} s {c:6.1f} CPU s {p:4.1f} GB"
        for s, c, p in zip(seconds, cpu, peaks, strict=True)
    ]
    ratios = f"{seconds[0] / seconds[1]:>6.1f}x {cpu[0] / cpu[1]:>6.1f}x"
    return f"{shown[0]:>26} {shown[1]:>26} {ratios}"


def make_model(folder: Path, seed: int) -> Path:
    """Write a Llama-shaped model unless it exists."""
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
    """Create an environment with mergekit unless it exists; return its command."""
    command = folder / "bin" / "mergekit-yaml"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet"]
        subprocess.run(
            [*pip, MERGEKIT, f"torch=={torch.__version__.partition('+')[0]}"], check=True
        )
    return command


def merge_file(method: str, models: Sequence[Path], has_base: bool, parameters: str) -> str:
    """Return a merge file in mergekit's format; the last model is the base of task vectors."""
    is_slerp = method == "slerp"
    weight = "" if is_slerp else ", parameters: {weight: 0.2}"
    base = f"base_model: {models[0] if is_slerp else models[-1]}\n" if has_base else ""
    merged = models if is_slerp or not has_base else models[:-1]
    listed = "".join(f"  - {{model: {model}{weight}}}\n" for model in merged)
    return f"merge_method: {method}\n{base}models:\n{listed}{parameters}\ndtype: bfloat16\n"


def copy_seconds(models: Sequence[Path], folder: Path) -> float:
    """Time reading all models and copying one, without processing."""
    files = " ".join(str(model / "model.safetensors") for model in models)
    target = folder / "copied"
    start = time.perf_counter()
    subprocess.run(
        f"cat {files} > /dev/null; cp {files.split()[0]} {target}", shell=True, check=True
    )
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def run(command: Sequence[str], folder: Path) -> Measured:
    """Run a command and measure it."""
    peak = 0
    before, start = os.times(), time.perf_counter()
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
    seconds, after = time.perf_counter() - start, os.times()
    cpu_seconds = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return Measured(seconds, cpu_seconds, peak / 1e9)


def anonymous_bytes(pid: int) -> int:
    """Return the anonymous memory of a process, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:")]
    return found[0] if found else 0


if __name__ == "__main__":
    main()
