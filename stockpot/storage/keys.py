"""Content keys: a short hash of everything that a result was made from."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from stockpot.errors import InputError

_KEY_LENGTH = 20  # hex digits: 80 bits, so a chance collision needs about 10^12 checkpoints
_PACKAGE = Path(__file__).parent

# Two threads that parse at once make CPython 3.11 raise SystemError ("AST constructor recursion
# depth mismatch"): it counts the depth for all threads together.
_parsing = threading.Lock()


def content_key(**parts: Any) -> str:
    """Hash JSON-able `parts`, whatever their order, to 20 hex digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


@lru_cache
def code_digest(*paths: str) -> str:
    """Hash what the code at `paths` does: its syntax without comments, layout and docstrings.

    Args:
        paths: files or folders inside the `stockpot` package, or the name of a user's module.
    """
    digest = hashlib.sha256()
    for path in sorted(file for name in paths for file in _python_files(name)):
        digest.update(path.name.encode() + b"\0" + _canonical(path).encode() + b"\0")
    return digest.hexdigest()[:_KEY_LENGTH]


def _python_files(name: str) -> list[Path]:
    """List the files of a path inside the package, or of an importable module."""
    inside = _PACKAGE / name
    if inside.is_dir():
        return sorted(inside.rglob("*.py"))
    if inside.is_file():
        return [inside]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise InputError(f"module {name!r} cannot be found; run where it can be imported from")
    return [Path(spec.origin)]


def _canonical(path: Path) -> str:
    """Return the source of a file as the parser sees it, with the docstrings taken out."""
    with _parsing:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]  # any node with a body
    return ast.unparse(tree)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
