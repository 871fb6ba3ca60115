"""T1 to T5 and T15: where keys come from, and that they are in nothing that a run leaves behind."""

from __future__ import annotations

import base64
import copy
import ctypes
import json
import os
import pickle
import re
import resource
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from src.config import Config, Credentials, load_credentials
from src.model.errors import ConfigError
from src.records.segments import segments_in, texts
from src.runtime import dumps
from src.venues.extended.rest import Rest
from src.venues.extended.signing import Domain, Signer
from src.venues.extended.venue import Endpoints, ExtendedVenue
from src.verbs import account
from tests.security.canary import API_KEY, PRIVATE_KEY
from tests.venues.loopback import API_KEY as ANY_KEY
from tests.venues.loopback import KEYS
from tests.venues.loopback import PRIVATE_KEY as ANY_PRIVATE
from tests.wire.processes import ROOT, clean_environment, config

POSIX = pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have owners and permissions of this kind")


def forms(api_key: str = API_KEY, private_key: str = PRIVATE_KEY) -> list[bytes]:
    """Return every form in which the keys could be written."""
    digits = private_key.removeprefix("0x")
    texts = [digits, digits.upper(), str(int(digits, 16)), api_key, quote(api_key, safe=""), json.dumps(api_key)[1:-1]]
    raw = [int(digits, 16).to_bytes(32, order) for order in ("big", "little")]
    encoded = [base64.b64encode(secret)[:-4] for secret in (api_key.encode(), *raw)]
    return [*(text.encode() for text in texts), *raw, *encoded]


@dataclass(frozen=True)
class Left:
    """Everything that a run of sandbox, bot and export left behind: by file, and where they connected to."""

    written: dict[str, bytes]
    met: set[str]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    """Run the demo for 20 seconds with canary keys and every logger at DEBUG, then export twice."""
    folder = tmp_path_factory.mktemp("canary")
    told, written = folder / "told.txt", {}
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "tests/security/canary.py"), str(told), *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    ports = "--port", 0, "--control-port", 0
    with start("sandbox", *ports, "--exit-with-parent", "--funding-interval-sec", 3) as market:
        assert market.stdout is not None
        rest = json.loads(market.stdout.readline())["rest"]
        path = config(folder, log_level="debug", sandbox={"connect": rest})
        shared = "--config", path, "--market", "ETH-USD"
        for name, arguments in {
            "bot": ("bot", "--config", path, "--for", 20, "--summary", folder / "summary.json"),
            "api": ("export", *shared, "--output", folder / "api", "--requests-per-minute", 1000),
            "local": ("export", *shared, "--output", folder / "local", "--source", "local"),
        }.items():
            with start(*arguments) as process:
                out, err = process.communicate(timeout=90)
            assert process.returncode == 0, err[-2000:]
            written[f"{name}: output"], written[f"{name}: errors"] = out.encode(), err.encode()
        market.kill()
    for file in folder.rglob("*"):
        if file.is_file() and file != path:
            written[str(file.relative_to(folder))] = file.read_bytes()
    for segment in segments_in(folder / "data" / "demo" / "journal"):
        written[f"unpacked {segment.path.name}"] = b"\n".join(texts(segment.path))
    yield Left(written, set(told.read_text().split()))


def test_t01_a_file_of_keys_is_ours_alone(tmp_path: Path):
    """Readable by the group or the world: refused with the command that mends it; 0600 is read."""
    path = tmp_path / ".env"
    values = {"API_KEY": "k", "PUBLIC_KEY": "0x1", "PRIVATE_KEY": "0x2", "VAULT": "7"}
    path.write_text("".join(f"EXTENDED_{name}={value}\n" for name, value in values.items()))
    for mode in (0o644, 0o640, 0o604, 0o620, 0o602, 0o610):
        path.chmod(mode)
        if os.name == "posix":
            with pytest.raises(ConfigError, match=rf"chmod 600 {re.escape(str(path))}$"):
                load_credentials(path, {})
    path.chmod(0o600)
    assert load_credentials(path, {}).vault == 7


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only an administrator can give files away")
def test_t01_a_file_of_keys_that_belongs_to_another_is_refused(tmp_path: Path):
    """Its owner could change the keys, and so whose account is traded, at any time."""
    path = tmp_path / ".env"
    path.write_text("EXTENDED_VAULT=7\n")
    path.chmod(0o600)
    os.chown(path, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load_credentials(path, {})


@POSIX
def test_t01_the_process_refuses_it_too(tmp_path: Path):
    """Exit 2, the sentence on the error stream, and no value of the file in it."""
    path = config(tmp_path, mode="testnet")
    (tmp_path / ".env").write_text(f"EXTENDED_API_KEY={API_KEY}\n")
    (tmp_path / ".env").chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-m", "src.bot", "--config", str(path)],
        cwd=tmp_path,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (2, True) == (done.returncode, "chmod 600 .env" in done.stderr)
    assert API_KEY not in done.stdout + done.stderr


def test_t02_no_form_of_a_key_is_in_anything_that_was_written(left: Left):
    """Logs at DEBUG, journal, database, exports, summary, both streams: hex, number, bytes, URL and base64 forms."""
    assert {"bot: errors", "summary.json", "data/demo/bot.log", "data/demo/history.db"} <= left.written.keys()
    assert any(name.startswith("unpacked") for name in left.written)
    assert len(left.written["data/demo/bot.log"]) > 1_000
    found = [(name, form) for name, content in left.written.items() for form in forms() if form in content]
    assert [] == found


def test_t02_the_search_finds_what_it_looks_for():
    """Eleven different forms, and each is long enough not to be met by chance."""
    assert 10 <= len(set(forms()))
    assert min(map(len, forms())) >= 24


def test_t02_there_was_something_to_hold_back(left: Left):
    """A library and a line of our own said each form of the keys at every request: each is three stars in the log."""
    lines = [line for line in left.written["data/demo/bot.log"].splitlines() if b"***" in line]
    assert len(lines) > 20
    assert all(line.count(b"***") >= 8 for line in lines)
    assert {line.startswith(b"{") for line in lines} == {True, False}


def test_t03_keys_are_in_no_repr_no_copy_and_no_pickle():
    """Printing shows stars, pickling fails, for everything that holds a key."""
    credentials = Credentials(
        api_key=SecretStr(API_KEY), public_key=SecretStr("0x1"), private_key=SecretStr(PRIVATE_KEY), vault=7
    )
    signer = Signer(KEYS, Domain("Perpetuals", "v0", "SN_SEPOLIA", "1"))
    rest = Rest("http://127.0.0.1:9/api/v1", KEYS)
    venue = ExtendedVenue(Endpoints.from_rest("http://127.0.0.1:9/api/v1"), KEYS, now=lambda: 0, nonces=lambda: 1)
    for thing in (credentials, signer, rest, venue):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(thing)
        shown = f"{thing!r} {thing!s} {copy.copy(credentials)!r}".encode()
        assert not [form for form in [*forms(), *forms(ANY_KEY, ANY_PRIVATE)] if form in shown]


async def test_t03_a_traceback_with_its_locals_shows_no_private_key():
    """Even a tool that prints the variables of every frame, while an order is signed, finds no private key."""
    signer = Signer(KEYS, Domain("Perpetuals", "v0", "SN_SEPOLIA", "1"))
    try:
        signer.order_body(None, None, None, 1)  # type: ignore[arg-type]
    except AttributeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()).encode()
    assert b"order_body" in shown
    assert not [form for form in forms(ANY_KEY, ANY_PRIVATE) if form in shown]


def test_t03_no_dump_of_memory_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Before the first real key is read the limit is 0, and on Linux the process is marked; the demo stays as it is."""
    probe = "from src.runtime.dumps import forbid; forbid(); import ctypes, resource; "
    probe += "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(0, 0)")
    if sys.platform == "linux":
        assert done.stdout == "(0, 0) 0\n"
        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) != -1
    asked: list[str] = []
    monkeypatch.setattr(dumps, "forbid", lambda: asked.append("forbid"))
    monkeypatch.setattr(account, "load_credentials", lambda *_: asked.append("load"))
    for mode in ("demo", "testnet", "mainnet"):
        account.credentials_of(
            Config.model_validate_json(json.dumps({"mode": mode, "markets": [{"market": "BTC-USD"}]}))
        )
    assert ["forbid", "load"] * 2 == asked
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0 or os.name != "posix"


def test_t04_the_sub_account_is_advised_where_people_look():
    """Extended has no key that trades and cannot withdraw, so the only bound is what lies in the account."""
    for name in (".github/SECURITY.md", ".env.example"):
        assert "sub-account of its own" in (ROOT / name).read_text("utf-8"), name


def test_t05_no_signature_is_in_anything_that_was_written(left: Left):
    """Neither the words around one nor a pair of numbers as long as one."""
    words = (b"settlement", b"starkKey", b"collateralPosition", b"debuggingAmounts")
    found = [(name, word) for name, content in left.written.items() for word in words if word in content]
    assert [] == found
    log = b"".join(content for name, content in left.written.items() if "history.db" not in name)
    assert [] == re.findall(rb"0x[0-9a-f]{60,64}", log)


def test_t15_nothing_is_asked_of_any_other_machine(left: Left):
    """Bot, sandbox and export looked up and connected to this machine only: no library phones home."""
    assert left.met
    assert left.met <= {"127.0.0.1", "localhost", "::1"}
