"""Matplotlib figures as small SVG strings that take their colours from the page.

A figure is drawn in the colours of the light scheme. Each becomes a CSS variable with that colour
as its fallback, so that the page can override it in a dark scheme.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree

from matplotlib import style
from matplotlib.figure import Figure

INK, BASE, QUIET, GRID, ENSEMBLE = "#20242b", "#7a7f87", "#a4a9b0", "#dde0e4", "#6b4fb8"
SOUPS = ("#1f6fb4", "#c2571a", "#1d8a5f", "#a37b00", "#b3387a", "#0b8793")

_NAMES = {BASE: "base", QUIET: "quiet", GRID: "grid", ENSEMBLE: "ensemble"}
_NAMES |= {colour: f"soup-{number}" for number, colour in enumerate(SOUPS, start=1)}
_VARIABLES = {colour: f"var(--{name}, {colour})" for colour, name in _NAMES.items()}
_VARIABLES[INK] = "currentColor"
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout everywhere
    "font.size": 10,
    "svg.fonttype": "none",  # real text: a third of the bytes, selectable, in the page's font
    "svg.hashsalt": "stockpot",
    "text.parse_math": False,  # a name may hold a dollar sign
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.transparent": True,
}
_TIP = "tip:"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"


@contextmanager
def house_style() -> Iterator[None]:
    """Use the report's style, independent of the user's matplotlibrc."""
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # The browser renders the text; matplotlib's font need not have every glyph.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def tip(text: str) -> str:
    """Return the gid that gives an artist a tooltip.

    A text that starts with a model's name and a colon links the artist with that model's marks in
    the page's other plots and tables.
    """
    return f"{_TIP}{printable(text)}"


def printable(text: str) -> str:
    """Replace unprintable characters, which XML may not contain, by question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Render a figure as one <svg> element; equal figures give equal bytes.

    Args:
        figure: drawn inside `house_style`.
        name: prefix of ids, unique in the page; letters, digits and hyphens.
        title: what a screen reader announces.
        description: what the plot shows, in a sentence.

    Returns:
        The element, without fonts, metadata or size (the page sets the width).
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    written = buffer.getvalue()
    element = written[written.index("<svg") :].replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    root = ElementTree.fromstring(element)
    _rename_ids(root, name)
    for node in list(root.iter()):
        _restyle(node)
    _label(root, name, title, description)
    return ElementTree.tostring(root, encoding="unicode")


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    """Remove ids without references, and make the others unique in the page."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = dict.fromkeys(re.findall(r'(?:url\(|href=")#([\w-]+)', text))
    renamed = {old: f"{name}-{number}" for number, old in enumerate(used)}
    for node in root.iter():
        identifier = node.attrib.pop("id", "")
        if identifier in renamed:
            node.set("id", renamed[identifier])
        elif identifier.startswith(_TIP):
            ElementTree.SubElement(node, "title").text = identifier.removeprefix(_TIP)
        if href := node.attrib.pop(_XLINK_HREF, ""):
            node.set("href", f"#{renamed[href[1:]]}")
        if clip := node.get("clip-path"):
            node.set("clip-path", f"url(#{renamed[clip[5:-1]]})")


def _restyle(node: ElementTree.Element) -> None:
    """Put CSS variables for colours, leave fonts to the page, drop style sheets and spaces."""
    for child in [child for child in node if child.tag in ("style", "metadata")]:
        node.remove(child)
    if css := node.get("style"):
        # Matplotlib writes either the shorthand or one property each, depending on its version.
        css = re.sub(r"font: (?:\w+ )*([\d.]+px)[^;]*", r"font-size: \1", css)
        css = re.sub(r"font-family: [^;]*(?:; )?", "", css)
        variable = re.sub(r"#[0-9a-f]{6}", lambda hit: _VARIABLES.get(hit[0], hit[0]), css)
        node.set("style", variable)
    if node.tag != "text" and not (node.text or "").strip():
        node.text = None
    node.tail = None


def _label(root: ElementTree.Element, name: str, title: str, description: str) -> None:
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    root.set("font-family", "system-ui, sans-serif")
    root.set("stroke-linejoin", "round")
    # A screen reader reads the first two children.
    for tag, suffix, words in (("desc", "description", description), ("title", "title", title)):
        root.insert(0, ElementTree.Element(tag, {"id": f"{name}-{suffix}"}))
        root[0].text = printable(words)
