"""The terminal of the commands: standard output for results, standard error for the rest."""

from __future__ import annotations

import re
from collections.abc import Sized

from rich.console import Console
from rich.panel import Panel

# No markup unless a call asks for it: in "pip install 'stockpot[text]'", in a path, or in a line of
# YAML that is quoted, rich would take the part in brackets for a style.
OUT = Console(highlight=False, markup=False)
ERR = Console(stderr=True, highlight=False, markup=False)

_COMMAND = re.compile(r"`((?:dvc|git|hf|mlflow|pip|prefect|python|stockpot|tar) [^`]+)`")


def counted(items: Sized, noun: str) -> str:
    """Return their number and the noun, in the plural unless it is one."""
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"


def show_next(command: str) -> None:
    """Print the command that is likely next on a line of its own, to be copied."""
    OUT.print(f"Next: {command}", soft_wrap=True)


def show_error(title: str, message: str) -> None:
    """Print an error in a panel, and below it the commands in it, each on a line to be copied."""
    commands = list(dict.fromkeys(_COMMAND.findall(message)))
    # "... install it: `pip install x`" is complete without the command, which is shown below.
    shown = re.sub(rf": {_COMMAND.pattern}$", ":", message)
    ERR.print(Panel(shown, title=title, title_align="left", style="red"))
    for command in commands:
        ERR.print(f"  {command}", soft_wrap=True)
