"""Merge methods: one file each. `METHODS` holds all of them by name."""

from stockpot.merging.arcee_fusion import arcee_fusion
from stockpot.merging.breadcrumbs import breadcrumbs, breadcrumbs_rows
from stockpot.merging.breadcrumbs_ties import breadcrumbs_ties, breadcrumbs_ties_rows
from stockpot.merging.consensus_ta import consensus_ta
from stockpot.merging.dare_linear import dare_linear
from stockpot.merging.dare_ties import dare_ties
from stockpot.merging.della import della
from stockpot.merging.della_linear import della_linear
from stockpot.merging.elected_sum import elected_sum
from stockpot.merging.fisher import fisher
from stockpot.merging.iso_c import iso_c
from stockpot.merging.iso_cts import iso_cts
from stockpot.merging.karcher import karcher
from stockpot.merging.linear import linear
from stockpot.merging.model_stock import model_stock
from stockpot.merging.multislerp import multislerp
from stockpot.merging.nearswap import nearswap
from stockpot.merging.nuslerp import nuslerp, nuslerp_rows
from stockpot.merging.passthrough import passthrough
from stockpot.merging.ram import ram, ram_plus
from stockpot.merging.registry import METHODS
from stockpot.merging.regmean import regmean
from stockpot.merging.sce import sce
from stockpot.merging.slerp import slerp
from stockpot.merging.task_arithmetic import task_arithmetic
from stockpot.merging.ties import ties
from stockpot.merging.tsv import tsv
from stockpot.merging.variance_corrected import variance_corrected
from stockpot.merging.wise_ft import wise_ft
from stockpot.merging.wudi import wudi

__all__ = [
    "METHODS",
    "arcee_fusion",
    "breadcrumbs",
    "breadcrumbs_rows",
    "breadcrumbs_ties",
    "breadcrumbs_ties_rows",
    "consensus_ta",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "elected_sum",
    "fisher",
    "iso_c",
    "iso_cts",
    "karcher",
    "linear",
    "model_stock",
    "multislerp",
    "nearswap",
    "nuslerp",
    "nuslerp_rows",
    "passthrough",
    "ram",
    "ram_plus",
    "regmean",
    "sce",
    "slerp",
    "task_arithmetic",
    "ties",
    "tsv",
    "variance_corrected",
    "wise_ft",
    "wudi",
]
