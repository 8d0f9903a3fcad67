"""prefect.yaml: which deployments a project describes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from stockpot.storage.project import ROOT_VARIABLE
from stockpot.yaml_files import Section, read_yaml, validated

FILE = "prefect.yaml"


class _JobVariables(Section, extra="allow"):
    env: dict[str, Any] = Field(default_factory=dict)


class _Pool(Section, extra="allow"):
    name: str
    job_variables: _JobVariables = _JobVariables()


class _Limit(Section, extra="allow"):
    limit: int = 1
    grace_period_seconds: int = Field(300, ge=60)


class Deployment(Section, extra="allow"):
    """A deployment; Prefect reads its other fields."""

    name: str
    entrypoint: str
    tags: tuple[str, ...] = ()
    work_pool: _Pool
    concurrency_limit: _Limit = _Limit()


class _File(Section, extra="allow"):
    deployments: list[Deployment] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Description:
    """The deployments of a project.

    Attributes:
        root: the project's folder.
        deployments: in the order of the file.
    """

    root: Path
    deployments: tuple[Deployment, ...]

    def root_of(self, deployment: Deployment) -> str | None:
        """Return the project folder that runs of a deployment get; None: the working directory."""
        root = deployment.work_pool.job_variables.env.get(ROOT_VARIABLE)
        if root is None:
            return None
        return str(self.root) if str(root).startswith("{{") else str(root)

    @property
    def pools(self) -> list[str]:
        """The names of the work pools, each once."""
        return list(dict.fromkeys(each.work_pool.name for each in self.deployments))

    @property
    def seconds_to_start(self) -> int:
        """The longest time that a run of these deployments has to start, once it is submitted."""
        return max(each.concurrency_limit.grace_period_seconds for each in self.deployments)


def read_description(root: Path) -> Description:
    """Read prefect.yaml of a project.

    Raises:
        InputError: there is none, or a field is wrong.
    """
    content: dict[str, Any] = read_yaml(root / FILE)
    return Description(root, tuple(validated(_File, content, FILE).deployments))
