"""The command starts without the libraries that only some of its subcommands need."""

from __future__ import annotations

import subprocess
import sys

SLOW = {"torch", "prefect", "mlflow", "pandas", "optuna", "sklearn", "stockpot.config"}


def test_neither_help_nor_reading_a_merge_file_imports_what_takes_long() -> None:
    code = (
        "import sys, flows.cli, stockpot.disk_merging.merge_files.mergekit_form; "
        f"print(*sorted({SLOW!r} & sys.modules.keys()))"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.split() == []
