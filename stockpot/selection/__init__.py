"""Which ingredients go into a soup; every choice is made by val scores alone."""

from stockpot.selection.greedy import Step, select_greedy
from stockpot.selection.ranking import rank

__all__ = ["Step", "rank", "select_greedy"]
