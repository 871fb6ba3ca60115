"""Pages of the venue's past on disk, so that an export that was killed goes on where it was.

The venue lists a past by falling ids: a page *after* a cursor holds the ids below it, down to its own *cursor*. What
was once read is therefore an interval of ids that never changes. A walk starts at the newest page, which is always
asked anew, and skips every stretch that is known; so whatever came in the meantime is found, and no gap is left.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from src.records.export import Row
from src.records.writers import replace


class Page(msgspec.Struct, frozen=True):
    """One answer: the rows below the id *after* (None: from the newest), and where the next begins (None: the end).

    *newest* is the highest id in it, 0 when it is empty.
    """

    after: int | None
    cursor: int | None
    newest: int
    rows: list[Row]

    def covers(self, position: int) -> bool:
        """Return whether this page tells what stands right below the id *position*."""
        highest = self.newest + 1 if self.after is None else self.after
        return (-1 if self.cursor is None else self.cursor) < position <= highest


class Pages:
    """The pages in *folder*, which is made when the first comes. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pages = list(_readable(folder))

    def covering(self, position: int | None) -> Page | None:
        """Return a known page that tells what stands below the id *position*; what is newest is never known."""
        if position is None:
            return None
        return next((page for page in self.pages if page.covers(position)), None)

    def add(self, page: Page) -> None:
        """Keep *page*, on the disk before anything else happens."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(f"{page.after} {page.cursor} {page.newest}".encode()).hexdigest()[:16]
        replace(self._folder / f"{name}.json", msgspec.json.encode(page))
        self.pages.append(page)

    def rows(self) -> Iterator[Row]:
        """Yield every row of every page, the newest told first; some more than once."""
        for page in reversed(self.pages):
            yield from page.rows

    def drop(self) -> None:
        """Forget everything."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.pages = []


async def collect(pages: Pages, fetch: Callable[[int | None], Awaitable[Page]], enough: Callable[[Page], bool]) -> None:
    """Walk from the newest page to the oldest, or to the first that is *enough*; fetch and keep what is not known.

    Safe to cancel, and to start again. Raises what *fetch* raises, and OSError.
    """
    position: int | None = None
    while True:
        page = pages.covering(position)
        if page is None:
            page = await fetch(position)
            pages.add(page)
        if page.cursor is None or enough(page):
            return
        position = page.cursor


def _readable(folder: Path) -> Iterator[Page]:
    decoder = msgspec.json.Decoder(Page)
    for path in sorted(folder.glob("*.json")):
        try:
            yield decoder.decode(path.read_bytes())
        except msgspec.MsgspecError:
            continue  # damaged: it is asked again
