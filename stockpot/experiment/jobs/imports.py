"""The checkpoints that a stage imports, and the jobs that import them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from stockpot.errors import InputError
from stockpot.experiment.jobs.importing import Headers, ImportJob
from stockpot.ingredients.importing.sources import ImportSource, find_sources, source_at
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.digests import DigestCache
from stockpot.workloads.spec import WorkloadSpec


@dataclass(frozen=True)
class Imports:
    """The checkpoints that a stage imports.

    Attributes:
        root: the project root.
        workload: has the model that they must match.
        kind: base or ingredient.
        patterns: of their paths; for a base, its path; empty if nothing is imported.
        on_foreign: whether checkpoints that do not match, or are not finite, stop the run.
    """

    root: Path
    workload: WorkloadSpec
    kind: Literal["base", "ingredient"]
    patterns: tuple[str, ...]
    on_foreign: Literal["exclude", "stop"]

    @cached_property
    def sources(self) -> list[ImportSource]:
        """The checkpoints that the patterns match; none of them is opened.

        Raises:
            InputError: a pattern matches nothing, or a file of hyperparameters is damaged.
        """
        if self.kind == "base":
            places = [self.root / Path(path).expanduser() for path in self.patterns]
            return [source_at(self.root, place, "base") for place in places]
        return find_sources(self.root, self.patterns)

    @cached_property
    def digests(self) -> list[str]:
        """The digest of each checkpoint, at the time of the first access."""
        return self._cache.digest([source.files for source in self.sources])

    def are_known(self) -> bool:
        """Return whether the digests of all checkpoints are cached and valid; no file is read."""
        try:
            return self._cache.known([source.files for source in self.sources]) is not None
        except (InputError, OSError):  # the import itself reports it
            return False

    def inputs(self) -> list[dict[str, Any]]:
        """Return the parts of the imports that results depend on."""
        return [
            {
                "name": source.name,
                "source": source.shown,
                "digest": digest,
                "hyperparameters": dict(source.hyperparameters),
            }
            for source, digest in zip(self.sources, self.digests, strict=True)
        ]

    def listed(self) -> list[str]:
        """Return one line per import; or the error, if they cannot be found."""
        if not self.patterns:
            return []
        try:
            return [f"imports {source.name}: {source.shown}" for source in self.sources]
        except InputError as error:
            return [str(error)]

    def refuse(self, problems: Sequence[str]) -> None:
        """Stop the run if checkpoints cannot be used and `on_foreign` is stop.

        Args:
            problems: per checkpoint, why it cannot be used; empty if it can.

        Raises:
            InputError: lists these checkpoints, one per line.
        """
        named = zip(self.sources, problems, strict=True)
        reasons = [f"\n  {source.name}: {problem}" for source, problem in named if problem]
        if not reasons or self.on_foreign == "exclude":
            return
        lines = "".join(reasons)
        if self.kind == "base":
            raise InputError(f"base.import: must be a model of the workload{lines}")
        raise InputError(
            f"sweep.import: all must be models of the workload (sweep.on_foreign is stop), got "
            f"{len(reasons)} of {len(self.sources)} that are not{lines}"
        )

    def jobs(self, headers: Headers, start: Checkpoint | None) -> list[ImportJob]:
        """Return one job per checkpoint; those of unusable checkpoints have the reason.

        Args:
            headers: the result of the header check.
            start: the base of the ingredients.
        """
        first: dict[str, str] = {}
        return [
            ImportJob(
                root=self.root,
                workload=self.workload,
                name=source.name,
                kind=self.kind,
                source=source,
                digest=digest,
                form=headers.form,
                start=start,
                foreign=problem,
                twin="" if problem else _twin(source.name, first.setdefault(digest, source.name)),
            )
            for source, digest, problem in zip(
                self.sources, self.digests, headers.problems, strict=True
            )
        ]

    @property
    def _cache(self) -> DigestCache:
        return DigestCache(self.root / ".stockpot")


def _twin(name: str, first: str) -> str:
    """Return the first checkpoint with the same files; empty for itself."""
    return "" if first == name else first
