"""Progress bars on the terminal, with rate and remaining time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        bar = progress.add_task(stage, total=total, last="")

        def advance(name: str) -> None:
            progress.update(bar, advance=1, last=name)

        yield advance
        progress.update(bar, last="")
    if not console.is_terminal:
        console.print(f"{stage}: {total} done")
