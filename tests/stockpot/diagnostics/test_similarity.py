from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_context import initial_state, make_context, moved
from poisoned_sweep import State, make_digits, quick_sweep

from stockpot.diagnostics.similarity import cluster, foreign, similarity
from stockpot.merging.methods.inner_products import cosines_of, task_vector_gram


def _vectors(*rows: tuple[float, float]) -> list[State]:
    return [{"w": torch.tensor(row), "steps": torch.tensor(3)} for row in rows]


def test_products_are_of_task_vectors_over_all_weights_and_nothing_else() -> None:
    base = {
        "a": torch.tensor([1.0, 1.0]),
        "b": torch.tensor([[0.0]], dtype=torch.bfloat16),
        "n.running_mean": torch.zeros(1),
        "steps": torch.tensor(0),
    }
    first = base | {"a": torch.tensor([2.0, 1.0]), "b": torch.tensor([[2.0]]).bfloat16()}
    second = base | {"a": torch.tensor([0.0, 3.0]), "n.running_mean": torch.ones(1)}

    gram = task_vector_gram([first, second], base)

    assert gram.tolist() == [[5.0, -1.0], [-1.0, 5.0]]
    assert gram.dtype == torch.float64


def test_cosines_are_exact_for_long_vectors_and_zero_for_a_vector_of_zeros() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 300_000, generator=generator)
    states = [{"w": row} for row in (*rows, rows[0], torch.zeros(300_000))]

    cosines = cosines_of(task_vector_gram(states, {"w": torch.zeros(300_000)}))

    expected = torch.nn.functional.cosine_similarity(rows[0].double(), rows[1].double(), dim=0)
    assert float(cosines[0, 1]) == pytest.approx(float(expected), abs=1e-12)
    assert float(cosines[0, 2]) == pytest.approx(1, abs=1e-12)
    assert cosines[3].tolist() == [0, 0, 0, 1]


def test_clusters_are_those_beyond_the_cut_and_their_members_stand_together() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    found = cluster(unit @ unit.T, cut=0.5)

    assert found["labels"] == [0, 1, 0, 1]
    assert abs(found["order"].index(0) - found["order"].index(2)) == 1
    assert len(found["links"]) == 3
    assert found["links"][-1][3] == 4


def test_orthogonal_task_vectors_accuse_nobody() -> None:
    names = ["a", "b", "c", "d"]

    assert foreign(names, np.eye(4), [1.0] * 4) == []


def test_a_task_vector_that_is_too_short_to_matter_accuses_nobody() -> None:
    cosines = np.full((5, 5), 0.8)
    cosines[4] = cosines[:, 4] = 0.0
    np.fill_diagonal(cosines, 1)
    names = list("abcde")

    assert [alert.model for alert in foreign(names, cosines, [1.0] * 5)] == ["e"]
    assert foreign(names, cosines, [1.0] * 4 + [0.1]) == []


def test_ingredients_of_one_base_are_one_group(tmp_path: Path) -> None:
    sweep = quick_sweep()

    finding = similarity(make_context(tmp_path, sweep.base, sweep.good[:5]))

    assert "one cluster" in finding.sentence
    assert finding.metrics["num_clusters"] == 1
    assert finding.alerts == ()
    json.dumps(finding.to_json(), allow_nan=False)


def test_an_ingredient_of_another_start_is_named_and_stands_alone(tmp_path: Path) -> None:
    sweep = quick_sweep()
    states = [*sweep.good[:3], sweep.other_start, *sweep.good[3:5]]

    finding = similarity(make_context(tmp_path, sweep.base, states))

    assert [alert.model for alert in finding.alerts] == ["ingredient-03"]
    assert finding.data["labels"] == [0, 0, 0, 1, 0, 0]
    assert "ingredient-03 should not be averaged with the others" in finding.sentence


def test_unusual_sets_of_ingredients_are_said_in_words(tmp_path: Path) -> None:
    base = initial_state(make_digits())
    strangers = [moved(base, 1.0, seed) for seed in range(3)]

    alone = similarity(make_context(tmp_path / "one", base, [base]))
    equal = similarity(make_context(tmp_path / "equal", base, strangers[:1] * 2))
    unmoved = similarity(make_context(tmp_path / "unmoved", base, [base, base]))
    apart = similarity(make_context(tmp_path / "apart", base, strangers))

    assert alone.data == {}
    assert equal.data["cosines"] == [[1, 1], [1, 1]]
    assert "some are equal to the base" in unmoved.sentence
    assert "nearly orthogonal" in apart.sentence
