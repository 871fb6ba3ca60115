from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from src.simulation.truth import JUDGED
from tests.reliability.hunt import Hunt
from tests.reliability.mutants import PATCHES, Broken, Mutant, apply, figures, mutants, read, told, try_one
from tests.reliability.results import ROOT

ALL = mutants()
AT_ONCE = ("journal_skips_entries", "rounded_towards_the_market", "own_orders_not_excluded")


def named(name: str) -> Mutant:
    return read(PATCHES / f"{name}.patch")


def test_there_are_enough_deliberate_defects():
    """At least 40, each of another kind, and no more than a few whose defence another one makes up for."""
    assert len(ALL) >= 40
    assert len({mutant.what for mutant in ALL}) == len(ALL)
    assert sum(bool(mutant.redundant) for mutant in ALL) * 4 <= len(ALL)


def test_every_invariant_has_a_defect_that_it_notices():
    """A judge that no defect can reach would never accuse anybody."""
    assert {name for mutant in ALL if not mutant.redundant for name in mutant.invariants} == set(JUDGED)


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_every_patch_applies_to_the_code_as_it_is(mutant: Mutant):
    """Against the working tree, without changing it; only production code is broken."""
    apply(mutant, ROOT, "--check")
    changed = [line.split("/", 1)[1] for line in mutant.path.read_text("utf-8").splitlines() if line.startswith("+++ ")]
    assert changed
    assert all(path.startswith(("src/engine/", "src/runtime/", "src/records/", "src/venues/")) for path in changed)


@pytest.mark.parametrize("name", AT_ONCE)
def test_a_defect_is_noticed_within_a_few_worlds(name: str):
    """Three that show at once; ``make mutants`` tries all of them."""
    found = try_one(named(name), seeds=10)
    assert found.invariant in named(name).invariants
    assert found.time > 0


def test_a_sound_bot_is_never_accused(tmp_path: Path):
    """A patch that changes a comment only: nothing is noticed in three worlds."""
    path = tmp_path / "harmless.patch"
    path.write_text(
        "# A comment is changed; noticed by I1.\n"
        "--- a/src/__init__.py\n+++ b/src/__init__.py\n@@ -1,0 +1,1 @@\n+# a comment\n"
    )
    found = try_one(read(path), seeds=3)
    assert (found.invariant, found.lived) == ("", 3)
    assert "SURVIVED 3 worlds" in told(read(path), found)


def test_a_patch_that_does_not_fit_is_told_in_one_sentence(tmp_path: Path):
    """The code has changed under it: the name of the patch and of the file."""
    path = tmp_path / "old.patch"
    path.write_text(
        "# Nothing; noticed by I1.\n--- a/src/bot.py\n+++ b/src/bot.py\n@@ -1,1 +1,1 @@\n-no such line\n+another\n"
    )
    shutil.copytree(ROOT / "src", tmp_path / "src")
    with pytest.raises(Broken, match=r"^old\.patch does not apply, .*src/bot\.py"):
        apply(read(path), tmp_path)


@pytest.mark.parametrize("line", ["", "# something", "# Something; noticed by nobody."])
def test_a_patch_says_what_it_breaks_and_who_should_notice(tmp_path: Path, line: str):
    """Its first line is the only documentation of a defect."""
    path = tmp_path / "silent.patch"
    path.write_text(line + "\n")
    with pytest.raises(Broken, match="first line"):
        read(path)


def test_the_figures_name_who_survived():
    """One caught, one survived, one redundant: three counts and one line each."""
    one, other, redundant = (Mutant(name, Path(name), f"{name} breaks", ("I1",), (), why) for name, why in _THREE)
    hunts = {"a": Hunt(lived=1, invariant="I1", time=2.0), "b": Hunt(lived=9), "c": Hunt(lived=9)}
    told_figures = figures(hunts, [one, other, redundant])
    assert (told_figures["mutants"], told_figures["counted"], told_figures["caught"]) == (3, 2, 1)
    assert told_figures["otherwise"] == []
    assert (told_figures["survived"], told_figures["redundant"]) == (["b"], ["c"])
    assert told_figures["rows"] == [
        "a: a breaks | I1 | world 1 | 2.0 s",
        "b: b breaks | SURVIVED",
        "c: c breaks | others help",
    ]


def test_a_catch_by_another_invariant_counts_and_is_reported():
    """The patch names I1 and L1, I5 has noticed it: caught, with both in words; I1 alone is no news."""
    mutant = Mutant("a", Path("a"), "a breaks", ("I1", "L1"), (), "")
    found = Hunt(lived=3, invariant="I5", time=2.0)
    told_figures = figures({"a": found}, [mutant])
    assert (told_figures["caught"], told_figures["survived"]) == (1, [])
    assert told_figures["otherwise"] == ["a by I5 (named: I1, L1)"]
    assert told_figures["rows"] == ["a: a breaks | I5 (named: I1, L1) | world 3 | 2.0 s"]
    assert told(mutant, found).endswith("(named: I1, L1)")
    assert "named" not in told(mutant, Hunt(lived=1, invariant="L1", time=2.0))


_THREE = (("a", ""), ("b", ""), ("c", "others help"))
