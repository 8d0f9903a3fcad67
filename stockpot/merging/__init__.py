"""Merge methods: one file each. `METHODS` holds all of them by name."""

from stockpot.merging.methods.arcee_fusion import arcee_fusion
from stockpot.merging.methods.breadcrumbs import breadcrumbs, breadcrumbs_rows
from stockpot.merging.methods.breadcrumbs_ties import breadcrumbs_ties, breadcrumbs_ties_rows
from stockpot.merging.methods.consensus_ta import consensus_ta
from stockpot.merging.methods.dare_linear import dare_linear
from stockpot.merging.methods.dare_ties import dare_ties
from stockpot.merging.methods.della import della
from stockpot.merging.methods.della_linear import della_linear
from stockpot.merging.methods.elected_sum import elected_sum
from stockpot.merging.methods.fisher import fisher
from stockpot.merging.methods.iso_c import iso_c
from stockpot.merging.methods.iso_cts import iso_cts
from stockpot.merging.methods.karcher import karcher
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.model_stock import model_stock
from stockpot.merging.methods.multislerp import multislerp
from stockpot.merging.methods.nearswap import nearswap
from stockpot.merging.methods.nuslerp import nuslerp, nuslerp_rows
from stockpot.merging.methods.passthrough import passthrough
from stockpot.merging.methods.ram import ram, ram_plus
from stockpot.merging.methods.regmean import regmean
from stockpot.merging.methods.sce import sce
from stockpot.merging.methods.slerp import slerp
from stockpot.merging.methods.task_arithmetic import task_arithmetic
from stockpot.merging.methods.ties import ties
from stockpot.merging.methods.tsv import tsv
from stockpot.merging.methods.variance_corrected import variance_corrected
from stockpot.merging.methods.wise_ft import wise_ft
from stockpot.merging.methods.wudi import wudi
from stockpot.merging.registry import METHODS

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
