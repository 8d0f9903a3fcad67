"""The preparations by the name of the merge methods' argument for the result: one line each.

REPAIR is part of the keys only of merges of aligned nets, so it too is imported by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from stockpot.plugins import Registry

if TYPE_CHECKING:
    from stockpot.soups.preparation.protocol import JointPreparation, Preparation
    from stockpot.storage.models import Model

PREPARATIONS: Registry[type[Preparation] | type[JointPreparation]] = Registry(
    "preparation",
    {
        "cross_grams": "stockpot.soups.preparation.cross_grams:CrossGrams",
        "features": "stockpot.soups.preparation.layer_features:LayerFeatures",
        "fishers": "stockpot.soups.preparation.fisher_information:FisherInformation",
        "grams": "stockpot.soups.preparation.gram_matrices:GramMatrices",
        "localized": "stockpot.soups.preparation.localization:Localization",
    },
)

REPAIR: Registry[Any] = Registry("repair", {"repair": "stockpot.soups.alignment.repaired:Repair"})


def repair_modules(ingredients: Iterable[Model]) -> tuple[str, ...]:
    """Return the modules that repair averages of models: none unless some are aligned."""
    return (REPAIR.module_of("repair"),) if any(m.is_aligned for m in ingredients) else ()
