"""Device slots: the runs of one user on this machine do not use a device at the same time.

A slot is a file lock, which the kernel releases when its holder dies. The files are in a folder of
the temporary folder that nobody but the user can open.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.locks import any_lock, holder, sign

_POLL_SECONDS = 0.2
_QUEUE_POLL_SECONDS = 0.05
_SECONDS_TO_SHOW = 5.0  # a wait that is longer is shown
_log = logging.getLogger("stockpot")


def slots_folder() -> Path:
    """Return the folder of this user's slots, and create it if it is missing.

    Raises:
        InputError: the place is taken, e.g. by a folder of another user, who could hold the slots.
    """
    folder = Path(tempfile.gettempdir()) / f"stockpot-slots-{os.getuid()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        state = folder.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid():
            raise InputError(
                f"{folder}: must be a folder of this user, got one of user {state.st_uid}, or no "
                "folder; remove it, or set TMPDIR to another folder for all your runs"
            ) from None
        folder.chmod(0o700)
    return folder


class DeviceSlots:
    """The slots of the devices of one pool; thread-safe.

    Whoever waits for a slot stands in a queue of the device, one thread per process: a run that
    releases a slot and wants it again comes after the run that has been waiting.
    """

    def __init__(self, devices: Sequence[str], check: Callable[[], None]) -> None:
        """Find the slots.

        Args:
            devices: one name per worker; a device has as many slots as it has workers here.
            check: called while waiting; ends the wait by raising.

        Raises:
            InputError: the folder of the slots is not this user's.
        """
        folder = slots_folder()
        self._check = check
        self._slots = {
            device: [
                folder / f"{device.replace(':', '-')}-{number}.lock"
                for number in range(devices.count(device))
            ]
            for device in devices
        }
        self._turns = {device: threading.Lock() for device in devices}
        self._has_shown_wait = False
        self._purpose = f"{Path(sys.argv[0]).name} in {Path.cwd()}"

    @contextmanager
    def hold(self, device: str, check_needed: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold a slot of a device; wait until one is free.

        Args:
            device: its name.
            check_needed: called while waiting, too; ends the wait by raising.
        """
        slots = self._slots[device]

        def check_wait() -> None:
            self._check()
            check_needed()

        with ExitStack() as stack:
            with self._turn(device, check_wait):
                start = time.monotonic()

                def check() -> None:
                    check_wait()
                    if time.monotonic() - start > _SECONDS_TO_SHOW:
                        self._show_wait(device)

                taken = stack.enter_context(any_lock(slots, check))
            sign(slots[taken], self._purpose)
            yield

    @contextmanager
    def _turn(self, device: str, check: Callable[[], None]) -> Iterator[None]:
        """Be the first in the queue of a device."""
        turn = self._turns[device]
        while not turn.acquire(timeout=_POLL_SECONDS):
            check()
        try:
            with _queue(self._slots[device][0].with_suffix(".queue"), check):
                yield
        finally:
            turn.release()

    def _show_wait(self, device: str) -> None:
        """Warn, once, that other runs have all slots."""
        if not self._has_shown_wait:
            self._has_shown_wait = True
            holders = ", ".join(holder(slot) for slot in self._slots[device] if slot.exists())
            _log.warning("%s is in use by other runs of yours: %s; waiting", device, holders)


@contextmanager
def _queue(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Wait until all who came before have left the queue, and leave it at the end of the block.

    A ticket is a locked file named after the time. That of a process that died is not locked.
    A lock alone would not do: whoever polls it hardly ever meets the moment in which it is free.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{time.monotonic_ns():020d}-{os.getpid()}-{threading.get_ident()}"
    ticket, unlocked = folder / name, folder / f".{name}"
    descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unlocked.rename(ticket)  # only now, so that nobody sees it unlocked
        while any(_is_held(earlier) for earlier in folder.glob("[0-9]*") if earlier < ticket):
            check()
            time.sleep(_QUEUE_POLL_SECONDS)
        yield
    finally:
        ticket.unlink(missing_ok=True)
        os.close(descriptor)


def _is_held(ticket: Path) -> bool:
    """Return whether the owner of a ticket lives; remove the ticket otherwise."""
    try:
        descriptor = os.open(ticket, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        ticket.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
