"""Python and its packages: required versions, and versions that are known to clash."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from stockpot.experiment.doctor.outcome import Outcome

VersionOf = Callable[[str], str | None]
"""Returns the installed version of a distribution; None if it is not installed."""


@dataclass(frozen=True, slots=True)
class Clash:
    """Versions of two packages that do not work together, though both can be installed."""

    package: str
    versions: str
    other: str
    other_versions: str
    effect: str
    remedy: str


CLASHES = (
    Clash(
        "SQLAlchemy",
        ">=2.1",
        "prefect",
        ">=3.8,<3.9",
        "the scheduler of a Prefect server fails every minute, and no schedule fires",
        "`pip install 'SQLAlchemy<2.1'`, then restart the server",
    ),
    Clash(
        "fastapi",
        ">=0.160",
        "prefect",
        ">=3.8,<3.9",
        "a Prefect server fails at its start",
        "`pip install 'fastapi<0.160'`",
    ),
)


def installed_version(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_environment(version_of: VersionOf = installed_version) -> Iterator[Outcome]:
    """Check Python and the packages that stockpot requires."""
    yield Outcome("ok", "python", f"{platform.python_version()} in {sys.prefix}")
    unmet = [*_unmet(version_of)]
    yield from unmet
    if not unmet:
        shown = ("stockpot", "torch", "prefect", "mlflow", "dvc", "optuna")
        versions = ", ".join(f"{name} {version_of(name)}" for name in shown)
        yield Outcome("ok", "packages", versions)
    for clash in CLASHES:
        version, other = version_of(clash.package), version_of(clash.other)
        if _is_in(version, clash.versions) and _is_in(other, clash.other_versions):
            found = f"{clash.package} {version} with {clash.other} {other}: {clash.effect}"
            yield Outcome("problem", "packages", found, clash.remedy)


def _unmet(version_of: VersionOf) -> Iterator[Outcome]:
    """List the requirements of stockpot, without its extras, that are not met."""
    for text in importlib.metadata.requires("stockpot") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = version_of(requirement.name)
        wanted = f"{requirement.name}{requirement.specifier}"
        if version is None:
            found = f"{requirement.name} is not installed"
        elif not requirement.specifier.contains(version, prereleases=True):
            found = f"{requirement.name} {version}, stockpot requires {wanted}"
        else:
            continue
        yield Outcome("problem", "packages", found, f"`pip install '{wanted}'`")


def _is_in(version: str | None, versions: str) -> bool:
    return version is not None and SpecifierSet(versions).contains(version, prereleases=True)
