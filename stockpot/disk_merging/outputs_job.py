"""Several merges of the same models, from one reading of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.merge_files.merge_file import MergeFile, as_entry
from stockpot.disk_merging.merge_files.output_section import OutputSection
from stockpot.disk_merging.pedigree import read_pedigree, without_device
from stockpot.disk_merging.planning.plan import TensorPlan
from stockpot.disk_merging.streaming.devices import CPU, Device
from stockpot.disk_merging.streaming.stream import merge_to_disk
from stockpot.errors import InputError, at_place
from stockpot.storage.digests import digest_in_background, remember_digests
from stockpot.storage.weights.model_files import is_weights
from stockpot.storage.weights.places import check_place
from stockpot.storage.weights.sources import Source


@dataclass(frozen=True)
class OutputsJob:
    """The merges of a file with `outputs`, each into a folder of its own.

    Attributes:
        file: how the models are merged.
        folder: the folder to which paths in it are relative.
        place: the folder of the outputs; if it exists, they are added to what it has.
        force: whether models that earlier merges have written to the outputs' places are replaced.
        file_name: of the merge file, for errors.
        device: on which weights are merged.
    """

    file: MergeFile
    folder: Path
    place: Path
    force: bool = False
    file_name: str = ""
    device: Device = CPU

    @cached_property
    def jobs(self) -> list[MergeJob]:
        """The merges, which share the models that are opened."""
        files = [file_of(self.file, output) for output in self.file.outputs]
        places = [self.place / output.name for output in self.file.outputs]
        first = MergeJob(files[0], self.folder, places[0], self.force, device=self.device)
        others = zip(files[1:], places[1:], strict=True)
        return [first, *(first.with_file(file, place) for file, place in others)]

    @cached_property
    def unfinished(self) -> list[MergeJob]:
        """The merges whose output is not there yet, as it would be."""
        return [job for job in self.jobs if self.force or not _is_made(job)]

    @property
    def sources(self) -> list[Source]:
        """The models."""
        return self.jobs[0].sources

    @property
    def plans(self) -> list[TensorPlan]:
        """The plans of the tensors that are read."""
        return self.unfinished[0].plans if self.unfinished else []

    @property
    def forecast(self) -> dict[str, int]:
        """The resources that the merges need, from headers alone: disk and memory in bytes."""
        if not self.unfinished:
            return {}
        one = self.unfinished[0].forecast
        # Another merged tensor, before and after rounding.
        more = 2 * max((4 * plan.num_elements for plan in self.plans), default=0)
        return one | {
            "to write": sum(job.output.num_bytes for job in self.unfinished),
            "of memory at most": one["of memory at most"] + (more if len(self.jobs) > 1 else 0),
        }

    @property
    def summary(self) -> str:
        """The number of the outputs, and their size."""
        size = sum(job.output.num_bytes for job in self.unfinished)
        number = len(self.unfinished)
        return f"{number} output{'s' * (number != 1)}, {decimal(size)}"

    @property
    def notes(self) -> list[str]:
        """Exceptions that the merges make, and the outputs that are there already."""
        kept = [job.place.name for job in self.jobs if job not in self.unfinished]
        there = [f"{', '.join(kept)}: there already, made in the same way"] if kept else []
        return [*there, *dict.fromkeys(note for job in self.unfinished for note in job.notes)]

    @property
    def notes_on_contents(self) -> list[str]:
        """Notes on what is known once every input has been read."""
        return [
            *dict.fromkeys(
                f"{job.place.name}: {note}"
                for job in self.unfinished
                for note in job.notes_on_contents
                if note not in job.notes
            )
        ]

    def check(self) -> None:
        """Refuse merges that are not possible, before any weight is read.

        Raises:
            InputError: with the reason, and the output.
        """
        if not self.place.exists():
            check_place(self.place)
        elif not self.place.is_dir():
            raise InputError(f"{self.place}: must be a folder, for the folders of the outputs")
        elif any(is_weights(file.name) for file in self.place.iterdir()):
            raise InputError(
                f"{self.place}: is a model, got it as the folder of the outputs; choose another one"
            )
        try:
            self._check_outputs()
        except InputError as error:
            raise at_place(self.file_name, error) from error

    def _check_outputs(self) -> None:
        for number, job in enumerate(self.jobs):
            try:
                if job in self.unfinished and self.place.exists():
                    check_place(job.place, job.protected)
                job.check_models()
            except InputError as error:
                raise InputError(f"outputs.{number} ({job.place.name}): {error}") from error

    def run(self, on_bytes: Callable[[int], None]) -> None:
        """Merge; an interrupted merge resumes, and outputs that are there are kept.

        Raises:
            InputError: an output cannot be written, or a value is not finite.
        """
        if not self.unfinished:
            return
        self.place.mkdir(exist_ok=True)
        self._check_space()
        first = self.unfinished[0]
        digest_in_background(first.files, first.algorithm)
        outputs = [job.written() for job in self.unfinished]
        merge_to_disk(outputs, device=self.device, on_bytes=on_bytes)
        remember_digests()

    def _check_space(self) -> None:
        files = [job.output for job in self.unfinished]
        needed = sum(one.num_bytes - one.num_bytes_held for one in files)
        free = shutil.disk_usage(self.place).free
        if free < needed:
            raise InputError(
                f"{self.place}: {decimal(needed)} are needed for {len(files)} outputs, "
                f"{decimal(free)} are free; name fewer outputs"
            )


def file_of(file: MergeFile, output: OutputSection) -> MergeFile:
    """Return the merge file of one output alone."""
    content: dict[str, Any] = {"outputs": [], "options": {**file.options, **output.options}}
    if output.seed is not None:
        content["seed"] = output.seed
    if output.coefficients is not None:
        pairs = zip(file.models or [], output.coefficients, strict=True)
        content["models"] = [
            as_entry(model).model_copy(update={"coefficient": own}) for model, own in pairs
        ]
    return file.model_copy(update=content)


def _is_made(job: MergeJob) -> bool:
    """Return whether an output is there, made as it would be now; if so, models are digested."""
    if not job.place.is_dir():
        return False
    try:
        made = read_pedigree(job.place)
        return without_device(made) == without_device(job.pedigree)
    except InputError:
        return False
