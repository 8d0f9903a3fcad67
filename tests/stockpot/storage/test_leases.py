from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stockpot.storage.leases import drop_dead_leases, has_living_process, take_lease

TAKE = """
import sys
from pathlib import Path
from stockpot.storage.leases import take_lease
take_lease(Path(sys.argv[1]), "theirs")
print("taken", flush=True)
sys.stdin.readline()
"""


def test_a_run_is_alive_as_long_as_its_process_and_dead_after_a_kill(tmp_path: Path) -> None:
    take_lease(tmp_path, "own")
    other = subprocess.Popen(
        [sys.executable, "-c", TAKE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "taken\n"

    drop_dead_leases(tmp_path)
    alive = [has_living_process(tmp_path, name) for name in ("own", "theirs", "unknown")]
    other.kill()
    other.communicate()
    dead = has_living_process(tmp_path, "theirs")
    drop_dead_leases(tmp_path)

    assert alive == [True, True, None]
    assert dead is False
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
