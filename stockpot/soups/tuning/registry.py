"""The searches for coefficients by name: one line per search; the first is the default."""

from __future__ import annotations

from stockpot.plugins import Registry
from stockpot.soups.tuning.custom_search import SearchKind, search_kind_of

SEARCHES: Registry[SearchKind] = Registry(
    "search",
    {
        "optuna": "stockpot.soups.tuning.optuna_search:OptunaSearch",
        "gradient": "stockpot.soups.tuning.gradient_search:GradientSearch",
        "bilevel": "stockpot.soups.tuning.bilevel_search:BilevelSearch",
        "entropy": "stockpot.soups.tuning.entropy_search:EntropySearch",
    },
    search_kind_of,
)
