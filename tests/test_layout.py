"""The tree keeps to its rules: no import cycle, few loose modules, no long file."""

from __future__ import annotations

from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
LONGEST_FILE = 300  # lines
MOST_LOOSE_MODULES = 6


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("stockpot", "tasks", "flows")

    assert [sorted(cycle) for cycle in _cycles(graph)] == []


def test_stockpot_has_few_modules_outside_packages() -> None:
    loose = {path.stem for path in (ROOT / "stockpot").glob("*.py")} - {"__init__"}

    assert len(loose) <= MOST_LOOSE_MODULES, sorted(loose)


def test_no_file_is_too_long_to_read_in_one_sitting() -> None:
    files = [
        path for name in ("stockpot", "tasks", "flows") for path in (ROOT / name).rglob("*.py")
    ]
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in files}

    assert {file: lines for file, lines in lengths.items() if lines > LONGEST_FILE} == {}


def _cycles(graph: grimp.ImportGraph) -> list[set[str]]:
    """Return the sets of modules that import each other, directly or not."""
    reached = {
        module: {other for other in graph.find_upstream_modules(module) if other != module}
        for module in graph.modules
    }
    return [
        {module, *(other for other in reached[module] if module in reached[other])}
        for module in graph.modules
        if any(module in reached[other] for other in reached[module])
    ]
