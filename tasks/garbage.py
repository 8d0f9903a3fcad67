"""Delete the unused files of a project."""

from __future__ import annotations

from prefect.logging import get_run_logger

from stockpot.experiment.garbage import delete, find_garbage
from stockpot.storage.project import Project
from tasks.task_kinds import local_task


@local_task("collect-garbage")
def collect_garbage(project: Project, *, dry_run: bool) -> int:
    """Delete unused files, and list them in the run's log; return their number."""
    log, garbage = get_run_logger(), find_garbage(project)
    size = sum(path.stat().st_size for path in garbage) / 1e6
    for path in garbage:
        log.info("  %s", path.relative_to(project.root))
    log.info("%d unused files, %.1f MB%s", len(garbage), size, " (dry run)" if dry_run else "")
    if not dry_run:
        delete(garbage)
    return len(garbage)
