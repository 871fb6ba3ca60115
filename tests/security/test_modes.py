"""T19 and T22: play money is never taken for real money or the reverse, and no number is used twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from src import bot
from src.config import Config
from src.demo import demo_credentials, demo_endpoints
from src.engine.blotter import Blotter
from src.model.errors import ConfigError
from src.records.state import NONCE_BLOCK, StateFile
from src.venues.extended.venue import MAINNET, TESTNET, Endpoints, ExtendedVenue
from src.verbs import account
from tests.venues.loopback import KEYS, exchange
from tests.venues.test_venue import HOME, NOW, PLACE, REPLACE
from tests.wire.processes import ROOT, config, run_bot

NONCES = int(os.environ.get("EXTENDED_MM_NONCES", "300000"))


def configured(mode: str, **sandbox: object) -> Config:
    tree = {"mode": mode, "markets": [{"market": "BTC-USD"}], "sandbox": sandbox}
    return Config.model_validate_json(json.dumps(tree))


@pytest.mark.parametrize("mode", ["demo", "testnet", "mainnet"])
@pytest.mark.parametrize("live", [False, True])
def test_t19_real_money_needs_both_words_and_play_money_neither(mode: str, live: bool):
    """Of the six pairs of mode and --live three may start: demo and testnet without it, mainnet with it."""
    options = SimpleNamespace(live=live, summary=None)
    if live == (mode == "mainnet"):
        bot._check_mode(configured(mode), options)  # type: ignore[arg-type]
        assert mode in ("demo", "testnet") or live
    else:
        with pytest.raises(ConfigError, match=r"--live|mainnet"):
            bot._check_mode(configured(mode), options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    [
        MAINNET.rest,
        TESTNET.rest,
        "https://127.0.0.1.evil.test/api/v1",
        "https://localhost.evil.test/api/v1",
        "https://user@evil.test/api/v1",
        "https://127.0.0.1@evil.test/api/v1",
        "http://evil.test/api/v1",
        "http://[::1",
        "http://127.0.0.1:99999/api/v1",
        "file:///etc/passwd",
    ],
)
def test_t19_the_demo_goes_nowhere_but_to_this_machine(address: str):
    """Neither to the real exchange nor to one that looks as if it were here."""
    with pytest.raises(ConfigError, match=r"sandbox\.connect: .*on this machine"):
        demo_endpoints(address)
    assert demo_endpoints("http://127.0.0.1:8080/api/v1/").rest == "http://127.0.0.1:8080/api/v1"


def test_t19_the_process_refuses_a_demo_on_the_real_exchange(tmp_path: Path):
    """Exit 2 before any connection, and no key is needed to be told so."""
    code, _, err = run_bot("--config", config(tmp_path, sandbox={"connect": MAINNET.rest}))
    assert (2, True) == (code, "allowed is the address of a sandbox on this machine" in err)


def test_t19_the_real_exchanges_differ_in_all_that_is_signed():
    """A signature for one deployment is none for another, and the start asks which one the venue verifies."""
    domains = {MAINNET.domain, TESTNET.domain, demo_endpoints("http://127.0.0.1:1/api/v1").domain}
    assert len({MAINNET.domain.chain_id, TESTNET.domain.chain_id}) == 2
    assert MAINNET.domain in domains
    assert demo_endpoints("http://127.0.0.1:1/api/v1").domain != MAINNET.domain


def test_t19_each_mode_and_account_has_a_folder_of_its_own():
    """The journal of play money is never continued with real money, nor one account's by another's."""
    folders = {account.folder_of(configured(mode), vault) for mode in ("testnet", "mainnet") for vault in (1, 2)}
    folders |= {account.folder_of(configured("demo"), vault) for vault in (1, 2)}
    assert len(folders) == 5
    assert all(re.search(r"mainnet-\d$", str(folder)) for folder in folders if "mainnet" in str(folder))


def test_t19_the_demos_keys_do_not_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    """Real keys beside a demo are not even read."""
    monkeypatch.setattr(account, "load_credentials", lambda *_: pytest.fail("keys were read"))
    assert account.credentials_of(configured("demo")).vault == demo_credentials().vault


def test_t22_no_nonce_comes_twice_over_crashes(tmp_path: Path):
    """Ten runs, each ended without a word: each nonce is above all before it; EXTENDED_MM_NONCES says how many."""
    path = tmp_path / "state.json"
    last = 0
    for _ in range(10):
        state = StateFile(path)
        for _ in range(NONCES // 10):
            nonce = state.nonce()
            assert nonce > last
            last = nonce
        state.close()  # waits for its thread only: nothing is given back
    assert NONCES <= last <= NONCES + 10 * NONCE_BLOCK * 2


def test_t22_no_order_id_comes_twice_in_a_run_or_across_runs():
    """A million ids of two runs and two markets are a million different ones."""
    ids = {Blotter(market, run).new_id for market in ("BTC-USD", "ETH-USD") for run in ("r1", "r2")}
    assert len({new() for new in ids for _ in range(250_000)}) == 1_000_000


_DRAW = """
import sys
from pathlib import Path
from src.records.state import StateFile
state = StateFile(Path(sys.argv[1]))
while True:
    print(*[state.nonce() for _ in range(500)], sep="\\n", flush=True)
"""


def drawn_until_killed(path: Path, number: int) -> list[int]:
    """Return what a process draws from the state file at *path* until it is killed in the midst of it."""
    command = [sys.executable, "-c", _DRAW, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(number)]
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
    return [int(line) for line in lines if line.endswith("\n")]


def test_t22_a_process_that_is_killed_leaves_no_number_to_be_used_again(tmp_path: Path):
    """Three runs, each killed by SIGKILL while it draws: two blocks and a half each, and none twice."""
    runs = [drawn_until_killed(tmp_path / "state.json", NONCE_BLOCK * 5 // 2) for _ in range(3)]
    every = [nonce for run in runs for nonce in run]
    assert len(every) >= 3 * NONCE_BLOCK * 5 // 2
    assert every == sorted(set(every))


async def test_t22_what_is_signed_and_sent_bears_those_numbers(tmp_path: Path):
    """Two runs send the same orders: each body has the next number of the file, and a signature of its own."""
    bodies = []
    for _ in range(2):
        state = StateFile(tmp_path / "state.json")
        async with exchange(HOME | {"POST /user/order": {"id": 1, "externalId": "run-1"}}) as server:
            endpoints = Endpoints.from_rest(server.rest)
            venue = ExtendedVenue(endpoints, KEYS, now=lambda: NOW, nonces=state.nonce)
            await venue.open()
            await venue.instruments(["BTC-USD"])
            await venue.fees(["BTC-USD"])
            for action in (PLACE, REPLACE, PLACE):
                await venue.execute(action, lambda: None)
            await venue.close()
            bodies += [json.loads(asked.body) for asked in server.requests("POST /user/order")]
        state.close()
    assert [int(body["nonce"]) for body in bodies] == [*(1, 2, 3), *(NONCE_BLOCK + number for number in (1, 2, 3))]
    assert len({body["settlement"]["signature"]["r"] for body in bodies}) == 6
