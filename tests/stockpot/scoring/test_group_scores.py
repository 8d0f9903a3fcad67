"""Val scores by class and by shift, from cached predictions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stockpot.scoring.group_scores import group_scores
from stockpot.scoring.val_scores import score_on_val
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

WORKLOAD = WorkloadSpec(
    "toy_workload:Toy", 0, ("far",), options=(("closed", "test"), ("sizes", "60,4"))
)


def test_groups_are_the_classes_of_val_and_its_shifts(tmp_path: Path) -> None:
    weight = torch.diag(torch.tensor([1.0, 0.3]))
    saved = Store(tmp_path).save("ingredient", "k", "one", {"weight": weight}, {})
    model = score_on_val(tmp_path, WORKLOAD, saved, "cpu")

    found = group_scores(tmp_path, WORKLOAD, [model, model])

    points, labels = WORKLOAD.build().dataset("val").tensors
    is_right = (points @ weight.mT).argmax(dim=1) == labels
    expected = {f"class {k}": is_right[labels == k].float().mean().item() for k in (0, 1)}
    expected["val_shift/far"] = model.scores["val_shift/far/accuracy"]
    assert found.keys() == expected.keys()
    for name, score in expected.items():
        assert found[name] == pytest.approx([score, score])
