"""The efficiency of a sweep on two workers: one worker's time divided by twice that of two.

Both are measured alternately in one process, with warm workers of one thread each, on the default
sweep. The limit is 1.0; the last ingredient, which may run alone, makes it lower.

    python benchmarks/sweep_scaling.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from library_run import plan_in, train_sweep, warm_pool

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Run the rounds and print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    pools = {workers: warm_pool(workers) for workers in (1, 2)}
    efficiencies = []
    print(f"{'round':>5} {'1 worker s':>11} {'2 workers s':>12} {'efficiency':>11}")
    for number in range(rounds):
        seconds = {}
        for workers, pool in pools.items():
            with tempfile.TemporaryDirectory() as folder:
                plan = plan_in(Path(folder), ROOT / "params.yaml", [])
                seconds[workers] = train_sweep(plan, pool)
        efficiencies.append(seconds[1] / (2 * seconds[2]))
        print(
            f"{number:>5} {seconds[1]:>11.1f} {seconds[2]:>12.1f} {efficiencies[-1]:>11.2f}",
            flush=True,
        )
    for pool in pools.values():
        pool.close()
    print(f"\nefficiency of 2 workers: {statistics.median(efficiencies):.2f}")


if __name__ == "__main__":
    main()
