"""The example of Fashion-MNIST, on a few made-up images."""

from collections.abc import Callable
from pathlib import Path

import yaml
from idx_folders import write_idx_folder
from projects import REPOSITORY, ProjectFolder

EXAMPLE = REPOSITORY / "examples" / "fashion_mnist" / "params.yaml"


def test_the_example_judges_its_soups_on_the_shifts_it_names(
    make_project: Callable[..., ProjectFolder], tmp_path: Path
) -> None:
    params = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    project = make_project(**params)
    folder = write_idx_folder(tmp_path / "idx", num_train=200, num_test=40)
    sizes = {"pretrain_size": 50, "train_size": 100, "val_size": 50}
    options = {"data": str(folder), **sizes}

    finished = project.stockpot(
        "run",
        *("--set", f"workload.options={options}", "--set", "base.epochs=4"),
        *("--set", "sweep.size=3", "--set", "sweep.min_ingredients=2"),
        *("--set", "sweep.precheck.on_fail=warn", "--set", "diagnose=[]"),
        *(
            "--set",
            "tune=[]",
            "--set",
            "evaluate={bootstrap: 100, random_soups: 0, repeats: {m: 0}}",
        ),
    )

    assert finished.code == 0, finished.output
    assert "greedy" in finished.output
    judged = project.manifest("evaluate")
    assert {*params["workload"]["test_shifts"]} <= {*judged["test_shifts"]}
