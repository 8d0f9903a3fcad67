"""docs/reference/params.md, written from the schema, so that it cannot say anything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stockpot.config.experiment import Experiment

_HEAD = """# params.yaml

The one description of an experiment. Unknown fields are errors; all errors of a file are reported
at once. `docs/params.schema.json` says the same to editors: the first line of params.yaml names it.
This page is written by `make schema`.
"""

_BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "minItems": "items >=",
    "maxItems": "items <=",
}


def reference_page() -> str:
    """Return the page: a table a section."""
    schema = Experiment.model_json_schema()
    sections = {"Experiment": schema, **schema["$defs"]}
    return "\n".join([_HEAD, *(_section(name, section) for name, section in sections.items())])


def _section(name: str, section: Mapping[str, Any]) -> str:
    required = section.get("required", [])
    rows = [
        f"| `{field}` | {_type(content)} | {_default(field, content, required)} "
        f"| {content.get('description', '')} |"
        for field, content in section["properties"].items()
    ]
    table = ["| field | values | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([f"## {name}", "", section.get("description", ""), "", *table, ""])


def _type(content: Mapping[str, Any]) -> str:
    """Say what a field may hold."""
    if "$ref" in content:
        name = content["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if alternatives := content.get("anyOf", content.get("oneOf")):
        return " or ".join(_type(alternative) for alternative in alternatives)
    if "const" in content:
        return f"`{content['const']}`"
    if "enum" in content:
        return ", ".join(f"`{value}`" for value in content["enum"])
    bounds = [f"{sign} {content[key]}" for key, sign in _BOUNDS.items() if key in content]
    kind = content.get("type", "any")
    if kind == "array":
        inner = content.get("items", {}) or {"type": "number"}
        kind = f"list of {_type(inner)}"
    return " ".join([kind, *bounds])


def _default(field: str, content: Mapping[str, Any], required: list[str]) -> str:
    if field in required:
        return "required"
    value = content.get("default")
    return "see there" if isinstance(value, dict) and value else f"`{json.dumps(value)}`"
