"""An interrupted walk through the past goes on where it was, and misses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.records.pages import Page, Pages, collect


class Killed(Exception):
    """The process ends here."""


class Venue:
    """Lists ids, falling, *size* to a page; dies at request number *dies*."""

    def __init__(self, ids: list[int], size: int, dies: int | None = None) -> None:
        self.ids = ids
        self.size = size
        self.dies = dies
        self.asked: list[int | None] = []

    async def fetch(self, after: int | None) -> Page:
        if len(self.asked) == self.dies:
            raise Killed
        self.asked.append(after)
        found = sorted((one for one in self.ids if after is None or one < after), reverse=True)[: self.size]
        cursor = found[-1] if found else None
        return Page(after=after, cursor=cursor, newest=max(found, default=0), rows=[{"id": one} for one in found])


def never(_: Page) -> bool:
    return False


def ids(pages: Pages) -> list[int]:
    return sorted({int(row["id"]) for row in pages.rows()})


async def test_a_walk_ends_at_the_oldest_page(tmp_path: Path):
    """Five ids, two to a page: four requests, the last of which finds nothing."""
    venue, pages = Venue([1, 2, 3, 4, 5], 2), Pages(tmp_path / "p")

    await collect(pages, venue.fetch, never)

    assert [None, 4, 2, 1] == venue.asked
    assert [1, 2, 3, 4, 5] == ids(pages)


async def test_a_walk_ends_when_it_is_far_enough(tmp_path: Path):
    """The caller knows when all further rows are too old."""
    venue, pages = Venue(list(range(1, 100)), 10), Pages(tmp_path / "p")

    await collect(pages, venue.fetch, lambda page: page.newest < 50)

    assert [None, 90, 80, 70, 60, 50] == venue.asked


async def test_an_empty_past_is_one_request(tmp_path: Path):
    """Nothing happened yet; and what happens later is found later."""
    venue, pages = Venue([], 2), Pages(tmp_path / "p")

    await collect(pages, venue.fetch, never)
    venue.ids = [1]
    pages = Pages(tmp_path / "p")
    await collect(pages, venue.fetch, never)

    assert [None, None] == venue.asked
    assert [1] == ids(pages)


async def test_what_was_read_is_not_read_again_but_for_the_newest_page(tmp_path: Path):
    """Killed at the third request; the second start asks for the first page and goes on at the third."""
    venue = Venue(list(range(1, 9)), 2, dies=2)
    with pytest.raises(Killed):
        await collect(Pages(tmp_path / "p"), venue.fetch, never)

    again, pages = Venue(venue.ids, 2), Pages(tmp_path / "p")
    await collect(pages, again.fetch, never)

    assert [None, 5, 3, 1] == again.asked
    assert list(range(1, 9)) == ids(pages)


async def test_a_damaged_page_is_asked_again(tmp_path: Path):
    """A torn file counts as none."""
    await collect(Pages(tmp_path / "p"), Venue([1, 2, 3, 4], 1).fetch, never)
    for path in (tmp_path / "p").iterdir():
        path.write_bytes(path.read_bytes()[:-5])

    venue, pages = Venue([1, 2, 3, 4], 1), Pages(tmp_path / "p")
    await collect(pages, venue.fetch, never)

    assert [None, 4, 3, 2, 1] == venue.asked
    assert [1, 2, 3, 4] == ids(pages)


async def test_what_was_dropped_is_gone(tmp_path: Path):
    """After the export nothing is left."""
    pages = Pages(tmp_path / "p")
    await collect(pages, Venue([1], 1).fetch, never)
    pages.drop()

    assert not (tmp_path / "p").exists()
    assert [] == ids(pages)


@given(
    st.sets(st.integers(1, 200)),
    st.lists(st.tuples(st.sets(st.integers(1, 60)), st.integers(0, 6), st.integers(1, 7)), max_size=5),
)
async def test_however_often_it_is_killed_while_trading_goes_on_nothing_is_missed(tmp_path_factory, first, rounds):
    """Each round: new ids above all others, a kill after some requests, another page size. The end has every id."""
    folder, known = tmp_path_factory.mktemp("walk") / "p", sorted(first)
    for fresh, dies, size in rounds:
        known += [max(known, default=0) + step for step in sorted(fresh)]
        try:
            await collect(Pages(folder), Venue(known, size, dies).fetch, never)
        except Killed:
            continue
    pages = Pages(folder)
    await collect(pages, Venue(known, 3).fetch, never)

    assert sorted(set(known)) == ids(pages)
