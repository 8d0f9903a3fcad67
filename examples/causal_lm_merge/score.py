"""Print the perplexity of all models on the test texts.

python score.py
"""

from __future__ import annotations

from train import LENGTH, MODELS, TEXTS

from stockpot.scoring.metrics import metrics_of
from stockpot.storage.checkpoints import load_tensors
from stockpot.workloads import build_workload
from stockpot.workloads.passes import Examples, empty_model, put_weights

MODELS_SHOWN = ("base", "code", "prose", "linear", "ties")


def main() -> None:
    """Print one row per model."""
    print(f"{'perplexity on':>14}{'code':>9}{'prose':>9}{'both':>9}")
    for name in MODELS_SHOWN:
        scores = [perplexity(name, texts) for texts in ("code", "prose", "both")]
        print(f"{name:>14}" + "".join(f"{score:9.2f}" for score in scores))


def perplexity(name: str, texts: str) -> float:
    """Score the model in a folder on the test split of texts."""
    options = {"model": str(MODELS / name), "data": str(TEXTS / texts), "max_length": LENGTH}
    workload = build_workload("causal_lm", seed=0, options=options)
    net = empty_model(workload, "cpu")
    put_weights(net, load_tensors(MODELS / name / "model.safetensors"))
    examples = Examples(workload, workload.dataset("test"), "cpu")
    metric = metrics_of(workload)["perplexity"]
    return metric.value(examples.outputs(net), examples.targets)


if __name__ == "__main__":
    main()
