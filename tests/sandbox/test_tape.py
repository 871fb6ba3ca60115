"""A tape plays a real market faithfully, never crossed, never giving more than was traded."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest

from src.model.actions import Side
from src.model.errors import ConfigError
from src.sandbox.exchange import Exchange
from src.sandbox.floor import Floor
from src.sandbox.listings import BTC
from src.sandbox.tape import Tape, frames, summarise
from src.sandbox.words import OrderRequest, PublicTrade, TradeView

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
START = 1_700_000_000 * SECOND
FIRST = 1_723_161_255 * SECOND  # local time of the first frame of the captures written here
SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
REAL = SHARED / "binance_usdm_btcusdt_20240808.gz"


def ticker(update: int, bid: str, bid_size: str, ask: str, ask_size: str) -> dict[str, object]:
    data = {"e": "bookTicker", "u": update, "s": "BTCUSDT", "b": bid, "B": bid_size, "a": ask, "A": ask_size}
    return {"stream": "btcusdt@bookTicker", "data": data}


def depth(update: int, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> dict[str, object]:
    return {"stream": "btcusdt@depth@0ms", "data": {"e": "depthUpdate", "u": update, "b": bids, "a": asks}}


def trade(price: str, size: str, *, taker: Side) -> dict[str, object]:
    return {"stream": "btcusdt@trade", "data": {"e": "trade", "p": price, "q": size, "m": taker is Side.SELL}}


def write(path: Path, *entries: tuple[int, dict[str, object]]) -> Path:
    """Write entries of (milliseconds since the first, frame) as a capture; gzip if the name says so."""
    text = "".join(f"{FIRST + ms * MILLISECOND} {json.dumps(frame)}\n" for ms, frame in entries).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def played(path: Path, *, until_ms: int, loop: bool = False) -> tuple[Exchange, list[object]]:
    exchange = Exchange([BTC], start=START)
    floor = Floor(exchange, [Tape(path, "BTC-USD", BTC.instrument, start=START, loop=loop)])
    return exchange, list(floor.advance(START + until_ms * MILLISECOND))


def real_tape() -> Path:
    if not REAL.exists():
        pytest.skip("the recorded market data beside the project (../shared/data) is absent")
    return REAL


def test_prices_round_away_from_the_other_side_and_sizes_on_one_tick_add_up(tmp_path: Path):
    """Tick 1: bids 61800.2 and 61800.1 become 2 BTC at 61800; the ask 61800.3 becomes 61801."""
    path = write(
        tmp_path / "a.jsonl",
        (0, ticker(5, "61800.20", "1.500", "61800.30", "0.25")),
        (10, depth(6, [("61800.10", "0.5"), ("61799.90", "1")], [("61801.00", "0.75")])),
    )
    exchange, _ = played(path, until_ms=20)
    assert exchange.book("BTC-USD") == ({61_800: 200_000, 61_799: 100_000}, {61_801: 100_000})


def test_a_gzip_and_a_plain_capture_play_the_same(tmp_path: Path):
    """The same three frames, once as .gz and once as .jsonl."""
    entries = (
        (0, ticker(5, "61800", "1", "61801", "1")),
        (5, trade("61801", "0.1", taker=Side.BUY)),
        (9, depth(7, [("61795", "2")], [])),
    )
    plain, packed = (played(write(tmp_path / name, *entries), until_ms=10) for name in ("a.jsonl", "a.jsonl.gz"))
    assert plain[0].book("BTC-USD") == packed[0].book("BTC-USD")
    assert plain[1] == packed[1]


def test_the_first_frame_plays_at_the_start_and_the_others_keep_their_distances(tmp_path: Path):
    """Prints 250 ms and 400 ms after the first frame carry the times start + 250 ms and start + 400 ms."""
    path = write(
        tmp_path / "a.jsonl",
        (0, ticker(5, "61800", "1", "61801", "1")),
        (250, trade("61801", "0.1", taker=Side.BUY)),
        (400, trade("61800", "0.1", taker=Side.SELL)),
    )
    _, events = played(path, until_ms=1000)
    prints = [event for event in events if isinstance(event, PublicTrade)]
    assert [(p.time - START, p.side, p.price, p.size) for p in prints] == [
        (250 * MILLISECOND, Side.BUY, 61_801, 10_000),
        (400 * MILLISECOND, Side.SELL, 61_800, 10_000),
    ]


def test_the_ticker_removes_what_lies_before_the_touch(tmp_path: Path):
    """The bid falls from 61800 to 61790: the level at 61800 is gone, 61790 has the ticker's size."""
    path = write(
        tmp_path / "a.jsonl",
        (0, ticker(5, "61800", "1", "61801", "1")),
        (1, depth(6, [("61790", "3")], [])),
        (2, ticker(7, "61790", "2", "61801", "1")),
    )
    exchange, _ = played(path, until_ms=10)
    assert exchange.book("BTC-USD")[0] == {61_790: 200_000}


def test_an_old_depth_frame_may_not_speak_about_the_touch(tmp_path: Path):
    """A depth frame of update 6 after a ticker of update 9 changes only what lies behind the touch."""
    path = write(
        tmp_path / "a.jsonl",
        (0, ticker(9, "61790", "2", "61801", "1")),
        (1, depth(6, [("61800", "4"), ("61790", "7"), ("61780", "1")], [("61795", "4")])),
    )
    exchange, _ = played(path, until_ms=10)
    assert exchange.book("BTC-USD") == ({61_790: 200_000, 61_780: 100_000}, {61_801: 100_000})


def test_a_newer_depth_frame_moves_the_touch_and_ends_what_it_crosses(tmp_path: Path):
    """A bid at 61805 of a newer update ends the ask at 61801."""
    path = write(
        tmp_path / "a.jsonl",
        (0, ticker(5, "61800", "1", "61801", "1")),
        (1, depth(6, [("61805", "4")], [("61807", "2")])),
    )
    exchange, _ = played(path, until_ms=10)
    assert exchange.best("BTC-USD") == (61_805, 61_807)


def test_depth_heard_before_the_first_touch_counts_once_the_touch_is_known(tmp_path: Path):
    """Levels of an earlier depth frame and of a snapshot appear with the first ticker, those 5 % away do not."""
    snapshot = {"lastUpdateId": 3, "bids": [["61795", "1"]], "asks": [["61805", "2"], ["65000", "9"]]}
    path = write(
        tmp_path / "a.jsonl",
        (0, snapshot),
        (1, depth(4, [("61790", "3"), ("58000", "5")], [])),
        (2, ticker(5, "61800", "1", "61801", "1")),
    )
    exchange, _ = played(path, until_ms=10)
    bids, asks = exchange.book("BTC-USD")
    assert bids == {61_800: 100_000, 61_795: 100_000, 61_790: 300_000}
    assert asks == {61_801: 100_000, 61_805: 200_000}


def test_levels_that_fall_out_of_the_band_are_forgotten(tmp_path: Path):
    """After a fall of 3 % the old bid is better than the touch and the old ask more than 2 % away: both are gone."""
    path = write(
        tmp_path / "a.jsonl",
        (0, ticker(5, "61800", "1", "61801", "1")),
        (1, ticker(6, "59900", "1", "59901", "1")),
    )
    exchange, _ = played(path, until_ms=10)
    assert exchange.book("BTC-USD") == ({59_900: 100_000}, {59_901: 100_000})


def test_an_order_joins_behind_what_is_there_and_is_filled_by_the_rest_of_the_print(tmp_path: Path):
    """1 BTC stands at 61800, we join with 0.5: a print of 0.8 gives nothing, a further 0.4 gives 0.2."""
    path = write(
        tmp_path / "a.jsonl",
        (0, ticker(5, "61800", "1", "61801", "1")),
        (100, trade("61800", "0.8", taker=Side.SELL)),
        (200, trade("61800", "0.4", taker=Side.SELL)),
    )
    exchange = Exchange([BTC], start=START)
    exchange.add_account(7, Decimal(1_000_000))
    floor = Floor(exchange, [Tape(path, "BTC-USD", BTC.instrument, start=START)])
    floor.advance(START + 50 * MILLISECOND)
    exchange.submit(7, OrderRequest("x", "BTC-USD", Side.BUY, 61_800, 50_000, START + 60 * SECOND, post_only=True))
    floor.advance(START + 150 * MILLISECOND)
    assert exchange.position(7, "BTC-USD") == 0
    floor.advance(START + 250 * MILLISECOND)
    assert exchange.position(7, "BTC-USD") == 20_000


def test_mark_and_index_are_the_mid_at_most_once_a_second(tmp_path: Path):
    """Mid 61800.5 at the start; a move at 0.5 s is not told, the one at 1.1 s is."""
    path = write(
        tmp_path / "a.jsonl",
        (0, ticker(5, "61800", "1", "61801", "1")),
        (500, ticker(6, "61810", "1", "61811", "1")),
        (1100, ticker(7, "61820", "1", "61821", "1")),
    )
    assert played(path, until_ms=900)[0].mark("BTC-USD") == Decimal("61800.5")
    exchange, _ = played(path, until_ms=1200)
    assert exchange.mark("BTC-USD") == exchange.index("BTC-USD") == Decimal("61820.5")


def test_a_tape_that_does_not_loop_leaves_its_last_book_standing(tmp_path: Path):
    """An hour after its only frame the book is still there and the tape is over."""
    path = write(tmp_path / "a.jsonl", (0, ticker(5, "61800", "1", "61801", "1")))
    exchange, tape = Exchange([BTC], start=START), Tape(path, "BTC-USD", BTC.instrument, start=START)
    Floor(exchange, [tape]).advance(START + 3600 * SECOND)
    assert tape.next_time is None
    assert exchange.best("BTC-USD") == (61_800, 61_801)


def test_each_pass_of_a_loop_goes_on_where_the_last_one_ended(tmp_path: Path):
    """The tape rises by 100 in one pass: three passes rise by 300, and of the passes before nothing stays."""
    path = write(
        tmp_path / "a.jsonl",
        (0, ticker(5, "61800", "1", "61801", "1")),
        (1000, ticker(6, "61900", "2", "61901", "2")),
        (1900, trade("61901", "0.1", taker=Side.BUY)),
    )
    exchange, events = played(path, until_ms=2000 * 3 - 10, loop=True)
    assert exchange.best("BTC-USD") == (62_100, 62_101)
    assert exchange.book("BTC-USD") == ({62_100: 200_000, 62_000: 100_000}, {62_101: 200_000})
    assert [event.price for event in events if isinstance(event, PublicTrade)] == [61_901, 62_001, 62_101]
    seam, _ = played(path, until_ms=2000 + 10, loop=True)
    assert seam.best("BTC-USD") == (61_900, 61_901)


def test_frames_of_other_kinds_are_ignored(tmp_path: Path):
    """A kline, a subscription answer and an insurance fund entry (price 0) leave one ticker to count."""
    path = write(
        tmp_path / "a.jsonl",
        (0, {"stream": "btcusdt@kline_1m", "data": {"k": {}}}),
        (1, {"result": None, "id": 1}),
        (2, trade("0", "0", taker=Side.BUY)),
        (3, ticker(5, "61800", "1", "61801", "1")),
    )
    summary = summarise(path)
    assert (summary.tickers, summary.depths, summary.trades, summary.span_sec) == (1, 0, 0, 0.0)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b'12x {"stream": "btcusdt@trade", "data": {}}',
        b"1723161255000000000 {",
        b'1723161255000000000 {"stream": "btcusdt@trade", "data": {"p": "1"}}',
        b'1723161255000000000 {"stream": "btcusdt@trade", "data": {"p": "NaN", "q": "1", "m": true}}',
        b'1723161255000000000 {"stream": "btcusdt@depth", "data": {"u": 1, "b": [["1", "-2"]], "a": []}}',
    ],
)
def test_a_broken_line_is_an_error_with_file_and_line(tmp_path: Path, line: bytes):
    """Whatever is wrong with line 2, the error says a.jsonl:2."""
    path = write(tmp_path / "a.jsonl", (0, ticker(5, "61800", "1", "61801", "1")))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ConfigError) as caught:
        list(frames(path))
    assert caught.value.path == f"{path}:2"


def test_a_file_that_is_missing_empty_or_cut_short_is_an_error(tmp_path: Path):
    """No file, no frames, and a gzip without its end each raise with the path."""
    with pytest.raises(ConfigError, match="cannot be read"):
        list(frames(tmp_path / "missing.gz"))
    empty = write(tmp_path / "empty.jsonl")
    with pytest.raises(ConfigError, match="no book or trade"):
        Tape(empty, "BTC-USD", BTC.instrument, start=START)
    with pytest.raises(ConfigError, match="no book or trade"):
        summarise(empty)
    whole = write(tmp_path / "cut.gz", (0, ticker(5, "61800", "1", "61801", "1")))
    whole.write_bytes(whole.read_bytes()[:-12])
    with pytest.raises(ConfigError, match="cannot be read"):
        list(frames(whole))


def test_a_tape_that_never_shows_the_touch_is_refused_rather_than_collected(tmp_path: Path):
    """1001 depth frames without a bookTicker end in an error, not in memory."""
    path = write(tmp_path / "a.jsonl", *((ms, depth(ms + 1, [("61800", "1")], [])) for ms in range(1001)))
    with pytest.raises(ConfigError, match="no bookTicker"):
        played(path, until_ms=2000)


# --- the recorded market ---


def test_the_summary_of_the_recorded_market_is_what_its_description_says():
    """344 s and 93,954 frames, one of them a snapshot."""
    summary = summarise(real_tape())
    assert 344 < summary.span_sec < 345
    assert summary.tickers + summary.depths + summary.trades + summary.snapshots == 93_954


def test_the_recorded_book_is_shown_two_sided_and_never_crossed():
    """A look every 20 ms at the first 60 s: always two sides, bid below ask, mid within 1 % of the first mid."""
    exchange = Exchange([BTC], start=START)
    floor = Floor(exchange, [Tape(real_tape(), "BTC-USD", BTC.instrument, start=START)])
    for step in range(5, 3000):
        floor.advance(START + step * 20 * MILLISECOND)
        bid, ask = exchange.best("BTC-USD")
        assert bid is not None and ask is not None and bid < ask
        assert 61_200 < bid < 62_400


def test_a_resting_order_gets_no_more_than_was_printed_at_or_through_its_price():
    """Each second we join the best bid and ask with 0.5 BTC; every fill is covered by prints at or beyond its price."""
    exchange = Exchange([BTC], start=START)
    exchange.add_account(7, Decimal(100_000_000))
    floor = Floor(exchange, [Tape(real_tape(), "BTC-USD", BTC.instrument, start=START)])
    floor.advance(START + SECOND)
    filled = 0
    for second in range(1, 60):
        exchange.mass_cancel(7, everything=True)
        prices = dict(zip((Side.BUY, Side.SELL), exchange.best("BTC-USD"), strict=True))
        for side, price in prices.items():
            assert price is not None
            exchange.submit(7, OrderRequest("", "BTC-USD", side, price, 50_000, START + 400 * SECOND, post_only=True))
        events = floor.advance(START + (second + 1) * SECOND)
        for side, price in prices.items():
            assert price is not None
            got = sum(e.size for e in events if isinstance(e, TradeView) and e.side is side)
            printed = sum(
                e.size
                for e in events
                if isinstance(e, PublicTrade) and e.side is side.opposite and side * (price - e.price) >= 0
            )
            assert got <= printed
            filled += got
    assert filled > 0


def test_the_recorded_market_plays_the_same_twice():
    """Twenty seconds, twice: equal events, equal books."""
    path = real_tape()
    first, again = (played(path, until_ms=20_000) for _ in range(2))
    assert first[1] == again[1]
    assert first[0].book("BTC-USD") == again[0].book("BTC-USD")
    assert len(first[1]) > 100


def test_the_recorded_market_loops_without_a_jump(tmp_path: Path):
    """At each seam of a loop over the first 5,000 lines the mid moves by two ticks at most, and the book is deep."""
    with gzip.open(real_tape()) as lines:
        part = tmp_path / "part.jsonl"
        part.write_bytes(b"".join(line for line, _ in zip(lines, range(5_000), strict=False)))
    seam = round((summarise(part).span_sec + 0.1) * SECOND)
    exchange = Exchange([BTC], start=START)
    floor = Floor(exchange, [Tape(part, "BTC-USD", BTC.instrument, start=START, loop=True)])
    for turn in (1, 2):
        floor.advance(START + turn * seam - 1)
        before = exchange.best("BTC-USD")
        floor.advance(START + turn * seam + 100 * MILLISECOND)
        after = exchange.best("BTC-USD")
        assert None not in (*before, *after)
        assert abs(sum(price or 0 for price in after) - sum(price or 0 for price in before)) <= 4
        assert len(exchange.book("BTC-USD")[0]) > 10
