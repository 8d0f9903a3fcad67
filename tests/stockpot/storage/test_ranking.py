from __future__ import annotations

from stockpot.storage.models import Model
from stockpot.storage.ranking import best, best_soup

MODELS = [
    Model(name, kind, name, "", "", 0, 0, {"val/accuracy": score, "val/loss": loss})
    for name, kind, score, loss in [
        ("base", "base", 0.9, 0.0),
        ("ingredient-00", "ingredient", 0.95, 0.1),
        ("uniform", "soup", 0.8, 0.3),
        ("greedy", "soup", 0.8, 0.2),
        ("tuned", "tuned", 0.7, 0.1),
    ]
]


def test_the_best_soup_is_the_one_of_lower_loss_among_equal_scores() -> None:
    found = best_soup(MODELS, "val/accuracy")

    assert found is not None
    assert found.name == "greedy"


def test_a_tuned_soup_is_a_soup_and_an_ingredient_is_none() -> None:
    models = [model for model in MODELS if model.kind != "soup"]
    found = best_soup(models, "val/accuracy")

    assert found is not None
    assert found.name == "tuned"
    assert best_soup(models[:2], "val/accuracy") is None


def test_the_best_model_is_the_first_of_the_ranking() -> None:
    assert best(MODELS, "val/accuracy").name == "ingredient-00"
