"""Which ingredients go into a soup; every choice is made by val scores alone."""

from stockpot.soups.selection.greedy import Step, select_greedy
from stockpot.soups.selection.on_paths import Place, select_on_paths
from stockpot.storage.ranking import rank

__all__ = ["Place", "Step", "rank", "select_greedy", "select_on_paths"]
