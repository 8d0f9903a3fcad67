"""What an experiment imports: which checkpoints, whether they are known, and the jobs for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from stockpot.errors import InputError
from stockpot.experiment.jobs.importing import HeaderJob, Headers, ImportJob
from stockpot.ingredients.importing.sources import ImportSource, find_sources, source_at
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.digests import DigestCache
from stockpot.workloads.spec import WorkloadSpec

OnForeign = Literal["exclude", "stop"]


@dataclass(frozen=True)
class Imports:
    """The checkpoints that a stage imports.

    Attributes:
        root: the project root.
        workload: whose model they should be of.
        kind: base or ingredient.
        patterns: of their paths; of a base, its path; nothing where none is imported.
        on_foreign: what is done if some are of another model, or have values that are not finite.
    """

    root: Path
    workload: WorkloadSpec
    kind: Literal["base", "ingredient"]
    patterns: tuple[str, ...]
    on_foreign: OnForeign

    @cached_property
    def sources(self) -> list[ImportSource]:
        """The checkpoints that were found; none of them is opened.

        Raises:
            InputError: a pattern fits nothing, or hyperparameters beside one are damaged.
        """
        if self.kind == "base":
            places = [self.root / Path(path).expanduser() for path in self.patterns]
            return [source_at(self.root, place, "base") for place in places]
        return find_sources(self.root, self.patterns)

    @cached_property
    def digests(self) -> list[str]:
        """The digest of each: what it was when this was asked for first."""
        return self._cache.digest([source.files for source in self.sources])

    def are_known(self) -> bool:
        """Say whether all are there in a state whose digests are known; none is read."""
        try:
            return self._cache.known([source.files for source in self.sources]) is not None
        except (InputError, OSError):  # whoever imports them says so
            return False

    def inputs(self) -> list[dict[str, Any]]:
        """Return what results depend on."""
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
        """Say what is imported, or why that cannot be, a line each."""
        if not self.patterns:
            return []
        try:
            return [f"imports {source.name}: {source.shown}" for source in self.sources]
        except InputError as error:
            return [str(error)]

    def header_job(self) -> HeaderJob:
        """Return the look at all headers, which comes before anything is read or trained."""
        return HeaderJob(self.workload, tuple((s.shown, s.path) for s in self.sources))

    def require_fit(self, headers: Headers) -> None:
        """Refuse checkpoints of another model, if that is to stop the run.

        Raises:
            InputError: with all that are foreign, a line each.
        """
        reasons = [
            f"{source.name}: {problem}"
            for source, problem in zip(self.sources, headers.problems, strict=True)
            if problem
        ]
        self.refuse(reasons)

    def refuse(self, reasons: Sequence[str]) -> None:
        """Stop the run for these reasons, if there are some and it is to stop.

        Raises:
            InputError: with all reasons, a line each.
        """
        if not reasons or self.on_foreign == "exclude":
            return
        lines = "".join(f"\n  {reason}" for reason in reasons)
        if self.kind == "base":
            raise InputError(f"base.import: must be a model of the workload{lines}")
        raise InputError(
            f"sweep.import: all must be models of the workload (sweep.on_foreign is stop), got "
            f"{len(reasons)} of {len(self.sources)} that are not{lines}"
        )

    def jobs(self, headers: Headers, start: Checkpoint | None) -> list[ImportJob]:
        """Return the imports, those that are refused among them with the reason.

        Args:
            headers: what these said.
            start: the base that ingredients count from.
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
                twin="" if problem else _other(first.setdefault(digest, source.name), source.name),
            )
            for source, digest, problem in zip(
                self.sources, self.digests, headers.problems, strict=True
            )
        ]

    @property
    def _cache(self) -> DigestCache:
        return DigestCache(self.root / ".stockpot")


def _other(first: str, name: str) -> str:
    """Return the name of the first of equal ones; empty for itself."""
    return "" if first == name else first
