"""Run the commands for models on disk on damaged merge files and models, many times.

    python benchmarks/fuzz_merges.py --executions 100000

Every execution must succeed or end in an error for users (`InputError`, `StageFailed`) within
seconds, and what a merge, an extraction or an upload has written must be what it should be. Others
are listed by kind with the first case of each; the exit code is then 1. A crash of the process
leaves its case in --case.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from damaged_merges import CASES, Bench, Case
from hypothesis import HealthCheck, Phase, given, seed, settings

from flows.terminal import OUT

_MOST_SECONDS = 5  # of CPU; sixty times as much on the clock, as other work may be running
_MORE_BYTES = 4 * 2**30  # of address space
_BATCH = 2000


class _TooSlow(BaseException):
    """An execution has taken too long."""


def _stop(*_: object) -> None:
    raise _TooSlow


class Campaign:
    """Executions, their outcomes, and the first case of each kind of failure."""

    def __init__(self, bench: Bench, case_file: Path) -> None:
        self.bench = bench
        self.case_file = case_file.open("w+", encoding="utf-8")
        self.outcomes: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()  # executions per command, and per merge file

    def run(self, case: Case) -> None:
        """Run a case, and count it."""
        self.case_file.seek(0)
        self.case_file.write(f"{case!r}\n")
        self.case_file.flush()
        signal.setitimer(signal.ITIMER_PROF, _MOST_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, 60 * _MOST_SECONDS)
        try:
            outcome = "refused" if self.bench.run(case) else "succeeded"
        except (Exception, _TooSlow) as error:  # noqa: BLE001 (all kinds are counted)
            self._stop_clocks()
            frames = traceback.extract_tb(error.__traceback__)
            own = [f for f in frames if "/stockpot/" in f.filename or "/flows/" in f.filename]
            at = own[-1] if own else frames[-1]
            outcome = f"{type(error).__name__} in {Path(at.filename).name}:{at.lineno} {at.name}"
            if outcome not in self.outcomes:
                print(f"{outcome}: {str(error)[:200]}\n    {case!r}"[:3000], flush=True)
        finally:
            self._stop_clocks()
        self.outcomes[outcome] += 1
        self.starts.update((case.command, case.merge))

    def _stop_clocks(self) -> None:
        for clock in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(clock, 0)

    @property
    def failed(self) -> dict[str, int]:
        """The number of executions of each kind of failure."""
        return {k: n for k, n in self.outcomes.items() if k not in {"refused", "succeeded"}}


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first batch")
    parser.add_argument("--case", type=Path, default=Path(tempfile.gettempdir()) / "case.txt")
    arguments = parser.parse_args()
    OUT.file = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123, SIM115
    os.fsync = lambda _: None
    os.cpu_count = lambda: 1
    signal.signal(signal.SIGALRM, _stop)
    signal.signal(signal.SIGPROF, _stop)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MORE_BYTES, resource.RLIM_INFINITY))
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        os.chdir(folder)
        (Path(folder) / "models").mkdir()
        campaign = Campaign(Bench(Path(folder) / "models"), arguments.case)
        start, number = time.process_time(), arguments.seed
        while campaign.outcomes.total() < arguments.executions:
            _batch(campaign, number, min(_BATCH, arguments.executions - campaign.outcomes.total()))
            number += 1
            print(
                f"{campaign.outcomes.total()} executions, seeds {arguments.seed}-{number - 1}, "
                f"{time.process_time() - start:.0f} s of CPU: "
                + ", ".join(f"{n} {kind}" for kind, n in campaign.outcomes.most_common(40)),
                flush=True,
            )
    print(", ".join(f"{start}: {number}" for start, number in sorted(campaign.starts.items())))
    with contextlib.suppress(FileNotFoundError):
        arguments.case.unlink()
    sys.exit(bool(campaign.failed))


def _batch(campaign: Campaign, number: int, executions: int) -> None:
    @seed(number)
    @settings(
        max_examples=executions,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(CASES)
    def run(case: Case) -> None:
        campaign.run(case)

    run()


if __name__ == "__main__":
    main()
