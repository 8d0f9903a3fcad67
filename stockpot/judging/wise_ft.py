"""WiSE-FT: the straight path from the base to a soup; importing this module imports no torch.

Source: Wortsman et al. 2022, Robust fine-tuning of zero-shot models
(https://arxiv.org/abs/2109.01903): points between can be better under shift than either end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.storage.models import Model
from stockpot.storage.ranking import best_soup
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.statistics.values import Floats

_STEPS = 10  # from one end to the other


@dataclass(frozen=True, slots=True)
class WiseFtJob:
    """Job that measures the path from the base to one soup.

    Attributes:
        root: the project root.
        workload: what the points on the path are measured on.
        base: the start of the path.
        soup: the end of the path.
    """

    root: Path
    workload: WorkloadSpec
    base: Model
    soup: Model

    @property
    def name(self) -> str:
        """The name of the path."""
        return f"path from {self.base.name} to {self.soup.name}"

    @property
    def alphas(self) -> list[float]:
        """Position of each point between the ends, from the base (0) to the soup (1)."""
        return [step / _STEPS for step in range(1, _STEPS)]

    @property
    def merges(self) -> list[dict[str, Any]]:
        """Recipe of each point between the ends."""
        ends = {"base": self.base.digest, "soup": self.soup.digest}
        return [{"wise_ft": ends, "alpha": alpha} for alpha in self.alphas]


def wise_ft_job(root: Path, workload: WorkloadSpec, models: Sequence[Model]) -> WiseFtJob | None:
    """Return the path to the best soup on val; None without soups of the base's form.

    Args:
        root: the project root.
        workload: what the points are measured on.
        models: of any kind, with one base; soups need val scores.
    """
    soup = best_soup(models, f"val/{next(iter(workload.build().metrics))}")
    if soup is None or soup.num_nets > 1:
        return None
    (base,) = (model for model in models if model.kind == "base")
    return WiseFtJob(root, workload, base, soup)


def measure_wise_ft(job: WiseFtJob, device: str) -> None:
    """Measure the points between the ends, unless they are cached; runs in a worker process."""
    from stockpot.judging.merged_values import cache_values
    from stockpot.merging.engine import merge_states
    from stockpot.merging.methods.wise_ft import wise_ft
    from stockpot.merging.recipe import Recipe
    from stockpot.storage.checkpoints import load_tensors, verify

    def merged() -> Iterator[tuple[dict[str, Tensor], int]]:
        base, soup = (
            {name: t.to(device) for name, t in load_tensors(verify(job.root, checkpoint)).items()}
            for checkpoint in (job.base.checkpoint, job.soup.checkpoint)
        )
        for alpha in job.alphas:
            yield merge_states([soup], Recipe.of(wise_ft, (1.0,), {"alpha": alpha}), base), 2

    cache_values(job.root, job.workload, job.merges, merged(), device)


def wise_ft_path(
    job: WiseFtJob, values: Mapping[str, Mapping[str, Floats]]
) -> dict[str, str | list[float]]:
    """Return the scores along the path, including its ends.

    Args:
        job: the path, whose points between the ends are measured.
        values: per-example values (N,) of base and soup by place: `val`, `test` and `shift`, an
            example's mean over the test shifts.

    Returns:
        `model`, `alphas` and, for each place, one score per alpha.
    """
    from stockpot.judging.merged_values import load_values

    between = load_values(job.root, job.workload, job.merges)
    base, soup = values[job.base.name], values[job.soup.name]
    scores = {
        place: [float(one.mean()) for one in (base[place], *points, soup[place])]
        for place, points in between.items()
    }
    return {"model": job.soup.name, "alphas": [0.0, *job.alphas, 1.0], **scores}
