"""Everything on every kind of workload: it works with finite results, or it is refused in words.

Merge methods with their preparations, selections, searches, diagnostics and fine-tuning techniques
meet a conv net, a net with BatchNorm, a regression with two outputs, a tiny BERT and a tiny Llama.
A score that is recorded is that of the weights that were saved.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_transformers import write_bert, write_csv, write_llama

from stockpot.config import load_experiment
from stockpot.diagnostics.registry import DIAGNOSTICS
from stockpot.errors import InputError
from stockpot.experiment.jobs.diagnosing import diagnose_models
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import inputs_key
from stockpot.merging.registry import METHODS
from stockpot.scoring.val_scores import ValScorer
from stockpot.soups.selection.registry import SELECTIONS
from stockpot.soups.tuning.registry import SEARCHES
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Failure, Model
from stockpot.storage.project import Project

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("default")]

SENTENCES = ("the film is good", "it is a very fine book", "a poor film", "the book is bad")


def _digits(_folder: Path) -> dict[str, Any]:
    return {"name": "digits"}


def _batch_norm(folder: Path) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    points = torch.randn(160, 3, generator=draw).tolist()
    rows = [{"x": f"{x}", "y": f"{y}", "z": f"{z}", "label": str(x > y)} for x, y, z in points]
    data = str(write_csv(folder / "rows.csv", rows))
    return {"name": "tabular", "options": {"data": data, "target": "label"}}


def _two_outputs(_folder: Path) -> dict[str, Any]:
    return {"name": "crossing_workloads:TwoOutputs"}


def _bert(folder: Path) -> dict[str, Any]:
    rows = [{"text": text, "label": str("good" in text or "fine" in text)} for text in SENTENCES]
    for split in ("train", "val", "test"):
        write_csv(folder / "texts" / f"{split}.csv", _other_texts(rows, split))
    options = {"model": str(write_bert(folder / "bert")), "data": str(folder / "texts")}
    return {"name": "text_classification", "options": options}


def _llama(folder: Path) -> dict[str, Any]:
    rows = [{"text": text} for text in SENTENCES]
    for split in ("train", "val", "test"):
        write_csv(folder / "texts" / f"{split}.csv", _other_texts(rows, split))
    options = {"model": str(write_llama(folder / "llama")), "data": str(folder / "texts")}
    return {"name": "causal_lm", "options": options}


def _other_texts(rows: list[dict[str, str]], split: str) -> list[dict[str, str]]:
    """Return each row four times, with other words in front in each split."""
    words = {"train": ("a", "the", "very", "long"), "val": ("it", "is"), "test": ("poor", "bad")}
    return [row | {"text": f"{word} {row['text']}"} for word in words[split] for row in rows]


KINDS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "conv net": _digits,
    "batch norm": _batch_norm,
    "two outputs": _two_outputs,
    "bert": _bert,
    "llama": _llama,
}


class Kitchen:
    """A base and three ingredients on one workload, from which every item starts."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.root, self.kind = folder, kind
        workload = KINDS[kind](folder)
        self.params: dict[str, Any] = {
            "workload": workload | {"val_shifts": [], "test_shifts": []},
            "base": {"epochs": 1, "batch_size": 16},
            "sweep": {
                "size": 3,
                "min_ingredients": 2,
                "space": {"learning_rate": {"log_uniform": [1e-3, 1e-2]}, "epochs": 1},
                "precheck": {"on_fail": "warn"},
            },
            "soups": [{"name": "uniform", "select": "uniform"}],
            "diagnose": [],
        }
        plan = self.plan({})
        self._record(plan, "base", base=make_model(plan.base_job(), "cpu").to_json())
        made = [make_model(job, "cpu") for job in plan.ingredient_jobs()]
        assert all(isinstance(model, Model) for model in made)
        precheck = check_ingredients(plan.precheck_job(made), "cpu")  # type: ignore[arg-type]
        listed = [model.to_json() for model in made]
        self._record(plan, "sweep", ingredients=listed, failed=[], precheck=precheck)
        soups = [make_model(job, "cpu").to_json() for job in plan.soup_jobs()]
        self._record(plan, "soups", soups=soups)
        self._record(plan, "tune", tuned=[])
        self.scorer = ValScorer(plan.workload.build(), "cpu")

    def plan(self, changes: Mapping[str, Any]) -> Plan:
        params = self.root / "params.yaml"
        params.write_text(yaml.safe_dump({**self.params, **changes}, sort_keys=False))
        return Plan(Project(self.root, params), load_experiment(params, []))

    def check(self, job: Any) -> str:
        """Make a model; return why it was refused, or nothing after its scores were checked."""
        try:
            made = make_model(job, "cpu")
        except InputError as error:
            return str(error)
        if isinstance(made, Failure):
            return made.reason
        state = load_tensors(self.root / made.path)
        numbers = [tensor for tensor in state.values() if tensor.is_floating_point()]
        assert all(tensor.isfinite().all() for tensor in numbers)
        assert all(math.isfinite(score) for score in made.scores.values()), made.scores
        if made.num_nets == 1:
            expected = self.scorer.val(state)
            name = next(name for name in made.scores if name.startswith("val/"))
            assert made.scores[name] == pytest.approx(expected, rel=1e-6, abs=1e-6)
        return ""

    def refused(self, changes: Mapping[str, Any], jobs: str) -> list[str]:
        """Run all jobs of a stage with changed params; return the reasons of refusals."""
        try:
            made = list(getattr(self.plan(changes), jobs)())
        except InputError as error:
            return [str(error)]
        return [reason for job in made if (reason := self.check(job))]

    def _record(self, plan: Plan, stage: str, **made: Any) -> None:
        content = {"inputs": inputs_key(plan, stage), "files": {}, **made}
        write_manifest(self.root, stage, content)


@pytest.fixture(scope="module", params=KINDS)
def kitchen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kitchen:
    return Kitchen(tmp_path_factory.mktemp("kitchen"), request.param)


# What is refused, and a part of the reason; on one kind of workload, or on all of them.
REFUSED: Mapping[tuple[str, str], str] = {
    # These merge one model with the base.
    ("all", "arcee_fusion"): "merges 1 models",
    ("all", "passthrough"): "merges 1 models",
    ("all", "wise_ft"): "merges 1 models",
    ("all", "pma_ema"): "merges checkpoints of one run",
    ("all", "pma_wma"): "merges checkpoints of one run",
    ("all", "wsm"): "merges checkpoints of one run",
    ("two outputs", "select soce"): "needs two groups of val examples",
    ("llama", "select soce"): "needs two groups of val examples",
    ("all", "posterior_product"): "needs tensors of fields of binary weights",
    ("all", "weight_signatures"): "needs ingredients trained on clean and on corrupted data",
    ("conv net", "ghost_batch"): "must have BatchNorm layers",
    ("two outputs", "ghost_batch"): "must have BatchNorm layers",
    ("bert", "ghost_batch"): "must have BatchNorm layers",
    ("llama", "ghost_batch"): "must have BatchNorm layers",
    ("batch norm", "cutmix"): "inputs must be images",
    ("two outputs", "cutmix"): "inputs must be images",
    ("bert", "cutmix"): "inputs must be images",
    ("llama", "cutmix"): "inputs must be images",
    ("batch norm", "bone"): "must divide inputs and outputs",
    ("batch norm", "eva"): "adapter_init",
    ("conv net", "templates"): "needs trained linear or convolution layers",
    ("batch norm", "templates"): "needs trained linear or convolution layers",
    ("two outputs", "templates"): "needs trained linear or convolution layers",
    ("two outputs", "entropy"): "must have a workload of classification",
    ("llama", "entropy"): "must have a workload of classification",
    ("two outputs", "label_smoothing"): "has no classes",
    ("two outputs", "eva"): "adapter_rank",
    ("two outputs", "gradient_norm"): "needs a workload whose task is classification",
    ("llama", "gradient_norm"): "needs a workload whose task is classification",
    ("two outputs", "kept_data"): "needs a workload whose task is classification",
    ("llama", "kept_data"): "needs a workload whose task is classification",
    ("bert", "mixup"): "inputs must be floating-point",
    ("llama", "mixup"): "inputs must be floating-point",
    ("llama", "label_smoothing"): "must be 0, since outputs are losses of tokens",
    ("llama", "frozen"): "must match the name of a tensor",
    ("llama", "bag_size"): "needs a workload whose task is classification or regression",
    ("llama", "gradient"): "must have a workload of classification or regression",
    ("batch norm", "corruption"): "needs a workload with a method corrupt",
    ("two outputs", "corruption"): "needs a workload with a method corrupt",
    ("bert", "corruption"): "needs a workload with a method corrupt",
    ("llama", "corruption"): "needs a workload with a method corrupt",
}


def assert_refused_as_known(kind: str, refusals: Mapping[str, list[str]]) -> None:
    """Refusals are sentences, and those of the table above."""
    for name, reasons in refusals.items():
        for reason in reasons:
            assert len(reason.split()) >= 5, f"{name}: {reason}"
            assert "Traceback" not in reason, f"{name}: {reason}"
    unknown = {
        name: reasons[0]
        for name, reasons in refusals.items()
        if reasons and not (_known(kind, name) and _known(kind, name) in reasons[0])
    }
    allowed = [name for name in refusals if _known(kind, name) and not refusals[name]]
    assert (unknown, allowed) == ({}, []), json.dumps(unknown, indent=2)


def _known(kind: str, name: str) -> str:
    return REFUSED.get((kind, name), REFUSED.get(("all", name), ""))


# Options that a method cannot do without, and how many models those of a fixed number merge.
OPTIONS: Mapping[str, dict[str, float]] = {"slerp": {"t": 0.4}, "nearswap": {"t": 0.01}}
TWO = ("slerp", "nuslerp", "nuslerp_rows", "nearswap")


def test_every_merge_method(kitchen: Kitchen) -> None:
    refusals = {}
    for method in METHODS:
        soup: dict[str, Any] = {"name": "made", "select": "uniform", "method": method}
        if method in TWO:
            soup["ingredients"] = ["ingredient-00", "ingredient-01"]
        soup["options"] = OPTIONS.get(method, {})
        refusals[method] = kitchen.refused({"soups": [soup]}, "soup_jobs")

    assert_refused_as_known(kitchen.kind, refusals)


def test_every_selection(kitchen: Kitchen) -> None:
    options = {"given": {"members": ["ingredient-00"]}, "top_k": {"k": 2}}
    refusals = {}
    for name in SELECTIONS:
        soup = {"name": "made", "select": name, **options.get(name, {})}
        refusals[f"select {name}"] = kitchen.refused({"soups": [soup]}, "soup_jobs")

    assert_refused_as_known(kitchen.kind, refusals)


def test_every_search(kitchen: Kitchen) -> None:
    options = {"optuna": {"trials": 4}, "gradient": {"epochs": 1}, "entropy": {"steps": 3}}
    refusals = {}
    for name in SEARCHES:
        tuning = {"name": "made", "search": name, **options.get(name, {})}
        refusals[name] = kitchen.refused({"tune": [tuning]}, "tuning_jobs")

    assert_refused_as_known(kitchen.kind, refusals)


def test_every_diagnostic(kitchen: Kitchen) -> None:
    refusals: dict[str, list[str]] = {}
    jobs = kitchen.plan({"diagnose": "all"}).diagnostic_jobs()
    for job in jobs:
        refusals[job.name] = []
        try:
            finding = diagnose_models(job, "cpu")
        except InputError as error:
            refusals[job.name] = [str(error)]
        else:
            json.dumps(finding.to_json(), allow_nan=False)

    assert len(jobs) == len(list(DIAGNOSTICS))
    assert_refused_as_known(kitchen.kind, refusals)


# One or more values that turn each technique on. Compilation takes minutes and has its own tests.
ON: Mapping[str, dict[str, Any]] = {
    "label_smoothing": {"label_smoothing": 0.1},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "augmentation": {"augmentation": 0.3},
    "sgd": {"optimizer": "sgd", "nesterov": 1},
    "adamp": {"optimizer": "adamp"},
    "sgdp": {"optimizer": "sgdp"},
    "linear": {"schedule": "linear"},
    "cosine": {"schedule": "cosine"},
    "one_cycle": {"schedule": "one_cycle"},
    "cosine_power": {"schedule": "cosine_power", "min_lr": 1e-5},
    "clip_norm": {"clip_norm": 1.0},
    "accumulation": {"accumulation": 2},
    "bf16": {"precision": "bf16"},
    "layer_decay": {"layer_decay": 0.7},
    "frozen": {"frozen": "*bias*"},
    "ema": {"average": "ema"},
    "swa": {"average": "swa", "swa_start": 0.0, "average_start": 1},
    "lawa": {"average": "lawa"},
    "sam": {"sam_radius": 0.05},
    "patience": {"patience": 1},
    "lora": {"adapter": "lora", "adapter_rank": 2},
    "dora": {"adapter": "dora", "adapter_rank": 2},
    "bone": {"adapter": "bone", "adapter_rank": 2},
    "miss": {"adapter": "miss", "adapter_rank": 2},
    "tucker": {"adapter": "tucker", "adapter_rank": 2},
    "eva": {"adapter": "lora", "adapter_rank": 2, "adapter_init": "eva"},
    "ghost_batch": {"ghost_batch": 4},
    "reference_batch": {"reference_batch": 4},
    "gradient_norm": {"sampler": "gradient_norm", "sampler_mix": 0.5},
    "kept_data": {"kept_data": 0.5},
    "grand": {"kept_data": 0.5, "difficulty": "grand"},
    "corruption": {"corruption": "noise"},
    "sparsity": {"sparsity": 0.5},
    "dynamic mask": {"sparsity": 0.5, "sparsity_update_every": 1, "sparsity_drop": 0.5},
    "shard": {"shards": 2, "shard": 2},
    "subspace": {"subspace": 8},
    "compander": {"compander": 1.2},
    "templates": {"templates": 1},
    "bag_size": {"bag_size": 2, "rho": 0.5},
    "anchor_kl": {"anchor": "base", "anchor_loss": "kl", "anchor_weight": 0.1},
    "anchor_distil": {"anchor": "base", "anchor_loss": "distil", "anchor_weight": 0.1},
    "anchor_l2": {"anchor": "base", "anchor_loss": "l2", "anchor_weight": 0.1},
}


def test_every_technique(kitchen: Kitchen) -> None:
    refusals = {}
    for name, values in ON.items():
        # The digits have hundreds of examples, the others few.
        batch_size = 64 if kitchen.kind == "conv net" else 8
        space = {"learning_rate": 0.001, "epochs": 1, "batch_size": batch_size}
        sweep = {"search": "list", "list": [values], "size": 1, "space": space}
        soup = {"name": "uniform", "select": "uniform", "masks": "union"}
        changes = {"sweep": sweep | {"min_ingredients": 1}, "soups": [soup]}
        refusals[name] = kitchen.refused(changes, "ingredient_jobs")

    assert_refused_as_known(kitchen.kind, refusals)
