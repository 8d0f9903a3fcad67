"""Progress bars on the terminal, with rate and remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_LINE_SECONDS = 60
_shown: list[Progress] = []  # the bars on the terminal; at most one group


class _RateColumn(ProgressColumn):
    """Finished jobs per minute."""

    def render(self, task: Task) -> Text:
        """Show the rate once there is one."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{60 * speed:.0f}/min", style="progress.data.speed")


@contextmanager
def stage_progress(console: Console, stage: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar for one stage; yield its callback, which takes the name of a finished job.

    Without a terminal there is no bar; one line is printed when the stage ends.
    """
    with _bars(console) as progress:
        bar = progress.add_task(stage, total=total, last="")

        def advance(name: str) -> None:
            progress.update(bar, advance=1, last=name)

        yield advance
        progress.update(bar, last="")
    if not console.is_terminal:
        console.print(f"{stage}: {total} done")


@contextmanager
def step_progress(console: Console, job: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for the steps of a long job; yield its callback: steps done, and in all.

    The bar appears with the first step. Without a terminal a line is printed once per minute.
    """
    start = printed = time.monotonic()
    bar: Callable[[int], None] | None = None

    with ExitStack() as stack:

        def advance(done: int, of: int) -> None:
            nonlocal bar, printed
            if console.is_terminal:
                bar = bar or stack.enter_context(_bar(console, job, of))
                bar(done)
            elif time.monotonic() - printed > _LINE_SECONDS:
                printed = time.monotonic()
                left = (printed - start) * (of - done) / done
                console.print(f"{job}: {done} of {of} steps, about {left / 60:.0f} min left")

        yield advance


@contextmanager
def _bar(console: Console, job: str, steps: int) -> Iterator[Callable[[int], None]]:
    """Show a bar below that of the stage; yield what sets the number of steps done."""
    with _bars(console) as progress:
        bar = progress.add_task(job, total=steps, last="")
        try:
            yield lambda done: progress.update(bar, completed=done)
        finally:
            progress.remove_task(bar)


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    """Show bars, below those that are shown already."""
    if _shown:
        yield _shown[-1]
        return
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[last]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        _shown.append(progress)
        try:
            yield progress
        finally:
            _shown.remove(progress)
