"""Examples on a device: read once, the same in each pass, whatever a pass does to its batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset
from toy_workload import Toy

from stockpot.workloads import resident
from stockpot.workloads.batches import TokenDataset, batches_by_length
from stockpot.workloads.images.pixels import PixelDataset
from stockpot.workloads.open_sets import open_examples
from stockpot.workloads.passes import Examples, empty_model
from stockpot.workloads.resident import ResidentBatches


class Counted(Dataset[tuple[Tensor, Tensor]]):
    """Examples that are no tensors as a whole; counts how often one is read."""

    def __init__(self, points: Tensor, targets: Tensor) -> None:
        self._examples = list(zip(points, targets, strict=True))
        self.reads = 0

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.reads += 1
        return self._examples[index]


def test_batches_are_those_of_the_indices_in_their_order() -> None:
    lengths = torch.tensor([3, 1, 2, 3, 1])
    tokens = torch.arange(15).view(5, 3)
    dataset = TokenDataset(tokens, torch.arange(5), lengths=lengths)
    indices = batches_by_length(dataset, torch.arange(5), 2)

    batches = list(ResidentBatches(dataset, indices, "cpu"))

    assert [targets.tolist() for _, targets in batches] == [[1, 4], [2, 0], [3]]
    assert torch.equal(batches[1][0], tokens[[2, 0]])


def test_images_are_kept_as_bytes_and_given_as_numbers() -> None:
    dataset = PixelDataset(torch.full((2, 1, 2, 2), 255, dtype=torch.uint8), torch.arange(2))
    batches = ResidentBatches(dataset, [torch.tensor([0, 1])], "cpu")

    [(images, _targets)] = batches

    assert torch.equal(images, torch.ones(2, 1, 2, 2))
    assert batches.nbytes == 8 + 16


def test_a_pass_that_changes_its_batches_changes_no_later_one() -> None:
    dataset = TensorDataset(torch.ones(3, 2), torch.arange(3))
    batches = ResidentBatches(dataset, [torch.arange(3)], "cpu")
    for points, targets in batches:
        points.zero_()
        targets.zero_()

    [(points, targets)] = batches

    assert torch.equal(points, torch.ones(3, 2))
    assert torch.equal(targets, torch.arange(3))
    assert torch.equal(dataset.tensors[0], torch.ones(3, 2))


@pytest.mark.parametrize(("memory", "reads"), [(1 / 16, 6), (0, 4 * 6)])
def test_other_datasets_are_read_once_if_they_fit(
    monkeypatch: pytest.MonkeyPatch, memory: float, reads: int
) -> None:
    monkeypatch.setattr(resident, "_FRACTION", memory)
    workload = Toy(0, [], [])
    dataset = Counted(*workload.dataset("val").tensors)
    model = empty_model(workload, "cpu")

    examples = Examples(workload, dataset, "cpu")
    first, second = examples.outputs(model), examples.outputs(model)

    assert torch.equal(first, second)
    assert dataset.reads == reads  # without room: to see that, for the targets, and in two passes


def test_examples_of_different_shapes_are_read_in_each_pass() -> None:
    class Ragged(Counted):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return torch.ones(1 + index // 256), torch.tensor(index)

    dataset = Ragged(torch.zeros(257, 1), torch.zeros(257))

    batches = list(ResidentBatches(dataset, torch.split(torch.arange(257), 256), "cpu"))

    assert [tuple(points.shape) for points, _ in batches] == [(256, 1), (1, 2)]


def test_a_set_is_opened_once_per_workload_and_dropped_when_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workload, other = Toy(0, ["near"], []), Toy(0, ["near"], [])
    val = open_examples(workload, "val", "cpu")
    shifted = open_examples(workload, "val_shift/near", "cpu")

    assert open_examples(workload, "val", "cpu") is val
    assert open_examples(other, "val", "cpu") is not val
    assert not torch.equal(next(iter(val._batches))[0], next(iter(shifted._batches))[0])
    monkeypatch.setattr("stockpot.workloads.open_sets._FRACTION", 0)
    open_examples(workload, "val_shift/near", "cpu")
    assert open_examples(workload, "val", "cpu") is not val
