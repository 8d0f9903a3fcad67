"""Image files with their classes and splits, and their pixels.

Importing this module imports neither Pillow nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError, nearest_hint
from stockpot.storage.digests import file_digest
from stockpot.workloads.protocol import SPLITS
from stockpot.workloads.splits import check_disjoint, split_by_seed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image.

    Attributes:
        path: the file.
        label: the name of its class.
    """

    path: Path
    label: str


def find_images(data: Path) -> dict[str, list[ImageFile]]:
    """Find the images of each split.

    Args:
        data: a folder with the folders train, val and test, and optionally pretrain, each with
            one folder per class; or with one folder per class.

    Returns:
        The images by split, or all of them as `all`; sorted by class and name.

    Raises:
        InputError: there are no such folders; a class has no image; or the classes of a split
            differ from train's.
    """
    if not data.is_dir():
        raise InputError(f"{data}: there must be a folder of images, got none")
    folders = {split: data / split for split in SPLITS if (data / split).is_dir()}
    if not folders:
        return {"all": _labelled(data)}
    if not {"train", "val", "test"} <= {*folders}:
        raise InputError(
            f"{data}: must have the folders train, val and test, or one folder per class, got "
            f"{sorted(folders)}"
        )
    found = {split: _labelled(folder) for split, folder in folders.items()}
    _check_labels(found, folders)
    return found


def split_images(found: Mapping[str, list[ImageFile]], seed: int) -> dict[str, list[ImageFile]]:
    """Return the images of pretrain, train, val and test; without pretrain, that is train.

    Args:
        found: the result of `find_images`; `all` is split, without separating equal files.
        seed: fixes the random split.

    Raises:
        InputError: a class has too few images; or val or test has a file of another split.
    """
    splits = dict(found)
    if "all" in found:
        images = found["all"]
        digests = [file_digest(image.path) for image in images]
        parts = split_by_seed(digests, seed, classes=[image.label for image in images])
        splits = {split: [images[index] for index in part] for split, part in parts.items()}
    check_disjoint(
        {
            split: {file_digest(image.path): str(image.path) for image in images}
            for split, images in splits.items()
        }
    )
    return {"pretrain": splits["train"], **splits}


def classes_of(images: Sequence[ImageFile]) -> tuple[str, ...]:
    """Return the sorted names of the classes."""
    return tuple(sorted({image.label for image in images}))


def read_pixels(path: Path, side: int, *, colour: bool) -> NDArray[np.uint8]:
    """Read an image, scale its shorter side to `side`, and crop the square in the middle.

    Args:
        path: a file of any format that Pillow reads; rotated by its EXIF orientation.
        side: pixels.
        colour: whether the result has three channels (RGB) or one (grey).

    Returns:
        (C, side, side).

    Raises:
        InputError: Pillow cannot read it.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file).convert("RGB" if colour else "L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: must be an image that Pillow reads, got {error}") from error
    fitted = ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(fitted, dtype=np.uint8).reshape(side, side, -1)
    return pixels.transpose(2, 0, 1).copy()


def _labelled(folder: Path) -> list[ImageFile]:
    """List the images in a folder with one folder per class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and _is_visible(path))
    if len(classes) < 2:
        raise InputError(
            f"{folder}: must have two folders or more, one per class, got "
            f"{[path.name for path in classes]}"
        )
    return [ImageFile(path, name.name) for name in classes for path in _images(name)]


def _images(folder: Path) -> Iterator[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    visible = [path for path in paths if _is_visible(path)]
    if not visible:
        raise InputError(
            f"{folder}: a class must have images ({', '.join(_ENDINGS)}), got none; add some or "
            "remove the folder"
        )
    yield from visible


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".")


def _check_labels(found: dict[str, list[ImageFile]], folders: dict[str, Path]) -> None:
    """Check that all splits have the classes of train."""
    expected = classes_of(found["train"])
    for split, images in found.items():
        classes = classes_of(images)
        unknown = sorted(set(classes) - set(expected))
        if unknown:
            raise InputError(
                f"{folders[split]}: must have the classes of train, {list(expected)}, got "
                f"{unknown} as well{nearest_hint(unknown[0], expected)}"
            )
        absent = sorted(set(expected) - set(classes))
        if absent:
            raise InputError(
                f"{folders[split]}: must have images of each class of train, got none of {absent}"
            )
