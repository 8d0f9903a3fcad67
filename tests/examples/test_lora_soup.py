"""The example of LoRA soups: merged as full weights and as adapters, they are one soup."""

import json
import shutil
from collections.abc import Callable

from projects import REPOSITORY, ProjectFolder
from safetensors.torch import load_file
from torch.testing import assert_close


def test_the_soup_of_adapters_is_the_soup_of_full_weights(
    make_project: Callable[..., ProjectFolder],
) -> None:
    project = make_project()
    example = project.root / "lora_soup"
    shutil.copytree(REPOSITORY / "examples" / "lora_soup", example)
    settings = (
        *("sweep.size=3", "sweep.min_ingredients=2", "sweep.precheck.on_fail=warn"),
        *("base.epochs=2", "sweep.space.epochs=1"),
        "evaluate={bootstrap: 100, random_soups: 0, repeats: {m: 0}}",
    )

    finished = project.finish(
        "sh", "run.sh", *(part for setting in settings for part in ("--set", setting)), at=example
    )

    assert finished.code == 0, finished.output
    manifests = {
        name: json.loads((example / "results" / f"{name}.json").read_text())
        for name in ("sweep", "soups")
    }
    soup = next(one for one in manifests["soups"]["soups"] if one["name"] == "uniform")
    exact = load_file(example / "soups" / "exact.safetensors")
    assert_close(exact, load_file(example / soup["path"]), rtol=0, atol=1e-6)
    ranks = [
        model["hyperparameters"].get("adapter_rank", 8)
        for model in manifests["sweep"]["ingredients"]
    ]
    config = json.loads((example / "soups" / "exact" / "adapter_config.json").read_text())
    assert config["r"] == sum(ranks) > 8
    assert "rank 8, Frobenius error" in " ".join(finished.output.split())
