"""The merge methods by name: one line per method."""

from __future__ import annotations

from stockpot.merging.method import Method, method_of
from stockpot.plugins import Registry

METHODS: Registry[Method] = Registry(
    "merge method",
    {
        "arcee_fusion": "stockpot.merging.methods.arcee_fusion:arcee_fusion",
        "breadcrumbs": "stockpot.merging.methods.breadcrumbs:breadcrumbs",
        "breadcrumbs_rows": "stockpot.merging.methods.breadcrumbs:breadcrumbs_rows",
        "breadcrumbs_ties": "stockpot.merging.methods.breadcrumbs:breadcrumbs_ties",
        "breadcrumbs_ties_rows": "stockpot.merging.methods.breadcrumbs:breadcrumbs_ties_rows",
        "cat": "stockpot.merging.methods.cat:cat",
        "consensus_ta": "stockpot.merging.methods.consensus_ta:consensus_ta",
        "count_mean": "stockpot.merging.methods.count_mean:count_mean",
        "dare_linear": "stockpot.merging.methods.dare:dare_linear",
        "dare_ties": "stockpot.merging.methods.dare:dare_ties",
        "della": "stockpot.merging.methods.della:della",
        "della_linear": "stockpot.merging.methods.della:della_linear",
        "elected_sum": "stockpot.merging.methods.elected_sum:elected_sum",
        "fisher": "stockpot.merging.methods.fisher:fisher",
        "geometric_median": "stockpot.merging.methods.geometric_median:geometric_median",
        "iso_c": "stockpot.merging.methods.iso_c:iso_c",
        "iso_cts": "stockpot.merging.methods.iso_cts:iso_cts",
        "karcher": "stockpot.merging.methods.karcher:karcher",
        "linear": "stockpot.merging.methods.linear:linear",
        "localize_and_stitch": "stockpot.merging.methods.localize_and_stitch:localize_and_stitch",
        "localize_and_stitch_dataless": (
            "stockpot.merging.methods.localize_and_stitch:localize_and_stitch_dataless"
        ),
        "model_stock": "stockpot.merging.methods.model_stock:model_stock",
        "multislerp": "stockpot.merging.methods.multislerp:multislerp",
        "nearswap": "stockpot.merging.methods.nearswap:nearswap",
        "nuslerp": "stockpot.merging.methods.nuslerp:nuslerp",
        "nuslerp_rows": "stockpot.merging.methods.nuslerp:nuslerp_rows",
        "passthrough": "stockpot.merging.methods.passthrough:passthrough",
        "pma_ema": "stockpot.merging.methods.pma:pma_ema",
        "pma_wma": "stockpot.merging.methods.pma:pma_wma",
        "posterior_product": "stockpot.merging.methods.posterior_product:posterior_product",
        "ram": "stockpot.merging.methods.ram:ram",
        "ram_plus": "stockpot.merging.methods.ram:ram_plus",
        "regmean": "stockpot.merging.methods.regmean:regmean",
        "regmean_plus_plus": "stockpot.merging.methods.regmean_plus_plus:regmean_plus_plus",
        "sce": "stockpot.merging.methods.sce:sce",
        "slerp": "stockpot.merging.methods.slerp:slerp",
        "task_arithmetic": "stockpot.merging.methods.task_arithmetic:task_arithmetic",
        "ties": "stockpot.merging.methods.ties:ties",
        "tsv": "stockpot.merging.methods.tsv:tsv",
        "variance_corrected": "stockpot.merging.methods.variance_corrected:variance_corrected",
        "weight_signatures": "stockpot.merging.methods.weight_signatures:weight_signatures",
        "weighted_sum": "stockpot.merging.methods.weighted_sum:weighted_sum",
        "wise_ft": "stockpot.merging.methods.wise_ft:wise_ft",
        "wsm": "stockpot.merging.methods.wsm:wsm",
        "wudi": "stockpot.merging.methods.wudi:wudi",
    },
    method_of,
)
