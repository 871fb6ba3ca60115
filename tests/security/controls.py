"""Each threat, the control against it, and the tests that fail when the control does.

The numbers are those of the project's threat table. A control that concerns a web page has no test of its own while
there is no page; ``test_controls`` fails when one appears.
"""

from __future__ import annotations

import msgspec

_HERE = "tests/security/"
_SECRETS, _INPUT, _PEER = f"{_HERE}test_secrets.py", f"{_HERE}test_input.py", f"{_HERE}test_other_end.py"
_LOGS, _TRAPS, _CONFIG = "tests/runtime/test_logs.py", "tests/venues/test_traps.py", "tests/test_config.py"
_FUZZ = "tests/reliability/test_fuzz_"
_SUPPLY, _MODES = f"{_HERE}test_supply.py", f"{_HERE}test_modes.py"
_NO_PAGE = "the bot opens no port and shows no page"


class Control(msgspec.Struct, frozen=True):
    """What is threatened, what is done about it, and where that is tested: a file, and how its tests begin."""

    threat: str
    control: str
    tests: tuple[str, ...] = ()
    absent: str = ""


CONTROLS: dict[str, Control] = {
    "T1": Control(
        "keys in a file that others can read or change",
        ".env must be 0600 and ours, else the start is refused; config.json takes no key",
        (f"{_SECRETS}::test_t01_", f"{_CONFIG}::test_the_value_of_an_unknown_key_is_not_shown"),
    ),
    "T2": Control(
        "keys in logs, journals, databases, exports",
        "every known form is replaced in every line; libraries may not speak at DEBUG",
        (
            f"{_SECRETS}::test_t02_",
            f"{_LOGS}::test_no_secret_",
            f"{_TRAPS}::test_no_secret_",
        ),
    ),
    "T3": Control(
        "keys in tracebacks, pickles, core dumps",
        "values that print as stars and cannot be pickled; no core dump of a process with real keys",
        (f"{_SECRETS}::test_t03_",),
    ),
    "T4": Control(
        "a stolen key withdraws", "a sub-account of its own, advised where keys are set up", (f"{_SECRETS}::test_t04_",)
    ),
    "T5": Control(
        "signatures leak", "they are neither logged nor journalled; short expiry", (f"{_SECRETS}::test_t05_",)
    ),
    "T6": Control("a page reachable from the network", "", absent=_NO_PAGE),
    "T7": Control("a foreign page sends commands", "", absent=_NO_PAGE),
    "T8": Control("a name that leads to this machine", "", absent=_NO_PAGE),
    "T9": Control("a foreign page listens in", "", absent=_NO_PAGE),
    "T10": Control("the venue's texts run in a page", "", absent=_NO_PAGE),
    "T11": Control("a token in an address", "", absent=_NO_PAGE),
    "T12": Control(
        "a configuration that is more than data",
        "JSON only, no unknown key, every number bounded, depth and size too; names are never paths",
        (
            f"{_INPUT}::test_t12_",
            f"{_FUZZ}config.py::test_three_hundred_",
            f"{_CONFIG}::test_what_is_hardly_json",
        ),
    ),
    "T13": Control(
        "a hostile venue or somebody in between",
        "16 MiB, 32 levels, exponents to 30, 64 letters of a number; TLS verified, no redirect, no proxy",
        (
            f"{_PEER}::test_t13_",
            "tests/wire/test_tls.py::test_a_venue_with_a_certificate_",
            "tests/wire/test_tls.py::test_a_stream_with_a_wrong_certificate_",
            "tests/venues/test_hostile.py::test_nothing_is_nested",
            "tests/venues/test_streams.py::test_a_redirect_",
            f"{_FUZZ}frames.py::test_three_thousand_",
        ),
    ),
    "T14": Control(
        "a package that is not what it was",
        "hashes of every version; wheels only in the image; pip-audit where it can be asked",
        (f"{_SUPPLY}::test_t14_", "tests/test_project.py::test_every_dependency_is_locked"),
    ),
    "T15": Control(
        "a package phones home", "a demo's every connection is on this machine", (f"{_SECRETS}::test_t15_",)
    ),
    "T16": Control(
        "the container as a way in", "no root, no capability, nothing writable but /data", (f"{_SUPPLY}::test_t16_",)
    ),
    "T17": Control(
        "an export that runs in a spreadsheet",
        "an apostrophe before what looks like a formula",
        (f"{_INPUT}::test_t17_", "tests/records/test_export.py::test_what_a_spreadsheet_would_run_"),
    ),
    "T18": Control(
        "SQL in names; a journal changed afterwards",
        "parameters only; a checksum per record (it shows damage, not a forger who can compute it)",
        (f"{_INPUT}::test_t18_", "tests/records/test_journal.py::test_reading_stops_at_a_flipped_bit_"),
    ),
    "T19": Control(
        "play money taken for real money or the reverse",
        "mainnet needs mode and --live, the demo stays on this machine, a folder per mode and account",
        (f"{_MODES}::test_t19_", "tests/wire/test_wrong_input.py::test_mainnet_needs_a_second_yes"),
    ),
    "T20": Control("a page that blocks the bot", "", absent=_NO_PAGE),
    "T21": Control(
        "escapes in the venue's texts",
        "one printable line; on the screen text is text and never markup",
        (f"{_INPUT}::test_t21_", "tests/venues/test_rest.py::test_venue_sentences_cannot_drive_a_terminal"),
    ),
    "T22": Control(
        "numbers that come twice",
        "nonces are counted and reserved on disk; ids name run and market",
        (f"{_MODES}::test_t22_",),
    ),
}
