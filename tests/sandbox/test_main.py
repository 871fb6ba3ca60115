from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from src.sandbox.__main__ import main
from src.sandbox.params import SandboxParams
from src.sandbox.server import build_floor

ROOT = Path(__file__).parents[2]
PATIENCE = 60


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    """Run ``python -m src.sandbox`` and yield it with its one line; kills what does not end by itself."""
    command = [sys.executable, "-m", "src.sandbox", *arguments]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    try:
        yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_says_where_it_is_and_ends_with_its_parent():
    """One JSON line; the crowd's book is there from the start; closing its standard input ends it with 0."""
    async with asyncio.timeout(PATIENCE), program("--seed", "3", "--exit-with-parent") as (process, told):
        assert set(told) == {"rest", "stream", "control", "account"}
        assert set(told["account"]) == {"api_key", "public_key", "private_key", "vault"}
        url = f"{told['rest']}/info/markets/BTC-USD/orderbook"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            book = (await response.json())["data"]
        assert book["bid"] and book["ask"]
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGTERM to ask politely")
async def test_it_ends_politely_on_a_signal():
    """SIGTERM ends it with 0."""
    async with asyncio.timeout(PATIENCE), program() as (process, _):
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_it_ends_when_the_control_door_says_so():
    """POST /shutdown ends it with 0."""
    async with asyncio.timeout(PATIENCE), program() as (process, told), aiohttp.ClientSession() as session:
        async with session.post(f"{told['control']}/shutdown") as response:
            assert response.status == 200
        assert await process.wait() == 0


async def test_a_taken_port_is_one_clear_sentence():
    """The second program on the port of the first ends with 2 and one line on stderr."""
    async with asyncio.timeout(PATIENCE), program() as (_, told):
        port = told["rest"].split(":")[2].split("/")[0]
        command = [sys.executable, "-m", "src.sandbox", "--port", port]
        second = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=PIPE)
        out, said = await second.communicate()
        assert (second.returncode, out) == (2, b"")
        assert said.decode().count("\n") == 1
        assert port in said.decode()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--tape", "no/such/tape.gz"], "no/such/tape.gz"),
        (["--tape", "no/such/tape.gz", "--market", "DOGE-USD"], "DOGE-USD"),
        (["--latency-ms", "-1"], "latency_ms"),
        (["--port", "70000"], "port"),
    ],
)
def test_wrong_arguments_are_one_clear_sentence(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]):
    """Exit code 2 and one line that names what is wrong."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert word in said


def test_an_unknown_argument_ends_with_2(capsys: pytest.CaptureFixture[str]):
    """argparse's own sentence."""
    with pytest.raises(SystemExit) as ended:
        main(["--colour", "red"])
    assert ended.value.code == 2
    assert "--colour" in capsys.readouterr().err


def test_a_tape_plays_in_its_market_and_the_crowd_in_the_others(tmp_path: Path):
    """One recorded touch at 60,000 / 60,010 is BTC's book; ETH has its crowd."""
    touch = {"u": 1, "s": "BTCUSDT", "b": "60000", "B": "1", "a": "60010", "A": "2"}
    tape = tmp_path / "tape"
    tape.write_text(f"1 {json.dumps({'stream': 'btcusdt@bookTicker', 'data': touch})}\n")
    now = 1_790_000_000_000_000_000
    floor = build_floor(SandboxParams(flow="tape", tape=tape, loop=False), now=now)
    floor.advance(now)
    assert floor.exchange.best("BTC-USD") == (60_000, 60_010)
    assert None not in floor.exchange.best("ETH-USD")


def test_the_same_seed_is_the_same_market():
    """Two floors of seed 5 agree on every level after their warm-up; seed 6 does not."""
    now = 1_790_000_000_000_000_000
    books = []
    for seed in (5, 5, 6):
        floor = build_floor(SandboxParams(seed=seed), now=now)
        floor.advance(now)
        books.append(floor.exchange.book("BTC-USD"))
    assert books[0] == books[1] != books[2]


def test_every_parameter_says_what_it_means_and_in_what_unit():
    """Descriptions and units for the configuration's documentation; a tape flow needs its tape."""
    for name, field in SandboxParams.model_fields.items():
        assert field.description, name
        assert isinstance(field.json_schema_extra, dict) and "unit" in field.json_schema_extra, name
    with pytest.raises(ValueError, match="tape"):
        SandboxParams(flow="tape")
