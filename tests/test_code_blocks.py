"""Every code block of README and the documentation is run by a test, or says why not."""

from __future__ import annotations

import re
import shlex

from code_blocks import Block, blocks, run_by
from typer.main import get_command

from flows.cli import app

LANGUAGES = {"sh", "python", "yaml", "text", "json", "toml"}
COMMANDS = get_command(app).commands


def test_every_block_says_its_language_and_how_it_is_run() -> None:
    silent = [str(block) for block in blocks() if not _is_settled(block)]

    assert silent == []


def test_commands_in_blocks_are_commands_with_their_options() -> None:
    wrong = []
    for block in blocks():
        for line in block.text.splitlines():
            for part in re.split(r"&&|\|", line.partition("#")[0].partition("  ")[0]):
                words = _words(part)
                if words[:1] == ["stockpot"] and not _is_understood(words[1:]):
                    wrong.append(f"{block}: {part.strip()}")

    assert wrong == []


def _is_settled(block: Block) -> bool:
    named = run_by(block)
    is_code = block.language in ("sh", "python")
    is_said = bool(block.context or re.match("run by: .|not run: .", block.how))
    return (
        block.language in LANGUAGES and (is_said or not is_code) and (not named or named.is_file())
    )


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text.removeprefix("$ "))
    except ValueError:
        return []


def _is_understood(words: list[str]) -> bool:
    """Say whether `stockpot` takes these arguments; nothing is run."""
    if not words or words[0].startswith("-"):
        return True
    command = COMMANDS.get(words[0])
    if command is None:
        return False
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    used = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
    return all(name in {*options, "--help"} for name in used)
