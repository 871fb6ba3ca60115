"""Where the tools of this folder leave their figures, and where the report finds them.

One JSON file per tool under ``docs/reliability/``: what was measured, on which commit and when. They are committed, so
that RELIABILITY.md can be written from them at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from src.simulation.report import commit

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reliability"


def record(name: str, figures: Mapping[str, Any], *, folder: Path = FOLDER) -> Path:
    """Write *figures* as ``<name>.json``, replacing an earlier run's, and return the path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    told = {"commit": commit(), "date": f"{datetime.now(UTC):%Y-%m-%d}", **figures}
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1))
    draft.replace(path)
    return path


def read(name: str, *, folder: Path = FOLDER) -> dict[str, Any] | None:
    """Return what *name* wrote last, or None when it has not been run."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    told: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return told
