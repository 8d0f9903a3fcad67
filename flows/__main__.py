"""The `stockpot` command, also as `python -m flows`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; Ctrl-C during its imports, which take a moment, ends it as it does later."""
    try:
        from flows.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
