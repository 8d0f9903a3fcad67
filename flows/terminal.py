"""The terminal of the commands: standard output for results, standard error for the rest."""

from __future__ import annotations

import re
from collections.abc import Sized
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

# Also those that change the direction of what follows.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _Terminal(Console):
    """A console that shows the control characters in names, which a terminal would obey."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_CONTROL.sub(lambda one: ascii(one[0])[1:-1], text), **options)


# No markup unless a call asks for it: in "pip install 'stockpot[text]'", in a path, or in a line of
# YAML that is quoted, rich would take the part in brackets for a style.
OUT = _Terminal(highlight=False, markup=False)
ERR = _Terminal(stderr=True, highlight=False, markup=False)

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
