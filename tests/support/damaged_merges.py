"""Commands on merge files and models that are damaged, drawn by hypothesis, in this process."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from hub_server import logged_in, serving
from hypothesis import strategies as st
from merge_damages import IN_BYTES, IN_TREE, OF_FILE, Damage, apply, remove
from merge_inputs import MERGES, MODELS, write_models

from flows import inspect_command, merge_commands
from flows.extract_commands import extract_lora
from flows.push_command import push
from stockpot.disk_merging.merge_files.mergekit_form import load_merge
from stockpot.errors import InputError, StageFailed
from stockpot.storage.weights.adapters import open_adapter
from stockpot.storage.weights.opening import open_source

_WORDS = sorted(
    {w for text in MERGES.values() for w in text.replace(":", " ").split()} | set(MODELS)
)
_ODD = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", " ", ".", "..", "/", "~", "~no", "\0", "\ud800", "é", "a\nb", "null", "1e3", "x" * 5000),
    *(
        "../a",
        "a/b",
        "a@b",
        "a+b",
        "+",
        "a+",
        "*",
        "[",
        "(",
        "(a+)+$",
        "$(id)",
        "{0}",
        "%s",
        "[red]",
    ),
    *([], {}, [[]], [{}], {"": ""}, [None], [0, 1], [1, 0, -1], ["a"], {"a": {"a": {"a": 1}}}),
]
_VALUES = [
    *_ODD * 3,
    *_WORDS,
    *(
        wrapped
        for value in _ODD
        for wrapped in ([value], [value, 1], {"value": value}, {"path": value})
    ),
    *({"filter": filter_, "value": 1} for filter_ in _ODD),
    *([{"filter": "mlp", "value": value}, {"value": value}] for value in _ODD),
    *({word: 1} for word in _WORDS),
]


@dataclass(frozen=True)
class Case:
    """One execution: a command on a merge whose files are damaged."""

    command: str
    merge: str
    damages: tuple[Damage, ...]


# The more an execution does, the rarer it is.
COMMANDS = (*("read",) * 24, *("open",) * 24, *("dry run",) * 8, *("merge",) * 2)
COMMANDS += ("inspect", "explain", "verify", "extract-lora", "push")
_KINDS = (*IN_TREE * 3, *IN_BYTES, *OF_FILE)
_NUM_BYTES = 7  # that decide on one damage


def _decoded(drawn: bytes) -> Case:
    """Read a case from random bytes: drawing numbers one by one would take most of the time."""
    command, merge = COMMANDS[drawn[0] % len(COMMANDS)], sorted(MERGES)[drawn[1] % len(MERGES)]
    starts = range(2, len(drawn) - _NUM_BYTES + 1, _NUM_BYTES)
    damages = tuple(_damage(drawn[n : n + _NUM_BYTES], command) for n in starts)
    return Case(command, merge, damages)


def _damage(drawn: bytes, command: str) -> Damage:
    kind = _KINDS[drawn[0] % len(_KINDS)]
    file, at, number = (int.from_bytes(drawn[n : n + 2], "big") for n in (1, 3, 5))
    if command == "read" or (command != "open" and file % 2):
        file = 0  # the merge file
    if kind in IN_BYTES:
        return Damage(kind, file, at, drawn[5 : 6 + drawn[5] % 2])
    return Damage(kind, file, at, _VALUES[number % len(_VALUES)])


CASES = st.binary(min_size=2 + _NUM_BYTES, max_size=2 + 3 * _NUM_BYTES).map(_decoded)


class Bench:
    """The models and a place to merge them, restored after each case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_models(folder)
        self._base = open_source(folder / "base")
        self.files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def run(self, case: Case) -> str:
        """Run a case; return the error's message, or nothing for success.

        Raises:
            Exception: whatever a user should never see.
        """
        text = MERGES[case.merge]
        models = sorted({word for word in re.findall(r"[\w.]+", text) if word in MODELS})
        if case.command in {"explain", "verify"}:
            models = ["merged", "a", "b"]
        (self.folder / "merge.yaml").write_text(text)
        listed = ["merge.yaml", *(f for f in self.files if f.split("/")[0] in models)]
        changed = []
        try:
            for damage in case.damages:
                name = listed[damage.file % len(listed)]
                changed.append(name)
                apply(damage, self.folder / name, self.folder / listed[damage.at % len(listed)])
            self._command(case.command, case.merge, models)
        except (InputError, StageFailed, typer.Exit) as error:
            return str(error)
        finally:
            self._restore(changed)
        return ""

    def _command(self, command: str, merge: str, models: Sequence[str]) -> None:
        config, place = self.folder / "merge.yaml", self.folder / "out"
        place = place.with_suffix(".safetensors") if merge == "patch" else place
        paths, merged = [str(self.folder / model) for model in models], self.folder / "merged"
        commands: dict[str, Callable[[], object]] = {
            "read": lambda: load_merge(config),
            "open": lambda: [open_source(Path(path), self._base) for path in paths],
            "dry run": lambda: merge_commands.merge(config, place, dry_run=True),
            "merge": lambda: self._merge(config, place),
            "inspect": lambda: inspect_command.inspect(paths, None, weights=True),
            "explain": lambda: merge_commands.explain(merged),
            "verify": lambda: merge_commands.verify(merged, self.folder),
            "extract-lora": lambda: self._extract(paths[0], paths[-1], place),
            "push": lambda: self._push(self.folder / models[0]),
        }
        commands[command]()

    def _merge(self, config: Path, place: Path) -> None:
        """Merge, and check that what was written is a model that can be rebuilt."""
        merge_commands.merge(config, place)
        try:
            for model in [place / output.name for output in load_merge(config).outputs] or [place]:
                merge_commands.explain(model)
                merge_commands.verify(model, self.folder)
        except (InputError, StageFailed) as error:
            # What a rebuild copies is that of the base or the first model, not of `config_from`.
            if "remove it from the model" in str(error):
                raise
            raise AssertionError(f"a merge that succeeded cannot be rebuilt: {error}") from error

    def _extract(self, finetuned: str, base: str, place: Path) -> None:
        """Extract an adapter, and check that it is one."""
        extract_lora(finetuned, base, place, energy=0.9, save_rest=True)
        try:
            open_adapter(place)
        except InputError as error:
            raise AssertionError(f"what was extracted is no adapter: {error}") from error

    def _push(self, model: Path) -> None:
        """Push a model, and check that the server has its files as they are."""
        with serving() as hub, logged_in(hub):
            push(model, "org/pushed", private=True)
            pushed = hub.repositories["org/pushed"].branches["main"]
        files = [f for f in model.rglob("*") if f.is_file() and not f.name.startswith(".")]
        assert pushed == {f.relative_to(model).as_posix(): f.read_bytes() for f in files}

    def _restore(self, changed: Sequence[str]) -> None:
        for path in self.folder.glob("*out*"):
            remove(path)
        for path in self.folder.glob(".*"):
            remove(path)
        for name in changed:
            path = self.folder / name
            remove(path)
            if name in self.files:
                path.write_bytes(self.files[name])
