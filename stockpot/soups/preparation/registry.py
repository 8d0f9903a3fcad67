"""The preparations by the name of the merge methods' argument for the result: one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot.plugins import Registry

if TYPE_CHECKING:
    from stockpot.soups.preparation.protocol import Preparation

PREPARATIONS: Registry[type[Preparation]] = Registry(
    "preparation",
    {
        "fishers": "stockpot.soups.preparation.fisher_information:FisherInformation",
        "grams": "stockpot.soups.preparation.gram_matrices:GramMatrices",
    },
)
