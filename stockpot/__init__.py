"""Model soups: fine-tune many models, merge their weights, tune and judge the merge.

For notebooks and scripts; each is loaded when it is first used:

    merge           merge state dicts, or models on disk, by any method
    uniform_soup    average models
    greedy_soup     average the models that raise a score, chosen one by one
    tune            search merge coefficients that raise a score
    compare         compare two models on the same examples
    load_results    read an experiment's results as data frames

Experiments are run by the `stockpot` command.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stockpot.api.comparing import compare as compare
    from stockpot.api.merging import merge as merge
    from stockpot.api.results import Results as Results
    from stockpot.api.results import load_results as load_results
    from stockpot.api.souping import Soup as Soup
    from stockpot.api.souping import greedy_soup as greedy_soup
    from stockpot.api.souping import tune as tune
    from stockpot.api.souping import uniform_soup as uniform_soup

_PLACES = {
    "Results": "results",
    "Soup": "souping",
    "compare": "comparing",
    "greedy_soup": "souping",
    "load_results": "results",
    "merge": "merging",
    "tune": "souping",
    "uniform_soup": "souping",
}

__all__ = [  # noqa: PLE0604 (loaded by __getattr__)
    *sorted(_PLACES),
]


def __getattr__(name: str) -> Any:
    """Load a part of the API."""
    if name not in _PLACES:
        raise AttributeError(f"module 'stockpot' has no attribute {name!r}")
    return getattr(importlib.import_module(f"stockpot.api.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """List the API."""
    return [*globals(), *_PLACES]
