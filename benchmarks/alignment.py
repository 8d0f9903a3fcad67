"""Barriers between independently trained nets after matching and REPAIR, on the digits.

For each net and pair of seeds: the accuracy of the worse net, the loss and accuracy barriers on val
without alignment, and by how many percent they fall with REPAIR alone, with weight matching and
REPAIR, and with activation matching without and with REPAIR. Then soups of four nets each. The nets
are defined in tests/support:

    PYTHONPATH=tests/support python benchmarks/alignment.py [PAIRS]

With `seeds`, the figures of docs/reference/papers.md: pairs of conv nets over seeds, each of which
changes the splits and both nets; means with 95 % intervals (Student, over seeds):

    PYTHONPATH=tests/support python benchmarks/alignment.py seeds [SEEDS]
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from alignment_nets import ResidualNet, Transformer
from digits_pairs import TRAININGS, Barriers, Pair, Training
from over_seeds import over_seeds, verdict, with_interval

from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.soups.alignment import align_to_first, repair

COLUMNS = ("REPAIR", "weights + REPAIR", "activations", "activations + REPAIR")


def residual(times: int, learning_rate: float) -> Training:
    """Return the training of a residual BatchNorm net, `times` as wide as the smallest one."""
    return Training(partial(ResidualNet, pool=True, times=times, stride=2), learning_rate)


VARIANTS: Mapping[str, Training] = {
    **TRAININGS,
    "transformer, 1 block": Training(partial(Transformer, 64), epochs=60),
    "residual 18/24, rate 0.01": residual(3, 1e-2),
    "residual 30/40, rate 0.01": residual(5, 1e-2),
    "residual 30/40, rate 0.001": residual(5, 1e-3),
    "residual 60/80, rate 0.001": residual(10, 1e-3),
}


def main() -> None:
    """Train all pairs and print the figures."""
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["seeds"]:
        print_over_seeds(int(sys.argv[2]) if len(sys.argv) > 2 else 5)
        return
    num_pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{'':<28} {'val':>6} {'barriers':>12}   fall of loss / accuracy barrier, %")
    print(f"{'net':<28} {'acc.':>6} {'loss':>6} {'acc.':>5}", *(f"{x:>21}" for x in COLUMNS))
    for name, training in VARIANTS.items():
        for number in range(num_pairs):
            print_pair(name, Pair(training, (2 * number + 1, 2 * number + 2)))
    print(f"\n{'val accuracy, four nets':<28} {'mean':>6} {'best':>6} {'soup':>6} {'aligned':>8}")
    for name in TRAININGS:
        print_soup(name, [Pair(TRAININGS[name], seeds) for seeds in ((1, 2), (3, 4))])


def print_pair(name: str, pair: Pair) -> None:
    """Print one line of the first table."""
    before = pair.barriers(pair.second, is_repaired=False)
    measured = (
        pair.barriers(pair.second, is_repaired=True),
        pair.barriers(pair.weights_matched, is_repaired=True),
        pair.barriers(pair.aligned, is_repaired=False),
        pair.barriers(pair.aligned, is_repaired=True),
    )
    worse = min(pair.accuracy(pair.first), pair.accuracy(pair.second))
    print(
        f"{name:<28} {worse:>6.3f} {before.loss:>6.2f} {before.accuracy:>5.2f}",
        *(f"{falls(before, after):>21}" for after in measured),
        flush=True,
    )


def print_over_seeds(num_seeds: int) -> None:
    """Print the fall of the loss barrier, and what the soup of two nets gains on test."""
    barriers, apart, one_net = [], [], []
    for seed in range(num_seeds):
        pair = Pair(TRAININGS["conv net"], (2 * seed + 1, 2 * seed + 2), split_seed=seed)
        before = pair.barriers(pair.second, is_repaired=False)
        after = pair.barriers(pair.weights_matched, is_repaired=True)
        barriers.append(100 * (1 - after.loss / before.loss))
        recipe = Recipe("linear", (1.0, 1.0))
        plain = merge_states([pair.first, pair.second], recipe)
        aligned = [pair.first, pair.weights_matched]
        merged = merge_states(aligned, recipe)
        soup = repair(pair.net, aligned, (1, 1), merged, pair.workload.forward, pair.batches)
        own = 100 * pair.accuracy(soup, "test")
        apart.append(own - 100 * pair.accuracy(plain, "test"))
        nets = (pair.accuracy(net, "test") for net in (pair.first, pair.second))
        one_net.append(own - 100 * statistics.mean(nets))
    print(f"fall of the loss barrier, %: {with_interval(over_seeds(barriers), sign='')}")
    for name, values in {"average without alignment": apart, "mean net": one_net}.items():
        less = over_seeds(values)
        print(f"soup minus the {name}, points on test: {with_interval(less)} ({verdict(less)})")


def falls(before: Barriers, after: Barriers) -> str:
    """Return by how many percent both barriers fell."""
    loss, accuracy = 1 - after.loss / before.loss, 1 - after.accuracy / before.accuracy
    return f"{100 * loss:.0f} / {100 * accuracy:.0f}"


def print_soup(name: str, pairs: Sequence[Pair]) -> None:
    """Print one line of the second table: the uniform soup of all nets of the pairs."""
    states = [state for pair in pairs for state in (pair.first, pair.second)]
    pair = pairs[0]
    recipe = Recipe("linear", (1.0,) * len(states))
    aligned = align_to_first(pair.net, states, pair.inputs)
    soup = repair(
        pair.net,
        aligned,
        recipe.coefficients,
        merge_states(aligned, recipe),
        pair.workload.forward,
        pair.batches,
    )
    accuracies = [pair.accuracy(state) for state in states]
    print(
        f"{name:<28} {statistics.mean(accuracies):>6.3f} {max(accuracies):>6.3f} "
        f"{pair.accuracy(merge_states(states, recipe)):>6.3f} {pair.accuracy(soup):>8.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
