"""The rules of rounds by name: one line per rule; the first is the default."""

from __future__ import annotations

from stockpot.plugins import Registry
from stockpot.soups.rounds.rule import RuleKind, rule_kind_of

ROUND_RULES: Registry[RuleKind] = Registry(
    "rule of rounds",
    {
        "fedavg": "stockpot.soups.rounds.fedavg:FedAvg",
        "fedavg_m": "stockpot.soups.rounds.fedavg_m:FedAvgM",
        "server_momentum": "stockpot.soups.rounds.server_momentum:ServerMomentum",
        "scaffold": "stockpot.soups.rounds.scaffold:Scaffold",
        "scaffold_m": "stockpot.soups.rounds.scaffold_m:ScaffoldM",
        "fedau": "stockpot.soups.rounds.fedau:FedAU",
        "gossip": "stockpot.soups.rounds.gossip:Gossip",
    },
    rule_kind_of,
)
