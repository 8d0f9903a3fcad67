"""The image_folder workload: pixels, splits, shifts, own models, and errors in folders."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stockpot.errors import InputError
from stockpot.workloads import build_workload, shift_names
from stockpot.workloads.batches import num_examples, subset, take, to_device
from stockpot.workloads.images.image_files import read_pixels
from stockpot.workloads.images.image_sets import LazyImages, in_memory
from stockpot.workloads.spec import WorkloadSpec

COLOURS = {"ant": (200, 30, 30), "bee": (30, 30, 200)}


def save(path: Path, colour: tuple[int, ...], seed: int) -> None:
    """Save a noisy image of a colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-30, 30, (20, 24, 3))
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)


def save_split(folder: Path, number: int, seed: int) -> None:
    for name, colour in COLOURS.items():
        for place in range(number):
            ending = ".png" if place % 2 else ".jpg"
            save(folder / name / f"{place:02}{ending}", colour, 1000 * seed + place)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    data = tmp_path_factory.mktemp("images") / "data"
    for seed, (split, number) in enumerate({"train": 6, "val": 4, "test": 3}.items()):
        save_split(data / split, number, seed)
    return data


@pytest.fixture
def data(made, tmp_path):
    return shutil.copytree(made, tmp_path / "data")


def build(data, seed=0, val_shifts=("blur",), test_shifts=("noise",), **options):
    return build_workload(
        "image_folder",
        seed=seed,
        val_shifts=val_shifts,
        test_shifts=test_shifts,
        options={"data": str(data), "side": 16, **options},
    )


def whole(dataset):
    return take(dataset, torch.arange(num_examples(dataset)))


def test_images_are_scaled_by_the_shorter_side_and_cut_to_the_middle(tmp_path):
    left_to_right = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[None], 8, axis=0)  # 8 x 24
    Image.fromarray(left_to_right).save(tmp_path / "a.png")

    pixels = read_pixels(tmp_path / "a.png", 8, colour=False)
    colour = read_pixels(tmp_path / "a.png", 8, colour=True)

    np.testing.assert_array_equal(pixels[0], left_to_right[:, 8:16])
    np.testing.assert_array_equal(colour, np.repeat(pixels, 3, axis=0))


def test_images_are_turned_upright(tmp_path):
    image = Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8)[:, None] * 30, 8, axis=1))
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: upside down
    image.save(tmp_path / "a.png", exif=exif)

    pixels = read_pixels(tmp_path / "a.png", 8, colour=False)

    assert pixels[0, :, 0].tolist() == [210, 180, 150, 120, 90, 60, 30, 0]


def test_splits_are_the_folders_and_classes_are_in_order_of_name(data):
    workload = build(data)

    for split, number in {"pretrain": 6, "train": 6, "val": 4, "test": 3}.items():
        images, targets = whole(workload.dataset(split))
        assert targets.tolist() == [0] * number + [1] * number
        assert images.shape == (2 * number, 3, 16, 16)
        assert images.dtype == torch.float32
        means = images.mean(dim=(2, 3)) * 255
        expected = torch.tensor([COLOURS["ant"]] * number + [COLOURS["bee"]] * number)
        torch.testing.assert_close(means, expected.float(), atol=8, rtol=0)


def test_grey_images_have_one_channel_and_a_net_for_it(data):
    workload = build(data, colour=False)
    batch = whole(workload.dataset("val"))

    outputs = workload.forward(workload.build_model(torch.Generator().manual_seed(0)), batch)

    assert batch[0].shape == (8, 1, 16, 16)
    assert outputs.shape == (8, 2)


def test_a_folder_of_classes_is_split_by_the_seed_within_classes(tmp_path):
    save_split(tmp_path / "all", 20, 0)
    first, same, other = (build(tmp_path / "all", seed=seed) for seed in (0, 0, 1))

    images = {split: whole(first.dataset(split))[0] for split in ("train", "val", "test")}
    targets = whole(first.dataset("val"))[1]

    assert {split: len(part) for split, part in images.items()} == {
        "train": 28,
        "val": 6,
        "test": 6,
    }
    assert targets.tolist() == [0] * 3 + [1] * 3
    assert len({image.numpy().tobytes() for part in images.values() for image in part}) == 40
    assert torch.equal(images["val"], whole(same.dataset("val"))[0])
    assert not torch.equal(images["val"], whole(other.dataset("val"))[0])
    assert first.data_digest() == same.data_digest() != other.data_digest()


def test_the_digest_is_of_contents_and_classes(data, made):
    before = build(data).data_digest()
    (data / "test" / "ant" / "00.jpg").rename(data / "test" / "bee" / "zz.jpg")

    assert before == build(made).data_digest()
    assert build(data).data_digest() != before


@pytest.mark.parametrize("name", sorted(shift_names("image_folder") or ()))
@pytest.mark.parametrize("colour", [True, False])
def test_a_shift_is_a_copy_that_is_the_same_each_time(data, name, colour):
    first, again = (build(data, val_shifts=(), test_shifts=(name,), colour=colour) for _ in "12")
    before, targets = whole(first.dataset("test"))

    shift = first.shifts()[name]
    images, shifted_targets = whole(shift.dataset())

    assert (shift.split, shift.is_copy) == ("test", True)
    assert torch.equal(shifted_targets, targets)
    assert images.shape == before.shape
    assert not torch.equal(images, before)
    assert torch.equal(images, whole(again.shifts()[name].dataset())[0])


@pytest.mark.parametrize("corruption", [None, "noise"])
def test_images_read_one_by_one_are_those_read_at_once(data, corruption):
    paths = sorted((data / "val").rglob("*.png"))
    lazy = LazyImages(paths, [0, 0, 1, 1], 16, True, corruption, seed=3)

    at_once, one_by_one = whole(in_memory(lazy)), whole(lazy)

    assert torch.equal(at_once[0], one_by_one[0])
    assert torch.equal(at_once[1], one_by_one[1])
    assert lazy.num_bytes == 4 * 3 * 16 * 16 == in_memory(lazy).tensors[0].nbytes


def test_images_stay_bytes_on_a_device_and_in_a_part(data):
    dataset = build(data).dataset("val")
    batch = take(dataset, torch.tensor([5, 2]))

    moved, part = to_device(dataset, "cpu"), subset(dataset, torch.tensor([5, 2]))

    assert moved.tensors[0].dtype == part.tensors[0].dtype == torch.uint8
    assert torch.equal(take(moved, torch.tensor([5, 2]))[0], batch[0])
    assert torch.equal(whole(part)[0], batch[0])
    assert torch.equal(part[0][0], batch[0][0])
    assert batch[0].max() <= 1


def test_the_net_learns_and_its_weights_come_from_the_generator(data):
    workload = build(data)
    net, same = (workload.build_model(torch.Generator().manual_seed(0)) for _ in range(2))
    states = net.state_dict(), same.state_dict()
    batch = whole(workload.dataset("train"))

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    first = workload.loss(workload.forward(net, batch), batch)
    for _ in range(5):
        optimizer.zero_grad()
        losses = workload.loss(workload.forward(net, batch), batch)
        losses.mean().backward()
        optimizer.step()
    assert first.shape == (12,)
    assert losses.mean() < first.mean() / 2


OWN = """
import torch

def build(num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, num_classes))

def number(num_classes):
    return num_classes
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_net_for_images.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_net_for_images:build"


def test_a_model_of_ones_own_is_seeded_and_leaves_the_global_random_state(data, own):
    workload = build(data, model=own)

    torch.manual_seed(1)
    first = workload.build_model(torch.Generator().manual_seed(0)).state_dict()
    after = torch.rand(1)
    torch.manual_seed(2)
    again = workload.build_model(torch.Generator().manual_seed(0)).state_dict()

    assert first["1.weight"].shape == (2, 768)
    assert all(torch.equal(first[name], again[name]) for name in first)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))


def test_the_code_of_a_model_of_ones_own_is_part_of_what_weights_depend_on(data, own):
    with_own = WorkloadSpec("image_folder", 0, options=(("data", str(data)), ("model", own)))
    without = WorkloadSpec("image_folder", 0, options=(("data", str(data)),))

    assert set(with_own.modules) - set(without.modules) == {"own_net_for_images"}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"side": 8}, "side must be at least 16, got 8"),
        ({"model": "resnet"}, "must be module:function of a module .*, got 'resnet'"),
        ({"model": "no_such_module.there:build"}, "got 'no_such_module.there:build'"),
        ({"model": "own_net_for_images:buil"}, "'own_net_for_images' must have 'buil'"),
        ({"model": "own_net_for_images:number"}, "must build a torch module, got <class 'int'>"),
    ],
)
def test_options_that_cannot_be_used_are_named(data, options, words):
    with pytest.raises(InputError, match=words):
        build(data, **options).build_model(torch.Generator())


def drop(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, "data: there must be a folder of images, got none"),
        (lambda data: drop(data / "val"), r"folders train, val and test.* got \['test', 'train'\]"),
        (lambda data: drop(data / "val" / "bee"), "val: must have two folders or more"),
        (
            lambda data: [drop(path) for path in (data / "val" / "bee").iterdir()],
            "val/bee: a class must have images .* got none; add some or remove the folder",
        ),
        (
            lambda data: save(data / "val" / "bees" / "0.png", (0, 0, 0), 0),
            r"val: must have the classes of train, \['ant', 'bee'\], got \['bees'\] as well; did",
        ),
        (
            lambda data: save(data / "train" / "cow" / "0.png", (0, 0, 0), 0),
            r"must have images of each class of train, got none of \['cow'\]",
        ),
    ],
)
def test_folders_that_do_not_fit_are_named_when_the_workload_is_built(data, change, words):
    change(data)

    with pytest.raises(InputError, match=words):
        build(data)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_an_image_that_cannot_be_read_is_named(data, content):
    path = data / "train" / "bee" / "03.png"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)

    with pytest.raises(InputError, match=r"train/bee/03\.png: must be an image that Pillow reads"):
        build(data).dataset("train")


def test_a_val_image_inside_train_is_refused(data):
    shutil.copy(data / "train" / "ant" / "01.png", data / "val" / "ant" / "copy.png")

    with pytest.raises(InputError, match=r"val must have no .*got 1: .*val/ant/copy\.png is .*01"):
        build(data).dataset("train")


def test_what_is_no_image_or_hidden_is_passed_over(data):
    (data / "train" / "ant" / "notes.txt").write_text("no image")
    (data / "train" / "ant" / ".00.png").write_text("no image")
    (data / "train" / ".cache").mkdir()

    assert num_examples(build(data).dataset("train")) == 12
