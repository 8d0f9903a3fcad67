"""Alignment of independently trained nets, so that they can be merged."""

from stockpot.soups.alignment.activation_matching import match_activations
from stockpot.soups.alignment.invariance import check_invariance
from stockpot.soups.alignment.many import match_many
from stockpot.soups.alignment.permutations import Spec, check_spec, permute, random_permutations
from stockpot.soups.alignment.repair import repair
from stockpot.soups.alignment.similarity import layer_cosines
from stockpot.soups.alignment.to_first import align_to_first
from stockpot.soups.alignment.tracing import trace_spec
from stockpot.soups.alignment.weight_matching import match_weights
from stockpot.workloads.batch_norm import recalibrate_batch_norm

__all__ = [
    "Spec",
    "align_to_first",
    "check_invariance",
    "check_spec",
    "layer_cosines",
    "match_activations",
    "match_many",
    "match_weights",
    "permute",
    "random_permutations",
    "recalibrate_batch_norm",
    "repair",
    "trace_spec",
]
