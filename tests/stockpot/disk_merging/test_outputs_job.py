"""Several outputs of one merge file: the bits of separate merges, from one reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merge_files import language_model, merge, save_model
from safetensors.torch import load_file

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.merge_files.mergekit_form import load_merge
from stockpot.disk_merging.outputs_job import OutputsJob
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.disk_merging.streaming import planned_tensors, stream
from stockpot.errors import InputError
from stockpot.merging import runs
from stockpot.storage.weights.sources import Source

Read = Callable[[str], OutputsJob]

LINEAR = """method: linear
models: [a, b]
outputs:
  - {name: even}
  - {name: odd, coefficients: [0.2, [0, 1]]}
"""
# One per way in which tensors are merged; with the lines of the separate merges.
GRIDS = {
    "linear": (
        "",
        [
            (
                "coefficients: [0.2, 0.9]",
                "models: [{path: a, coefficient: 0.2}, {path: b, coefficient: 0.9}]",
            ),
            ("coefficients: [1, [0, 2]]", "models: [a, {path: b, coefficient: [0, 2]}]"),
        ],
    ),
    "ties": (
        "base: p",
        [
            ("options: {density: 0.3}", "models: [a, b]\noptions: {density: 0.3}"),
            ("options: {scope: model}", "models: [a, b]\noptions: {scope: model}"),
        ],
    ),
    "dare_ties": (
        "base: p",
        [
            ("seed: 5", "models: [a, b]\nseed: 5"),
            ("options: {density: 0.9}", "models: [a, b]\noptions: {density: 0.9}"),
        ],
    ),
    "tsv": (
        "base: p",
        [
            ("options: {scale: 0.5}", "models: [a, b]\noptions: {scale: 0.5}"),
            ("options: {scale: 2.0}", "models: [a, b]\noptions: {scale: 2.0}"),
        ],
    ),
}


@pytest.fixture(autouse=True)
def _tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tensors of some entries into runs and pieces, and merge the larger ones alone."""
    monkeypatch.setattr(runs, "MOST_ENTRIES", 14)
    monkeypatch.setattr(stream, "_PIECE", 28)
    monkeypatch.setattr(planned_tensors, "_ALONE", 60)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abp"):
        state = language_model(seed, num_layers=2, vocabulary=18) | {
            "bn.running_mean": torch.full((4,), float(seed)),
            "bn.running_var": torch.full((4,), 1.0 + seed),
        }
        state = {name: tensor.half() for name, tensor in state.items()}
        save_model(tmp_path / name, state, model_type="llama")
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Read:
    def read_text(text: str) -> OutputsJob:
        (folder / "merge.yaml").write_text(text)
        return OutputsJob(load_merge(folder / "merge.yaml"), folder, folder / "grid")

    return read_text


def _run(job: OutputsJob) -> None:
    job.check()
    job.run(lambda _: None)


@pytest.mark.parametrize("method", GRIDS)
def test_outputs_have_the_files_of_separate_merges(read: Read, folder: Path, method: str) -> None:
    base, outputs = GRIDS[method]
    listed = [f"  - {{name: soup-{n}, {lines}}}" for n, (lines, _) in enumerate(outputs)]
    lines = [f"method: {method}", "models: [a, b]", base, "outputs:", *listed]

    _run(read("\n".join(lines)))

    for number, (_, alone) in enumerate(outputs):
        own = folder / f"grid/soup-{number}"
        expected = merge(folder, f"method: {method}\n{base}\n{alone}", f"alone-{number}")
        found = load_file(own / "model.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert read_pedigree(own) == read_pedigree(folder / f"alone-{number}")
        assert (own / "config.json").read_text() == (
            folder / f"alone-{number}/config.json"
        ).read_text()
        assert (own / "README.md").is_file()


def test_each_part_of_the_models_is_read_once(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[Path, str, int, int]] = []
    whole = Source.read_run

    def counted(source: Source, name: str, first: int, last: int) -> torch.Tensor:
        reads.append((source.path, name, first, last))
        return whole(source, name, first, last)

    job = read(LINEAR)
    job.check()
    assert [*job.notes]  # which compare a part of the heads
    monkeypatch.setattr(Source, "read_run", counted)
    job.run(lambda _: None)

    weights = [one for one in reads if "running" not in one[1]]
    assert len(weights) == len(set(weights))


def test_the_forecast_counts_the_models_once_and_all_outputs(read: Read, folder: Path) -> None:
    job = read(LINEAR)

    size = sum(t.nbytes for t in load_file(folder / "a/model.safetensors").values())
    assert job.forecast["to read"] == pytest.approx(2 * size)
    assert job.forecast["to write"] == pytest.approx(2 * size)
    assert not job.place.exists()


def test_an_output_is_verified_on_its_own(read: Read, folder: Path) -> None:
    _run(read(LINEAR))

    again = MergeJob.rebuilding(folder / "grid/odd", folder / "again", folder)
    again.run(lambda _: None)

    names = ("grid/odd/model.safetensors", "again/model.safetensors")
    assert len({(folder / name).read_bytes() for name in names}) == 1


def test_outputs_that_are_there_are_kept_and_others_added(read: Read, folder: Path) -> None:
    _run(read(LINEAR))
    before = (folder / "grid/even/model.safetensors").stat().st_mtime_ns

    job = read(LINEAR + "  - {name: third, coefficients: [3, 1]}")
    _run(job)

    assert (folder / "grid/even/model.safetensors").stat().st_mtime_ns == before
    assert sorted(path.name for path in (folder / "grid").iterdir()) == ["even", "odd", "third"]
    assert "even, odd: there already, made in the same way" in job.notes
    with pytest.raises(InputError, match=r"outputs.1 \(odd\): .*exists already"):
        read(LINEAR.replace("0.2", "0.3")).check()


def test_an_interrupted_merge_resumes(
    read: Read, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockpot.disk_merging.job._MAX_SHARD_BYTES", 200)
    _run(read(LINEAR))
    expected = {p.name: p.read_bytes() for p in (folder / "grid/odd").glob("*.safetensors")}
    (folder / "grid").rename(folder / "first")
    job, done = read(LINEAR), 0

    def killed(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        if done > 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(killed)
    assert sorted(p.name for p in (folder / "grid").iterdir() if p.is_dir()) == [
        ".even.merging",
        ".odd.merging",
    ]
    counts: list[int] = []
    read(LINEAR).run(counts.append)

    found = {p.name: p.read_bytes() for p in (folder / "grid/odd").glob("*.safetensors")}
    assert found == expected
    assert counts[0] > 0  # finished shards are not merged again


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("outputs: [{name: x}, {name: x}]", "outputs.1.name must differ from those of others"),
        ("outputs: [{name: x, coefficients: [1]}]", "outputs.0.coefficients must be 2, one per"),
        ("outputs: [{name: x.safetensors}]", "outputs.0.name: an output is a folder"),
        ("outputs: [{name: ../x}]", "outputs.0.name: "),
        ("outputs: [{name: x, options: {densty: 1}}]", "unknown option 'densty'"),
        (
            "outputs: [{name: x, coefficients: [1, -1]}]",
            "outputs.0 (x): tensor 'bn.running_mean': statistics",
        ),
        ("output: adapter\noutputs: [{name: x}]", "outputs are models that are merged"),
    ],
)
def test_outputs_that_make_no_sense_are_refused(read: Read, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read(f"method: linear\nmodels: [a, b]\n{text}").check()

    assert message in str(error.value)
