"""The fashion_mnist workload, on folders of made-up IDX files."""

import gzip

import numpy as np
import pytest
import torch
from idx_folders import write_idx, write_idx_folder

from stockpot.errors import InputError
from stockpot.workloads import build_workload, shift_names
from stockpot.workloads.images.idx_files import idx_shape, read_idx

SIZES = {"pretrain_size": 10, "train_size": 30, "val_size": 15}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_idx_folder(tmp_path_factory.mktemp("data") / "idx")


def build(folder, seed=0, val_shifts=("blur",), test_shifts=("noise",), **options):
    return build_workload(
        "fashion_mnist",
        seed=seed,
        val_shifts=val_shifts,
        test_shifts=test_shifts,
        options={"data": str(folder), **SIZES, **options},
    )


def images_of(workload, split):
    return workload.dataset(split).tensors[0]


def test_splits_are_apart_and_test_is_the_whole_test_file(folder):
    workload = build(folder)

    rows = [
        tuple(image.flatten().tolist())
        for split in ("pretrain", "train", "val", "test")
        for image in images_of(workload, split)
    ]

    assert len(rows) == len(set(rows)) == 10 + 30 + 15 + 20
    expected = torch.from_numpy(read_idx(folder / "t10k-images-idx3-ubyte.gz").copy()) / 255
    torch.testing.assert_close(images_of(workload, "test"), expected.unsqueeze(1))
    assert workload.dataset("test").tensors[1].tolist() == [number % 10 for number in range(20)]


def test_targets_stay_with_their_images(folder):
    images, targets = build(folder).dataset("train").tensors

    rows = images[:, 0].mean(dim=2).argmax(dim=1)  # within the bar, which is 3 rows high

    assert ((rows >= 2 * targets + 4) & (rows < 2 * targets + 7)).all()


def test_the_seed_and_the_sizes_fix_the_splits_and_the_digest(folder):
    workload, same = build(folder), build(folder)
    others = [build(folder, seed=1), build(folder, val_size=14)]

    assert torch.equal(images_of(workload, "val"), images_of(same, "val"))
    assert workload.data_digest() == same.data_digest()
    for other in others:
        assert not torch.equal(images_of(workload, "val"), images_of(other, "val"))
        assert workload.data_digest() != other.data_digest()


def test_the_digest_is_of_the_content_not_of_the_place(folder, tmp_path):
    copy = write_idx_folder(tmp_path / "elsewhere")
    before = build(copy).data_digest()
    write_idx(copy / "t10k-labels-idx1-ubyte", np.zeros(20, np.uint8))

    assert before == build(folder).data_digest()
    assert build(copy).data_digest() != before


@pytest.mark.parametrize("name", sorted(shift_names("fashion_mnist") or ()))
def test_a_shift_is_a_copy_that_is_the_same_each_time(folder, name):
    first, again = (build(folder, val_shifts=(), test_shifts=(name,)) for _ in range(2))

    images, targets = first.shifts()[name].dataset().tensors

    assert torch.equal(images, again.shifts()[name].dataset().tensors[0])
    assert torch.equal(targets, first.dataset("test").tensors[1])
    assert images.shape == (20, 1, 28, 28)
    assert 0 <= images.min() < images.max() <= 1
    assert not torch.equal(images, images_of(first, "test"))


def test_augmentation_of_strength_zero_is_the_batch_itself_and_more_flips_some(folder):
    workload = build(folder)
    left = torch.zeros(400, 1, 28, 28)
    left[..., :10] = 1.0
    batch = (left, torch.zeros(400).long())

    assert workload.augment(batch, 0.0, torch.Generator()) is batch
    images = workload.augment(batch, 1.0, torch.Generator().manual_seed(0))[0]
    flipped = (images[..., 14:].sum(dim=(1, 2, 3)) > images[..., :14].sum(dim=(1, 2, 3))).sum()
    assert 160 < flipped < 240
    again = workload.augment(batch, 1.0, torch.Generator().manual_seed(0))[0]
    assert torch.equal(images, again)


def test_a_step_lowers_the_loss_and_the_weights_come_from_the_generator(folder):
    workload = build(folder)
    net, same = (workload.build_model(torch.Generator().manual_seed(0)) for _ in range(2))
    batch = workload.dataset("train").tensors

    assert all(torch.equal(*pair) for pair in zip(net.parameters(), same.parameters(), strict=True))
    losses = workload.loss(workload.forward(net, batch), batch)
    losses.mean().backward()
    torch.optim.SGD(net.parameters(), lr=0.01).step()
    assert losses.shape == (30,)
    assert workload.loss(workload.forward(net, batch), batch).mean() < losses.mean()


def test_a_folder_without_the_files_says_what_to_install_and_which_option_to_set(tmp_path):
    with pytest.raises(InputError) as caught:
        build(tmp_path)

    assert str(caught.value) == (
        f"fashion_mnist: {tmp_path} must have train-images-idx3-ubyte or "
        "train-images-idx3-ubyte.gz, got neither; install the Debian package "
        "dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or set "
        "workload.options.data to a folder of these files"
    )


def test_sizes_that_the_file_cannot_give_are_refused(folder):
    with pytest.raises(InputError, match=r"must be at most 60, the images of .*, got 90"):
        build(folder, train_size=65)
    with pytest.raises(InputError, match="val_size must be at least 1, got 0"):
        build(folder, val_size=0)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("train-labels-idx1-ubyte", np.full(60, 10), "labels must be 0 to 9, got 10 at 0"),
        ("train-labels-idx1-ubyte", np.zeros(59), r"a label for each of 60 images, got \(59,\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, name, values, words):
    folder = write_idx_folder(tmp_path)
    write_idx(folder / name, values.astype(np.uint8))

    with pytest.raises(InputError, match=words):
        build(folder).dataset("train")


def test_images_of_another_size_are_refused_before_they_are_read(tmp_path):
    folder = write_idx_folder(tmp_path)
    write_idx(folder / "train-images-idx3-ubyte.gz", np.zeros((60, 32, 32), np.uint8))

    with pytest.raises(
        InputError, match=r"must be images of 28 x 28, got the shape \(60, 32, 32\)"
    ):
        build(folder)


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_an_idx_file_reads_as_it_was_written(tmp_path, name):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / name, values)

    assert idx_shape(tmp_path / name) == (2, 3, 4)
    np.testing.assert_array_equal(read_idx(tmp_path / name), values)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a", b"", "must be an IDX file of unsigned bytes"),
        ("a", b"\0\0\x0d\x01\0\0\0\1" + b"\0\0\0\0", "must be an IDX file of unsigned bytes"),
        ("a", b"\0\0\x08\x02\0\0\0\1", "must have 2 dimensions, got the end of the file"),
        ("a", b"\0\0\x08\x01\0\0\0\3" + b"ab", "must have 3 bytes after its header, got 2"),
        ("a", b"\0\0\x08\x01\0\0\0\1" + b"ab", "must have 1 bytes after its header, got 2"),
        ("a.gz", b"no gzip", "must be a complete gzip file"),
        ("a.gz", gzip.compress(bytes(99), mtime=0)[:-9], "must be"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=words):
        read_idx(tmp_path / name)
