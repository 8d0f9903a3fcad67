from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from written_predictions import KINDS, RIGHT, keep_predictions, outputs_of, targets_of

from stockpot.judging.job import JudgingJob
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec


@pytest.fixture
def job(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> JudgingJob:
    """Four models with written predictions; ingredient-00 is more certain than ingredient-01."""
    spec = make_spec()
    targets = targets_of(spec)
    models = []
    for number, (name, right) in enumerate(RIGHT.items()):
        weight = torch.full((2, 2), float(number))
        val = sum(right["val"]) / 6
        model = save_model(weight, name, KINDS.get(name, "soup"), val=val)
        margin = 3.0 if name == "ingredient-00" else 1.0
        keep_predictions(
            tmp_path, spec, model, {n: outputs_of(targets[n], right[n], margin) for n in right}
        )
        models.append(model)
    return JudgingJob(tmp_path, spec, tuple(models), bootstrap=200, confidence=0.9)
