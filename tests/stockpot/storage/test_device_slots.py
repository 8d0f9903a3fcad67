from __future__ import annotations

import os
import stat
import tempfile
import threading
import time
from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.storage import device_slots
from stockpot.storage.device_slots import DeviceSlots, slots_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def nothing() -> None:
    """Check nothing."""


def test_nobody_else_can_open_the_folder_of_the_slots(temporary: Path) -> None:
    made = slots_folder()
    made.chmod(0o777)

    again = slots_folder()

    assert again == made == temporary / f"stockpot-slots-{os.getuid()}"
    assert stat.S_IMODE(again.stat().st_mode) == 0o700


def test_a_link_or_a_file_in_the_place_of_the_folder_is_refused(temporary: Path) -> None:
    place = temporary / f"stockpot-slots-{os.getuid()}"
    (temporary / "elsewhere").mkdir()
    place.symlink_to(temporary / "elsewhere")
    with pytest.raises(InputError, match="must be a folder of this user"):
        DeviceSlots(["cpu"], nothing)
    place.unlink()
    place.touch()

    with pytest.raises(InputError, match="remove it, or set TMPDIR"):
        DeviceSlots(["cpu"], nothing)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder of another user")
def test_a_folder_of_another_user_is_refused(temporary: Path) -> None:
    place = temporary / "stockpot-slots-0"
    place.mkdir()
    os.chown(place, 12345, 12345)

    with pytest.raises(InputError, match="got one of user 12345"):
        DeviceSlots(["cpu"], nothing)


def test_a_busy_run_does_not_starve_another_one() -> None:
    busy, other = DeviceSlots(["cpu"], nothing), DeviceSlots(["cpu"], nothing)
    turns, over = [0], threading.Event()

    def work() -> None:
        while not over.is_set():
            with busy.hold("cpu"):
                turns[0] += 1
                time.sleep(0.002)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    waited = []
    for _ in range(5):
        before = turns[0]
        with other.hold("cpu"):
            waited.append(turns[0] - before)
    over.set()
    for thread in threads:
        thread.join()

    # The run that has the slot, and one that came before.
    assert max(waited) <= 2, waited


def test_a_killed_process_leaves_its_place_in_the_queue() -> None:
    queue = slots_folder() / "cpu-0.queue"
    queue.mkdir()
    (queue / f"{0:020d}-1-1").touch()  # the ticket of a process that has died

    with DeviceSlots(["cpu"], nothing).hold("cpu"):
        tickets = [*queue.iterdir()]

    assert tickets == []


def test_a_wait_for_other_runs_is_shown_once_and_names_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device_slots, "_SECONDS_TO_SHOW", 0.1)
    checks = iter(range(1000))
    released = threading.Event()

    def check() -> None:
        if next(checks) == 6:
            released.set()

    def hold_for_a_while() -> None:
        with DeviceSlots(["cuda:0"], nothing).hold("cuda:0"):
            held.set()
            released.wait(10)

    held = threading.Event()
    other = threading.Thread(target=hold_for_a_while)
    other.start()
    assert held.wait(10)

    with DeviceSlots(["cuda:0"], check).hold("cuda:0"):
        pass
    other.join()

    assert len(caplog.messages) == 1
    assert f"cuda:0 is in use by other runs of yours: process {os.getpid()}" in caplog.messages[0]


def test_a_pool_holds_as_many_slots_of_a_device_as_it_has_workers_there() -> None:
    slots = DeviceSlots(["cuda:0", "cuda:1", "cuda:0"], nothing)

    with slots.hold("cuda:0"), slots.hold("cuda:0"), slots.hold("cuda:1"):
        names = {path.name for path in slots_folder().glob("*.lock")}

    assert names == {"cuda-0-0.lock", "cuda-0-1.lock", "cuda-1-0.lock"}
