"""A server that claims to be the venue and cannot prove it: refused, and never spoken to in plain."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from src.model.errors import Disconnected
from src.venues.extended import client
from src.venues.extended.streams import follow
from src.venues.extended.wire import Frame
from tests.wire.processes import ROOT, config, run_bot

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def fresh_key(path: Path) -> tuple[str | Path, ...]:
    """Return the arguments of ``openssl req`` that make a new key at *path*."""
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path


def certificate(folder: Path, *, host: str) -> tuple[Path, Path]:
    """Make a certificate for *host* that nobody has signed but itself; return it and its key."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    openssl("req", "-x509", *fresh_key(key), "-out", cert, "-subj", "/CN=venue", "-addext", f"subjectAltName={host}")
    return cert, key


class Authority:
    """Signs certificates. Whoever has the file ``cert`` in SSL_CERT_FILE trusts them, and nobody else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.cert, self._key = folder / "authority.pem", folder / "authority-key.pem"
        openssl("req", "-x509", *fresh_key(self._key), "-out", self.cert, "-subj", "/CN=authority")
        (folder / "index").touch()

    def certificate(self, *, host: str, last_day: str) -> tuple[Path, Path]:
        """Sign a certificate for *host*, valid from 2020 up to *last_day* (YYYYMMDD); return it and its key."""
        key, cert, wish, rules = (self._folder / name for name in ("key.pem", "cert.pem", "wish.pem", "rules"))
        rules.write_text(
            f"[ca]\ndefault_ca = ours\n[ours]\ndatabase = {self._folder}/index\nnew_certs_dir = {self._folder}\n"
            "rand_serial = yes\ndefault_md = sha256\npolicy = any\nx509_extensions = names\n"
            f"[any]\ncommonName = supplied\n[names]\nsubjectAltName = {host}\n"
        )
        openssl("req", "-new", *fresh_key(key), "-out", wish, "-subj", "/CN=venue")
        signing = ("-cert", self.cert, "-keyfile", self._key, "-in", wish, "-out", cert)
        dates = ("-startdate", "20200101000000Z", "-enddate", f"{last_day}000000Z")
        openssl("ca", "-batch", "-notext", "-config", rules, *signing, *dates)
        return cert, key


class Impostor:
    """Counts who came, who believed the certificate, and what anybody said before or after."""

    def __init__(self, cert: Path, key: Path) -> None:
        self.came = 0
        self.believed = 0
        self.said = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert, key)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # closed at the end of the test
            while True:
                line, _ = self._door.accept()
                self.came += 1
                line.settimeout(5)
                self._receive(line)

    def _receive(self, line: socket.socket) -> None:
        first = line.recv(1, socket.MSG_PEEK)
        if first != b"\x16":  # not the greeting of TLS: somebody speaks in plain
            self.said += line.recv(1000)
            return
        with suppress(ssl.SSLError, OSError), self._context.wrap_socket(line, server_side=True) as talk:
            self.said += talk.recv(1000)
            self.believed += bool(self.said)

    def close(self) -> None:
        self._door.close()


@contextmanager
def impostor(cert: Path, key: Path) -> Iterator[Impostor]:
    """Run an impostor with the certificate *cert* during the block."""
    server = Impostor(cert, key)
    try:
        yield server
    finally:
        server.close()


def test_a_venue_with_a_certificate_of_its_own_making_is_refused_without_a_word(tmp_path):
    """The bot comes, sees the certificate and ends with exit 1; not one byte of a request leaves, and none in plain."""
    with impostor(*certificate(tmp_path, host="IP:127.0.0.1")) as server:
        address = f"https://127.0.0.1:{server.port}/api/v1"
        code, out, err = run_bot("--config", config(tmp_path, sandbox={"connect": address}))

    assert 1 == code
    assert "could not be read from the venue" in err
    assert "Certificate" in err
    assert "Traceback" not in out + err
    assert server.came >= 1
    assert (0, b"") == (server.believed, server.said)


async def stream_to(host: str) -> str:
    """Follow a private stream of *host*, which ends before anything comes; return why it ended."""
    topic = f"wss://{host}/account"
    with pytest.raises(Disconnected) as ended:
        async for _ in follow(
            [topic], lambda _: Frame(seq=1, facts=[]), patience=5, headers={"X-Api-Key": "canary-key"}
        ):
            raise AssertionError("nothing may come")
    return str(ended.value)


@pytest.mark.parametrize("host", ["IP:127.0.0.1", "DNS:somebody.else"])
async def test_a_stream_with_a_wrong_certificate_is_a_stream_that_is_down(tmp_path, host):
    """Signed by nobody, or made for another name: Disconnected, as for any dead line, and the key is not told."""
    with impostor(*certificate(tmp_path, host=host)) as server:
        error = await stream_to(f"127.0.0.1:{server.port}")

    assert "certificate verify failed" in error
    assert server.came == 1
    assert (0, b"") == (server.believed, server.said)


# --- signed by somebody we trust --------------------------------------------------------------------------------------

SIGNED = pytest.mark.parametrize(
    ("host", "last_day", "fault"),
    [
        ("DNS:localhost", "20491231", ""),
        ("DNS:somebody.else", "20491231", "Hostname mismatch"),
        ("DNS:localhost", "20200201", "certificate has expired"),
    ],
    ids=["good", "another name", "expired"],
)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Whom this machine trusts, as far as this process and those it starts are concerned."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    return authority


@SIGNED
@pytest.mark.parametrize("library", ["websockets", "picows"])
async def test_a_stream_believes_a_signed_certificate_only_for_its_own_name_and_its_time(
    trusted, library, host, last_day, fault
):
    """Only who has a valid certificate for the name we call is told the key; with either client."""
    if library not in client.LIBRARIES:
        pytest.skip("picows, the extra 'fast', is not installed")
    with (
        patch.object(client, "chosen", library),
        impostor(*trusted.certificate(host=host, last_day=last_day)) as server,
    ):
        error = await stream_to(f"localhost:{server.port}")

    if fault:
        assert fault in error
        assert (0, b"") == (server.believed, server.said)
    else:
        assert "certificate" not in error
        assert b"canary-key" in server.said


ASK = """
import asyncio, sys
from src.model.errors import Unanswered
from src.venues.extended.rest import Rest

async def ask() -> None:
    rest = Rest(sys.argv[1], None)
    await rest.open()
    try:
        await rest.get("/info/markets", private=False)
    except Unanswered as error:
        print(error)
    finally:
        await rest.close()

asyncio.run(ask())
"""


@SIGNED
def test_a_request_believes_a_signed_certificate_only_for_its_own_name_and_its_time(trusted, host, last_day, fault):
    """The same for REST, in a process of its own, because aiohttp reads whom to trust when it is imported."""
    with impostor(*trusted.certificate(host=host, last_day=last_day)) as server:
        asked = [sys.executable, "-c", ASK, f"https://localhost:{server.port}/api/v1"]
        told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout

    if fault:
        assert "CertificateError" in told
        assert (0, b"") == (server.believed, server.said)
    else:
        assert "CertificateError" not in told
        assert server.said.startswith(b"GET /api/v1/info/markets")
