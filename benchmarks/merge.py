"""stockpot merge compared with mergekit: whole processes, in turn, on the same models.

Six bfloat16 models of 374 M parameters (748 MB each) are generated once in FOLDER. mergekit is
installed there in a separate environment, unless --mergekit names its command.

    python benchmarks/merge.py [FOLDER] [METHOD ...] [--rounds N] [--mergekit COMMAND] [--layers N]

Limit: the time to copy the same bytes (all inputs read, one output written) with `cat`, whose files
are then in the page cache. Shown are seconds, CPU seconds of all cores (more comparable if the
machine has other work), and the private memory of the process, without the page cache; `again` is
a second merge of the same models by stockpot, which knows their digests.
"""

from __future__ import annotations

import argparse
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


@dataclass(frozen=True)
class Case:
    """A merge: the number of models, which of them is the base, and mergekit's parameters."""

    count: int
    base: int | None = None
    parameters: str = "{}"
    weight: float | None = 0.2


CASES: Mapping[str, Case] = {
    "linear": Case(6),
    "slerp": Case(2, base=0, parameters="{t: 0.4}", weight=None),
    "nuslerp": Case(2),
    "karcher": Case(4, weight=None),
    "model_stock": Case(5, base=-1, weight=None),
    "ties": Case(5, base=-1, parameters="{density: 0.2}"),
    "dare_ties": Case(5, base=-1, parameters="{density: 0.5}"),
    "della": Case(5, base=-1, parameters="{density: 0.5, epsilon: 0.1}"),
    "breadcrumbs": Case(5, base=-1, parameters="{density: 0.9, gamma: 0.01}"),
    "sce": Case(5, base=-1, parameters="{select_topk: 0.1}", weight=None),
}


@dataclass(frozen=True)
class Measured:
    """One run of a command: seconds, CPU seconds of all cores, peak private memory in GB."""

    seconds: float
    cpu_seconds: float
    peak: float


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("merge-benchmark"))
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"of {[*CASES]}")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--mergekit", type=Path, help="the command mergekit-yaml")
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the generated models")
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    names = [f"model{number}-{asked.layers}" for number in range(NUM_MODELS)]
    models = [make_model(folder / name, n, asked.layers) for n, name in enumerate(names)]
    mergekit = asked.mergekit or install_mergekit(folder / "mergekit-environment")
    print(
        f"{'method':<12} {'mergekit':>27} {'stockpot':>27} {'ratio':>7} {'of CPU':>7} "
        f"{'again':>8} {'cat':>7}"
    )
    for method in asked.methods or CASES:
        print(f"{method:<12} {compare(method, models, mergekit, folder, asked.rounds)}", flush=True)


def compare(method: str, models: Sequence[Path], mergekit: Path, folder: Path, rounds: int) -> str:
    """Merge by one method with both tools; return the row of the table."""
    case, config, out = CASES[method], folder / f"{method}.yaml", folder / "out"
    config.write_text(merge_file(method, case, models[: case.count]))
    ours = [str(Path(sys.executable).with_name("stockpot")), "merge", str(config), str(out)]
    runs: dict[str, list[Measured]] = {"mergekit": [], "stockpot": [], "again": []}
    copied = []
    for _ in range(rounds):
        copied.append(copy_seconds(models[: case.count], folder))
        shutil.rmtree(folder / "cache", ignore_errors=True)
        for tool, measured in runs.items():
            shutil.rmtree(out, ignore_errors=True)
            command = [str(mergekit), str(config), str(out)] if tool == "mergekit" else ours
            measured.append(run(command, folder))
    again = statistics.median(one.seconds for one in runs["again"])
    both = row(runs["mergekit"], runs["stockpot"])
    return f"{both} {again:6.1f} s {statistics.median(copied):5.1f} s"


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
    return f"{shown[0]:>27} {shown[1]:>27} {ratios}"


def make_model(folder: Path, seed: int, num_layers: int = LAYERS) -> Path:
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
    for layer in range(num_layers):
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
        "num_hidden_layers": num_layers,
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


def merge_file(method: str, case: Case, models: Sequence[Path]) -> str:
    """Return a merge file in mergekit's format; a base that comes last is not merged itself."""
    weight = "" if case.weight is None else f", parameters: {{weight: {case.weight}}}"
    base = "" if case.base is None else f"base_model: {models[case.base]}\n"
    merged = models[:-1] if case.base == -1 else models
    listed = "".join(f"  - {{model: {model}{weight}}}\n" for model in merged)
    return (
        f"merge_method: {method}\n{base}models:\n{listed}parameters: {case.parameters}\n"
        "dtype: bfloat16\n"
    )


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
    own = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    own.pop("PYTHONDONTWRITEBYTECODE", None)  # code that is installed is compiled already
    with subprocess.Popen(
        command, cwd=folder, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        drained = threading.Thread(target=process.stderr.read if process.stderr else str)
        drained.start()
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(0.1)  # asking more often would slow the process down
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
