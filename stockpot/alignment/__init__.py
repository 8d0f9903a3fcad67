"""Aligning nets that were trained apart, so that they can be merged."""

from stockpot.alignment.activation_matching import match_activations
from stockpot.alignment.barrier import Line, score_line
from stockpot.alignment.batch_norm import recalibrate_batch_norm
from stockpot.alignment.invariance import check_invariance
from stockpot.alignment.many import match_many
from stockpot.alignment.permutations import (
    Permutations,
    Spec,
    check_spec,
    permute,
    random_permutations,
)
from stockpot.alignment.repair import repair
from stockpot.alignment.similarity import Cosine, layer_cosines
from stockpot.alignment.to_first import align_to_first
from stockpot.alignment.tracing import trace_spec
from stockpot.alignment.weight_matching import Matching, match_weights

__all__ = [
    "Cosine",
    "Line",
    "Matching",
    "Permutations",
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
    "score_line",
    "trace_spec",
]
