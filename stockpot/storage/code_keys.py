"""Keys of code: a digest over a module and all modules of stockpot and the project it imports.

The imports are read from the sources, never executed. Comments, layout and docstrings do not
count. Packages that others maintain are not followed; the versions of those that decide the bits
of weights, and of those that hold a named module, are part of the key.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from itertools import accumulate
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.keys import content_key

# Modules that store, find and name results but decide nothing about their values; neither they
# nor what they import is part of a key.
_BOOKKEEPING = (
    "stockpot.config",
    "stockpot.distributions.fields",
    "stockpot.errors",
    "stockpot.experiment.jobs.job",
    "stockpot.experiment.provenance",
    "stockpot.plugins",
    "stockpot.storage",
    "stockpot.tracking",
    "stockpot.workers",
    "stockpot.yaml_files",
)
# Those inside them that do decide.
_DECIDING = {f"stockpot.storage.{name}" for name in ("model_cards", "ranking", "weights")}

_VERSIONED = ("numpy", "torch")  # packages of others whose version decides the bits of results

_NAME_OF_TYPES = re.compile(r"(\w+\.)?TYPE_CHECKING")

# Two threads that parse at once make CPython 3.11 raise SystemError ("AST constructor recursion
# depth mismatch"): it counts the depth for all threads together.
_parsing = threading.Lock()


@lru_cache
def code_key(*modules: str) -> str:
    """Return the key of the code that makes a result.

    Args:
        modules: the modules that make it, by their dotted names; what they import is found.

    Raises:
        InputError: one of `modules` cannot be found, or the source of one cannot be parsed.
    """
    return content_key(code=imported_code(*modules))


def imported_code(*modules: str) -> dict[str, str]:
    """Return the digest of each module that code depends on, and versions of packages, by name.

    Raises:
        InputError: one of `modules` cannot be found, or the source of one cannot be parsed.
    """
    digests: dict[str, str] = {}
    packages = {name.partition(".")[0] for name in modules if _file_of(name) is None}
    waiting = [inside for name in modules for inside in _with_parents(name)]
    for name in modules:
        spec = _spec_of(name)
        if spec is None or spec.origin is None:
            raise InputError(f"module {name!r} cannot be found; run where it can be imported from")
    while waiting:
        name = waiting.pop()
        if name in digests or _is_bookkeeping(name):
            continue
        file = _file_of(name)
        if file is None:
            packages |= {name.partition(".")[0]} & {*_VERSIONED}
            continue
        digests[name], imports = _read(name, file)
        waiting += [inside for found in imports for inside in _with_parents(found)]
    versions = {name: _version_of(name) for name in packages}
    return dict(sorted((digests | versions).items()))


def _is_bookkeeping(name: str) -> bool:
    """Say whether a module cannot change a result: a table of names cannot, what it names can."""
    is_table = name.startswith("stockpot.") and name.endswith(".registry")
    around = {*_with_parents(name)}
    is_listed = not around.isdisjoint(_BOOKKEEPING) and around.isdisjoint(_DECIDING)
    return name == "stockpot" or is_table or is_listed


def _with_parents(name: str) -> Iterable[str]:
    """List a module and the packages it is in: importing it runs them."""
    return accumulate(name.split("."), "{}.{}".format)


@cache
def _file_of(name: str) -> Path | None:
    """Return the source file of a module of stockpot or the project; None for all others."""
    spec = _spec_of(name)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    file = Path(spec.origin)
    return file if name.split(".", maxsplit=1)[0] == "stockpot" or not _is_installed(file) else None


def _spec_of(name: str) -> ModuleSpec | None:
    """Find a module without running it, or the packages it is in."""
    top, *inner = _with_parents(name)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: __main__, or a module without a spec
        return None
    folders = [*((spec and spec.submodule_search_locations) or [])]
    for full in inner:
        try:
            spec = PathFinder.find_spec(full, folders) if folders else None
        except KeyError:  # a package without __init__.py, inside one that is not imported
            spec = ModuleSpec(full, None, is_package=True)
        if spec is None:
            return None
        if spec.loader is None:
            folders = [str(Path(folder) / full.rpartition(".")[2]) for folder in folders]
        else:
            folders = [*(spec.submodule_search_locations or [])]
    return spec


def _is_installed(file: Path) -> bool:
    """Return whether a file belongs to Python or to an installed package, in any environment."""
    stdlib = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")}
    is_package = not {"site-packages", "dist-packages"}.isdisjoint(file.parts)
    return is_package or any(Path(path) in file.parents for path in stdlib if path)


def _version_of(package: str) -> str:
    """Return the version of an installed package, by the name of its module.

    Raises:
        InputError: the package has no version.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(package)
    if package in sys.stdlib_module_names:
        return sys.version
    if not names:
        raise InputError(
            f"module {package!r}: must be Python source or belong to an installed package; "
            "put it in the project's folder or install it"
        )
    return importlib.metadata.version(names[0])


@cache
def _read(name: str, file: Path) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a module without its docstrings, and the modules that it imports.

    Raises:
        InputError: it is not Python.
    """
    parts = name.split(".")
    package = tuple(parts if file.name == "__init__.py" else parts[:-1])
    try:
        with _parsing:
            tree = ast.parse(file.read_bytes())  # bytes: a file may declare its encoding
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{file.name}: must be Python, got {error}") from error
    imports = tuple(dict.fromkeys(_imports(tree, package)))
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(ast.Constant(str())), *rest]:
                node.body = rest or [ast.Pass()]  # type: ignore[attr-defined]  # it has a body
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:20], imports


def _imports(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Yield the modules that code imports, at its top or later; not those for types alone."""
    if isinstance(node, ast.If) and _NAME_OF_TYPES.fullmatch(ast.unparse(node.test)):
        for other in node.orelse:
            yield from _imports(other, package)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        outer = package[: len(package) - node.level + 1] if node.level else ()
        module = ".".join((*outer, *([node.module] if node.module else ())))
        yield module
        inner = (f"{module}.{alias.name}" for alias in node.names)
        yield from (name for name in inner if _file_of(name) is not None)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, package)
