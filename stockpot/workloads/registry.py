"""The built-in workloads by name: one line per workload."""

from __future__ import annotations

from typing import Any

from stockpot.plugins import Registry

WORKLOADS: Registry[Any] = Registry(
    "workload",
    {
        "digits": "stockpot.workloads.digits:Digits",
        "fashion_mnist": "stockpot.workloads.fashion_mnist:FashionMnist",
        "image_folder": "stockpot.workloads.image_folder:ImageFolder",
        "tabular": "stockpot.workloads.tabular:Tabular",
        "text_classification": "stockpot.workloads.text_classification:TextClassification",
        "causal_lm": "stockpot.workloads.causal_lm:CausalLanguageModel",
        "preferences": "stockpot.workloads.preferences:Preferences",
    },
)
