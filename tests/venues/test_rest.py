"""What an HTTP answer means: done, refused, throttled, or nobody knows."""

from __future__ import annotations

import asyncio
import pickle
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from src.model.errors import ConfigError, Halt, Rejected, Throttled, Unanswered
from src.venues.extended import rest as rest_module
from src.venues.extended.rest import Rest, private_headers, secured
from tests.venues.loopback import API_KEY, KEYS, Exchange, Keys, exchange, no, ok, payload


@asynccontextmanager
async def connected(answers: dict[str, Any], credentials: Keys | None = KEYS) -> AsyncIterator[tuple[Rest, Exchange]]:
    async with asyncio.timeout(5), exchange(answers) as server:
        rest = Rest(server.rest, credentials)
        await rest.open()
        try:
            yield rest, server
        finally:
            await rest.close()


def answering(response: web.Response) -> Any:
    async def respond(_: web.Request) -> web.Response:
        return response

    return respond


@pytest.mark.parametrize("word", ["OK", "ok", "Ok"])
async def test_a_good_answer_is_its_data_cursor_and_date(word: str):
    """The documentation writes OK in both cases."""
    body = {"status": word, "data": [1], "pagination": {"cursor": 8341, "count": 1}}
    async with connected({"GET /x": answering(web.json_response(body))}) as (rest, _):
        answer = await rest.get("/x")
    assert (answer.data, answer.cursor) == ([1], "8341")
    assert answer.date is not None


async def test_an_error_envelope_is_a_definite_no():
    """Code and sentence as the venue gave them; the code may be a number or a word."""
    number = payload("docs_samples/rest_error_qty_precision_live.json")["error"]
    word = payload("docs_samples/rest_error_market_not_found.json")["error"]
    answers = {
        "POST /number": answering(no(number["code"], number["message"])),
        "GET /word": answering(no(word["code"], word["message"], 404)),
    }
    async with connected(answers) as (rest, _):
        with pytest.raises(Rejected) as refusal:
            await rest.post("/number", body=b"{}")
        assert (refusal.value.code, refusal.value.reason) == ("1123", "Invalid quantity precision")
        with pytest.raises(Rejected) as refusal:
            await rest.get("/word")
        assert refusal.value.code == "NOT_FOUND"


@pytest.mark.parametrize("code", [404, "404", "NOT_FOUND"])
async def test_what_is_not_there_is_found_to_be_nothing(code: int | str):
    """Under HTTP 404 and in the venue's own words; the same words under HTTP 400 refuse the question."""
    answers = {"GET /x": answering(no(code, "no such order", 404)), "GET /y": answering(no(code, "no", 400))}
    async with connected(answers) as (rest, _):
        assert await rest.find("/x") is None
        with pytest.raises(Rejected):
            await rest.find("/y")


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1004, "1008", 1009, 1142, 1500, 400, 401])
async def test_a_404_that_speaks_of_something_else_is_a_refusal(code: int | str):
    """No such market, account or client: that says nothing about the money or the order that was asked for."""
    async with connected({"GET /x": answering(no(code, "no such account", 404))}) as (rest, _):
        with pytest.raises(Rejected) as refusal:
            await rest.find("/x")
    assert refusal.value.code == str(code)


async def test_an_error_inside_a_200_is_a_no_too():
    """GET and DELETE may carry status ERROR under HTTP 200."""
    async with connected({"DELETE /x": answering(no(1142, "gone", 200))}) as (rest, _):
        with pytest.raises(Rejected, match="1142"):
            await rest.delete("/x", [])


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422, 1000, 1134, "1140", 1999, 10501, "NOT_FOUND"])
async def test_the_codes_of_the_documentation_are_refusals(code: int | str):
    """General ones, the venue's own from 1000 to 1999, one of five digits, and one word."""
    async with connected({"POST /x": answering(no(code))}) as (rest, _):
        with pytest.raises(Rejected) as refusal:
            await rest.post("/x", body=b"{}")
    assert refusal.value.code == str(code)


@pytest.mark.parametrize(
    "code", [500, 503, 504, 408, 0, -1123, 999, 2000, 11340, 1134.5, True, None, "", "UNAVAILABLE", "١١٣٤", [1134]]
)
@pytest.mark.parametrize("status", [200, 400, 404])
async def test_an_error_with_any_other_code_is_unanswered(code: Any, status: int):
    """A gateway's 504 in an envelope is no word on the order, which may live: it is asked about."""
    async with connected({"POST /x": answering(no(code, "upstream", status))}) as (rest, _):
        with pytest.raises(Unanswered, match="upstream"):
            await rest.post("/x", body=b"{}")


@pytest.mark.parametrize(
    "response",
    [
        {"status": 500, "text": '{"status":"ERROR","error":{"code":500,"message":"x"}}'},
        {"status": 502, "text": "<html>bad gateway</html>"},
        {"status": 503, "text": ""},
        {"status": 200, "text": "<html>login</html>"},
        {"status": 200, "text": ""},
        {"status": 200, "text": "{"},
        {"status": 200, "text": "[]"},
        {"status": 200, "text": '{"status":"MAYBE"}'},
        {"status": 200, "text": '{"data":1}'},
        {"status": 404, "text": "<html>not found</html>"},
        {"status": 400, "text": '{"status":"ERROR"}'},
        {"status": 400, "text": '{"status":"ERROR","error":{"code":1006,"message":"UnhandledError"}}'},
        {"status": 400, "text": '{"status":"OK","data":{"id":1}}'},
        {"status": 302, "text": "", "headers": {"Location": "http://127.0.0.1:9/"}},
    ],
)
async def test_what_is_not_the_venues_own_word_is_unanswered(response: dict[str, Any]):
    """Proxies, half pages and broken servers: the order may exist."""
    async with connected({"POST /x": answering(web.Response(**response))}) as (rest, server):
        with pytest.raises(Unanswered):
            await rest.post("/x", body=b"{}")
        assert len(server.requests("POST /x")) == 1


async def test_a_body_cut_short_is_unanswered():
    """Half an answer may hide either whole one."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"status":"OK"')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with connected({"POST /x": cut}) as (rest, _):
        with pytest.raises(Unanswered):
            await rest.post("/x", body=b"{}")


async def test_a_late_answer_is_unanswered(monkeypatch: pytest.MonkeyPatch):
    """The limit is 5 s in all; here 50 ms."""
    monkeypatch.setattr(rest_module, "_TIMEOUT", rest_module.aiohttp.ClientTimeout(total=0.05))

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.2)
        return ok()

    async with connected({"POST /x": slow}) as (rest, _):
        with pytest.raises(Unanswered, match="Timeout"):
            await rest.post("/x")


async def test_an_answer_that_comes_drop_by_drop_is_unanswered(monkeypatch: pytest.MonkeyPatch):
    """Each byte is in time, the whole is not: the limit of 5 s is for all of it; here it is a hundredth."""
    most = rest_module._TIMEOUT.total
    assert most is not None
    monkeypatch.setattr(rest_module, "_TIMEOUT", rest_module.aiohttp.ClientTimeout(total=most / 100))
    whole = b'{"status":"OK","data":{"id":1}}'

    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(whole))})
        await response.prepare(request)
        for byte in whole:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.005)
        return response

    async with connected({"POST /x": dripping}) as (rest, _):
        with pytest.raises(Unanswered, match="Timeout"):
            await rest.post("/x", body=b"{}")


async def test_nobody_listening_is_unanswered():
    """A refused connection is no refusal of the order; neither is one that is not open."""
    rest = Rest("http://127.0.0.1:9/api/v1", KEYS)
    with pytest.raises(Unanswered, match="not open"):
        await rest.get("/x")
    await rest.open()
    try:
        with pytest.raises(Unanswered):
            await rest.get("/x")
    finally:
        await rest.close()


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    """The cap is 16 MiB; here 1000 bytes."""
    monkeypatch.setattr(rest_module, "_MOST_BYTES", 1_000)
    async with connected({"GET /x": "y" * 5_000}) as (rest, _):
        with pytest.raises(Unanswered, match="more than 1000 bytes"):
            await rest.get("/x")


@pytest.mark.parametrize(
    ("header", "after"),
    [({}, 1), ({"Retry-After": "7"}, 7), ({"Retry-After": "soon"}, 1), ({"Retry-After": "9" * 9}, 600)],
)
async def test_429_says_how_long_to_wait(header: dict[str, str], after: float):
    """Retry-After where it is a number of seconds, else one second; never more than ten minutes."""
    async with connected({"POST /x": answering(web.Response(status=429, headers=header))}) as (rest, _):
        with pytest.raises(Throttled) as throttled:
            await rest.post("/x")
    assert throttled.value.after == after


async def test_a_rate_limit_in_the_envelope_is_a_rate_limit():
    """Code 429 under another HTTP status."""
    async with connected({"POST /x": answering(no(429, "RateLimited", 400))}) as (rest, _):
        with pytest.raises(Throttled):
            await rest.post("/x")


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_access_is_a_no_whatever_the_body(status: int):
    """It comes before any work is done."""
    async with connected({"POST /x": answering(web.Response(status=status, text="<html>"))}) as (rest, _):
        with pytest.raises(Rejected) as refusal:
            await rest.post("/x")
    assert refusal.value.code == str(status)


async def test_absence_is_believed_only_in_the_venues_own_words():
    """404 with an error envelope is None; a proxy's 404 is not."""
    answers = {
        "GET /gone": answering(no("NOT_FOUND", "no", 404)),
        "GET /proxy": answering(web.Response(status=404, text="<html>")),
    }
    async with connected(answers) as (rest, _):
        assert await rest.find("/gone") is None
        with pytest.raises(Unanswered):
            await rest.find("/proxy")


async def test_venue_sentences_cannot_drive_a_terminal():
    """Escapes are taken out and the length is capped."""
    for code in (1123, "\x1b[31m1"):
        async with connected({"POST /x": answering(no(code, "\x1b[2J" + "x" * 9_000))}) as (rest, _):
            with pytest.raises((Rejected, Unanswered)) as failure:
                await rest.post("/x")
        assert "\x1b" not in str(failure.value)
        assert len(str(failure.value)) < 300


async def test_patch_may_answer_with_nothing_but_post_may_not():
    """A leverage change answers with an empty body; an order never does."""
    answers = {"PATCH /x": answering(web.Response()), "POST /x": answering(web.Response())}
    async with connected(answers) as (rest, _):
        assert (await rest.patch("/x", body=b"{}")).data is None
        with pytest.raises(Unanswered):
            await rest.post("/x", body=b"{}")


async def test_headers_and_queries_are_sent_as_the_venue_wants_them():
    """User-Agent on everything, the key on private requests only, keys repeated for several values, values encoded."""
    async with connected({"GET /x": 1, "POST /x": 1}) as (rest, server):
        await rest.get("/x", [("market", "A"), ("market", "B&C")], private=False)
        await rest.post("/x", body=b'{"a":1}')
        public, private = server.asked
    assert public.query == [("market", "A"), ("market", "B&C")]
    assert public.headers["User-Agent"] == private.headers["User-Agent"] == "extended-mm-bot"
    assert ("X-Api-Key" in public.headers, private.headers["X-Api-Key"]) == (False, API_KEY)
    assert (private.headers["Content-Type"], private.body) == ("application/json", b'{"a":1}')


async def test_every_request_says_json_on_the_wire_with_a_body_or_without():
    """Head and body as a bare socket hears them: an octet-stream, as the library has it, could be refused."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                heard.append(head + await reader.readexactly(int(length[1]) if length else 0))
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"OK"}')
        except asyncio.IncompleteReadError:
            writer.close()

    async with asyncio.timeout(5), await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        rest = Rest(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", KEYS)
        await rest.open()
        await rest.get("/x")
        await rest.delete("/x", [("externalId", "a")])
        await rest.post("/user/deadmanswitch", [("countdownTime", "20")])
        await rest.post("/x", body=b'{"a":1}')
        await rest.close()
    assert [re.findall(rb"content-type: (.*)\r", request.lower()) for request in heard] == [[b"application/json"]] * 4
    assert heard[2].startswith(b"POST /user/deadmanswitch?countdownTime=20 HTTP/1.1\r\n")
    assert [request.partition(b"\r\n\r\n")[2] for request in heard] == [b"", b"", b"", b'{"a":1}']


async def test_requests_share_one_warm_connection():
    """No new handshake for the first order after a pause."""
    peers: set[Any] = set()

    async def note(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return ok()

    async with connected({"GET /x": note, "POST /x": note}) as (rest, _):
        for _ in range(3):
            await rest.get("/x")
            await rest.post("/x")
    assert len(peers) == 1


async def test_without_credentials_nothing_private_is_asked():
    """The sentence names the variable."""
    async with connected({"GET /x": 1}, None) as (rest, server):
        with pytest.raises(Halt, match="EXTENDED_API_KEY"):
            await rest.get("/x")
        assert server.asked == []


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_a_header_halts_without_being_shown(key: str):
    """Better one sentence at start than an exception that quotes it."""
    with pytest.raises(Halt) as halt:
        private_headers(replace(KEYS, api_key=SecretStr(key)))
    assert "EXTENDED_API_KEY" in str(halt.value)
    assert not key or key not in str(halt.value)


@pytest.mark.parametrize(
    "url", ["http://example.com/api", "ws://example.com", "ftp://localhost", "localhost", "https://"]
)
def test_only_encrypted_addresses_leave_this_machine(url: str):
    """The documentation itself gives a ws:// address for the private stream."""
    with pytest.raises(ConfigError):
        secured(url)
    assert secured("https://example.com/api/") == "https://example.com/api"
    assert secured("ws://127.0.0.1:8/x") == "ws://127.0.0.1:8/x"


def test_a_connection_is_never_pickled():
    """It knows the key."""
    with pytest.raises(TypeError, match="never"):
        pickle.dumps(Rest("https://example.com", KEYS))
