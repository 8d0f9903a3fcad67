"""Content keys: a short hash of everything that a result depends on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_KEY_LENGTH = 20  # hex digits: 80 bits, so a chance collision needs about 10^12 checkpoints


def content_key(**parts: Any) -> str:
    """Hash JSON-able `parts` to 20 hex digits, independently of their order."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]
