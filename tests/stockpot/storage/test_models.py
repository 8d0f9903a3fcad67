from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.models import Failure, Model

SOUP = Model(
    name="greedy",
    kind="soup",
    key="0123456789abcdef0123",
    digest="ab" * 32,
    path="checkpoints/soups/0123456789abcdef0123.safetensors",
    bytes=1234,
    num_params=300,
    scores={"val/accuracy": 0.5},
    details={"recipe": {"select": "greedy"}, "coefficients": {"ingredient-00": 1.0}, "steps": []},
)

names = st.text(min_size=1)
details = st.dictionaries(
    names.filter(lambda name: name not in Model.__dataclass_fields__),
    st.none() | st.integers() | st.text() | st.lists(st.integers()),
)


def test_the_form_in_a_manifest_has_the_details_beside_the_fields() -> None:
    content = SOUP.to_json()

    assert content["recipe"] == {"select": "greedy"}
    assert content["coefficients"] == {"ingredient-00": 1.0}
    assert content["digest"] == SOUP.digest
    assert "details" not in content


@given(
    name=names,
    size=st.integers(0, 10**12),
    scores=st.dictionaries(names, st.floats(allow_nan=False)),
    more=details,
)
def test_a_model_survives_the_manifest(
    name: str, size: int, scores: dict[str, float], more: dict[str, object]
) -> None:
    model = Model(name, "soup", "k", "d", "p", size, 3, scores, more)

    assert Model.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_scored_changes_the_scores_alone() -> None:
    scored = SOUP.scored({"val/accuracy": 0.9, "val/loss": 0.1})

    assert scored.scores == {"val/accuracy": 0.9, "val/loss": 0.1}
    assert scored.scored(SOUP.scores) == SOUP
    assert SOUP.scores == {"val/accuracy": 0.5}


def test_a_model_refers_to_its_weights() -> None:
    assert SOUP.checkpoint == Checkpoint(SOUP.path, SOUP.key, SOUP.digest)


def test_a_model_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        SOUP.name = "other"  # type: ignore[misc]  # the point of the test


def test_the_form_of_a_failure() -> None:
    failure = Failure("ingredient-03", "key", {"epochs": 3}, "loss became nan")

    assert failure.to_json() == {
        "name": "ingredient-03",
        "key": "key",
        "hyperparameters": {"epochs": 3},
        "reason": "loss became nan",
        "final": True,
    }
