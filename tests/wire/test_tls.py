"""A server that claims to be the venue and cannot prove it: refused, and never spoken to in plain."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from src.model.errors import Disconnected
from src.venues.extended.streams import follow
from src.venues.extended.wire import Frame
from tests.wire.processes import config, run_bot

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


def certificate(folder: Path, *, host: str) -> tuple[Path, Path]:
    """Make a certificate for *host* that nobody has signed but itself; return it and its key."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(cert), "-days", "1", "-subj", "/CN=venue"),
            *("-addext", f"subjectAltName={host}"),
        ],
        check=True,
        capture_output=True,
    )
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
def impostor(folder: Path, *, host: str) -> Iterator[Impostor]:
    """Run an impostor with a certificate for *host* during the block."""
    server = Impostor(*certificate(folder, host=host))
    try:
        yield server
    finally:
        server.close()


def test_a_venue_with_a_certificate_of_its_own_making_is_refused_without_a_word(tmp_path):
    """The bot comes, sees the certificate and ends with exit 1; not one byte of a request leaves, and none in plain."""
    with impostor(tmp_path, host="IP:127.0.0.1") as server:
        address = f"https://127.0.0.1:{server.port}/api/v1"
        code, out, err = run_bot("--config", config(tmp_path, sandbox={"connect": address}))

    assert 1 == code
    assert "could not be read from the venue" in err
    assert "Certificate" in err
    assert "Traceback" not in out + err
    assert server.came >= 1
    assert (0, b"") == (server.believed, server.said)


@pytest.mark.parametrize("host", ["IP:127.0.0.1", "DNS:somebody.else"])
async def test_a_stream_with_a_wrong_certificate_is_a_stream_that_is_down(tmp_path, host):
    """Signed by nobody, or made for another name: Disconnected, as for any dead line, and the key is not told."""
    with impostor(tmp_path, host=host) as server:
        stream = follow(
            [f"wss://127.0.0.1:{server.port}/account"],
            lambda _: Frame(seq=1, facts=[]),
            patience=5,
            headers={"X-Api-Key": "canary-key"},
        )
        with pytest.raises(Disconnected, match=r"ertificate|SSL"):
            async for _ in stream:
                raise AssertionError("nothing may come")

    assert server.came == 1
    assert (0, b"") == (server.believed, server.said)
