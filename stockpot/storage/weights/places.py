"""The places where models are written: checked before the work, filled at once after it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.locks import sole_writer
from stockpot.storage.weights.model_files import is_weights
from stockpot.storage.weights.sources import open_files

_MADE_HERE = "stockpot."  # how the keys of the metadata begin that stockpot writes
_MOST_NAME_BYTES = 255 - len("..replaced")  # the longest that is put around a name
_KEPT = (".git", ".hg", ".svn", ".dvc")
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2
_AT_FDCWD = -100
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def check_place(place: Path, inputs: Sequence[Path] | None = None) -> None:
    """Refuse a place where nothing can be written.

    Args:
        place: of the model that is to be written.
        inputs: files and folders that must survive if an existing model at the place is replaced;
            None refuses an existing place.

    Raises:
        InputError: it exists already and may not be replaced, its parent folder is missing or
            not writable, or no path can be as long.
    """
    if place.name in ("", ".."):
        raise InputError(f"{place}: must end in the name of the model")
    if is_weights(place.name) and place.suffix != ".safetensors":
        raise InputError(
            f"{place}: must be a folder, or a file that ends in .safetensors; other formats are "
            "not written"
        )
    if _is_there(place):
        if inputs is None:
            raise InputError(
                f"{place}: exists already; remove it, choose another place, or replace it with "
                "--force"
            )
        _check_replaceable(place, inputs)
    parent = place.absolute().parent
    if not parent.is_dir():
        raise InputError(f"{parent}: no such folder")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{parent}: the folder is not writable; change its permissions")


def check_apart(place: Path, folders: Iterable[Path | None]) -> None:
    """Refuse a place inside the folder of a model that is read: it would become a part of it.

    Args:
        place: of the model that is to be written.
        folders: those of the models; None for a single file.

    Raises:
        InputError: it is in one of them.
    """
    own = Path(os.path.realpath(place))
    for folder in folders:
        if folder is not None and own.is_relative_to(folder.resolve()):
            raise InputError(
                f"{place}: is in the folder of {folder}, which is an input; choose a place outside "
                "it"
            )


@contextmanager
def sole_place(place: Path) -> Iterator[None]:
    """Lock a place for writing, after restoring what a killed process has put aside.

    Raises:
        InputError: another process writes to it.
    """
    with sole_writer(place):
        aside = _aside(place)
        if aside.is_dir() and place.exists():
            shutil.rmtree(aside)
        elif aside.is_dir():
            aside.rename(place)
        yield


def publish(work: Path, place: Path) -> None:
    """Give a complete folder or file its final name; what has that name now is removed.

    A folder is exchanged with the old one in one step. Where the system cannot do that, the old
    one gets another name for a moment; if the process is killed then, the next `sole_place`
    restores it. So one whole model is there at any time.
    """
    if not place.is_dir():
        work.replace(place)
        return
    if _exchange(work, place):
        shutil.rmtree(work)
        return
    aside = _aside(place)
    place.rename(aside)
    work.rename(place)
    shutil.rmtree(aside)


def _is_there(place: Path) -> bool:
    """Return whether there is something at a place.

    Raises:
        InputError: nothing can be there.
    """
    num_bytes = len(os.fsencode(place.name))
    if num_bytes > _MOST_NAME_BYTES:
        raise InputError(
            f"{place}: its name must have at most {_MOST_NAME_BYTES} bytes, got {num_bytes}"
        )
    try:
        return place.exists() or place.is_symlink()
    except OSError as error:  # of the whole path
        raise InputError(f"{place}: cannot be a path ({error.strerror})") from error


def _check_replaceable(place: Path, inputs: Sequence[Path]) -> None:
    """Refuse to replace anything but a model that stockpot has written, and is no input."""
    if place.is_symlink():
        raise InputError(f"{place}: is a link; name the folder that is to be replaced")
    if place.is_dir() == (place.suffix == ".safetensors"):
        raise InputError(f"{place}: exists, and is not of the kind that is written; remove it")
    own = place.resolve()
    for path in (Path.cwd(), *inputs):
        # A file of a cache is a link: what holds the link counts, too.
        if any(one.is_relative_to(own) for one in (path.resolve(), path.parent.resolve())):
            raise InputError(
                f"{place}: is in use, as {path} is in it; --force would delete it: choose another "
                "place"
            )
    kept = [name for name in _KEPT if (place / name).exists()]
    if kept:
        raise InputError(f"{place}: has {kept[0]}; --force would delete it: choose another place")
    if not _is_made_here(place):
        raise InputError(
            f"{place}: is not a model made by stockpot, and --force replaces no others; remove it "
            "or choose another place"
        )


def _is_made_here(place: Path) -> bool:
    try:
        metadata = open_files(place).metadata
    except InputError:
        return False
    return any(key.startswith(_MADE_HERE) for key in metadata)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths atomically; return whether the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.replaced")
