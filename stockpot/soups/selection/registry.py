"""The selections by name: one line per selection."""

from __future__ import annotations

from stockpot.plugins import Registry
from stockpot.soups.selection.rule import Rule, rule_of

SELECTIONS: Registry[Rule] = Registry(
    "selection",
    {
        "uniform": "stockpot.soups.selection.uniform:uniform",
        "greedy": "stockpot.soups.selection.greedy:greedy",
        "top_k": "stockpot.soups.selection.top_k:top_k",
        "diverse_greedy": "stockpot.soups.selection.diverse_greedy:diverse_greedy",
        "cross_validated_greedy": (
            "stockpot.soups.selection.cross_validated_greedy:cross_validated_greedy"
        ),
        "greedy_with_replacement": (
            "stockpot.soups.selection.greedy_with_replacement:greedy_with_replacement"
        ),
        "greedy_restarts": "stockpot.soups.selection.greedy_restarts:greedy_restarts",
        "beam": "stockpot.soups.selection.beam:beam",
        "backward_elimination": (
            "stockpot.soups.selection.backward_elimination:backward_elimination"
        ),
        "given": "stockpot.soups.selection.given:given",
        "gradient_group": "stockpot.soups.selection.gradient_group:gradient_group",
        "soce": "stockpot.soups.selection.soce:soce",
        "wise_ft": "stockpot.soups.selection.wise_ft:wise_ft",
    },
    rule_of,
)
